//! What an application holds while it starts.

mod sessions;
mod states;

use std::error::Error as StdError;
use std::future::Future;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::error::{Error, Result};
use crate::generation::Generation;
use crate::handoff::adoption::Turn;
use crate::hooks::Moment;
use crate::pid_file::{PidFile, Prepared};
use crate::readiness::Readiness;
use crate::requests::Requests;
use crate::running::Running;
use crate::service::{Command, Shared};
use crate::sockets::Sockets;

/// A generation that starts: it claims or binds its sockets, loads what it needs, and says
/// [`ready`](Self::ready).
///
/// It derefs to [`Sockets`], where the claims are. A predecessor, if there is one, serves
/// meanwhile, undisturbed.
#[must_use = "a generation that is never ready never serves"]
pub struct Starting {
    shared: Arc<Shared>,
    sockets: Sockets,
    readiness: Readiness,
    /// The PID file's temporary, if it has been written already.
    pid_file: Option<Prepared>,
}

impl std::fmt::Debug for Starting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Starting").field("generation", &self.shared.generation).finish()
    }
}

impl Deref for Starting {
    type Target = Sockets;

    fn deref(&self) -> &Sockets {
        &self.sockets
    }
}

impl Starting {
    pub(crate) fn new(shared: Arc<Shared>, pid_file: Option<Prepared>) -> Self {
        let sockets = Sockets::new(shared.sockets.clone());
        Self { shared, sockets, readiness: Readiness::default(), pid_file }
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// This generation's number: 0 if no other started it.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.shared.generation
    }

    /// Adds something that has to be there before this generation is ready: a database that
    /// answers, a cache that is warm. [`ready`](Self::ready) tries it until it passes, every
    /// [`Config::ready_interval`](crate::Config::ready_interval), each try for at most 5 s, within
    /// the predecessor's [`Config::ready_deadline`](crate::Config::ready_deadline).
    ///
    /// Why it does not pass yet stands in the status of both generations
    /// ([`Status::not_yet`](crate::Status::not_yet)), and in the report if it is too late.
    ///
    /// ```no_run
    /// # async fn ping() -> std::io::Result<()> { Ok(()) }
    /// # async fn start(mut start: heirloom::Starting) -> heirloom::Result<()> {
    /// start.ready_when("database", || ping());
    /// let running = start.ready().await?;
    /// # Ok(()) }
    /// ```
    pub fn ready_when<F, Fut, E>(&mut self, name: impl Into<String>, check: F)
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        self.readiness.add(name.into(), check);
    }

    /// As [`Running::on_yield`]. A hook that is added here is there before the turn is: an upgrade
    /// that was asked for meanwhile finds it.
    pub fn on_yield<F, Fut, E>(&self, hook: F)
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        self.shared.hooks.on_yield(hook);
    }

    /// As [`Running::on_roll_back`]. A hook that is added here hears of a turn that is taken back
    /// however soon.
    pub fn on_roll_back<F, Fut>(&self, hook: F)
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.shared.hooks.on(Moment::RollBack, hook);
    }

    /// As [`Running::on_commit`]. A hook that is added here hears of a commit that follows the turn
    /// at once, as without a [probation](crate::Config::probation).
    pub fn on_commit<F, Fut>(&self, hook: F)
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.shared.hooks.on(Moment::Commit, hook);
    }

    /// Counts how requests end, as [`Running::requests`] does.
    #[must_use]
    pub fn requests(&self) -> Requests {
        self.shared.requests.clone()
    }

    /// Says that this generation can serve, and returns when it is its turn.
    ///
    /// From then on its listeners accept. What was inherited and not claimed is closed once the
    /// verdict is in.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Bind`](crate::ErrorKind::Bind) or [`ErrorKind::Io`](crate::ErrorKind::Io) if a
    /// listener or the PID file's temporary cannot be made;
    /// [`ErrorKind::RolledBack`](crate::ErrorKind::RolledBack) if the predecessor took the turn back or never gave it.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: a service whose `ready` is dropped serves, but nobody holds it.
    pub async fn ready(self) -> Result<Running> {
        let shared = Arc::clone(&self.shared);
        let mut turn = shared.turn.subscribe();
        let not_yet = |why| {
            let shared = Arc::clone(&shared);
            async move { drop(shared.ask(Command::NotYet(why)).await) }
        };
        tokio::select! {
            biased;
            // It is not wanted any more.
            lost = shared.until(&mut turn, |turn| *turn != Turn::Waiting) => drop(lost?),
            () = self.readiness.passed(shared.config.ready_interval, not_yet) => {}
        }
        shared.asked_ready.store(true, Ordering::Relaxed);
        let prepared = match shared.config.pid_file.clone() {
            Some(_) if self.pid_file.is_some() => self.pid_file,
            Some(path) => Some(PidFile::prepare(path)?),
            None => None,
        };
        shared.ask(Command::Ready(prepared)).await?;
        let turn = shared.until(&mut turn, |turn| *turn != Turn::Waiting).await?;
        match turn {
            Turn::Serving => Ok(Running::new(Arc::clone(&shared))),
            Turn::Lost { kind, why } => Err(Error::new(kind, why)),
            Turn::Waiting => Err(crate::service::ended()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    fn can_be_spawned<T: Send>(_: &T) {}

    /// An application may start and ask from tasks of its own, with the service in its hands.
    #[test]
    fn what_an_application_holds_goes_from_thread_to_thread() {
        fn shared<T: Send + Sync>() {}
        shared::<Starting>();
        shared::<Running>();
        let start = async {
            let start = Config::new("test").start().await?;
            let listener = start.tcp("main", "127.0.0.1:0").await?;
            let running = start.ready().await?;
            drop(listener);
            running.upgrade().await
        };
        can_be_spawned(&start);
        let ask = async |running: Running| {
            running.upgrade_unattended().await?;
            running.roll_back().await?;
            running.abort("no").await?;
            running.commit().await?;
            running.unhealthy("ill").await?;
            running.stop().await;
            running.finished().await
        };
        let asked = |running: Running| can_be_spawned(&ask(running));
        let _ = asked;
    }
}
