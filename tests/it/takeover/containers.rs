//! Two containers, as far as the kernel knows of such: PID, mount and user namespaces beside each
//! other, with one directory in common.

use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use heirloom::UpgradeOutcome;
use nix::sys::signal::Signal;

use super::{exit_code, release, said};
use crate::support::release::Habit;
use crate::support::wait::until;
use crate::support::{Load, Operator, Release, Server, process};

trials![
    p1_two_containers_take_over_from_each_other_twenty_times,
    p9_a_container_that_cannot_be_ended_is_refused_unless_that_is_accepted,
    p3_a_container_that_is_killed_in_probation_gives_the_turn_back,
];

/// Of each container: its own root, processes and mounts.
const NAMESPACES: [&str; 5] = ["--user", "--map-root-user", "--pid", "--mount", "--fork"];

/// Whether this machine lets us; what it said if not, for whoever reads the tests' output.
fn permitted() -> bool {
    let tried = Command::new("unshare").args(NAMESPACES).args(["--mount-proc", "true"]).output();
    let why = match tried {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    let _ = writeln!(std::io::stderr(), "skipped: no namespaces can be had here: {}", why.trim());
    false
}

/// Namespaces that live as long as this one's first process.
struct Container {
    /// The process that made it, and, in it, process 1.
    outer: i32,
    init: i32,
}

impl Container {
    fn new(server: &Server) -> Self {
        let outer = server.launch(|_| {
            let mut command = Command::new("unshare");
            command.args(NAMESPACES).args(["--mount-proc", "--kill-child", "sleep", "900"]);
            command
        });
        let init = until("a container", || process::children_of(outer).first().copied());
        // Its /proc is mounted by then.
        until("its first program", || {
            let name = std::fs::read_to_string(format!("/proc/{init}/comm")).unwrap_or_default();
            (name.trim() == "sleep").then_some(())
        });
        Self { outer, init }
    }

    /// A process of the server in it; what is returned is its parent outside, whose exit code is
    /// the server's.
    fn start(&self, server: &Server) -> i32 {
        server.launch(|directory| {
            let mut command = Command::new("nsenter");
            command.args(["--target", &self.init.to_string(), "--preserve-credentials"]);
            command.args(["--user", "--pid", "--mount"]);
            command.arg(format!("--wd={}", directory.display())).arg(directory.join("server"));
            command
        })
    }
}

fn beside(release: Release) -> Release {
    let habits = vec![Habit::AcceptsUnenforceable];
    Release { habits, pid_file: false, ..release }
}

/// The server's process below one that entered a container, by its number out here.
fn inside(entered: i32) -> i32 {
    until("the process in the container", || process::children_of(entered).first().copied())
}

/// P1. Twenty, in both directions by turns, under load, and nobody is refused.
fn p1_two_containers_take_over_from_each_other_twenty_times() {
    if !permitted() {
        return;
    }
    let server = Server::prepare(beside(release()));
    let containers = [Container::new(&server), Container::new(&server)];
    let mut serves = containers[0].start(&server);
    server.until_role(0, "owner");
    let load = Load::start(&[server.address("main")], 2);
    let begun = Instant::now();
    for generation in 1..=20_u64 {
        load.until_answered(20);
        let there = usize::try_from(generation % 2).unwrap();
        let next = containers[there].start(&server);
        server.until_role(generation, "owner");
        assert_eq!(exit_code(serves), 0);
        serves = next;
    }
    load.until_answered(20);
    let took = begun.elapsed();
    let tally = load.finish();
    let reports = server.reports();
    let gap = reports.iter().map(|report| report.longest_gap).max();
    let text = format!("  containers: 20 takeovers in {took:.1?}, accept gap {gap:?}: {tally}\n");
    let _ = std::io::stderr().write_all(text.as_bytes());
    tally.assert_unharmed();
    assert_eq!(tally.generations(), (0..=20).collect::<Vec<_>>());
    assert!(reports.iter().all(|report| report.outcome == UpgradeOutcome::Committed));
    for report in &reports {
        let noted = |what: &str| report.notes.iter().any(|note| note.contains(what));
        assert!(noted("another pid namespace"), "{report}");
        assert!(noted("roll back not enforceable"), "{report}");
        assert_eq!(report.successor_pid, None, "a number of another namespace: {report}");
    }
    // It is upgraded by a signal as always, where it is now.
    process::signal(inside(serves), Signal::SIGHUP);
    server.until_role(21, "owner");
    let operator = Operator::of(server.directory());
    assert_eq!(operator.status().owner.get(), 21);
    operator.run(operator.client.stop(heirloom::control::Stop::Gracefully, |_| {})).unwrap();
    for container in &containers {
        process::signal(container.outer, Signal::SIGKILL);
    }
}

/// P9, P12. Refused before anything has begun, and both sides say why.
fn p9_a_container_that_cannot_be_ended_is_refused_unless_that_is_accepted() {
    if !permitted() {
        return;
    }
    let server = Server::prepare(Release { pid_file: false, ..release() });
    let containers = [Container::new(&server), Container::new(&server)];
    let first = containers[0].start(&server);
    server.until_role(0, "owner");
    let second = containers[1].start(&server);
    assert_eq!(exit_code(second), 1);
    assert!(said(&server).contains("Config::accept_unenforceable"), "{}", said(&server));
    assert!(server.reports().is_empty());
    // In its own container it sees whom it hands over to.
    let third = containers[0].start(&server);
    server.until_role(1, "owner");
    assert_eq!(exit_code(first), 0);
    // And so does whoever stands above both.
    process::signal(inside(third), Signal::SIGTERM);
    assert_eq!(exit_code(third), 0);
}

/// P3. The end of a process in another namespace is seen at once.
fn p3_a_container_that_is_killed_in_probation_gives_the_turn_back() {
    if !permitted() {
        return;
    }
    let patient = Duration::from_secs(3_600);
    let server = Server::prepare(beside(Release { probation: patient, ..release() }));
    let containers = [Container::new(&server), Container::new(&server)];
    let first = containers[0].start(&server);
    server.until_role(0, "owner");
    let second = containers[1].start(&server);
    server.until_role(1, "successor");
    let begun = Instant::now();
    process::signal(inside(second), Signal::SIGKILL);
    let report = server.until_report(0);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(report.outcome, UpgradeOutcome::RolledBack, "{report}");
    assert_eq!(server.client("main").who().unwrap().generation, 0);
    process::signal(inside(first), Signal::SIGTERM);
    assert_eq!(exit_code(first), 0);
}
