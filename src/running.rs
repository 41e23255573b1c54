//! What an application holds while it serves.

#[cfg(feature = "metrics")]
mod facade;
mod readiness;
mod sessions;
mod states;
mod steering;

use std::error::Error as StdError;
use std::future::Future;
use std::sync::Arc;

use tokio::sync::{broadcast, watch};

pub use self::readiness::Readiness;
use crate::drain::{Guard, Guards, Progress};
use crate::error::{Error, ErrorKind, Result};
use crate::generation::Generation;
use crate::hooks::Moment;
use crate::listener::{Conn, Listener, Transport};
use crate::report::Report;
use crate::requests::Requests;
use crate::service::Shared;
use crate::sockets::Sockets;
use crate::status::{Event, Outcome, Status};

/// A service that accepts: [`Starting::ready`](crate::Starting::ready) returns it when it is this
/// generation's turn. Clones are the same service.
///
/// Dropping it changes nothing; the service ends when it is told to or has handed over.
#[derive(Clone)]
pub struct Running {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("status", &*self.shared.status.borrow()).finish()
    }
}

impl Running {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// What this generation was configured with, for the wings.
    #[cfg(feature = "http")]
    pub(crate) fn config(&self) -> &crate::Config {
        &self.shared.config
    }

    /// This generation's number.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.shared.generation
    }

    /// This generation as it stands now.
    #[must_use]
    pub fn status(&self) -> Status {
        self.shared.status.borrow().clone()
    }

    /// This generation as it stands, to be watched for changes.
    #[must_use]
    pub fn watch_status(&self) -> watch::Receiver<Status> {
        self.shared.status.subscribe()
    }

    /// Whether this generation owns the service: at most one does at any time.
    ///
    /// While a handoff runs, its verdict is read: a process that slept through the verdict learns
    /// here that it does not own any more. Between this answer and what is done on it the process
    /// may be stopped again; what must never happen twice (a migration, say) is fenced by
    /// [`generation`](Self::generation), which only grows.
    #[must_use]
    pub fn is_owner(&self) -> bool {
        self.shared.owns()
    }

    /// Whether this generation owns, to be watched for changes: for what only one generation may
    /// do, like a scheduler.
    ///
    /// ```no_run
    /// # async fn tick() {}
    /// # async fn cron(running: heirloom::Running) {
    /// let mut owner = running.watch_owner();
    /// while owner.wait_for(|owner| *owner).await.is_ok() {
    ///     tokio::select! {
    ///         () = tick() => {}
    ///         _ = owner.wait_for(|owner| !*owner) => {} // a newer generation goes on
    ///     }
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn watch_owner(&self) -> watch::Receiver<bool> {
        self.shared.owner.subscribe()
    }

    /// What happens from now on, in order. A subscriber that falls 256 events behind misses the
    /// oldest and is told so.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.shared.events.subscribe()
    }

    /// How many connections are open and which is the oldest; counts change while a drain runs, at
    /// most every 100 ms, and not at all before.
    #[must_use]
    pub fn drain_progress(&self) -> watch::Receiver<Progress> {
        self.shared.drain.watch()
    }

    /// Listeners and sockets that are added now. They are bound anew and accept at once, and the
    /// next generation inherits them like all others.
    ///
    /// What *this* generation inherited cannot be claimed any more: that ends with
    /// [`ready`](crate::Starting::ready), and a path or an address that the predecessor still holds
    /// is then in use. So the next release asks for such a listener before it is ready.
    #[must_use]
    pub fn sockets(&self) -> Sockets {
        Sockets::new(self.shared.sockets.clone())
    }

    /// Figures of the service's whole life in the OpenMetrics text format
    /// (`application/openmetrics-text; version=1.0.0; charset=utf-8`), for a `/metrics` of the
    /// application's own: upgrades by outcome and phase, how long they took, connections and
    /// requests. Counters go on over upgrades. Ask the owner: an elder does not know what is newer.
    #[must_use]
    pub fn metrics(&self) -> String {
        self.shared.metrics()
    }

    /// The reports of the service's last 64 upgrades, over generations, the oldest first.
    #[must_use]
    pub fn history(&self) -> Vec<Report> {
        self.shared.reports()
    }

    /// Whether a load balancer should send new connections: the answer to a readiness probe.
    ///
    /// It speaks for the service, whichever generation is asked: true while a generation serves, in
    /// an upgrade too, and false before this one's first turn, while an operator has paused or
    /// drained the service, and from the wish to stop on. Between that wish and the end of
    /// accepting lies [`Config::stop_notice`](crate::Config::stop_notice).
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.shared.is_ready()
    }

    /// The same, to be watched for changes.
    #[must_use]
    pub fn watch_ready(&self) -> watch::Receiver<bool> {
        self.shared.ready.subscribe()
    }

    /// How many connections hold a guard now.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.drain.active()
    }

    /// Counts how requests end, for the [error budget](crate::Config::error_budget) and reports.
    #[must_use]
    pub fn requests(&self) -> Requests {
        self.shared.requests.clone()
    }

    /// Adds what is to be done before this generation gives its turn away: finish or pause what
    /// writes, take no new leadership. Hooks run one after the other, in the order in which they
    /// were added.
    ///
    /// What must not miss anything is added before the turn, by
    /// [`Starting::on_yield`](crate::Starting::on_yield).
    ///
    /// No new connection is accepted meanwhile, by anybody: all hooks together have
    /// [`Config::gap_deadline`](crate::Config::gap_deadline). An error, a panic, or being late ends the
    /// upgrade; the hooks of [`on_roll_back`](Self::on_roll_back) follow then as after any roll
    /// back. A successor that takes over because this process did not answer asks no hook.
    pub fn on_yield<F, Fut, E>(&self, hook: F)
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        self.shared.hooks.on_yield(hook);
    }

    /// Adds what is to be done when a turn was taken back: in the predecessor, which has yielded
    /// and accepts again, and in the successor, which was rejected and finishes what it has. Also
    /// called when a generation owns again because every newer one died.
    ///
    /// [`is_owner`](Self::is_owner) tells the two sides apart. Nobody waits for it but the hooks
    /// after it, those of the next [`on_yield`](Self::on_yield) included (what takes long, such as
    /// another upgrade, belongs into a task of its own), and the end of this generation, for at most
    /// [`Config::commit_deadline`](crate::Config::commit_deadline).
    ///
    /// One that comes before the hook is added is missed: see
    /// [`Starting::on_roll_back`](crate::Starting::on_roll_back).
    pub fn on_roll_back<F, Fut>(&self, hook: F)
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.shared.hooks.on(Moment::RollBack, hook);
    }

    /// Adds what is to be done at the commit of an upgrade: in the predecessor, which drains from
    /// now on, and in the successor, which owns. A generation without a predecessor owns from the
    /// start, and is not told.
    ///
    /// [`is_owner`](Self::is_owner) tells the two sides apart. Nobody waits for it but the
    /// end of this generation, for at most [`Config::commit_deadline`](crate::Config::commit_deadline).
    ///
    /// One that comes before the hook is added is missed: see
    /// [`Starting::on_commit`](crate::Starting::on_commit).
    pub fn on_commit<F, Fut>(&self, hook: F)
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.shared.hooks.on(Moment::Commit, hook);
    }

    /// A guard for work that is not a connection of one of our listeners: the drain waits for it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] if the name is not a valid [`Name`](crate::Name).
    pub fn guard(&self, name: &str) -> Result<Guard> {
        Ok(self.guards(name)?.take())
    }

    /// As many of such guards as are wanted, for work that comes often: the name is checked and
    /// looked up once, here.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] if the name is not a valid [`Name`](crate::Name).
    pub fn guards(&self, name: &str) -> Result<Guards> {
        Ok(self.shared.drain.guards(&name.parse()?))
    }

    /// Accepts from `listener` for as long as there is something to accept, in a task of its own,
    /// and runs `handler` for each connection in another.
    ///
    /// It pauses and goes on by itself when the turn changes hands. A handler that is still there
    /// when the drain's deadline has passed has half of [`Config::force_grace`] to say goodbye, then
    /// it is dropped. What it returns is dropped.
    ///
    /// [`Config::force_grace`]: crate::Config::force_grace
    ///
    /// An `async |connection| …` closure fits if it captures nothing; one that needs state takes
    /// it by [`accept_loop_with`](Self::accept_loop_with).
    pub fn accept_loop<T, F, Fut>(&self, listener: Listener<T>, handler: F)
    where
        T: Transport,
        F: Fn(Conn<T::Stream, T::Addr>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Send> + Send + 'static,
    {
        self.accept_loop_with(listener, Arc::new(handler), |handler, conn| handler(conn));
    }

    /// As [`accept_loop`](Self::accept_loop), with a clone of `state` for each connection.
    ///
    /// ```no_run
    /// # use std::sync::Arc;
    /// # use tokio::io::AsyncWriteExt;
    /// # fn serve(running: &heirloom::Running, listener: heirloom::TcpListener) {
    /// let greeting = Arc::new(String::from("hello\n"));
    /// running.accept_loop_with(listener, greeting, async |greeting, mut connection| {
    ///     connection.write_all(greeting.as_bytes()).await
    /// });
    /// # }
    /// ```
    pub fn accept_loop_with<T, S, F, Fut>(&self, listener: Listener<T>, state: S, handler: F)
    where
        T: Transport,
        S: Clone + Send + 'static,
        F: Fn(S, Conn<T::Stream, T::Addr>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Send> + Send + 'static,
    {
        let handler = Arc::new(handler);
        let farewell = self.shared.config.farewell();
        crate::task::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok(Some(connection)) => {
                        let guard = connection.guard().clone();
                        let (handler, state) = (Arc::clone(&handler), state.clone());
                        tokio::spawn(async move {
                            tokio::select! {
                                _ = handler(state, connection) => {}
                                () = guard.cut(farewell) => {}
                            }
                        });
                    }
                    Ok(None) => return,
                    Err(error) => {
                        crate::log::error!(listener = %listener.name(), error = %error.chain(), "the listener cannot accept any more");
                        return;
                    }
                }
            }
        });
    }

    /// Waits for the end: this generation has handed over or was stopped, and what it had accepted
    /// is finished or cut.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Stopping`] if the runtime ended under it.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping the future changes nothing.
    pub async fn finished(&self) -> Result<Outcome> {
        let mut outcome = self.shared.outcome.subscribe();
        let ended = self.shared.until(&mut outcome, Option::is_some).await?;
        ended.ok_or_else(|| Error::new(ErrorKind::Stopping, "the service ended without an outcome"))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::{Config, ErrorKind};

    #[test]
    fn p4_finished_ends_with_the_runtime_that_the_service_lived_in() {
        let runtime =
            || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let config = Config::new("test").upgrade_signal(None).stop_signals([]);
        let first = runtime();
        let running =
            first.block_on(async { config.start().await.unwrap().ready().await.unwrap() });
        drop(first);
        let ended = runtime().block_on(async {
            tokio::time::timeout(Duration::from_secs(20), running.finished()).await
        });
        assert_eq!(ended.unwrap().unwrap_err().kind(), ErrorKind::Stopping);
    }
}
