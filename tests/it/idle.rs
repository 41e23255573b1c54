//! A service that has nothing to do.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};

use crate::support::wait::{pause, until};
use crate::support::{Release, Server, process};

trials![
    p10_an_idle_service_has_no_thread_no_timer_and_no_wake_up,
    p10_a_generation_has_room_for_its_descriptors_before_it_has_threads,
];

/// So long nothing is to happen.
const WATCHED: Duration = Duration::from_secs(3);

/// A process as the kernel shows it. A thread that waits for a timer is woken by it.
#[derive(Debug, PartialEq)]
struct Seen {
    wake_ups: u64,
    cpu: Duration,
    threads: usize,
    descriptors: BTreeMap<i32, String>,
}

fn look(pid: i32) -> Seen {
    Seen {
        wake_ups: process::wake_ups(pid),
        cpu: process::cpu(pid),
        threads: fs::read_dir(format!("/proc/{pid}/task")).unwrap().count(),
        descriptors: process::descriptors(pid),
    }
}

/// What the process is when it has nothing to do: so long it was not woken, used no processor time
/// and was the same. What still goes on after a start (its program is read once, to know its
/// identity) is over at some time; what happens again and again never is.
fn idle(pid: i32) -> Seen {
    until("a process in which nothing happens", || {
        let before = look(pid);
        pause(WATCHED);
        (look(pid) == before).then_some(before)
    })
}

/// P10. In its first generation and after an upgrade, with a control socket and a connection that
/// says nothing.
fn p10_an_idle_service_has_no_thread_no_timer_and_no_wake_up() {
    let server = Server::start(Release::default());
    let mut seen = Vec::new();
    for generation in 0..=2 {
        let pid = if generation == 0 { server.pid(0) } else { server.upgrade_well() };
        let _silent = server.client("main");
        let Seen { threads, descriptors, .. } = idle(pid);
        let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap();
        let program = program.to_string_lossy();
        let kept: Vec<_> = descriptors
            .values()
            .filter(|to| to.contains("pidfd") || to.starts_with(&*program))
            .collect();
        assert!(kept.is_empty(), "what an upgrade opens when it begins: {kept:?}");
        seen.push((threads, descriptors.len()));
    }
    // A first generation has no program before its own to keep.
    let [(first, _), second, third] = seen[..] else { unreachable!() };
    assert_eq!((second, first), (third, third.0), "threads and descriptors: {seen:?}");
}

/// P10. An accept, or a step of an upgrade, would wait for more room.
fn p10_a_generation_has_room_for_its_descriptors_before_it_has_threads() {
    let server = Server::start(Release::default());
    let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    for generation in 0..=1 {
        let pid = if generation == 0 { server.pid(0) } else { server.upgrade_well() };
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let size = status.lines().find_map(|line| line.strip_prefix("FDSize:")).unwrap();
        let size: u64 = size.trim().parse().unwrap();
        assert!(size >= limit.min(4_096), "generation {generation}: {size} of {limit}");
    }
}
