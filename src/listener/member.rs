//! One socket of a listener, and its place in a runtime's epoll.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::task::{Context, Poll};

use nix::poll::{PollFd, PollFlags, PollTimeout};
use tokio::io::Interest;
use tokio::runtime::{Handle, Id};

use crate::sys::watch::Watched;

/// A socket that may have something for us.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) fd: BorrowedFd<'a>,
    /// Which socket of its name it is; none for one that a failed successor left.
    pub(super) index: Option<usize>,
}

/// One socket. The listener of a whole group has several.
pub(super) struct Member {
    /// Declared before `fd`, so that the socket leaves epoll before it can be closed: epoll goes
    /// on reporting a description that another process has open (`epoll(7)`).
    registered: Option<(Id, Watched)>,
    pub(super) fd: Arc<OwnedFd>,
    /// Which socket of its name it is.
    pub(super) index: usize,
    /// Only its queue is served, then it is closed.
    pub(super) leftover: bool,
}

impl Member {
    /// The socket number `index` of its name.
    pub(super) fn new(fd: Arc<OwnedFd>, index: usize) -> Self {
        Self { registered: None, fd, index, leftover: false }
    }

    /// A socket of which only the queue is served.
    pub(super) fn leftover(fd: Arc<OwnedFd>) -> Self {
        Self { registered: None, fd, index: 0, leftover: true }
    }

    /// The socket, to read from.
    pub(super) fn source(&self) -> Source<'_> {
        Source { fd: self.fd.as_fd(), index: (!self.leftover).then_some(self.index) }
    }

    /// Takes the socket out of epoll; it stays open.
    pub(super) fn deregister(&mut self) {
        self.registered = None;
    }

    #[cfg(test)]
    pub(super) fn is_registered(&self) -> bool {
        self.registered.is_some()
    }

    /// Whether the kernel has something queued on it now (`poll(2)`, not waiting).
    pub(super) fn has_queued(&self) -> bool {
        let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
        matches!(nix::poll::poll(&mut fds, PollTimeout::ZERO), Ok(ready) if ready > 0)
    }

    /// Tries `op` when epoll says so; registers in the runtime of the caller first, also when the
    /// runtime that it was registered in is another one or has ended.
    pub(super) fn poll<R>(
        &mut self,
        cx: &mut Context<'_>,
        op: &mut dyn FnMut(Source<'_>) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        let here = Handle::try_current().map_err(io::Error::other)?.id();
        let mut new = false;
        loop {
            let registered = match &mut self.registered {
                Some((runtime, registered)) if *runtime == here => registered,
                stale => {
                    // Out of the old epoll before it enters the new one.
                    *stale = None;
                    new = true;
                    let fd = Arc::clone(&self.fd);
                    let registered = Watched::new(fd, Interest::READABLE)?;
                    &mut stale.insert((here, registered)).1
                }
            };
            let mut ready = match registered.poll_read_ready(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(ready)) => ready,
                Poll::Ready(Err(error)) => {
                    self.registered = None;
                    if new {
                        return Poll::Ready(Err(error));
                    }
                    continue;
                }
            };
            match op(Source { fd: self.fd.as_fd(), index: Some(self.index) }) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                result => return Poll::Ready(result),
            }
        }
    }
}
