//! A descriptor in the runtime's epoll(7).
#![allow(unsafe_code)]

use std::io;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

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
}

impl Deref for Watched {
    type Target = AsyncFd<Arc<OwnedFd>>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}
