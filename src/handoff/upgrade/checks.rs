//! Health checks of the successor: their announcements go over the link, their findings to the
//! machine.

use std::collections::HashMap;

use tokio::sync::{mpsc, oneshot, watch};

use super::Pending;
use crate::generation::Generation;
use crate::health::{
    Announced, Announcement, Baseline, Finding, Load, Policy, Subject, Watch, baseline_of_ourselves,
};
use crate::inventory::Inventory;
use crate::listener::Taken;
use crate::wire::{self, Expect, Expected, Figures};

/// So many announcements may wait to be sent.
const PENDING: usize = 16;

/// What the checks bring up.
pub(super) enum Checked {
    /// What a healthy generation's answers look like here.
    Baseline(Baseline),
    /// A check is going to connect.
    Announced(Announcement),
    /// What was found.
    Found(Finding),
}

/// A connection that the successor was told of.
struct Told {
    ready: Option<oneshot::Sender<Announced>>,
    taken: oneshot::Sender<Taken>,
}

/// The checks of one upgrade, before and after the turn is given.
pub(super) struct Checks {
    policy: Policy,
    measuring: Option<Pending<Baseline>>,
    baseline: Baseline,
    before: Load,
    now: watch::Sender<Load>,
    watch: Option<Watch>,
    announce: mpsc::Sender<Announcement>,
    announcements: mpsc::Receiver<Announcement>,
    told: HashMap<u64, Told>,
    /// Those that came since the successor was told last which it may forget.
    came: Vec<u64>,
    next: u64,
    /// Why it is not healthy, as was found last.
    pub(super) ailing: Option<String>,
}

impl Checks {
    /// The checks of this policy; none if it has none.
    pub(super) fn of(policy: Policy) -> Option<Self> {
        let (announce, announcements) = mpsc::channel(PENDING);
        (!policy.checks.is_empty()).then(|| Self {
            policy,
            measuring: None,
            baseline: Baseline::default(),
            before: Load::default(),
            now: watch::Sender::new(Load::default()),
            watch: None,
            announce,
            announcements,
            told: HashMap::new(),
            came: Vec::new(),
            next: 0,
            ailing: None,
        })
    }

    /// While the successor starts, this generation is asked what its successor will be asked.
    pub(super) fn measure_ourselves(&mut self, generation: Generation, sockets: Inventory) {
        let policy = self.policy.clone();
        self.measuring =
            Some(Box::pin(
                async move { baseline_of_ourselves(&policy, generation, &sockets).await },
            ));
    }

    /// This generation is about to yield.
    pub(super) fn yields(&mut self, before: Load) {
        // What has not been answered by now would be answered by somebody else.
        self.measuring = None;
        self.before = before;
    }

    /// The successor serves: it is checked from now on.
    pub(super) fn begin(&mut self, subject: Subject) {
        self.watch = Some(Watch::begin(
            &self.policy,
            subject,
            &self.baseline,
            self.before,
            &self.now.subscribe(),
            &self.announce,
        ));
    }

    /// What the successor says that it has served.
    pub(super) fn tell_figures(&self, figures: Figures) {
        let Figures { active, accepted, .. } = figures;
        self.now.send_replace(Load { active, accepted, ended: accepted.saturating_sub(active) });
    }

    /// The next thing that the checks bring up. Cancel safe.
    pub(super) async fn next(&mut self) -> Checked {
        tokio::select! {
            biased;
            finding = found(&mut self.watch) => Checked::Found(finding),
            Some(announcement) = self.announcements.recv() => Checked::Announced(announcement),
            baseline = super::pending(&mut self.measuring) => Checked::Baseline(baseline),
        }
    }

    pub(super) fn keep(&mut self, baseline: Baseline) {
        self.baseline = baseline;
    }

    /// What the successor is to be told of a connection that is going to be made, and of those
    /// that came or that nobody waits for any more.
    pub(super) fn announce(&mut self, announcement: Announcement) -> Expect {
        let mut given_up = std::mem::take(&mut self.came);
        self.told.retain(|number, told| {
            let over = told.taken.is_closed();
            if over {
                given_up.push(*number);
            }
            !over
        });
        let number = self.next;
        self.next += 1;
        let Announcement { from, listener, ready, taken } = announcement;
        self.told.insert(number, Told { ready: Some(ready), taken });
        Expect { number, listener, from, given_up }
    }

    pub(super) fn expected(&mut self, expected: Expected) {
        let Expected { number, members, observed } = expected;
        let told = self.told.get_mut(&number).and_then(|told| told.ready.take());
        if let Some(ready) = told {
            let members = usize::try_from(members).unwrap_or(usize::MAX);
            // The check may have given up.
            let _ = ready.send(Announced { observed, members });
        }
    }

    pub(super) fn taken(&mut self, taken: wire::Taken) {
        let wire::Taken { number, listener, member } = taken;
        if let Some(told) = self.told.remove(&number) {
            self.came.push(number);
            let member = usize::try_from(member).unwrap_or(usize::MAX);
            // The check may have given up.
            let _ = told.taken.send(Taken { listener, member });
        }
    }
}

/// What checks that may not be there bring up.
pub(super) async fn next(checks: &mut Option<Checks>) -> Checked {
    match checks {
        Some(checks) => checks.next().await,
        None => std::future::pending().await,
    }
}

async fn found(watch: &mut Option<Watch>) -> Finding {
    match watch {
        Some(watch) => watch.next().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::health::HealthCheck;
    use crate::wire::Address;

    /// P5: a probation may be long.
    #[tokio::test]
    async fn what_came_is_forgotten_by_the_successor_as_well() {
        let check = HealthCheck::tcp("main", "", "");
        let policy = Policy { checks: vec![check], min_healthy_time: Duration::ZERO };
        let mut checks = Checks::of(policy).unwrap();
        let announce = || {
            let ((ready, _), (taken, told)) = (oneshot::channel(), oneshot::channel());
            let listener = "main".parse().unwrap();
            (Announcement { from: Address::None, listener, ready, taken }, told)
        };
        let (first, _came) = announce();
        let first = checks.announce(first);
        assert!(first.given_up.is_empty());
        let (second, given_up) = announce();
        let second = checks.announce(second);
        let listener = "main".parse().unwrap();
        checks.taken(wire::Taken { number: first.number, listener, member: 0 });
        drop(given_up);
        let (third, _waits) = announce();
        assert_eq!(checks.announce(third).given_up, [first.number, second.number]);
        let (fourth, _waits) = announce();
        assert!(checks.announce(fourth).given_up.is_empty(), "once is enough");
    }
}
