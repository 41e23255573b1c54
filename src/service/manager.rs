//! What this generation tells the service manager, if there is one (`sd_notify(3)`).
//!
//! **Contract:** only the owner speaks, and of itself; the one exception is the successor's pid,
//! which the owner names as its last act. With `NotifyAccess=main` nobody else is heard.

use std::time::Duration;

use tokio::time::Instant;

use super::Shared;
use crate::birth::Supervisor;
use crate::generation::Generation;
use crate::handoff::upgrade::News;
use crate::report::{Report, UpgradePhase};
use crate::systemd::{Address, Message, Notifier};

/// How long the manager may take to read what a process that is about to exit has said.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What is asked for at once, and asked for again before a third of it has passed.
pub(super) const EXTENSION: Duration = Duration::from_secs(15);

/// Longer than anything takes.
const AGES: Duration = Duration::from_secs(365 * 24 * 3600);

/// The way to the manager. Without one every call is nothing.
#[derive(Clone)]
pub(crate) struct Manager(Option<Notifier>);

impl Manager {
    /// The manager of this process; none if it has none, or its address makes no sense.
    pub(super) fn of(supervisor: &Supervisor) -> Self {
        let address = supervisor.notify.as_deref().map(Address::parse).transpose();
        match address {
            Ok(address) => Self(address.map(Notifier::new)),
            Err(error) => {
                crate::log::warn!(error = %error.chain(), "no service manager will be told anything");
                Self(None)
            }
        }
    }

    pub(super) fn is_there(&self) -> bool {
        self.0.is_some()
    }

    pub(super) fn post(&self, message: impl FnOnce() -> Message) {
        if let Some(notifier) = &self.0 {
            notifier.post(message());
        }
    }

    /// It starts, and waits for this.
    pub(super) fn starts(&self, not_yet: Option<&str>) {
        self.post(|| {
            let waits = not_yet.map(|why| format!(": waits for {why}")).unwrap_or_default();
            Message::new().status(&format!("starting{waits}"))
        });
    }

    /// It did not come to own.
    pub(super) fn lost(&self, reason: &str) {
        self.post(|| Message::new().status(&format!("did not start: {reason}")));
    }

    /// It owns. Its own pid is news to a manager that heard nothing of a hand-over.
    pub(super) fn owns(&self, shared: &Shared) {
        self.post(|| {
            let pid = std::process::id().cast_signed();
            Message::new().ready().main_pid(pid).status(&serves(shared)).watchdog()
        });
    }

    /// An upgrade begins.
    pub(super) fn upgrades(&self, to: Generation) {
        self.post(|| Message::new().reloading().status(&format!("upgrades to generation {to}")));
    }

    /// What becomes known of it.
    pub(super) fn hears(&self, to: Generation, news: &News) {
        match news {
            News::Phase(phase) => self.phase(to, *phase),
            News::NotYet(why) => self.not_yet(to, why),
            _ => {}
        }
    }

    /// How far it is.
    fn phase(&self, to: Generation, phase: UpgradePhase) {
        self.post(|| Message::new().status(&format!("upgrades to generation {to}: {phase}")));
    }

    /// What the successor waits for.
    fn not_yet(&self, to: Generation, why: &str) {
        self.post(|| {
            Message::new().status(&format!("upgrades to generation {to}: it waits for {why}"))
        });
    }

    /// The successor owns. 'Ready' goes with it: what the successor says itself is not heard
    /// before this, and this may come late, from a process that slept through its own end.
    pub(super) fn hands_over(&self, pid: i32, to: Generation) {
        self.post(|| {
            // One that cannot be named here names itself.
            let message = if pid > 0 { Message::new().main_pid(pid) } else { Message::new() };
            message.ready().status(&format!("generation {to} takes over"))
        });
    }

    /// The upgrade did not commit. There is no 'reload failed' in the protocol.
    pub(super) fn serves_on(&self, shared: &Shared, report: &Report) {
        self.post(|| {
            let cause = report.cause.as_deref().unwrap_or("no cause is known");
            let (now, to, outcome) = (serves(shared), report.to, report.outcome);
            Message::new().ready().status(&format!("{now}; upgrade to {to} {outcome}: {cause}"))
        });
    }

