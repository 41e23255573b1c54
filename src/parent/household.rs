//! The processes below the parent.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpgid, getpgrp};

use crate::sys::pidfd::{self, Exit};

/// A process of the server that was named to us.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
    /// It knows that the service stops.
    pub(super) told_to_stop: bool,
    /// It has handed over to a process that is gone, or is none of ours: its end, however orderly,
    /// is not the end of the service.
    pub(super) handed_over: bool,
}

impl Member {
    pub(super) fn of(pid: i32) -> io::Result<Self> {
        let pidfd = pidfd::open(pid)?;
        Ok(Self { pid, pidfd, told_to_stop: false, handed_over: false })
    }

    /// Whether what a terminal sends to our process group has reached it as well.
    pub(super) fn shares_our_group(&self) -> bool {
        getpgid(Some(Pid::from_raw(self.pid))).is_ok_and(|group| group == getpgrp())
    }

    /// One that has ended gets nothing, and that is no matter.
    pub(super) fn signal(&self, signal: Signal) {
        let _ = pidfd::signal(self.pidfd.as_fd(), Some(signal));
    }

    pub(super) fn has_ended(&self) -> bool {
        pidfd::ended(self.pidfd.as_fd()).unwrap_or(true)
    }
}

/// Takes the status of every child that has ended, orphans among them.
pub(super) fn reap() -> Vec<(i32, Exit)> {
    let mut ended = Vec::new();
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => ended.push((pid.as_raw(), Exit::Code(code))),
            Ok(WaitStatus::Signaled(pid, signal, _)) => {
                ended.push((pid.as_raw(), Exit::Signal(signal as i32)));
            }
            Ok(WaitStatus::StillAlive) => return ended,
            Err(nix::errno::Errno::EINTR) => {}
            // A signal that has no name here, or a stop.
            Ok(_) => {}
            // No children.
            Err(_) => return ended,
        }
    }
}

/// Whether a process descends from us: orphans come back to a subreaper, so the line of parents
/// leads here. We ourselves do not.
pub(super) fn descends(pid: i32) -> bool {
    let own = own_pid();
    let mut at = pid;
    // Longer lines than this are a loop of numbers that were given anew while we looked.
    for _ in 0..4096 {
        match parent_of(at) {
            Some(parent) if parent == own => return true,
            Some(parent) if parent > 0 => at = parent,
            _ => return false,
        }
    }
    false
}

/// Kills everything below us, and what it starts meanwhile.
pub(super) fn kill_all() {
    for _ in 0..64 {
        let mut found = false;
        for pid in descendants() {
            // Descriptors one by one: there may be more processes than we may open files.
            let Ok(member) = Member::of(pid) else { continue };
            // It may have ended, and its number be another's, before we held it.
            if descends(pid) && !member.has_ended() {
                found = true;
                member.signal(Signal::SIGKILL);
            }
        }
        reap();
        if !found {
            return;
        }
    }
}

/// Whether any process of ours lives.
pub(super) fn anybody_left() -> bool {
    descendants().any(|pid| stat_of(pid).is_some_and(|stat| stat.lives))
}

/// Whether processes can be looked up, which all of this rests on.
pub(super) fn is_visible() -> bool {
    stat_of(own_pid()).is_some()
}

fn own_pid() -> i32 {
    std::process::id().cast_signed()
}

fn descendants() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| descends(*pid))
}

fn parent_of(pid: i32) -> Option<i32> {
    stat_of(pid).map(|stat| stat.parent)
}

/// What `/proc/PID/stat` says of a process, `proc(5)`.
struct Stat {
    /// It has not ended yet.
    lives: bool,
    parent: i32,
}

/// Fields 3 and 4: counted from the last `)`, since a name may hold any, and any bytes.
fn stat_of(pid: i32) -> Option<Stat> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let name_ends = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(name_ends + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let lives = !matches!(fields.next()?, "Z" | "X" | "x");
    Some(Stat { lives, parent: fields.next()?.parse().ok()? })
}
