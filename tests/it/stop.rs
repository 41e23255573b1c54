//! The end: stops, at rest and in the middle of an upgrade, and upgrades that have to wait.

use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use heirloom::UpgradeOutcome;
use nix::sys::signal::Signal;

use crate::support::client::Failure;
use crate::support::release::{Action, Side, Start};
use crate::support::wait::until;
use crate::support::{Client, Release, Server, Socket, process};

trials![
    p6_a_stop_finishes_what_was_accepted_and_what_is_queued,
    p7_a_second_stop_cuts_what_is_left,
    p7_a_drain_ends_at_its_deadline_and_names_what_was_cut,
    p7_a_stop_before_the_first_readiness_ends_the_process,
    p7_a_stop_before_the_turn_gives_the_upgrade_up,
    p7_a_stop_in_probation_ends_both,
    p7_a_stop_of_whom_the_pid_file_still_names_stops_the_service,
    p7_a_stop_is_for_whom_the_pid_file_named_when_it_came,
    p7_a_stop_of_an_elder_leaves_the_owner,
    p7_a_blocking_task_that_never_ends_keeps_nobody_alive,
    p12_an_upgrade_asked_for_during_another_is_remembered,
    p12_an_upgrade_asked_of_a_sleeping_predecessor_is_run_by_the_owner,
    p12_an_upgrade_that_waits_in_a_predecessor_that_sleeps_is_run_by_the_owner,
    p12_an_upgrade_asked_of_an_elder_is_run_by_the_owner,
];

const LONG: Duration = Duration::from_secs(3600);

fn held(server: &Server, generation: u64) -> Client {
    let mut client = server.client("main");
    assert_eq!(client.ask("hold"), format!("held {generation}"));
    client
}

/// P6, P7.
fn p6_a_stop_finishes_what_was_accepted_and_what_is_queued() {
    let server = Server::start(Release::with([
        Socket::tcp("main"),
        Socket::tcp("slow").pace(Duration::from_millis(20)),
    ]));
    let mut held = held(&server, 0);
    let queue: Vec<Client> = (0..30).map(|_| server.client("slow")).collect();
    let pid = server.pid(0);
    server.signal(pid, Signal::SIGTERM);
    for mut client in queue {
        assert_eq!(client.who().unwrap().generation, 0);
    }
    until("nobody to be accepted any more", || {
        let refused = Client::connect(&server.address("main")).err();
        (refused == Some(Failure::Refused)).then_some(())
    });
    assert!(process::lives(pid));
    assert_eq!(held.ask("release"), "released 0");
    server.until_gone(pid);
    let end = server.until_entry("end", |entry| entry.pid == pid);
    assert!(end.data["exit"].as_str().unwrap().contains("(0)"), "{}", end.data);
    let outcome = server.until_entry("outcome", |entry| entry.pid == pid);
    assert_eq!(outcome.data["Ok"]["stopped"]["outcome"], "drained", "{}", outcome.data);
}

/// P7.
fn p7_a_second_stop_cuts_what_is_left() {
    let server = Server::start(Release { drain: LONG, ..Release::default() });
    let mut held = held(&server, 0);
    let pid = server.pid(0);
    server.signal(pid, Signal::SIGTERM);
    server.until_role(0, "stopping");
    assert!(process::lives(pid));
    server.signal(pid, Signal::SIGTERM);
    assert_eq!(held.receive(), Err(Failure::Closed));
    server.until_gone(pid);
    let outcome = server.until_entry("outcome", |entry| entry.pid == pid);
    assert_eq!(outcome.data["Ok"]["stopped"]["hurried"], true, "{}", outcome.data);
    assert_eq!(outcome.data["Ok"]["stopped"]["cuts"]["forced"], 1, "{}", outcome.data);
}

/// P7, P12.
fn p7_a_drain_ends_at_its_deadline_and_names_what_was_cut() {
    let server = Server::start(Release { drain: Duration::from_millis(400), ..Release::default() });
    let mut held = held(&server, 0);
    let pid = server.pid(0);
    server.upgrade_well();
    assert_eq!(held.receive(), Err(Failure::Closed));
    server.until_gone(pid);
    let outcome = server.until_entry("outcome", |entry| entry.pid == pid);
    let report = &outcome.data["Ok"]["handed_over"];
    assert_eq!(report["outcome"], "cut", "{report}");
    assert_eq!(report["cut"][0]["reason"], "held", "{report}");
    assert_eq!(report["cut"][0]["listener"], "main", "{report}");
    assert_eq!(report["cut"][0]["cut"], "deadline", "{report}");
    assert_eq!(report["cuts"]["deadline"], 1, "{report}");
}