    /// The service stops; only the last owner says so.
    pub(super) fn stops(&self, connections: usize) {
        self.post(|| {
            let text = format!("stops: {connections} connections to finish");
            Message::new().stopping().status(&text)
        });
    }

    /// Waits until the manager has read what this process said: it does not know the sender of a
    /// message any more whose process has ended.
    pub(super) async fn has_heard(&self) {
        if let Some(notifier) = &self.0
            && !notifier.barrier(LAST_WORDS).await
        {
            crate::log::warn!("the service manager has not read all it was told");
        }
    }
}

fn serves(shared: &Shared) -> String {
    format!("generation {} serves, version {}", shared.generation, shared.config.version)
}

/// What is said again and again: more time, and signs of life.
pub(super) struct Beats {
    manager: Manager,
    /// Half of what the manager's watchdog waits.
    watchdog: Option<Duration>,
    feeds_at: Option<Instant>,
    extends_at: Option<Instant>,
    /// What is done now is over by then, whoever waits for it.
    extends_until: Option<Instant>,
    /// Why it is not fed, as was said last.
    ill: Option<String>,
}

impl Beats {
    pub(super) fn new(manager: &Manager, supervisor: &Supervisor) -> Self {
        let watchdog = supervisor.watchdog.filter(|_| manager.is_there()).map(|wait| wait / 2);
        let manager = manager.clone();
        let (feeds_at, extends_at, extends_until, ill) = (None, None, None, None);
        Self { manager, watchdog, feeds_at, extends_at, extends_until, ill }
    }

    /// The watchdog is fed from now on.
    pub(super) fn feed(&mut self) {
        self.feeds_at = self.watchdog.map(|half| Instant::now() + half);
    }

    /// What is done now may take so long, whatever the manager's own deadline for it.
    pub(super) fn extend(&mut self, length: Duration) {
        if self.manager.is_there() {
            let now = Instant::now();
            // More than any clock holds is as good as for ever.
            self.extends_until = now.checked_add(length).or_else(|| now.checked_add(AGES));
            self.ask_for_time(now);
        }
    }

    /// As [`extend`](Self::extend), all at once: this is the last that is said.
    pub(super) fn extend_once(&mut self, length: Duration) {
        self.extend_no_more();
        self.manager.post(|| Message::new().extend_timeout(length.min(AGES)));
    }

    /// The manager's own deadlines hold again.
    pub(super) fn extend_no_more(&mut self) {
        (self.extends_at, self.extends_until) = (None, None);
    }

    /// Nothing is said any more.
    pub(super) fn rest(&mut self) {
        self.feeds_at = None;
        self.extend_no_more();
    }

    /// Resolves when something has to be said. Cancel safe.
    pub(super) async fn due(&self) {
        match [self.feeds_at, self.extends_at].into_iter().flatten().min() {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    /// Says what is due. The watchdog is fed by the task that decides, so a service whose task
    /// hangs is not; nor is one whose application says that it is not well.
    pub(super) fn beat(&mut self, shared: &Shared) {
        let now = Instant::now();
        if let (Some(at), Some(half)) = (self.feeds_at, self.watchdog)
            && at <= now
        {
            self.feeds_at = Some(now + half);
            self.feed_if_well(shared);
        }
        if self.extends_at.is_some_and(|at| at <= now) {
            self.ask_for_time(now);
        }
    }

    fn feed_if_well(&mut self, shared: &Shared) {
        let ill = shared.config.watchdog.as_ref().and_then(|check| check().err());
        match (&ill, &self.ill) {
            (None, None) => self.manager.post(|| Message::new().watchdog()),
            (None, Some(_)) => {
                crate::log::info!("the watchdog is fed again");
                self.manager.post(|| Message::new().watchdog().status(&serves(shared)));
            }
            (Some(why), _) => {
                if ill != self.ill {
                    crate::log::error!(%why, "the watchdog is not fed");
                }
                self.manager
                    .post(|| Message::new().status(&format!("the watchdog is not fed: {why}")));
            }
        }
        self.ill = ill;
    }

    fn ask_for_time(&mut self, now: Instant) {
        let Some(until) = self.extends_until else { return };
        let left = until.saturating_duration_since(now);
        let by = EXTENSION.min(left);
        self.extends_at = (left > EXTENSION).then(|| now + EXTENSION / 3);
        if !by.is_zero() {
            self.manager.post(|| Message::new().extend_timeout(by));
        }
    }
}
