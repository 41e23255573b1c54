//! Takeover: the successor was started by somebody else, and asks for the turn at the control
//! socket.

pub(crate) mod containers;
pub(crate) mod takers;

use std::process::Command;
use std::time::Duration;

use heirloom::{UpgradeOutcome, UpgradePhase};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::support::process;
use crate::support::release::{Habit, Health, Start, TakeOver};
use crate::support::server::Program;
use crate::support::wait::until;
use crate::support::{Load, Operator, Release, Server};

trials![
    p1_a_second_process_takes_over_and_hands_over_in_turn,
    a_policy_is_what_it_says,
    p2_a_taker_that_is_not_well_is_taken_back,
    p12_a_taker_that_fails_is_reported_and_held_off,
    p2_whoever_was_taken_over_from_can_be_rolled_back_to,
];

const LONG: Duration = Duration::from_secs(3_600);

fn release() -> Release {
    Release {
        control: true,
        take_over: TakeOver::IfSomeoneAnswers,
        hold_off: Some(Duration::ZERO),
        pid_file: true,
        ..Release::default()
    }
}

/// A process that no generation has started.
fn another(server: &Server) -> i32 {
    server.launch(|directory| Command::new(directory.join("server")))
}

/// The exit code of a process that the test has started, or the negated signal.
fn exit_code(pid: i32) -> i32 {
    until("the end of a process", || {
        match waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG)).unwrap() {
            WaitStatus::Exited(_, code) => Some(code),
            WaitStatus::Signaled(_, signal, _) => Some(-(signal as i32)),
            _ => None,
        }
    })
}

fn said(server: &Server) -> String {
    std::fs::read_to_string(server.path("output.log")).unwrap_or_default()
}

/// P1. Nobody is there for the first; then the second has its turn, and its successor by a signal.
fn p1_a_second_process_takes_over_and_hands_over_in_turn() {
    let server = Server::start(release());
    let first = server.owner();
    let mut held = server.client("main");
    assert_eq!(held.ask("hold"), "held 0");
    let load = Load::start(&[server.address("main")], 2);
    load.until_answered(50);
    let second = another(&server);
    assert_eq!(server.until_owner(1), second);
    load.until_answered(50);
    let report = server.until_report(0);
    assert_eq!(report.outcome, UpgradeOutcome::Committed, "{report}");
    assert_eq!(report.successor_pid, Some(second));
    let note = format!("process {second} (user 0) was started elsewhere");
    assert!(report.notes.iter().any(|text| text.contains(&note)), "{report}");
    assert_eq!(std::fs::read_to_string(server.path("pid")).unwrap().trim(), second.to_string());
    let operator = Operator::of(server.directory());
    assert_eq!(operator.run(operator.client.history()).unwrap().len(), 1);
    assert_eq!(held.ask("release"), "released 0");
    assert_eq!(exit_code(first), 0);
    let third = server.upgrade_well();
    assert!(process::lives(third) && third != second);
    assert_eq!(exit_code(second), 0);
    load.until_answered(50);
    load.finish().assert_unharmed();
}

/// P12. Who must not take over does not, and who has to says so if nobody is there.
fn a_policy_is_what_it_says() {
    let server = Server::prepare(Release { take_over: TakeOver::Require, ..release() });
    assert_eq!(exit_code(another(&server)), 1);
    assert!(said(&server).contains("nobody is there to take over from"), "{}", said(&server));
    server.next_release(|next| next.take_over = TakeOver::Never);
    let first = another(&server);
    assert_eq!(server.until_owner(0), first);
    assert_eq!(exit_code(another(&server)), 1);
    assert!(said(&server).contains("a process has a socket there"), "{}", said(&server));
    server.next_release(|next| next.take_over = TakeOver::Require);
    let second = another(&server);
    assert_eq!(server.until_owner(1), second);
    assert_eq!(exit_code(first), 0);
    // Without a control socket there is no place to ask.
    server.next_release(|next| next.control = false);
    assert_eq!(exit_code(another(&server)), 1);
    assert!(said(&server).contains("there is no control socket"), "{}", said(&server));
    server.next_release(|next| next.control = true);
}

/// P2. Taken back by a health check, and at once.
fn p2_a_taker_that_is_not_well_is_taken_back() {
    let server = Server::start(Release {
        health: vec![Health::of("main")],
        probation: Duration::from_millis(500),
        ..release()
    });
    let first = server.owner();
    let load = Load::start(&[server.address("main")], 2);
    load.until_answered(20);
    server.next_release(|next| next.habits.push(Habit::AnswersWrong));
    let second = another(&server);
    let report = server.until_report(0);
    assert_eq!(report.outcome, UpgradeOutcome::RolledBack, "{report}");
    assert_eq!(exit_code(second), 1);
    assert_eq!(server.owner(), first);
    load.until_answered(50);
    let tally = load.finish();
    assert!(tally.failures.is_empty() || tally.longest_gap() < Duration::from_secs(1), "{tally}");
    assert_eq!(std::fs::read_to_string(server.path("pid")).unwrap().trim(), first.to_string());
    server.next_release(|next| next.habits.clear());
    let third = another(&server);
    until("the takeover", || (server.owner() == third).then_some(()));
}

/// P12. The error is in the report, and a supervisor that starts it again and again does not make
/// the service flap.
fn p12_a_taker_that_fails_is_reported_and_held_off() {
    let server = Server::start(Release { hold_off: Some(LONG), ..release() });
    let first = server.owner();
    server.next_release(|next| next.start = Start::Fail("no licence".into()));
    assert_eq!(exit_code(another(&server)), 1);
    let report = server.until_report(0);
    assert_eq!((report.outcome, report.phase), (UpgradeOutcome::Failed, UpgradePhase::Start));
    assert!(report.cause.unwrap().contains("no licence"));
    server.next_release(|next| next.start = Start::Well);
    assert_eq!(exit_code(another(&server)), 1);
    assert!(said(&server).contains("is held off for"), "{}", said(&server));
    assert_eq!(server.reports().len(), 1);
    // Another program is not.
    server.install(Program::Copy("another"));
    let third = another(&server);
    until("the takeover", || (server.owner() == third).then_some(()));
    assert_eq!(exit_code(first), 0);
}

/// P2. The program of whoever was taken over from is kept, though it is another file.
fn p2_whoever_was_taken_over_from_can_be_rolled_back_to() {
    let server = Server::prepare(release());
    server.install(Program::Copy("old"));
    let first = another(&server);
    server.until_owner(0);
    server.install(Program::Copy("new"));
    let second = another(&server);
    assert_eq!(server.until_owner(1), second);
    assert_eq!(exit_code(first), 0);
    let operator = Operator::of(server.directory());
    let report = operator.run(operator.client.roll_back(|_| {})).unwrap();
    assert_eq!(report.outcome, UpgradeOutcome::Committed, "{report}");
    let third = server.until_owner(2);
    let program = std::fs::read(format!("/proc/{third}/exe")).unwrap();
    assert!(program.ends_with(b"old"));
}
