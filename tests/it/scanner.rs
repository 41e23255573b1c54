//! Somebody takes his time before a program may be opened or executed: a virus scanner that is asked
//! first (`fanotify(7)`), or a disk that is far away.
//!
//! The hazard: `open(2)`, `execve(2)` and the `posix_spawn(3)` that waits for it do not return
//! meanwhile. Whoever calls them on a thread that runs tasks keeps clients, operators and deadlines
//! waiting, on a runtime of one thread all of them.
//!
//! Here the scanner keeps waiting until the test lets go. So whatever is answered until then was not
//! kept waiting, and no time has to be measured.

use std::process::Command;
use std::time::Duration;

use heirloom::{CauseKind, Report, UpgradeOutcome, UpgradePhase};
use nix::sys::signal::Signal;

use crate::support::operator::Operator;
use crate::support::release::{Habit, TakeOver};
use crate::support::scanner::{Holds, Scanner};
use crate::support::server::Program;
use crate::support::wait::until;
use crate::support::{Release, Server, process};

trials![
    p4_an_exec_that_is_held_up_holds_up_nobody_on_one_thread,
    p4_an_exec_that_is_held_up_holds_up_nobody_on_one_worker,
    p4_an_exec_that_is_held_up_holds_up_nobody_on_two_workers,
    p4_an_open_that_is_held_up_holds_up_nobody_on_one_thread,
    p4_an_open_that_is_held_up_holds_up_nobody_on_one_worker,
    p4_an_open_that_is_held_up_holds_up_nobody_on_two_workers,
    p4_a_preflight_that_is_held_up_holds_up_nobody,
    p4_a_retry_by_itself_whose_program_is_held_up_holds_up_nobody,
    p4_whoever_has_handed_over_waits_for_no_start_that_hangs,
    p12_a_taker_is_not_blamed_for_the_program_before_it,
];

/// How long a successor may take to start: all that the scanner's time costs an upgrade. A start
/// that nobody holds up takes a small part of it.
const START: Duration = Duration::from_secs(5);

const LONG: Duration = Duration::from_secs(3_600);

/// So many answers say that the service goes on.
const ANSWERS: usize = 20;

fn p4_an_exec_that_is_held_up_holds_up_nobody_on_one_thread() {
    an_upgrade_is_held_up(&[Habit::OneThread], |_| Holds::Execs);
}

fn p4_an_exec_that_is_held_up_holds_up_nobody_on_one_worker() {
    an_upgrade_is_held_up(&[Habit::OneWorker], |_| Holds::Execs);
}

fn p4_an_exec_that_is_held_up_holds_up_nobody_on_two_workers() {
    an_upgrade_is_held_up(&[], |_| Holds::Execs);
}

fn p4_an_open_that_is_held_up_holds_up_nobody_on_one_thread() {
    an_upgrade_is_held_up(&[Habit::OneThread], Holds::OpensOf);
}

fn p4_an_open_that_is_held_up_holds_up_nobody_on_one_worker() {
    an_upgrade_is_held_up(&[Habit::OneWorker], Holds::OpensOf);
}

fn p4_an_open_that_is_held_up_holds_up_nobody_on_two_workers() {
    an_upgrade_is_held_up(&[], Holds::OpensOf);
}

/// P4, and P5 for what was begun and comes too late.
fn an_upgrade_is_held_up(habits: &[Habit], holds: impl FnOnce(i32) -> Holds) {
    let server = server(Release { hello: START, habits: habits.to_vec(), ..Release::default() });
    let operator = Operator::of(server.directory());
    let owner = server.pid(0);
    let before = until("a process that reads no program", || alone(&server, owner));
    let Some(scanner) = Scanner::of(&server.path("server"), holds(owner)) else { return };
    server.signal(owner, Signal::SIGHUP);
    scanner.until_asked();
    let report = until("the report of the upgrade", || {
        answers(&server, &operator);
        server.reports().into_iter().next()
    });
    assert_eq!(report.outcome, UpgradeOutcome::Failed, "{report}");
    assert_eq!(report.phase, UpgradePhase::Spawn, "{report}");
    assert_eq!(report.cause_kind, Some(CauseKind::Late), "{report}");
    (0..ANSWERS).for_each(|_| answers(&server, &operator));

    scanner.let_go();
    until("what came too late to be gone", || {
        alone(&server, owner).filter(|after| *after == before)
    });
    server.upgrade_well();
    server.stop();
}

