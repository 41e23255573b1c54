//! The processes of a server: all that descend from us.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;

use crate::Failure;

/// Our descendants, except those that are zombies.
pub(crate) fn descendants() -> Result<Vec<i32>, Failure> {
    let mut parents = BTreeMap::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok())
        else {
            continue;
        };
        if let Some(stat) = Stat::of(pid)
            && stat.state != 'Z'
        {
            parents.insert(pid, stat.parent);
        }
    }
    let us = Pid::this().as_raw();
    let descends = |mut pid: i32| {
        while let Some(parent) = parents.get(&pid) {
            if *parent == us {
                return true;
            }
            pid = *parent;
        }
        false
    };
    Ok(parents.keys().copied().filter(|pid| descends(*pid)).collect())
}

/// Children of one process.
pub(crate) fn children(of: i32) -> Result<Vec<i32>, Failure> {
    let mut children = descendants()?;
    children.retain(|pid| Stat::of(*pid).is_some_and(|stat| stat.parent == of));
    Ok(children)
}

/// What `/proc/PID/stat` tells.
struct Stat {
    state: char,
    parent: i32,
    /// In ticks of 10 ms.
    used: u64,
    /// Of its children that it has waited for, likewise.
    used_by_children: u64,
}

impl Stat {
    fn of(pid: i32) -> Option<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name may hold anything, also parentheses.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        Some(Self {
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            used: number(11)? + number(12)?,
            used_by_children: number(13)? + number(14)?,
        })
    }
}

/// The processor time of these processes so far.
pub(crate) fn processor_time(pids: &[i32]) -> Duration {
    let ticks: u64 = pids.iter().filter_map(|pid| Stat::of(*pid)).map(|stat| stat.used).sum();
    Duration::from_millis(ticks * 10)
}

/// The processor time of all our descendants so far, of those that have ended as well.
pub(crate) fn consumed() -> Result<Duration, Failure> {
    reap();
    let ended = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let mut micros = [ended.user_time(), ended.system_time()]
        .iter()
        .map(|time| time.tv_sec() * 1_000_000 + time.tv_usec())
        .sum::<i64>()
        .unsigned_abs();
    for pid in descendants()? {
        // Of all its threads, also of those that have ended; none if it has ended itself meanwhile.
        if let Ok(time) = clock_getcpuclockid(Pid::from_raw(pid)).and_then(ClockId::now) {
            micros += Duration::from(time).as_micros() as u64;
        }
        micros += Stat::of(pid).map_or(0, |stat| stat.used_by_children * 10_000);
    }
    Ok(Duration::from_micros(micros))
}

/// Memory that these processes have of their own, in KiB: `Pss` of `smaps_rollup`.
pub(crate) fn memory(pids: &[i32]) -> u64 {
    let of = |pid: &i32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let line = text.lines().find(|line| line.starts_with("Pss:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    pids.iter().filter_map(of).sum()
}

/// Processes whose ends are waited for.
pub(crate) struct Watched {
    processes: Vec<OwnedFd>,
}

impl Watched {
    pub(crate) fn new(pids: &[i32]) -> Self {
        let open = |pid: &i32| {
            let pid = rustix::process::Pid::from_raw(*pid)?;
            rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()
        };
        Self { processes: pids.iter().filter_map(open).collect() }
    }

    /// When the last of them had ended; `None` when one is still there after `patience`.
    pub(crate) fn ended(&self, patience: Duration) -> Result<Option<Instant>, Failure> {
        let deadline = Instant::now() + patience;
        for process in &self.processes {
            loop {
                let left = deadline.saturating_duration_since(Instant::now());
                let mut source = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
                match poll(&mut source, PollTimeout::try_from(left)?) {
                    Ok(0) => return Ok(None),
                    Ok(_) => break,
                    Err(Errno::EINTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(Some(Instant::now()))
    }
}

/// Reaps whatever has ended: we are the parent of all generations whose own has gone.
pub(crate) fn reap() {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(_) => return,
            Ok(_) => {}
        }
    }
}
