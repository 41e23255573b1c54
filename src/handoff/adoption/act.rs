//! What the machine wants done, and said.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Adoption, Last, Stage, Turn, error_of, figures, step};
use crate::error::chain;
use crate::handoff::Timer;
use crate::handoff::leaving::STOPPED;
use crate::handoff::offer;
use crate::handoff::successor::{Action, Event, Say};
use crate::hooks::Moment;
use crate::inventory::in_background;
use crate::verdict::Decision;
use crate::wire::{Failed, Message};

impl Adoption {
    /// One event through the machine, with the verdict as it is now, and all that follows.
    pub(super) fn feed(&mut self, event: Event, stage: &Stage<'_>) -> Vec<Last> {
        let mut words = Vec::new();
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let seen = self.verdict.read().unwrap_or_else(|error| {
                crate::log::error!(target: "heirloom::handoff", error = %chain(&error), "the verdict cannot be read");
                None
            });
            let (machine, actions) = self.machine.clone().on(event, seen);
            self.machine = machine;
            for action in actions {
                events.extend(self.perform(action, stage, &mut words));
            }
        }
        words
    }

    /// Does one thing; what it brings about at once is the next event.
    fn perform(
        &mut self,
        action: Action,
        stage: &Stage<'_>,
        words: &mut Vec<Last>,
    ) -> Option<Event> {
        match action {
            Action::Send(say) => self.say(say, stage),
            Action::Arm(Timer::Silence) => self.clock.arm_for(Timer::Silence, self.alone_after()),
            Action::Arm(timer) => self.clock.arm(timer),
            Action::Disarm(timer) => self.clock.disarm(timer),
            Action::DisarmAll => self.clock.disarm_all(),
            // The application has been starting since the offer was whole.
            Action::Start => {}
            Action::Open => return self.open(stage),
            Action::Pause => in_background(stage.sockets.pause()),
            Action::Seal(decision) => {
                let now = self.verdict.decide(decision).unwrap_or_else(|error| {
                    // Whoever cannot seal must not own.
                    crate::log::error!(target: "heirloom::handoff", error = %chain(&error), "the verdict cannot be sealed");
                    Decision::RolledBack
                });
                return Some(Event::Sealed(now));
            }
            Action::Own => {
                step("owner");
                stage.requests.unwatch();
                self.checks.over();
                words.push(Last::Own);
            }
            Action::Leave(why) => {
                step("leaving");
                in_background(stage.sockets.pause());
                stage.requests.unwatch();
                self.checks.over();
                if *stage.turn.borrow() == Turn::Serving {
                    let figures = figures(stage);
                    self.post(Message::Pong { sequence: STOPPED, figures });
                    stage.hooks.tell(Moment::RollBack);
                }
                words.push(Last::Leave(error_of(why)));
            }
        }
        None
    }

    /// How long the predecessor has to be silent before this side stands alone.
    fn alone_after(&self) -> Duration {
        let lengths = self.clock.lengths();
        lengths.probation.saturating_add(lengths.silence)
    }

    fn open(&mut self, stage: &Stage<'_>) -> Option<Event> {
        if let Err(error) = stage.sockets.open() {
            crate::log::error!(target: "heirloom::handoff", error = %chain(&error), "not every listener could be opened");
            if matches!(self.verdict.read(), Ok(None)) {
                return Some(Event::OpenFailed(chain(&error)));
            }
            // Nobody else serves: better the others than none.
            stage.sockets.open_what_can_be();
        }
        // What this side had paused by itself: its lease ran out, or it was on its way out.
        in_background(stage.sockets.unpause());
        step("serving");
        if let (Some(budget), Ok(None)) = (self.budget, self.verdict.read()) {
            stage.requests.watch(budget);
        }
        stage.turn.send_replace(Turn::Serving);
        None
    }

    fn say(&mut self, say: Say, stage: &Stage<'_>) {
        let message = match say {
            Say::Adopted => Message::Adopted,
            Say::Ready => return self.ready(stage),
            Say::Pong => Message::Pong { sequence: self.sequence, figures: figures(stage) },
            Say::Serving => Message::Serving,
            Say::Committed => {
                step("committed");
                // The report counts what was served until now.
                self.post(Message::Pong { sequence: self.sequence, figures: figures(stage) });
                Message::Committed
            }
            Say::Failed(error) => Message::Failed(Failed { error }),
        };
        self.post(message);
    }

    pub(super) fn post(&self, message: Message) {
        // A link that takes nothing more is seen on the reading side, or by its deadline.
        if let Err(error) = self.sender.post(message) {
            crate::log::debug!(target: "heirloom::handoff", error = %chain(&error), "not sent");
        }
    }

    /// 'Ready' may be long, and the predecessor slow to read it: it leaves in a task of its own.
    fn ready(&self, stage: &Stage<'_>) {
        step("ready");
        let part = stage.sockets.ready();
        let mut parcels = offer::ready(part.claimed, part.bound, part.notes);
        // The rule: nothing was bound, and it is one message, for which no task has to be woken.
        if parcels.len() == 1
            && let Some((message, _)) = parcels.pop_if(|(_, descriptors)| descriptors.is_empty())
        {
            return self.post(message);
        }
        let sender = self.sender.clone();
        crate::task::spawn(async move {
            for (message, descriptors) in parcels {
                if let Err(error) = sender.send(message, descriptors).await {
                    crate::log::debug!(target: "heirloom::handoff", error = %chain(&error), "not sent");
                    return;
                }
            }
        });
    }

    /// The last word of a successor that goes; the predecessor may not be there to hear it.
    pub(super) async fn say_goodbye(&self, stage: &Stage<'_>) {
        // Requests have ended since it stopped accepting.
        self.post(Message::Pong { sequence: STOPPED, figures: figures(stage) });
        let left = Message::Left { accepted: stage.drain.accepted() };
        let sent = self.sender.send(left, Vec::new());
        let _ = tokio::time::timeout(self.clock.lengths().commit, sent).await;
    }
}
