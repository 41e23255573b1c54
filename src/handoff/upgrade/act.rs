//! What the machine wants done.

use std::time::Instant;

use super::{Checked, News, Started, Upgrade};
use crate::error::{Error, ErrorKind, chain};
use crate::handoff::leaving;
use crate::handoff::predecessor::{Action, Event, Outcome};
use crate::health::{Finding, Load, Subject};
use crate::hooks::Moment;
use crate::inventory::in_background;
use crate::report::CauseKind;
use crate::spawn::{Child, Process};
use crate::verdict::Decision;
use crate::wire::Message;

impl<H: FnOnce(i32) + Send> Upgrade<H> {
    pub(super) fn perform(&mut self, actions: Vec<Action>) {
        // The last word to the successor carries the cause with which the handoff ends.
        for action in &actions {
            if let Action::Finish(Outcome::RolledBack(cause)) = action {
                self.cause = cause.to_string();
            }
        }
        for action in actions {
            match action {
                Action::Send(say) => self.say(say),
                Action::Arm(timer) => self.clock.arm(timer),
                Action::Disarm(timer) => self.clock.disarm(timer),
                Action::DisarmAll => self.clock.disarm_all(),
                Action::Preflight => self.preflight = self.order.preflight.take(),
                Action::Spawn => self.spawning = self.order.start.take(),
                Action::Watch => self.watch(),
                Action::Park => self.park(),
                Action::ParkLate => {
                    self.parking = None;
                    let claimed = std::mem::take(&mut self.ready.claimed);
                    in_background(self.order.sockets.park_late(&claimed));
                }
                // Only an elder does, whose upgrade is over.
                Action::OwnAgain => {}
                Action::Resume => self.resume(),
                Action::Seal(decision) => self.seal(decision),
                Action::EndSuccessor => self.end_successor(),
                Action::HandOver => {
                    if let Some(hand_over) = self.on_hand_over.take() {
                        let ours = self.charge.child.as_ref().filter(|child| child.is_ours());
                        hand_over(ours.map_or(0, Child::pid));
                    }
                    self.order.sockets.committed_as_predecessor();
                    self.begin_to_move();
                    self.order.hooks.tell(Moment::Commit);
                }
                Action::Finish(outcome) => {
                    if matches!(outcome, Outcome::RolledBack(_)) {
                        // Also when nothing had been parked yet.
                        self.order.sockets.release_bound();
                    }
                    self.outcome = Some(outcome);
                }
            }
        }
    }

    /// Accepts again; nobody else does.
    fn resume(&mut self) {
        if self.parking.take().is_some() {
            self.held_up_by = self.order.hooks.now();
        }
        in_background(self.order.sockets.resume());
        if self.served {
            self.report.back(self.event_at.elapsed());
        }
        self.end_gap();
        if std::mem::take(&mut self.asked_to_yield) {
            self.order.hooks.tell(Moment::RollBack);
        }
    }

    fn park(&mut self) {
        self.parked_at = Some(Instant::now());
        if let Some(checks) = &mut self.checks {
            let (active, accepted) =
                (self.order.drain.active() as u64, self.order.drain.accepted());
            checks.yields(Load { active, accepted, ended: accepted.saturating_sub(active) });
        }
        let sockets = self.order.sockets.clone();
        let claimed = self.ready.claimed.clone();
        let hooks = self.order.hooks.clone();
        self.asked_to_yield = true;
        let deltas = self.link.as_ref().map(|(sender, _)| self.supply.deltas(sender.clone()));
        self.parking = Some(Box::pin(async move {
            sockets.park(&claimed).await?;
            hooks.yield_now().await?;
            match deltas {
                Some(deltas) => deltas.await,
                None => Ok(()),
            }
        }));
    }

    /// While the successor starts, this generation is asked what its successor will be asked.
    pub(super) fn measure_ourselves(&mut self) {
        let (generation, sockets) = (self.order.generation, self.order.sockets.clone());
        if let Some(checks) = &mut self.checks {
            checks.measure_ourselves(generation, sockets);
        }
    }

    /// The successor serves: what is asked of it now, it answers.
    fn watch(&mut self) {
        let pid = self.charge.child.as_ref().map_or(0, |child| child.pid().cast_unsigned());
        let generation = self.order.successor;
        let doors = self.order.sockets.doors_of_successor();
        if let Some(checks) = &mut self.checks {
            checks.begin(Subject { generation, pid, doors });
        }
    }

    /// What the health checks bring up, as an event; none if it changes nothing.
    pub(super) fn checked(&mut self, checked: Checked) -> Option<Event> {
        let checks = self.checks.as_mut()?;
        match checked {
            Checked::Baseline(baseline) => checks.keep(baseline),
            Checked::Announced(announcement) => {
                let expect = checks.announce(announcement);
                self.post(Message::Expect(expect));
            }
            Checked::Found(Finding::Note(note)) => self.report.note(note),
            Checked::Found(Finding::Healthy) => {
                (self.order.on_news)(News::Health(None));
                return Some(Event::Healthy);
            }
            Checked::Found(Finding::Ailing(why)) => {
                checks.ailing = Some(why.clone());
                (self.order.on_news)(News::Health(Some(why)));
                return Some(Event::Ailing);
            }
            Checked::Found(Finding::Unhealthy(why)) => {
                return Some(self.rejected(CauseKind::Health, why));
            }
        }
        None
    }

    pub(super) fn end_gap(&mut self) {
        if let Some(since) = self.parked_at.take() {
            self.report.gap(since.elapsed());
        }
    }

    /// Sessions may go on in the successor from here on.
    fn begin_to_move(&mut self) {
        let (Some(channel), Some(child)) = (self.sessions.take(), &self.charge.child) else {
            return;
        };
        let process = child
            .pidfd()
            .try_clone()
            .map_err(|error| Error::new(ErrorKind::Io, "the successor's pidfd").with_source(error));
        match process.and_then(Process::from_pidfd) {
            Ok(process) => self.order.sessions.send_to(channel, process),
            Err(error) => {
                crate::log::error!(target: "heirloom::handoff", error = %chain(&error), "no sessions can be handed over");
            }
        }
    }

    fn seal(&mut self, decision: Decision) {
        let now = self.verdict.decide(decision).unwrap_or_else(|error| {
            crate::log::error!(target: "heirloom::handoff", error = %chain(&error), "the verdict cannot be sealed");
            decision
        });
        self.feed(Event::Sealed(now));
    }

    /// The rejected successor gets its time and its end in a task that outlives this upgrade.
    fn end_successor(&mut self) {
        let grace = if self.served { self.order.leave } else { self.order.lengths.commit };
        self.leaving = Some(match (self.charge.child.take(), self.spawning.take()) {
            (Some(child), _) => leaving::watch(child, self.link.take(), grace),
            // It has not been told that its turn came: it finds nobody, and asks again.
            (None, Some(_)) if self.order.taken_over => return,
            (None, Some(spawning)) => leaving::unborn(Box::pin(async {
                let Started { child, link, .. } = spawning.await.ok()?;
                Some((child, link))
            })),
            (None, None) => return,
        });
    }
}
