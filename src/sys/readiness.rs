//! A descriptor in the epoll of the runtime that calls.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers a descriptor with the tokio runtime that runs this. Dropping what it gives takes the
/// descriptor out of epoll again, before it can be closed.
///
/// # Panics
/// Outside of a tokio runtime, or in one without I/O: look for a `Handle` first.
pub(crate) fn register(fd: Arc<OwnedFd>, interest: Interest) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    // SAFETY: the shared owner keeps this very descriptor open for as long as the registration
    // holds it, and always gives the same number.
    Ok(unsafe { AsyncFd::register_with_interest(fd, interest) }?)
}
