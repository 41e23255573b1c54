//! What is between a server and the service manager that supervises it.

use std::fmt::Display;
use std::sync::Arc;

use super::Config;
use crate::birth::Unnamed;

/// What has to be well for the watchdog to be fed.
pub(crate) type WatchdogCheck = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

impl Config {
    /// Feeds the service manager's watchdog (`WatchdogSec=`, systemd.service(5)) only while this
    /// holds. It is asked each time, every half of the manager's interval, by the task that decides
    /// for the service: it has to answer at once. Why it does not hold stands in the unit's status.
    /// Default: the watchdog is fed as long as that task runs.
    ///
    /// Without a watchdog it is never asked.
    pub fn watchdog_when<E: Display>(
        mut self,
        check: impl Fn() -> Result<(), E> + Send + Sync + 'static,
    ) -> Self {
        self.watchdog = Some(Arc::new(move || check().map_err(|why| why.to_string())));
        self
    }

    /// Tells no service manager anything, even if there is one (`NOTIFY_SOCKET`): the application
    /// does that itself. Then it also has to see to `MAINPID` after each upgrade. Default: a
    /// manager is told what `sd_notify(3)` knows.
    pub fn without_service_manager(mut self) -> Self {
        self.manager = false;
        self
    }

    /// Takes sockets of `LISTEN_FDS` also if `LISTEN_PID` is not set, as tools for development pass
    /// them (`systemfd --no-pid`), which do not know the process that the build starts. Default:
    /// without `LISTEN_PID` they are for nobody, as `sd_listen_fds(3)` has it.
    ///
    /// Not for production: a process that such a server starts inherits the variables, and takes
    /// them for its own if it does likewise.
    pub fn take_unnamed_sockets(mut self) -> Self {
        self.unnamed = Unnamed::Taken;
        self
    }
}
