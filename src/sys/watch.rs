//! A descriptor in the runtime's epoll(7).
#![allow(unsafe_code)]

use std::io;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::coop::has_budget_remaining;

/// A descriptor that the runtime watches: an [`AsyncFd`] that only lends itself out, so nobody can
/// put another descriptor in its place. Dropped, it leaves epoll(7) before the descriptor closes.
#[derive(Debug)]
pub(crate) struct Watched(AsyncFd<Arc<OwnedFd>>);

impl Watched {
    /// Watches a descriptor in the current runtime, whose I/O driver must be enabled.
    pub(crate) fn new(fd: Arc<OwnedFd>, interest: Interest) -> io::Result<Self> {
        // SAFETY: the `OwnedFd` is open, stays open for as long as this `Arc` to it is held, and
        // keeps its number; `Watched` gives out no `&mut`, so the `Arc` is not exchanged.
        let registered = unsafe { AsyncFd::register_with_interest(fd, interest) };
        Ok(Self(registered?))
    }

    /// Tries `op`, and again whenever the descriptor becomes readable, until it is not
    /// `WouldBlock`. `op` is told whether nothing more can come. For one task at a time.
    ///
    /// `op` is also tried when epoll(7) has said nothing: a process that was stopped and wakes has
    /// its wait interrupted, so its timers run before it is told what else happened meanwhile.
    pub(crate) fn poll_read<R>(
        &self,
        cx: &mut Context<'_>,
        mut op: impl FnMut(&OwnedFd, bool) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        loop {
            let told = self.0.poll_read_ready(cx);
            if told.is_pending() {
                // It may only be this task's time that is used up: then others come first.
                if !has_budget_remaining() {
                    return Poll::Pending;
                }
                return match op(self.0.get_ref(), false) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
                    result => Poll::Ready(result),
                };
            }
            let mut told = ready!(told)?;
            let last = told.ready().is_read_closed();
            if let Ok(result) = told.try_io(|fd| op(fd.get_ref(), last)) {
                return Poll::Ready(result);
            }
        }
    }
}

impl Deref for Watched {
    type Target = AsyncFd<Arc<OwnedFd>>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}