/// P7. An application that waits for its database for ever is stopped like any other.
fn p7_a_stop_before_the_first_readiness_ends_the_process() {
    let server = Server::prepare(Release { start: Start::NeverReady, ..Release::default() });
    let pid = server.launch(|directory| Command::new(directory.join("server")));
    server.pid(0);
    server.signal(pid, Signal::SIGTERM);
    server.until_gone(pid);
}

/// P7, P12. Before the turn nothing has moved: the predecessor stops as if there were no upgrade.
fn p7_a_stop_before_the_turn_gives_the_upgrade_up() {
    let server = Server::start(Release::default());
    let pid = server.pid(0);
    let mut held = held(&server, 0);
    server.next_release(|release| release.start_delay = LONG);
    server.signal(pid, Signal::SIGHUP);
    let successor = server.pid(1);
    server.signal(pid, Signal::SIGTERM);
    let report = server.until_report(0);
    assert_eq!(report.outcome, UpgradeOutcome::Failed, "{report}");
    assert!(report.cause.as_ref().unwrap().contains("asked to stop"), "{report}");
    server.until_gone(successor);
    assert_eq!(held.ask("release"), "released 0");
    server.until_gone(pid);
    assert!(process::born_in(server.directory()).is_empty());
}

/// P6, P7. Both have accepted; the predecessor stays until the successor has gone.
fn p7_a_stop_in_probation_ends_both() {
    let server = Server::start(Release { probation: LONG, ..Release::default() });
    let pid = server.pid(0);
    let mut with_predecessor = held(&server, 0);
    server.signal(pid, Signal::SIGHUP);
    let successor = server.until_role(1, "successor");
    let mut with_successor = held(&server, 1);
    server.signal(pid, Signal::SIGTERM);
    assert_eq!(server.until_report(0).outcome, UpgradeOutcome::RolledBack);
    until("nobody to be accepted any more", || {
        let refused = Client::connect(&server.address("main")).err();
        (refused == Some(Failure::Refused)).then_some(())
    });
    assert_eq!(with_predecessor.ask("release"), "released 0");
    server.until_role(0, "stopping");
    assert!(process::lives(pid) && process::lives(successor));
    assert_eq!(with_successor.ask("release"), "released 1");
    server.until_gone(pid);
    assert!(!process::lives(successor), "the predecessor outlives its successor");
}

/// P7. The commit is a moment ahead of the PID file, by which stops find the service.
fn p7_a_stop_of_whom_the_pid_file_still_names_stops_the_service() {
    let server = Server::start(Release { pid_file: true, ..Release::default() });
    let mut held = held(&server, 0);
    server.fault(Side::Successor, "owner", Action::Stop);
    let pid = server.pid(0);
    server.signal(pid, Signal::SIGHUP);
    server.until_role(0, "elder");
    let successor = server.pid(1);
    until("it to stop", || process::is_stopped(successor).then_some(()));
    assert_eq!(std::fs::read_to_string(server.pid_file(pid)).unwrap(), format!("{pid}\n"));
    server.signal(pid, Signal::SIGTERM);
    server.until_entry("step", |entry| entry.data["step"] == "stop passed on");
    assert_eq!(held.ask("release"), "released 0");
    server.signal(successor, Signal::SIGCONT);
    server.until_gone(successor);
    server.until_gone(pid);
}

/// P7. It is busy with its commit when the stop comes, and hears of it when the file has changed.
fn p7_a_stop_is_for_whom_the_pid_file_named_when_it_came() {
    let server = Server::start(Release { pid_file: true, ..Release::default() });
    let mut held = held(&server, 0);
    server.fault(Side::Predecessor, "draining", Action::Block(Duration::from_secs(2)));
    let pid = server.pid(0);
    server.signal(pid, Signal::SIGHUP);
    server.until_entry("fault", |_| true);
    let successor = server.until_owner(1);
    let (file, aside) = (server.pid_file(pid), server.path("aside"));
    let named = format!("{successor}\n");
    until("its number", || (std::fs::read_to_string(&file).ok()? == named).then_some(()));
    // As if that had taken it until now.
    std::fs::rename(&file, &aside).unwrap();
    std::fs::write(&file, format!("{pid}\n")).unwrap();
    server.signal(pid, Signal::SIGTERM);
    until("the handler", || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        status.lines().any(|line| line == "ShdPnd:\t0000000000000000").then_some(())
    });
    std::fs::File::open(&aside).unwrap().set_modified(SystemTime::now()).unwrap();
    std::fs::rename(&aside, &file).unwrap();
    server.until_entry("step", |entry| entry.data["step"] == "stop passed on");
    assert_eq!(held.ask("release"), "released 0");
    server.until_gone(successor);
    server.until_gone(pid);
}

