//! Taking states from the predecessor, and providing them to the successor.

use std::ops::RangeInclusive;
use std::time::Duration;

use tokio::sync::oneshot;

use super::Starting;
use crate::error::{Error, ErrorKind, Result};
use crate::handoff::adoption::Wanted;
use crate::service::Command;
use crate::state::{Blob, Failure, State, StateWriter};
use crate::wire::Range;

impl Starting {
    /// Takes a state of this name, in whichever version, from the predecessor; it is written down
    /// now. `None` if nobody provides it: there is no predecessor, it has died meanwhile, or it
    /// knows no such state. Then this generation starts cold.
    ///
    /// What is returned is whole, or nothing is: length and checksum have been compared. Several
    /// states may be taken at once.
    ///
    /// ```no_run
    /// # async fn start(start: heirloom::Starting) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut sessions = String::new();
    /// if let Some(state) = start.take("sessions").await? {
    ///     sessions = String::from_utf8(state.to_vec())?; // `?`: a bad state fails the upgrade
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::StateRefused`] if the provider failed or was too late, or if it is longer than
    /// [`Config::state_limit`](crate::Config::state_limit); [`ErrorKind::Timeout`] if no answer came
    /// within [`Config::state_deadline`](crate::Config::state_deadline) and the commit deadline;
    /// [`ErrorKind::Protocol`] if what came is not what was announced. Passed on by `?` each of
    /// them fails the upgrade, and the predecessor's report tells it; otherwise this generation
    /// starts cold.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses what comes; another call takes the state anew.
    pub async fn take(&self, name: &str) -> Result<Option<Blob>> {
        self.take_versions(name, 0..=u32::MAX).await
    }

    /// As [`take`](Self::take), in the newest of these versions that the predecessor can write.
    /// One that can write none of them serialises nothing.
    ///
    /// # Errors
    ///
    /// As for `take`; [`ErrorKind::StateRefused`] also if there is no common version: the message
    /// names those of both sides.
    ///
    /// # Cancel safety
    ///
    /// As for `take`.
    pub async fn take_versions(
        &self,
        name: &str,
        versions: RangeInclusive<u32>,
    ) -> Result<Option<Blob>> {
        let name = name.parse::<crate::Name>()?;
        let versions = Range { min: *versions.start(), max: *versions.end() };
        let (reply, answer) = oneshot::channel();
        let wanted = Wanted { name: name.clone(), versions, reply };
        self.shared.ask(Command::Take(wanted)).await?;
        let deadline = self.deadline();
        match tokio::time::timeout(deadline, answer).await {
            Ok(Ok(taken)) => taken,
            Ok(Err(_)) => Err(crate::service::ended()),
            Err(_) => {
                let text = format!("state \"{name}\": it did not come within {deadline:?}");
                Err(Error::new(ErrorKind::Timeout, text))
            }
        }
    }

    /// The predecessor's provider has the deadline for itself; its answer is on the way then.
    fn deadline(&self) -> Duration {
        let config = &self.shared.config;
        config.states.deadline.saturating_add(config.deadlines.commit)
    }

    /// Takes in what has changed in a state since it was [taken](Self::take): the last thing
    /// before this generation serves. New connections wait meanwhile, within the predecessor's
    /// [`Config::gap_deadline`](crate::Config::gap_deadline). It is called at most once, and only
    /// if the state's provider [sends a delta](State::delta). The last closure given holds.
    ///
    /// An error ends the upgrade: the predecessor takes the turn back. A delta that comes and that
    /// nobody takes in ends it as well, since what is in it would be lost.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] if the name is not a valid [`Name`](crate::Name).
    pub fn on_delta<F, Fut, E>(&self, name: &str, apply: F) -> Result<()>
    where
        F: Fn(Blob) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Failure>,
    {
        self.shared.states.on_delta(name.parse()?, apply);
        Ok(())
    }

    /// Provides a state to the next generation, as [`Running::provide`](crate::Running::provide).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn provide<F, E>(&self, name: &str, version: u32, snapshot: F) -> Result<()>
    where
        F: Fn(&mut StateWriter) -> Result<(), E> + Send + Sync + 'static,
        E: Into<Failure>,
    {
        self.provide_with(name, State::new(version, snapshot))
    }

    /// Provides a state with more to say about it, as
    /// [`Running::provide_with`](crate::Running::provide_with).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn provide_with(&self, name: &str, state: State) -> Result<()> {
        self.shared.states.provide(name.parse()?, state)
    }
}
