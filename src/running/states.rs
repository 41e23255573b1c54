//! Providing states to the successor.

use super::Running;
use crate::error::Result;
use crate::state::{Failure, State, StateWriter};

impl Running {
    /// Provides a state to the next generation: `snapshot` writes it down, in a thread of its own,
    /// when a successor [takes](crate::Starting::take) it, and otherwise never. It replaces what
    /// was provided under this name.
    ///
    /// This generation serves meanwhile, and goes on if the upgrade is rolled back: `snapshot`
    /// writes down a copy and takes nothing away. What changes after it is the business of a
    /// [delta](State::delta) or of [`on_yield`](Self::on_yield).
    ///
    /// ```no_run
    /// # use std::sync::{Arc, Mutex};
    /// # use std::io::Write;
    /// # fn provide(running: &heirloom::Running) -> heirloom::Result<()> {
    /// let names = Arc::new(Mutex::new(Vec::<String>::new()));
    /// running.provide("names", 1, move |writer| {
    ///     let names = names.lock().unwrap().clone();
    ///     names.iter().try_for_each(|name| writeln!(writer, "{name}"))
    /// })
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if the name is not a valid
    /// [`Name`](crate::Name), or if 1 024 states are provided already.
    pub fn provide<F, E>(&self, name: &str, version: u32, snapshot: F) -> Result<()>
    where
        F: Fn(&mut StateWriter) -> Result<(), E> + Send + Sync + 'static,
        E: Into<Failure>,
    {
        self.provide_with(name, State::new(version, snapshot))
    }

    /// As [`provide`](Self::provide), with more to say: older versions, a delta.
    ///
    /// # Errors
    ///
    /// As for `provide`.
    pub fn provide_with(&self, name: &str, state: State) -> Result<()> {
        self.shared.states.provide(name.parse()?, state)
    }
}