/// P7. By then the PID file names its successor.
fn p7_a_stop_of_an_elder_leaves_the_owner() {
    let server = Server::start(Release { pid_file: true, ..Release::default() });
    let mut held = held(&server, 0);
    let pid = server.pid(0);
    server.upgrade_well();
    let named = format!("{}\n", server.pid(1));
    let file = server.pid_file(pid);
    until("its number", || (std::fs::read_to_string(&file).ok()? == named).then_some(()));
    server.signal(pid, Signal::SIGTERM);
    assert_eq!(held.ask("release"), "released 0");
    server.until_gone(pid);
    assert_eq!(server.client("main").who().unwrap().generation, 1);
    server.stop();
}

/// P7. A runtime's drop would wait for it.
fn p7_a_blocking_task_that_never_ends_keeps_nobody_alive() {
    let server = Server::start(Release::default());
    server.ask("stuck");
    let begun = Instant::now();
    server.upgrade_well();
    server.until_gone(server.pid(0));
    assert!(begun.elapsed() < Duration::from_secs(10));
    server.ask("stuck");
    server.stop();
}

/// P12. Visible in the status, and run by whoever owns afterwards.
fn p12_an_upgrade_asked_for_during_another_is_remembered() {
    let server = Server::start(Release { probation: Duration::from_secs(2), ..Release::default() });
    server.next_release(|release| release.probation = Duration::ZERO);
    let pid = server.pid(0);
    server.signal(pid, Signal::SIGHUP);
    server.until_role(1, "successor");
    server.signal(pid, Signal::SIGHUP);
    server.until_entry("status", |entry| entry.pid == pid && entry.data["queued"] == true);
    let reports = [server.until_report(0), server.until_report(1)];
    assert!(reports.iter().all(|report| report.outcome == UpgradeOutcome::Committed));
    assert_eq!((reports[0].from.get(), reports[1].from.get()), (0, 1));
    let owner = server.until_owner(2);
    until("nothing to be queued", || {
        let status: serde_json::Value = serde_json::from_str(&server.ask("status")).unwrap();
        (status["pid"] == owner && status["queued"] == false).then_some(())
    });
}

/// P12. It learns that it owns no more, and passes on what it was asked.
fn p12_an_upgrade_asked_of_a_sleeping_predecessor_is_run_by_the_owner() {
    let server = Server::start(Release {
        probation: Duration::from_millis(300),
        silence: Duration::from_secs(2),
        commit: Duration::from_secs(1),
        ..Release::default()
    });
    server.fault(Side::Predecessor, "probation", Action::Stop);
    let pid = server.pid(0);
    server.signal(pid, Signal::SIGHUP);
    server.until_owner(1);
    server.signal(pid, Signal::SIGHUP);
    server.signal(pid, Signal::SIGCONT);
    server.until_owner(2);
}

/// P12. It was asked before it slept, and hands the wish on when it wakes, after its time.
fn p12_an_upgrade_that_waits_in_a_predecessor_that_sleeps_is_run_by_the_owner() {
    let server = Server::start(Release {
        probation: Duration::from_secs(2),
        silence: Duration::from_millis(300),
        commit: Duration::from_millis(300),
        ..Release::default()
    });
    let pid = server.pid(0);
    server.signal(pid, Signal::SIGHUP);
    server.until_role(1, "successor");
    server.signal(pid, Signal::SIGHUP);
    server.until_entry("status", |entry| entry.pid == pid && entry.data["queued"] == true);
    server.signal(pid, Signal::SIGSTOP);
    server.until_owner(1);
    server.signal(pid, Signal::SIGCONT);
    server.until_owner(2);
}

/// P12.
fn p12_an_upgrade_asked_of_an_elder_is_run_by_the_owner() {
    let server = Server::start(Release::default());
    let mut held = held(&server, 0);
    server.upgrade_well();
    server.signal(server.pid(0), Signal::SIGHUP);
    server.until_owner(2);
    let answer = held.ask("release");
    assert_eq!(answer, "released 0");
    assert_eq!(server.until_report(1).from.get(), 1);
}
