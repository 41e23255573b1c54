//! Takeover: the successor was started by somebody else, and asks for the turn at the control
//! socket.

pub(crate) mod containers;
pub(crate) mod takers;

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use heirloom::control::Stop;
use heirloom::{UpgradeOutcome, UpgradePhase};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::support::client::Address;
use crate::support::manager::Manager;
use crate::support::process;
use crate::support::release::{Habit, Health, Start, TakeOver};
use crate::support::server::Program;
use crate::support::wait::until;
use crate::support::{Client, Load, Operator, Release, Server};

trials![
    p1_a_second_process_takes_over_and_hands_over_in_turn,
    a_policy_is_what_it_says,
    p2_a_taker_that_is_not_well_is_taken_back,
    p12_a_taker_that_fails_is_reported_and_held_off,
    p2_whoever_was_taken_over_from_can_be_rolled_back_to,
    p3_one_who_comes_while_an_upgrade_runs_waits_for_its_turn,
    p1_a_stop_of_the_old_one_hands_over_to_a_taker_in_probation,
    p1_an_operators_stop_of_the_old_one_leaves_the_taker_alone,
    p12_each_side_has_a_manager_of_its_own,
    p5_a_taker_that_was_activated_has_no_use_for_what_it_was_passed,
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
    // Not the program that owns, and so has proven itself.
    server.install(Program::Copy("failing"));
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

/// P3. One after the other; who waits may be stopped, and gives up by itself.
fn p3_one_who_comes_while_an_upgrade_runs_waits_for_its_turn() {
    let server = Server::start(Release { probation: LONG, ..release() });
    let first = server.owner();
    let second = another(&server);
    server.until_role(1, "successor");
    server.next_release(|next| next.take_over_deadline = Duration::from_millis(500));
    assert_eq!(exit_code(another(&server)), 1);
    assert!(said(&server).contains("another upgrade is still running"), "{}", said(&server));
    server.next_release(|next| {
        (next.take_over_deadline, next.probation) = (LONG, Duration::from_millis(50));
    });
    let stopped = another(&server);
    let asked = |pid: i32| {
        let text = std::fs::read_to_string(server.path("trace.log")).unwrap();
        text.contains(&format!("asks for the turn taker=process {pid} ")).then_some(())
    };
    until("its wish", || asked(stopped));
    process::signal(stopped, Signal::SIGTERM);
    assert_eq!(exit_code(stopped), 1);
    assert!(said(&server).contains("stop while it waited for its turn"), "{}", said(&server));
    let third = another(&server);
    until("its wish", || asked(third));
    let operator = Operator::of(server.directory());
    operator.run(operator.client.commit()).unwrap();
    assert_eq!(exit_code(first), 0);
    // The second was started with a probation of an hour.
    server.until_role(2, "successor");
    assert_eq!(operator.status().owner.get(), 1);
    operator.run(operator.client.commit()).unwrap();
    until("the third", || (server.owners().last()?.1 == third).then_some(()));
    assert_eq!(exit_code(second), 0);
}

/// P1. Whoever stops the old process wants it gone, and the service to go on.
fn p1_a_stop_of_the_old_one_hands_over_to_a_taker_in_probation() {
    let server = Server::start(Release { probation: LONG, ..release() });
    let first = server.owner();
    let load = Load::start(&[server.address("main")], 2);
    let second = another(&server);
    server.until_role(1, "successor");
    load.until_answered(20);
    server.signal(first, Signal::SIGTERM);
    assert_eq!(exit_code(first), 0);
    assert_eq!(server.owner(), second);
    load.until_answered(20);
    load.finish().assert_unharmed();
    server.stop();
}

/// P1. The command is answered once, and is never repeated to whoever owns then.
fn p1_an_operators_stop_of_the_old_one_leaves_the_taker_alone() {
    let server = Server::start(Release { probation: LONG, ..release() });
    let first = server.owner();
    let load = Load::start(&[server.address("main")], 2);
    let second = another(&server);
    server.until_role(1, "successor");
    let operator = Operator::of(server.directory());
    operator.run(operator.client.stop(Stop::Gracefully, |_| {})).unwrap();
    assert_eq!(exit_code(first), 0);
    load.until_answered(20);
    assert_eq!(server.owner(), second);
    assert_eq!(operator.status().owner.get(), 1);
    load.finish().assert_unharmed();
    server.stop();
}

/// P12. The old one's is never told of a process that is not its own, and the new one's of its own.
fn p12_each_side_has_a_manager_of_its_own() {
    let server = Server::prepare(release());
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let managers = [Manager::at(old.path()), Manager::at(new.path())];
    let first = server.launch(|directory| managers[0].starts(directory, ""));
    server.until_owner(0);
    let second = server.launch(|directory| managers[1].starts(directory, ""));
    assert_eq!(server.until_owner(1), second);
    assert_eq!(exit_code(first), 0);
    let mains = |manager: &Manager| -> Vec<String> {
        let said = manager.said();
        said.iter().filter_map(|said| said.value("MAINPID").map(str::to_owned)).collect()
    };
    assert_eq!(mains(&managers[0]), [first.to_string()]);
    assert_eq!(mains(&managers[1]), [second.to_string()]);
    // The reload that a takeover looks like has an end.
    let said = managers[0].said();
    let reloads = said.iter().rposition(|said| said.has("RELOADING=1")).unwrap();
    assert!(said[reloads..].iter().any(|said| said.has("READY=1")), "{said:?}");
    assert!(said.iter().all(|said| !said.has("STOPPING=1")), "{said:?}");
    assert!(managers[1].said().iter().any(|said| said.has("READY=1")));
}

/// P5, P1. Its manager keeps what was handed over, and nothing of an earlier life.
fn p5_a_taker_that_was_activated_has_no_use_for_what_it_was_passed() {
    let server = Server::prepare(release());
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let managers = [Manager::at(old.path()), Manager::at(new.path())];
    let first = server.launch(|directory| managers[0].starts(directory, ""));
    server.until_owner(0);
    until("the store of the first", || (managers[0].stored() == ["main"]).then_some(()));
    let load = Load::start(&[server.address("main")], 2);
    load.until_answered(20);
    let activated = |names: &str| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stale = Address::Inet(listener.local_addr().unwrap());
        let variables =
            format!("LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES={names}; exec 3<&0 </dev/null");
        let pid = server.launch_on(Stdio::from(OwnedFd::from(listener)), |directory| {
            managers[1].starts(directory, &variables)
        });
        (pid, stale)
    };
    // One that does not come to own leaves the store as it is.
    server.next_release(|next| next.start = Start::Fail("no licence".into()));
    let (failed, _) = activated("main");
    assert_eq!(exit_code(failed), 1);
    assert!(managers[1].said().iter().all(|said| !said.has("FDSTOREREMOVE=1")));
    managers[1].forget_main();
    server.next_release(|next| next.start = Start::Well);
    let (second, stale) = activated("main");
    until("the takeover", || (server.owner() == second).then_some(()));
    assert_eq!(exit_code(first), 0);
    until("the store of the second", || (managers[1].stored() == ["main"]).then_some(()));
    let said = managers[1].said();
    let removed = said.iter().position(|said| said.has("FDSTOREREMOVE=1")).unwrap();
    assert_eq!(said[removed].value("FDNAME"), Some("main"));
    assert!(removed < said.iter().position(|said| said.has("FDSTORE=1")).unwrap());
    assert_eq!(managers[0].stored(), Vec::<String>::new());
    // What it holds is what is served; what it was passed is closed.
    let kept = TcpListener::from(managers[1].copy("main")).local_addr().unwrap();
    assert_eq!(Address::Inet(kept), server.address("main"));
    assert!(Client::connect(&stale).is_err());
    load.until_answered(20);
    load.finish().assert_unharmed();
    server.upgrade_well();
}
