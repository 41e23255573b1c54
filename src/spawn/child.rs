//! Processes that we watch: our own child, and any other by its pidfd.

use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::io::Interest;
use tokio::runtime::Handle;

use crate::error::{Error, ErrorKind, Result};
use crate::sys::pidfd::{self, Exit};
use crate::sys::spawn::Group;
use crate::sys::watch::Watched;

/// How long a process that was sent `SIGKILL` may take to give its memory back before
/// [`Child::end`] no longer waits for it.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// A process that we started, and reap on every path; or one that somebody else started and that
/// became our successor ([`from_elsewhere`](Self::from_elsewhere)), which its own parent reaps.
///
/// Dropped before it has ended, it is killed, unless it was [set free](Self::set_free). A drop must
/// not block a runtime's worker, and a killed process takes a moment to be gone, so a task of the
/// runtime in which it was started reaps it. Without that runtime there is one attempt that does
/// not wait; if that comes too early a zombie is left until this process ends, which is about to
/// happen: its runtime has.
///
/// If it has a process group of its own, what signals it signals the group, and what it has left in
/// the group is killed when it ends.
#[derive(Debug)]
#[must_use = "dropping it kills the process"]
pub(crate) struct Child {
    pid: i32,
    /// Taken by the drop alone.
    watched: Option<Watched>,
    fd: Arc<OwnedFd>,
    exit: Option<Exit>,
    runtime: Handle,
    group: Group,
    ours: bool,
    free: bool,
}

impl Child {
    /// Takes over a process that has just been started. Must be called in a runtime.
    pub(super) fn adopt(pid: i32, group: Group) -> Result<Self> {
        let wrong = |kind, what: &str, error: io::Error| {
            Error::new(kind, format!("child with pid {pid}: {what}")).with_source(error)
        };
        let pidfd = match pidfd::open(pid) {
            Ok(pidfd) => pidfd,
            Err(error) => {
                abandon(pid);
                return Err(wrong(ErrorKind::Io, "open its pidfd", error));
            }
        };
        // With SIGCHLD ignored it may have ended, been reaped, and its pid given to a stranger.
        if !pidfd::is_child(pidfd.as_fd()) {
            let gone = io::Error::from_raw_os_error(libc::ECHILD);
            let what = "it ended at once, and its status was taken by another";
            return Err(wrong(ErrorKind::Spawn, what, gone));
        }
        let fd = Arc::new(pidfd);
        match watch(&fd) {
            Ok(watched) => {
                let watched = Some(watched);
                let runtime = Handle::current();
                Ok(Self { pid, watched, fd, exit: None, runtime, group, ours: true, free: false })
            }
            Err(error) => {
                abandon(pid);
                Err(wrong(ErrorKind::Io, "watch its pidfd", error))
            }
        }
    }

    /// Takes a process into our charge that somebody else has started. Its pid is 0 if it is not
    /// visible in our namespace. Must be called in a runtime.
    pub(crate) fn from_elsewhere(pidfd: OwnedFd, pid: i32) -> Result<Self> {
        let fd = Arc::new(pidfd);
        let watched = watch(&fd).map_err(|error| {
            let text = format!("process {pid}, which was started elsewhere: watch its pidfd");
            Error::new(ErrorKind::Io, text).with_source(error)
        })?;
        let (watched, runtime) = (Some(watched), Handle::current());
        Ok(Self {
            pid,
            watched,
            fd,
            exit: None,
            runtime,
            group: Group::Ours,
            ours: false,
            free: false,
        })
    }

    /// Whether this process started it.
    pub(crate) fn is_ours(&self) -> bool {
        self.ours
    }

    /// It lives on without us from now on: it owns the service.
    pub(crate) fn set_free(&mut self) {
        self.free = true;
    }

