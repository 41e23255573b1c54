//! States on their way to the successor.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinSet;

use crate::error::{Error, ErrorKind, Result, chain};
use crate::link::LinkSender;
use crate::state::{Answered, Provided, States};
use crate::wire::{self, Answer, Delta, Message, Stated};

/// So many questions a successor may ask.
const MOST: usize = 4_096;

/// The states that a successor asks for. Each answer has a task of its own, so neither a provider
/// nor a successor that does not read keeps the handoff from its deadlines; they end with this.
pub(super) struct Supply {
    states: States,
    answers: JoinSet<()>,
    asked: usize,
    /// What was handed over, in the order in which the provider was done.
    given: Arc<Mutex<Vec<Provided>>>,
}

impl Supply {
    pub(super) fn new(states: States) -> Self {
        Self { states, answers: JoinSet::new(), asked: 0, given: Arc::default() }
    }

    /// The successor asks for a state.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Protocol`] if it asks too often.
    pub(super) fn answer(&mut self, take: wire::Take, sender: LinkSender) -> Result<()> {
        self.asked += 1;
        if self.asked > MOST {
            return Err(Error::new(ErrorKind::Protocol, "it asks for states without end"));
        }
        while self.answers.try_join_next().is_some() {}
        let (states, given) = (self.states.clone(), Arc::clone(&self.given));
        crate::task::spawn_in(&mut self.answers, async move {
            let mut descriptors = Vec::new();
            let answer = match states.snapshot(&take.name, take.versions).await {
                Answered::Here { provided, contents, file } => {
                    descriptors.push(Arc::new(file));
                    let version = provided.version;
                    crate::log::info!(target: "heirloom::handoff", state = %take.name, version, bytes = contents.length, "a state is handed over");
                    lock(&given).push(provided);
                    Answer::Here { version, contents }
                }
                Answered::Unknown => Answer::Unknown,
                Answered::Refused(reason) => {
                    crate::log::warn!(target: "heirloom::handoff", state = %take.name, reason, "a state is refused");
                    Answer::Refused { reason }
                }
            };
            let stated = Message::Stated(Stated { number: take.number, answer });
            // A link that takes nothing more is seen on the reading side, or by its deadline.
            if let Err(error) = sender.send(stated, descriptors).await {
                crate::log::debug!(target: "heirloom::handoff", error = %chain(&error), "not sent");
            }
        });
        Ok(())
    }

    /// Sends what has changed in every state that was handed over. When this is done all of it is
    /// on the link, in front of whatever is sent next.
    ///
    /// # Errors
    ///
    /// The provider's, or the link's.
    pub(super) fn deltas(
        &self,
        sender: LinkSender,
    ) -> impl Future<Output = Result<()>> + Send + 'static {
        let length = self.states.limits().length;
        let given = std::mem::take(&mut *lock(&self.given));
        async move {
            for provided in given {
                let Some((file, contents)) = provided.delta(length).await? else { continue };
                let Provided { name, version, .. } = provided;
                crate::log::debug!(target: "heirloom::handoff", state = %name, bytes = contents.length, "a delta is sent");
                let delta = Message::Delta(Delta { name, version, contents });
                sender.send(delta, vec![Arc::new(file)]).await?;
            }
            Ok(())
        }
    }
}

fn lock(given: &Mutex<Vec<Provided>>) -> std::sync::MutexGuard<'_, Vec<Provided>> {
    given.lock().unwrap_or_else(PoisonError::into_inner)
}
