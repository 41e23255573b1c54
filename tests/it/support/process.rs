//! Processes as the kernel shows them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};
use std::os::fd::AsFd;

use super::wait::PATIENCE;

/// What a process holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    pub descriptors: usize,
    pub threads: usize,
    pub zombies: usize,
    pub children: usize,
    pub resident_kb: u64,
}

/// Of this process.
pub(crate) fn counts() -> Counts {
    let own = std::process::id().cast_signed();
    let children = children_of(own);
    Counts {
        descriptors: descriptors(own).len(),
        threads: fs::read_dir("/proc/self/task").unwrap().count(),
        zombies: children.iter().filter(|pid| is_zombie(**pid)).count(),
        children: children.len(),
        resident_kb: field(&status("self"), "VmRSS")
            .split_whitespace()
            .next()
            .and_then(|kb| kb.parse().ok())
            .unwrap_or(0),
    }
}

/// The bytes of this process's address space.
pub(crate) fn virtual_memory() -> u64 {
    let status = status("self");
    let kb = field(&status, "VmSize").split_whitespace().next().and_then(|kb| kb.parse().ok());
    1024 * kb.unwrap_or(0_u64)
}

/// The open descriptors of a process and what each leads to. The one that reads the list is left
/// out.
pub(crate) fn descriptors(pid: i32) -> BTreeMap<i32, String> {
    let directory = format!("/proc/{pid}/fd");
    let Ok(entries) = fs::read_dir(&directory) else {
        return BTreeMap::new();
    };
    let numbers: Vec<i32> =
        entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    numbers
        .into_iter()
        .filter_map(|number| {
            let target = fs::read_link(format!("{directory}/{number}")).ok()?;
            let target = target.to_string_lossy().into_owned();
            (target != directory).then_some((number, target))
        })
        .collect()
}

/// The blocked signals of each thread of this process, and of the process `sh` that it starts.
pub(crate) fn blocked_signals() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let mut masks: Vec<String> = tasks
        .filter_map(|task| {
            let status = fs::read_to_string(task.ok()?.path().join("status")).ok()?;
            Some(field(&status, "SigBlk").to_owned())
        })
        .collect();
    let helper = helper("grep SigBlk /proc/self/status");
    masks.push(field(&helper, "SigBlk").to_owned());
    masks
}

/// What the descriptors of a helper process lead to.
pub(crate) fn descriptors_of_a_helper() -> Vec<String> {
    helper("for fd in /proc/$$/fd/*; do readlink $fd; done").lines().map(str::to_owned).collect()
}

/// What a shell says to these commands; standard input and error lead nowhere.
fn helper(commands: &str) -> String {
    let output = std::process::Command::new("/bin/sh")
        .args(["-c", commands])
        .stdin(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// How often the threads of a process have gone to sleep by themselves, that is, been woken.
pub(crate) fn wake_ups(pid: i32) -> u64 {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return 0;
    };
    tasks
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok())
        .filter_map(|status| field(&status, "voluntary_ctxt_switches").parse::<u64>().ok())
        .sum()
}

/// The processor time that a process has used, in user and in kernel mode.
pub(crate) fn cpu(pid: i32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = after
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<u64>().ok())
        .sum();
    // USER_HZ of proc(5) is 100 wherever Linux runs.
    Duration::from_millis(ticks * 10)
}

pub(crate) fn children_of(parent: i32) -> Vec<i32> {
    all().filter(|pid| field(&status(&pid.to_string()), "PPid").parse() == Ok(parent)).collect()
}

pub(crate) fn is_zombie(pid: i32) -> bool {
    field(&status(&pid.to_string()), "State").starts_with('Z')
}

/// Whether it ignores this signal.
pub(crate) fn ignores(pid: i32, signal: Signal) -> bool {
    let ignored = u64::from_str_radix(field(&status(&pid.to_string()), "SigIgn"), 16).unwrap();
    ignored & (1 << (signal as u64 - 1)) != 0
}

/// The user it runs as.
pub(crate) fn user(pid: i32) -> Option<u32> {
    field(&status(&pid.to_string()), "Uid").split_whitespace().next()?.parse().ok()
}

pub(crate) fn is_stopped(pid: i32) -> bool {
    field(&status(&pid.to_string()), "State").starts_with('T')
}

/// Runs, or is stopped; not ended, whether reaped or not.
pub(crate) fn lives(pid: i32) -> bool {
    let status = status(&pid.to_string());
    !status.is_empty() && !field(&status, "State").starts_with(['Z', 'X'])
}

/// Every live process whose environment names this directory: the generations, and whatever they
/// started.
pub(crate) fn born_in(directory: &Path) -> Vec<i32> {
    let mark = format!("{}={}", super::fixture::VARIABLE, directory.display());
    all()
        .filter(|pid| {
            fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environment| {
                environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
            })
        })
        .collect()
}

fn all() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn status(pid: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default()
}

fn field<'a>(status: &'a str, name: &str) -> &'a str {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map_or("", str::trim)
}

pub(crate) fn signal(pid: i32, signal: Signal) {
    match kill(Pid::from_raw(pid), signal) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => panic!("{signal} to {pid}: {error}"),
    }
}

/// Whether the process ends within [`PATIENCE`]. It is reaped if it is ours.
pub(crate) fn ends(pid: i32) -> bool {
    let Some(id) = rustix::process::Pid::from_raw(pid) else {
        return true;
    };
    if let Ok(pidfd) = pidfd_open(id, PidfdFlags::empty()) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::try_from(left).unwrap()) {
                Ok(0) if left < Duration::from_millis(1) => return false,
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => break,
                Err(error) => panic!("poll for the end of {pid}: {error}"),
            }
        }
    }
    reap(pid);
    true
}

/// Takes the status of a child that has ended; any other process is left alone.
pub(crate) fn reap(pid: i32) {
    // ECHILD: another process is its parent, or it has been reaped.
    let _ = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG));
}

/// The memory of a process that is in use, in bytes.
#[cfg(feature = "http")]
pub(crate) fn resident(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages = status.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4_096
}

/// From now on the process opens no descriptor with such a number or a higher one.
pub(crate) fn limit_descriptors(pid: i32, limit: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, prlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit { current: Some(limit), maximum };
    prlimit(rustix::process::Pid::from_raw(pid), Resource::Nofile, limit).unwrap();
}
