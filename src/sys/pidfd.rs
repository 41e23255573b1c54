//! Processes by descriptor: `pidfd_open(2)`, `pidfd_send_signal(2)`, `waitid(2)` with `P_PIDFD`.
//!
//! A pid can be reused and is 0 across namespaces; a pidfd names one process for good.
#![allow(unsafe_code)]

use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::sys::{checked, retry};

/// `PIDFD_NONBLOCK`, Linux 5.10.
const NONBLOCK: libc::c_uint = libc::O_NONBLOCK.cast_unsigned();

/// `PIDFD_SIGNAL_PROCESS_GROUP`, Linux 6.9.
const PROCESS_GROUP: u32 = 1 << 2;

/// The type of the file system of pidfds, `PID_FS_MAGIC`, Linux 6.9.
const PIDFS_MAGIC: i64 = 0x5049_4446;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It called `exit` with this status.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
    /// It is gone, and somebody else was told how: `SIGCHLD` is ignored, or the application waits
    /// for all children.
    Unknown,
    /// It has not: it may not be killed, or hangs in the kernel.
    NotYet,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(status) => write!(f, "exited with status {status}"),
            Self::Signal(number) => match Signal::try_from(*number) {
                Ok(signal) => write!(f, "killed by {signal}"),
                Err(_) => write!(f, "killed by signal {number}"),
            },
            Self::Unknown => f.write_str("ended, status unknown"),
            Self::NotYet => f.write_str("could not be ended"),
        }
    }
}

/// A descriptor for the process that has this pid now, non-blocking and `CLOEXEC`.
pub(crate) fn open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two integers and touches no memory of ours.
    let fd = checked(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, NONBLOCK) })?;
    // SAFETY: the kernel has just opened this descriptor for us alone; it fits an int.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Sends a signal, or with `None` only asks whether we might: `PermissionDenied` if not, `ESRCH`
/// if the process has been reaped, `EBADF` if the descriptor is no pidfd.
pub(crate) fn signal(pidfd: BorrowedFd<'_>, signal: Option<Signal>) -> io::Result<()> {
    send(pidfd, signal.map_or(0, |signal| signal as i32), 0)
}

/// Sends a signal to all processes of the group that this child was born as the leader of;
/// `ESRCH` if none is left.
///
/// Before Linux 6.9 the group goes by its number, which only a child that nobody has reaped keeps
/// from being another's: after that it is `ESRCH` there as well.
pub(crate) fn signal_group(pidfd: BorrowedFd<'_>, pid: i32, signal: Signal) -> io::Result<()> {
    match send(pidfd, signal as i32, PROCESS_GROUP) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            signal_group_by_number(pidfd, pid, signal)
        }
        other => other,
    }
}

fn signal_group_by_number(pidfd: BorrowedFd<'_>, pid: i32, signal: Signal) -> io::Result<()> {
    if !is_child(pidfd) {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    Ok(killpg(Pid::from_raw(pid), signal)?)
}

/// `pidfd_send_signal(2)`; the number 0 sends nothing.
fn send(pidfd: BorrowedFd<'_>, number: i32, flags: u32) -> io::Result<()> {
    let (call, fd) = (libc::SYS_pidfd_send_signal, pidfd.as_raw_fd());
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo pointer asks the kernel to fill in what kill(2) would.
    checked(unsafe { libc::syscall(call, fd, number, no_info, flags) })?;
    Ok(())
}

/// Reaps a child if it has ended; `None` while it lives. Never blocks.
///
/// A child that somebody else has reaped gives [`Exit::Unknown`].
pub(crate) fn wait(pidfd: BorrowedFd<'_>) -> io::Result<Option<Exit>> {
    match wait_with(pidfd, libc::WEXITED | libc::WNOHANG) {
        // Also said of a living process that is not our child, which has not ended.
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => {
            Ok(ended(pidfd)?.then_some(Exit::Unknown))
        }
        other => other,
    }
}

/// Whether this is a child of ours that nobody has reaped. Takes nothing.
pub(crate) fn is_child(pidfd: BorrowedFd<'_>) -> bool {
    wait_with(pidfd, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT).is_ok()
}

/// Whether a descriptor is a pidfd, of whatever process: of one in another pid namespace too, to
/// which a signal is as invalid as one to what is no pidfd.
pub(crate) fn is_pidfd(fd: BorrowedFd<'_>) -> bool {
    match wait_with(fd, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT) {
        Ok(_) => true,
        // Of a process, which is not our child.
        Err(error) => error.raw_os_error() == Some(libc::ECHILD),
    }
}

/// The process that connected to a Unix socket, as the kernel saw it then (`SO_PEERPIDFD`, Linux
/// 6.5). Whichever pid namespace it is in.
pub(crate) fn of_peer(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut number: libc::c_int = -1;
    let mut length: libc::socklen_t = size_of::<libc::c_int>() as _;
    let (option, value) = (libc::SO_PEERPIDFD, (&raw mut number).cast());
    // SAFETY: SO_PEERPIDFD writes one int, `number` is one, and `length` says so.
    checked(unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, value, &raw mut length)
    })?;
    // SAFETY: the kernel has just opened this descriptor for us alone, `CLOEXEC`.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// `waitid(P_PIDFD)` with the given options.
