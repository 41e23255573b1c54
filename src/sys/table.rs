//! The process's table of descriptors.
#![allow(unsafe_code)]

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;

use nix::sys::resource::{Resource, getrlimit};

use super::checked;

/// How many links `/proc/self/task` has in a process of one thread (`proc(5)`): its own two, and one
/// for each thread.
const ONE_THREAD: u64 = 3;

/// Makes room for so many descriptors, or for as many as the limit allows, while that is cheap.
///
/// The table doubles whenever it is full. In a process of several threads the kernel then waits for
/// readers of the old one (`synchronize_rcu` in `expand_fdtable`), some ten milliseconds, in whatever
/// call was to open a descriptor: an accept, or a step of an upgrade. So this does nothing once there
/// are several threads.
///
/// `open` is any open descriptor.
pub(crate) fn reserve(open: BorrowedFd<'_>, count: RawFd) -> io::Result<()> {
    if fs::metadata("/proc/self/task")?.nlink() != ONE_THREAD {
        return Ok(());
    }
    let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let last = RawFd::try_from(limit).unwrap_or(RawFd::MAX).min(count).saturating_sub(1);
    // SAFETY: it takes a number that is free, from `last` on.
    let far = unsafe { libc::fcntl(open.as_raw_fd(), libc::F_DUPFD_CLOEXEC, last) };
    // SAFETY: the kernel has just given it, and nobody else knows it.
    drop(unsafe { OwnedFd::from_raw_fd(checked(far)?) });
    Ok(())
}
