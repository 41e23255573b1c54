//! Floor 0: the system calls that no safe wrapper offers, or offers wrongly.
//!
//! This is the only place with `unsafe`. A descriptor is an `OwnedFd` on the line after the kernel
//! returned it; results are plain [`std::io::Result`]s, and the rooms above say what was tried.

pub(crate) mod clock;
pub(crate) mod cmsg;
pub(crate) mod datagram;
pub(crate) mod file_size;
pub(crate) mod memfd;
pub(crate) mod origin;
pub(crate) mod pidfd;
// Whoever keeps descriptors for others needs it.
#[cfg(any(test, feature = "cli"))]
pub(crate) mod same;
pub(crate) mod scm;
pub(crate) mod signal;
pub(crate) mod socket;
pub(crate) mod spawn;
pub(crate) mod table;
pub(crate) mod watch;

use std::io;

/// Repeats a system call for as long as a signal interrupts it (`EINTR`).
pub(crate) fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Turns the `-1` of a system call into the error that `errno` names.
pub(crate) fn checked<T: Into<i64> + Copy>(returned: T) -> io::Result<T> {
    if returned.into() == -1 { Err(io::Error::last_os_error()) } else { Ok(returned) }
}
