//! Resources of a process that run out, and come back.

use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustix::io::Errno;
use rustix::process::{Pid, prlimit};

use super::process;
use super::wait::{pause, until};

/// Less than a thread's stack, more than what goes on needs.
const LAST_MEMORY: u64 = 1 << 20;

/// So long files may still become, in bytes: more than what a test logs.
pub(crate) const SMALL_FILE: usize = 1 << 20;

/// From now on this process opens nothing, and accepts nothing: only numbers of standard streams
/// would be allowed, and those are taken.
pub(crate) fn of_descriptors() {
    lower(Resource::RLIMIT_NOFILE, 3);
}

/// From now on this process maps hardly anything.
pub(crate) fn of_memory() {
    lower(Resource::RLIMIT_AS, process::virtual_memory() + LAST_MEMORY);
}

/// From now on no file of this process grows beyond that.
pub(crate) fn of_room() {
    lower(Resource::RLIMIT_FSIZE, SMALL_FILE as u64);
}

/// For so long this process's user starts no more than so many threads and processes. Nobody else
/// may give that back, not even its starter without `CAP_SYS_RESOURCE`.
pub(crate) fn of_processes(more: usize, time: Duration) {
    let usual = getrlimit(Resource::RLIMIT_NPROC).unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        tell.send(()).unwrap();
        pause(time);
        setrlimit(Resource::RLIMIT_NPROC, usual.0, usual.1).unwrap();
    });
    told.recv().unwrap();
    lower(Resource::RLIMIT_NPROC, (process::counts().threads + more) as u64);
}

fn lower(resource: Resource, limit: u64) {
    let (_, hard) = getrlimit(resource).unwrap();
    setrlimit(resource, limit.min(hard), hard).unwrap();
}

/// The process has again the descriptors and the memory that this one has.
pub(crate) fn end(pid: i32) {
    use rustix::process::Resource as Kind;
    for kind in [Kind::Nofile, Kind::As, Kind::Fsize] {
        match prlimit(Pid::from_raw(pid), kind, rustix::process::getrlimit(kind)) {
            // It may have ended.
            Ok(_) | Err(Errno::SRCH) => {}
            Err(error) => panic!("give {kind:?} back to {pid}: {error}"),
        }
    }
}

/// Waits until the process may start as much as this one again.
pub(crate) fn until_over(pid: i32) {
    let limit = |pid: &str| {
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
        limits.lines().find(|line| line.starts_with("Max processes")).map(str::to_owned)
    };
    let usual = limit("self");
    until("the limit to be lifted", || (limit(&pid.to_string()) == usual).then_some(()));
}
