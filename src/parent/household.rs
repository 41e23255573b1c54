//! The processes below the parent.

use std::os::fd::{AsFd, OwnedFd};

use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use crate::sys::pidfd::{self, Exit};

/// A process of the server that was named to us.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
}

impl Member {
    pub(super) fn of(pid: i32) -> Option<Self> {
        pidfd::open(pid).ok().map(|pidfd| Self { pid, pidfd })
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
/// leads here.
pub(super) fn descends(pid: i32) -> bool {
    let own = std::process::id().cast_signed();
    let mut at = pid;
    // Longer lines than this are a loop of numbers that were given anew while we looked.
    for _ in 0..4096 {
        if at == own {
            return true;
        }
        match parent_of(at) {
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
        for member in descendants() {
            // It may have ended, and its number be another's, before we held it.
            if descends(member.pid) && !member.has_ended() {
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
    descendants().iter().any(|member| !member.has_ended())
}

fn descendants() -> Vec<Member> {
    let own = std::process::id().cast_signed();
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| *pid != own && descends(*pid)).filter_map(Member::of).collect()
}

/// Field 4 of `/proc/PID/stat`, `proc(5)`: counted from the last `)`, since a name may hold any.
fn parent_of(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}