/// P4. An operator's word is heard as well.
fn p4_a_preflight_that_is_held_up_holds_up_nobody() {
    let server = server(Release { preflight: true, ..Release::default() });
    let operator = Operator::of(server.directory());
    let owner = server.pid(0);
    let Some(scanner) = Scanner::of(&server.path("server"), Holds::Everything) else { return };
    server.signal(owner, Signal::SIGHUP);
    scanner.until_asked();
    (0..ANSWERS).for_each(|_| answers(&server, &operator));
    let report: Report = operator.run(operator.client.abort("enough")).unwrap();
    assert_eq!(report.outcome, UpgradeOutcome::Failed, "{report}");
    assert_eq!(report.phase, UpgradePhase::Preflight, "{report}");

    scanner.let_go();
    until("what came too late to be gone", || alone(&server, owner));
    server.upgrade_well();
}

/// P4. It reads the program before it asks for the upgrade.
fn p4_a_retry_by_itself_whose_program_is_held_up_holds_up_nobody() {
    let server = server(Release { habits: vec![Habit::OneThread], ..Release::default() });
    let operator = Operator::of(server.directory());
    let owner = server.pid(0);
    let Some(scanner) = Scanner::of(&server.path("server"), Holds::Everything) else { return };
    let mut retry = server.client("main");
    retry.send("unattended").unwrap();
    scanner.until_asked();
    (0..ANSWERS).for_each(|_| answers(&server, &operator));

    scanner.let_go();
    let answer = retry.receive().unwrap();
    assert!(answer.contains("report"), "{answer}");
    drop(retry);
    assert_eq!(server.until_owner(1), server.pid(1));
    server.until_gone(owner);
}

/// P4. A start that was given up may hang for as long as somebody looks at the program.
fn p4_whoever_has_handed_over_waits_for_no_start_that_hangs() {
    let server = server(Release { hello: START, ..Release::default() });
    let owner = server.pid(0);
    let Some(scanner) = Scanner::of(&server.path("server"), Holds::Execs) else { return };
    server.signal(owner, Signal::SIGHUP);
    scanner.until_asked();
    let report = server.until_report(0);
    assert_eq!(report.cause_kind, Some(CauseKind::Late), "{report}");
    server.install(Program::Copy("another"));
    let next = server.upgrade_well();
    server.until_gone(owner);
    scanner.let_go();
    until("what came too late to be gone", || {
        (process::born_in(server.directory()) == [next]).then_some(())
    });
    server.stop();
}

/// P12. What it is to be given is what is held up.
fn p12_a_taker_is_not_blamed_for_the_program_before_it() {
    let server = server(Release {
        hello: START,
        take_over: TakeOver::IfSomeoneAnswers,
        hold_off: Some(LONG),
        ..Release::default()
    });
    let operator = Operator::of(server.directory());
    let owner = server.pid(0);
    let Some(scanner) = Scanner::of(&server.path("server"), Holds::OpensOf(owner)) else { return };
    server.install(Program::Copy("another"));
    let taker = server.launch(|directory| Command::new(directory.join("server")));
    scanner.until_asked();
    let report = until("the report of the takeover", || {
        answers(&server, &operator);
        server.reports().into_iter().next()
    });
    assert_eq!(report.phase, UpgradePhase::Spawn, "{report}");
    assert_eq!(report.cause_kind, Some(CauseKind::Late), "{report}");
    scanner.let_go();
    // It has asked again, and is not held off.
    until("the takeover", || server.owners().iter().any(|(_, pid)| *pid == taker).then_some(()));
}

/// A service whose program is a file of its own, which nobody reads any more.
fn server(release: Release) -> Server {
    let server = Server::prepare(Release { control: true, ..release });
    server.install(Program::Copy("scanned"));
    // It is read in a moment then, and in some seconds where there is no strip(1).
    let _ = Command::new("strip").arg(server.path("server")).status();
    server.launch(|directory| Command::new(directory.join("server")));
    server.until_owner(0);
    server.until_entry("step", |entry| entry.data["step"] == "identified");
    server
}

/// Clients and operators are answered by the first generation.
fn answers(server: &Server, operator: &Operator) {
    assert_eq!(server.client("main").who().unwrap().generation, 0);
    assert_eq!(operator.status().owner.get(), 0);
}

/// How many threads and descriptors the only process of the service has, if it is alone and no
/// thread of it is there for a while only.
fn alone(server: &Server, owner: i32) -> Option<(usize, usize)> {
    let threads = std::fs::read_dir(format!("/proc/{owner}/task")).unwrap();
    let names: Vec<_> = threads
        .filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("comm")).ok())
        .collect();
    let is_calm = !names.iter().any(|name| name.starts_with("heirloom-"));
    let is_alone = process::born_in(server.directory()) == [owner];
    (is_calm && is_alone).then(|| (names.len(), process::descriptors(owner).len()))
}