fn wait_with(pidfd: BorrowedFd<'_>, options: libc::c_int) -> io::Result<Option<Exit>> {
    // SAFETY: siginfo_t is plain C data for which all zeroes is a valid value.
    let mut info: libc::siginfo_t = unsafe { MaybeUninit::zeroed().assume_init() };
    let id = pidfd.as_raw_fd().cast_unsigned();
    retry(|| {
        // SAFETY: waitid writes one siginfo_t, and `info` is one.
        checked(unsafe { libc::waitid(libc::P_PIDFD, id, &raw mut info, options) })
    })?;
    // SAFETY: after a successful waitid the SIGCHLD fields are set, or all zero if none ended.
    let pid = unsafe { info.si_pid() };
    if pid == 0 {
        return Ok(None);
    }
    // SAFETY: as above.
    let status = unsafe { info.si_status() };
    let exited = info.si_code == libc::CLD_EXITED;
    Ok(Some(if exited { Exit::Code(status) } else { Exit::Signal(status) }))
}

/// Whether a process has ended, also one that is not our child. Never blocks, reaps nothing.
pub(crate) fn ended(pidfd: BorrowedFd<'_>) -> io::Result<bool> {
    let mut fds = [PollFd::new(pidfd, PollFlags::POLLIN)];
    let ready = retry(|| Ok(poll(&mut fds, PollTimeout::ZERO)?))?;
    Ok(ready > 0)
}

/// The process number of a pidfd in our namespace (`/proc/self/fdinfo`); none if it has been reaped
/// or lives in another namespace.
pub(crate) fn number(pidfd: BorrowedFd<'_>) -> Option<i32> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    let number = text.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    number.trim().parse().ok().filter(|number| *number > 0)
}