    /// Its pid, for reports; signals go by pidfd.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Its pidfd, to hand on.
    pub(crate) fn pidfd(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.fd)
    }

    /// Waits until it has ended, reaps it, and says how; again and again the same.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what has been reaped is remembered.
    pub(crate) async fn ended(&mut self) -> Exit {
        if let Some(exit) = self.exit {
            return exit;
        }
        let Some(watched) = &self.watched else {
            return Exit::Unknown;
        };
        let look = |fd: &OwnedFd, _| {
            // Before it is reaped: until then nobody else's group can have its number.
            if self.group == Group::Own && pidfd::ended(fd.as_fd())? {
                let _ = pidfd::signal_group(fd.as_fd(), self.pid, Signal::SIGKILL);
            }
            pidfd::wait(fd.as_fd())?.ok_or(io::ErrorKind::WouldBlock.into())
        };
        match poll_fn(|cx| watched.poll_read(cx, look)).await {
            Ok(exit) => *self.exit.insert(exit),
            // The runtime is ending. Not remembered, so that the drop still kills.
            Err(_) => Exit::NotYet,
        }
    }

    /// Sends it a signal; none is sent to a process that has ended, and that is no error.
    pub(crate) fn kill(&self, signal: Signal) -> io::Result<()> {
        if self.exit.is_some() {
            return Ok(());
        }
        gone_is_fine(self.signal(signal))
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        match self.group {
            Group::Ours => pidfd::signal(self.fd.as_fd(), Some(signal)),
            Group::Own => pidfd::signal_group(self.fd.as_fd(), self.pid, signal),
        }
    }

    /// Whether we may signal it, so that we could end it: not if it has become another user.
    pub(crate) fn may_signal(&self) -> bool {
        self.exit.is_some() || gone_is_fine(pidfd::signal(self.fd.as_fd(), None)).is_ok()
    }

    /// Ends it: gives it `grace` to end by itself, then kills it; reaps it and says how it ended.
    ///
    /// [`Exit::NotYet`] says that we may not kill it, that it is still there 10 s after the kill,
    /// or that the runtime ends first; it is then reaped in the background whenever it ends.
    ///
    /// # Cancel safety
    ///
    /// It runs as a task of its own from the call on, and goes on if the future is dropped.
    pub(crate) fn end(mut self, grace: Duration) -> impl Future<Output = Exit> + Send + 'static {
        let task = crate::task::spawn_on(&self.runtime.clone(), async move {
            if let Ok(exit) = tokio::time::timeout(grace, self.ended()).await {
                return exit;
            }
            if self.kill(Signal::SIGKILL).is_err() {
                return Exit::NotYet;
            }
            tokio::time::timeout(KILL_LIMIT, self.ended()).await.unwrap_or(Exit::NotYet)
        });
        async move { task.await.unwrap_or(Exit::NotYet) }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let Some(watched) = self.watched.take().filter(|_| self.exit.is_none()) else {
            return;
        };
        if !self.free {
            // If it may not be killed it is reaped whenever it ends.
            let _ = self.signal(Signal::SIGKILL);
        }
        if !matches!(pidfd::wait(self.fd.as_fd()), Ok(Some(_))) {
            crate::task::spawn_on(&self.runtime, async move { reap(&watched).await });
        }
    }
}

/// A process that need not be our child: a successor that took over, an elder, a predecessor.
#[derive(Debug)]
pub(crate) struct Process {
    watched: Watched,
}

impl Process {
    /// Takes a descriptor that somebody says is a pidfd; anything else is refused.
    ///
    /// Must be called in a runtime with I/O enabled.
    pub(crate) fn from_pidfd(fd: OwnedFd) -> Result<Self> {
        let refused = |text: &str, error: io::Error| {
            Err(Error::new(ErrorKind::Descriptor, format!("process: {text}")).with_source(error))
        };
        if !pidfd::is_pidfd(fd.as_fd()) {
            let error = io::Error::from_raw_os_error(libc::EBADF);
            return refused("the descriptor is not a pidfd", error);
        }
        match watch(&Arc::new(fd)) {
            Ok(watched) => Ok(Self { watched }),
            Err(error) => refused("its pidfd cannot be watched", error),
        }
    }

    /// Waits until it has ended. Never said of a process that lives: if the runtime in which this
    /// was made ends first, it does not return.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it takes nothing.
    pub(crate) async fn ended(&self) {
        let looked = poll_fn(|cx| {
            self.watched.poll_read(cx, |fd, _| {
                // A failed look says nothing yet, and is repeated.
                let ended = pidfd::ended(fd.as_fd()).unwrap_or(false);
                if ended { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
            })
        });
        if looked.await.is_err() {
            std::future::pending().await
        }
    }

    /// Sends it a signal; none is sent to a process that has ended, and that is no error.
    #[cfg(test)]
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        gone_is_fine(pidfd::signal(self.watched.get_ref().as_fd(), Some(signal)))
    }

    /// Whether we may signal it: not if it is another user's or out of reach of our pid namespace.
    #[cfg(test)]
    pub(crate) fn may_signal(&self) -> bool {
        gone_is_fine(pidfd::signal(self.watched.get_ref().as_fd(), None)).is_ok()
    }

    /// Its pidfd, to hand on.
    pub(crate) fn pidfd(&self) -> Arc<OwnedFd> {
        Arc::clone(self.watched.get_ref())
    }
}

/// Registers a pidfd in the runtime of the caller.
fn watch(fd: &Arc<OwnedFd>) -> io::Result<Watched> {
    Watched::new(Arc::clone(fd), Interest::READABLE)
}

/// Waits until a child has ended and reaps it. An error means that the runtime ends.
async fn reap(watched: &Watched) -> io::Result<Exit> {
    let look = |fd: &OwnedFd| pidfd::wait(fd.as_fd())?.ok_or(io::ErrorKind::WouldBlock.into());
    poll_fn(|cx| watched.poll_read(cx, |fd, _| look(fd))).await
}

/// A process that is gone needs no signal.
fn gone_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        other => other,
    }
}

/// Ends and reaps a child for which no pidfd could be had (the limit of open files).
///
/// By pid, which is sound for a child that nobody has reaped. Blocks until it is gone; the caller
/// is a thread for blocking work.
fn abandon(pid: i32) {
    use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
    let pid = nix::unistd::Pid::from_raw(pid);
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    if waitid(Id::Pid(pid), look).is_ok() && nix::sys::signal::kill(pid, Signal::SIGKILL).is_ok() {
        // ECHILD: somebody else reaped it. Either way it is gone.
        let _ = waitpid(pid, None);
    }
}
