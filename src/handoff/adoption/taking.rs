//! States on their way from the predecessor: the application's questions, and the deltas that
//! come before the turn.

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;

use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::Adoption;
use crate::error::{Error, ErrorKind, Result};
use crate::handoff::Timer;
use crate::handoff::successor::{Event, State};
use crate::name::Name;
use crate::state::{Blob, States, verified};
use crate::wire::{Answer, Delta, Message, Range, Stated, Take};

/// Deltas that a predecessor may send.
const MOST: usize = 1_024;

/// Where the answer to a question for a state goes; none if there is none to take.
pub(crate) type TakeReply = oneshot::Sender<Result<Option<Blob>>>;

/// A question of the application for a state.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub name: Name,
    pub versions: Range,
    pub reply: TakeReply,
}

/// What is asked for and what has come.
#[derive(Default)]
pub(super) struct Taking {
    next: u64,
    waiting: HashMap<u64, (Name, TakeReply)>,
    deltas: Vec<(Delta, OwnedFd)>,
    applying: Option<Applying>,
    /// What has waited for the deltas, in order.
    due: VecDeque<Event>,
}

/// Deltas that the application takes in now, and what happens when it has.
struct Applying {
    /// One task, which ends with this.
    done: JoinSet<Result<()>>,
    then: Vec<Event>,
}

impl Adoption {
    /// The application wants a state.
    pub(super) fn take(&mut self, wanted: Wanted) {
        let Wanted { name, versions, reply } = wanted;
        if self.link_ended {
            return starts_cold(&name, reply);
        }
        let number = self.taking.next;
        self.taking.next += 1;
        self.post(Message::Take(Take { number, name: name.clone(), versions }));
        self.taking.waiting.insert(number, (name, reply));
    }

    /// The predecessor answers. What came is looked at in a task of its own.
    pub(super) fn stated(&mut self, stated: Stated, descriptors: Vec<OwnedFd>, states: &States) {
        let Some((name, reply)) = self.taking.waiting.remove(&stated.number) else { return };
        let result = match (stated.answer, descriptors.into_iter().next()) {
            (Answer::Here { version, contents }, Some(file)) => {
                let limit = states.limits().length;
                crate::task::spawn(async move {
                    // The application may have given up.
                    let _ =
                        reply.send(verified(name, version, contents, file, limit).await.map(Some));
                });
                return;
            }
            (Answer::Refused { reason }, _) => {
                let text = format!("state \"{name}\" is refused by the predecessor: {reason}");
                Err(Error::new(ErrorKind::StateRefused, text))
            }
            (Answer::Here { .. } | Answer::Unknown, _) => Ok(None),
        };
        let _ = reply.send(result);
    }

    /// A delta has come; false if there are too many.
    pub(super) fn keep_delta(&mut self, delta: Delta, descriptors: Vec<OwnedFd>) -> bool {
        let deltas = &mut self.taking.deltas;
        deltas.extend(descriptors.into_iter().next().map(|file| (delta, file)));
        deltas.len() <= MOST
    }

    /// Nobody answers any more: the application starts without, as the first generation does.
    pub(super) fn nobody_answers(&mut self) {
        for (_, (name, reply)) in self.taking.waiting.drain() {
            starts_cold(&name, reply);
        }
    }

    /// An event that brings the turn waits until the application has taken in what has changed.
    pub(super) fn after_deltas(&mut self, event: Event, states: &States) -> Option<Event> {
        let brings_the_turn = matches!(
            event,
            Event::Yield | Event::LinkClosed | Event::Nonsense(_) | Event::Expired(Timer::Silence)
        );
        if *self.machine.state() != State::Waiting || !brings_the_turn {
            return Some(event);
        }
        if let Some(applying) = &mut self.taking.applying {
            applying.then.push(event);
            return None;
        }
        let deltas = std::mem::take(&mut self.taking.deltas);
        if deltas.is_empty() {
            return Some(event);
        }
        let states = states.clone();
        let mut done = JoinSet::new();
        crate::task::spawn_in(&mut done, async move {
            let limit = states.limits().length;
            for (Delta { name, version, contents }, file) in deltas {
                states.apply(verified(name, version, contents, file, limit).await?).await?;
            }
            Ok(())
        });
        self.taking.applying = Some(Applying { done, then: vec![event] });
        None
    }

    /// Whether deltas are being taken in: nothing that brings the turn is looked for meanwhile.
    pub(super) fn applies(&self) -> bool {
        self.taking.applying.is_some()
    }

    /// The deltas are taken in, or could not be.
    pub(super) fn applied(&mut self, result: Result<()>) {
        let Some(Applying { mut then, .. }) = self.taking.applying.take() else { return };
        if let Err(error) = result {
            if !self.link_ended {
                return self.taking.due.push_back(Event::Failed(error.chain()));
            }
            // If the predecessor is dead, nobody else serves. If it is not, it has rolled back.
            crate::log::error!(target: "heirloom::handoff", error = %error.chain(), "a delta is lost");
            then.retain(|event| *event != Event::Yield);
        }
        self.taking.due.extend(then);
    }

    /// Deltas that nobody waits for any more are dropped.
    pub(super) fn drop_useless_deltas(&mut self) {
        if *self.machine.state() != State::Waiting {
            self.taking.applying = None;
        }
    }
}

impl Taking {
    /// What has waited and may happen now.
    pub(super) fn due(&mut self) -> Option<Event> {
        self.due.pop_front()
    }

    /// Waits for what is being applied. Cancel safe.
    pub(super) async fn applied(&mut self) -> Result<()> {
        match &mut self.applying {
            Some(applying) => match applying.done.join_next().await {
                Some(Ok(applied)) => applied,
                _ => {
                    Err(Error::new(ErrorKind::StateRefused, "the application's on_delta panicked"))
                }
            },
            None => std::future::pending().await,
        }
    }
}

fn starts_cold(name: &Name, reply: TakeReply) {
    crate::log::warn!(target: "heirloom::handoff", state = %name, "the predecessor is gone: nothing is handed over");
    // The application may have given up.
    let _ = reply.send(Ok(None));
}