/// The number that names a process for as long as the machine is up: the inode of its pidfd.
///
/// `None` where pidfds have no inodes of their own (before Linux 6.9).
pub(crate) fn unique_id(pid: i32) -> Option<u64> {
    let pidfd = open(pid).ok()?;
    let system = nix::sys::statfs::fstatfs(&pidfd).ok()?;
    if system.filesystem_type().0 != PIDFS_MAGIC {
        return None;
    }
    Some(nix::sys::stat::fstat(&pidfd).ok()?.st_ino)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::process::{Command, Stdio};

    use super::*;

    /// Blocks until the process has ended, at most 20 s.
    fn until_ended(pidfd: &OwnedFd) {
        let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut fds, 20_000_u16).unwrap(), 1);
    }

    #[test]
    fn a_child_lives_is_signalled_and_is_reaped_once() {
        let mut child = Command::new("/bin/sleep").arg("60").spawn().unwrap();
        let pidfd = open(child.id().cast_signed()).unwrap();
        signal(pidfd.as_fd(), None).unwrap();
        assert!(is_child(pidfd.as_fd()));
        assert_eq!(wait(pidfd.as_fd()).unwrap(), None);
        assert!(!ended(pidfd.as_fd()).unwrap());
        signal(pidfd.as_fd(), Some(Signal::SIGKILL)).unwrap();
        until_ended(&pidfd);
        assert!(is_child(pidfd.as_fd()));
        assert_eq!(wait(pidfd.as_fd()).unwrap(), Some(Exit::Signal(libc::SIGKILL)));
        // Reaped: whoever asks again is told that it is gone.
        assert_eq!(wait(pidfd.as_fd()).unwrap(), Some(Exit::Unknown));
        assert!(!is_child(pidfd.as_fd()));
        assert!(child.wait().is_err());
        let gone = signal(pidfd.as_fd(), None).unwrap_err();
        assert_eq!(gone.raw_os_error(), Some(libc::ESRCH));
    }

    /// By the kernel's flag and, as before Linux 6.9, by number.
    #[test]
    fn a_group_is_signalled_as_a_whole_and_never_by_a_number_that_was_given_back() {
        use std::io::Read;
        use std::os::unix::process::CommandExt;
        for signal_group in [signal_group, signal_group_by_number] {
            let script = "sleep 60 & echo; wait";
            let mut command = Command::new("/bin/sh");
            command.args(["-c", script]).process_group(0).stdout(Stdio::piped());
            let mut child = command.spawn().unwrap();
            let mut output = child.stdout.take().unwrap();
            output.read_exact(&mut [0]).unwrap();
            let pid = child.id().cast_signed();
            let pidfd = open(pid).unwrap();
            signal_group(pidfd.as_fd(), pid, Signal::SIGKILL).unwrap();
            // Both held it.
            assert_eq!(output.read(&mut [0]).unwrap(), 0);
            until_ended(&pidfd);
            assert_eq!(wait(pidfd.as_fd()).unwrap(), Some(Exit::Signal(libc::SIGKILL)));
            assert!(child.wait().is_err());
            let gone = signal_group_by_number(pidfd.as_fd(), pid, Signal::SIGKILL).unwrap_err();
            assert_eq!(gone.raw_os_error(), Some(libc::ESRCH));
        }
    }

    #[test]
    fn a_status_that_somebody_else_took_is_unknown_and_no_error() {
        let mut child = Command::new("/bin/sh").args(["-c", "exit 3"]).spawn().unwrap();
        let pidfd = open(child.id().cast_signed()).unwrap();
        child.wait().unwrap();
        assert!(ended(pidfd.as_fd()).unwrap());
        assert_eq!(wait(pidfd.as_fd()).unwrap(), Some(Exit::Unknown));
    }

    #[test]
    fn a_process_that_is_not_our_child_is_seen_to_live_and_to_end() {
        let script = "sleep 60 >/dev/null 2>&1 & echo $!";
        let output = Command::new("/bin/sh").args(["-c", script]).stdin(Stdio::null()).output();
        let text = String::from_utf8(output.unwrap().stdout).unwrap();
        let pidfd = open(text.trim().parse().unwrap()).unwrap();
        assert_eq!(wait(pidfd.as_fd()).unwrap(), None);
        assert!(!ended(pidfd.as_fd()).unwrap());
        signal(pidfd.as_fd(), Some(Signal::SIGKILL)).unwrap();
        until_ended(&pidfd);
        assert!(ended(pidfd.as_fd()).unwrap());
    }

    #[test]
    fn an_exit_is_told_in_words() {
        let mut child = Command::new("/bin/sh").args(["-c", "exit 3"]).spawn().unwrap();
        let pidfd = open(child.id().cast_signed()).unwrap();
        until_ended(&pidfd);
        assert_eq!(wait(pidfd.as_fd()).unwrap().unwrap().to_string(), "exited with status 3");
        assert!(child.wait().is_err());
        assert_eq!(Exit::Signal(9).to_string(), "killed by SIGKILL");
        assert_eq!(Exit::Signal(40).to_string(), "killed by signal 40");
        assert_eq!(Exit::Unknown.to_string(), "ended, status unknown");
        assert_eq!(Exit::NotYet.to_string(), "could not be ended");
    }

    #[test]
    fn p9_what_is_no_pidfd_is_refused() {
        let (reader, _writer) = std::io::pipe().unwrap();
        let error = signal(reader.as_fd(), None).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
        assert!(open(-1).is_err());
        assert!(!is_pidfd(reader.as_fd()));
        assert!(is_pidfd(open(std::process::id().cast_signed()).unwrap().as_fd()));
    }

    #[test]
    fn the_process_at_the_other_end_is_known_by_descriptor() {
        use nix::fcntl::{FcntlArg, FdFlag, fcntl};
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let pidfd = match of_peer(ours.as_fd()) {
            Ok(pidfd) => pidfd,
            // Before Linux 6.5.
            Err(error) => return assert_eq!(error.raw_os_error(), Some(libc::ENOPROTOOPT)),
        };
        assert_eq!(number(pidfd.as_fd()), Some(std::process::id().cast_signed()));
        let flags = fcntl(&pidfd, FcntlArg::F_GETFD).unwrap();
        assert!(FdFlag::from_bits_retain(flags).contains(FdFlag::FD_CLOEXEC));
    }
}
