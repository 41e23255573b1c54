//! What goes wrong once the turn is given: the predecessor takes it back on the very same sockets.

use std::time::{Duration, Instant};

use heirloom::{Report, UpgradeOutcome, UpgradePhase};
use nix::sys::signal::Signal;

use crate::support::client::Failure;
use crate::support::load::Tally;
use crate::support::release::{Action, Side, Socket};
use crate::support::wait::until;
use crate::support::{Load, Release, Server, process};

trials![
    durations_without_end_mean_never,
    p2_a_successor_that_dies_in_probation_is_replaced_at_once,
    p2_a_successor_that_stalls_in_probation_is_rolled_back,
    p6_a_successor_that_is_told_to_stop_finishes_what_it_accepted,
    p6_a_successor_whose_application_fails_finishes_what_it_accepted,
    p1_clients_are_served_when_the_successor_never_accepts,
    p2_a_rolled_back_upgrade_changes_no_backlog,
    p2_a_path_is_connectable_after_a_failed_upgrade,
    p3_the_predecessor_owns_again_when_the_successor_dies_after_the_verdict,
    p3_a_successor_that_dies_as_it_commits_is_replaced_though_nothing_is_left_to_drain,
    p3_the_successor_owns_when_the_predecessor_dies_in_probation,
    p3_the_successor_owns_when_the_predecessors_application_fails_in_probation,
    p3_a_rejected_successor_that_still_serves_takes_over_when_the_predecessor_dies,
    p3_a_broken_link_leaves_one_owner,
    p3_a_predecessor_that_wakes_late_does_nothing_that_an_owner_does,
    p4_a_death_is_known_although_a_helper_holds_the_link,
    p12_an_exit_at_any_step_is_reported_with_its_status,
    p4_a_driver_that_is_slow_at_any_step_harms_nobody,
    p10_a_parked_predecessor_is_not_woken,
];

const LONG: Duration = Duration::from_secs(3600);

/// A service whose next generation stays in probation until something happens. The predecessor's
/// release counts for that; the generations after it have the usual probation.
fn in_probation(release: Release) -> (Server, i32) {
    let usual = release.probation;
    let server = Server::start(Release { probation: LONG, ..release });
    server.next_release(|release| release.probation = usual);
    server.signal(server.pid(0), Signal::SIGHUP);
    let successor = server.until_role(1, "successor");
    (server, successor)
}

/// The report of a roll back after which generation 0 serves.
fn rolled_back(server: &Server) -> Report {
    let report = server.until_report(0);
    assert_eq!(report.outcome, UpgradeOutcome::RolledBack, "{report}");
    assert_eq!(report.phase, UpgradePhase::Probation, "{report}");
    server.until_gone(report.successor_pid.unwrap());
    assert!(server.ask("who").starts_with("0 "));
    report
}

/// Only what the killed process had accepted may be harmed: at most one connection of each client.
fn assert_harmed_at_most(clients: usize, tally: &Tally) {
    let harmed = tally.failures.iter();
    let soft = |failure: &Failure| matches!(failure, Failure::Reset | Failure::Closed);
    assert!(harmed.clone().all(soft), "{tally}");
    assert!(harmed.count() <= clients, "{tally}");
}

/// P2, P3.
fn p2_a_successor_that_dies_in_probation_is_replaced_at_once() {
    let (server, successor) = in_probation(Release::default());
    let load = Load::start(&[server.address("main")], 2);
    load.until_answered(50);
    server.signal(successor, Signal::SIGKILL);
    load.until_answered(50);
    let report = rolled_back(&server);
    assert!(report.cause.unwrap().contains("SIGKILL"));
    let tally = load.finish();
    assert_harmed_at_most(2, &tally);
    assert_eq!(tally.generations(), [1, 0]);
    let gap = tally.longest_gap();
    assert!(gap < Duration::from_secs(5), "nobody was served for {gap:?}");
}

/// P2, P4. SIGSTOP closes no link and ends no process.
fn p2_a_successor_that_stalls_in_probation_is_rolled_back() {
    let (server, successor) = in_probation(Release {
        silence: Duration::from_millis(600),
        drain: Duration::from_millis(500),
        ..Release::default()
    });
    let load = Load::start(&[server.address("main")], 2);
    load.until_answered(20);
    server.signal(successor, Signal::SIGSTOP);
    load.until_answered(20);
    let report = rolled_back(&server);
    assert!(report.cause.unwrap().contains("sign of life"));
    let tally = load.finish();
    assert_harmed_at_most(2, &tally);
}

/// P6. Strictly nobody is harmed: it lives to finish what it has.
fn p6_a_successor_that_is_told_to_stop_finishes_what_it_accepted() {
    let (server, successor) = in_probation(Release::default());
    let mut held = server.client("main");
    assert_eq!(held.ask("hold"), "held 1");
    let load = Load::start(&[server.address("main")], 2);
    load.until_answered(50);
    server.signal(successor, Signal::SIGTERM);
    let report = server.until_report(0);
    assert_eq!(report.outcome, UpgradeOutcome::RolledBack);
    assert!(report.cause.unwrap().contains("asked to stop"));
    load.until_answered(50);
    let tally = load.finish();
    tally.assert_unharmed();
    assert_eq!(tally.generations(), [1, 0]);
    assert!(process::lives(successor));
    assert_eq!(held.ask("release"), "released 1");
    rolled_back(&server);
}

/// P6. However long that takes: the deadline of the commit is over by then.
fn p6_a_successor_whose_application_fails_finishes_what_it_accepted() {
    let (server, _) =
        in_probation(Release { commit: Duration::from_millis(300), ..Release::default() });
    let mut client = server.client("main");
    assert!(client.ask("who").starts_with("1 "));
    server.ask("fail");
    let report = server.until_report(0);
    assert!(report.cause.unwrap().contains("told to fail"));
    assert_eq!(client.ask("slow 2000"), "slow 1");
    drop(client);
    rolled_back(&server);
}

/// P1, P4. It is stopped between the turn and its first accept.
fn p1_clients_are_served_when_the_successor_never_accepts() {
    let server = Server::start(Release {
        gap: Duration::from_millis(500),
        drain: Duration::from_millis(500),
        commit: Duration::from_millis(500),
        ..Release::default()
    });
    server.fault(Side::Successor, "serving", Action::Stop);
    let load = Load::start(&[server.address("main")], 2);
    load.until_answered(20);
    let report = server.upgrade_badly();
    assert!(report.cause.as_ref().unwrap().contains("the gap"), "{report}");
    assert!(report.longest_gap >= Duration::from_millis(400), "{report}");
    load.until_answered(20);
    let tally = load.finish();
    tally.assert_unharmed();
    assert_eq!(tally.generations(), [0]);
    server.until_gone(report.successor_pid.unwrap());
}

/// P2. `listen` again acts on the other generation's socket, too.
fn p2_a_rolled_back_upgrade_changes_no_backlog() {
    let Some(backlog) = backlog_reader() else {
        return;
    };
    let server = Server::start(Release {
        probation: LONG,
        ..Release::with([Socket::tcp("main").backlog(77)])
    });
    let port = server.address("main").inet().port();
    assert_eq!(backlog(port), 77);
    server.next_release(|release| {
        release.sockets[0].backlog = Some(33);
        release.probation = Duration::ZERO;
    });
    server.signal(server.pid(0), Signal::SIGHUP);
    let successor = server.until_role(1, "successor");
    assert_eq!(backlog(port), 77, "before the verdict");
    server.signal(successor, Signal::SIGKILL);
    rolled_back(&server);
    assert_eq!(backlog(port), 77, "after the roll back");
    server.signal(server.pid(0), Signal::SIGKILL);

    let server = Server::start(Release::with([Socket::tcp("main").backlog(77)]));
    let port = server.address("main").inet().port();
    server.next_release(|release| release.sockets[0].backlog = Some(33));
    server.upgrade_well();
    until("the backlog after the commit", || (backlog(port) == 33).then_some(()));
}

/// The backlog as `ss` shows it, if there is one.
fn backlog_reader() -> Option<impl Fn(u16) -> u32> {
    let ss = |port: u16| {
        let filter = format!("sport = :{port}");
        let output = std::process::Command::new("ss").args(["-Hltn", &filter]).output();
        output.ok().map(|output| String::from_utf8(output.stdout).unwrap())
    };
    ss(1)?;
    Some(move |port| {
        let text = ss(port).unwrap();
        let backlog = text.split_whitespace().nth(2);
        backlog.unwrap_or_else(|| panic!("ss: {text:?}")).parse().unwrap()
    })
}

/// P2.
fn p2_a_path_is_connectable_after_a_failed_upgrade() {
    let (server, successor) = in_probation(Release::with([Socket::unix("main")]));
    assert!(server.ask("who").starts_with("1 "));
    server.signal(successor, Signal::SIGKILL);
    rolled_back(&server);
    server.stop();
    assert!(!server.path("main.sock").exists());
}

/// P3. As long as the predecessor drains, it holds every socket.
fn p3_the_predecessor_owns_again_when_the_successor_dies_after_the_verdict() {
    let server = Server::start(Release { pid_file: true, ..Release::default() });
    let mut held = server.client("main");
    assert_eq!(held.ask("hold"), "held 0");
    let successor = server.upgrade_well();
    let load = Load::start(&[server.address("main")], 2);
    load.until_answered(20);
    server.signal(successor, Signal::SIGKILL);
    until("generation 0 to own again", || (server.owners() == [(0, server.pid(0))]).then_some(()));
    load.until_answered(20);
    assert_harmed_at_most(2, &load.finish());
    let pid = std::fs::read_to_string(server.path("pid")).unwrap();
    assert_eq!(pid.trim(), server.pid(0).to_string());
    assert_eq!(held.ask("release"), "released 0");
    let report = server.upgrade();
    assert_eq!((report.from.get(), report.outcome), (0, UpgradeOutcome::Committed), "{report}");
    assert!(report.to.get() > 1, "a number is given once: {report}");
    assert!(server.ask("who").starts_with(&format!("{} ", report.to)));
}

/// P3. The predecessor has no connection that would keep it; it must not go all the same.
fn p3_a_successor_that_dies_as_it_commits_is_replaced_though_nothing_is_left_to_drain() {
    for _ in 0..5 {
        let server = Server::start(Release::default());
        server.fault(Side::Successor, "committed", Action::Kill);
        server.signal(server.pid(0), Signal::SIGHUP);
        assert_eq!(server.until_report(0).outcome, UpgradeOutcome::Committed);
        until("generation 0 to own again", || {
            (server.owners() == [(0, server.pid(0))]).then_some(())
        });
        server.upgrade_well();
    }
}

/// P3.
fn p3_the_successor_owns_when_the_predecessor_dies_in_probation() {
    let (server, _) = in_probation(Release::default());
    let load = Load::start(&[server.address("main")], 2);
    load.until_answered(20);
    server.signal(server.pid(0), Signal::SIGKILL);
    server.until_owner(1);
    load.until_answered(20);
    load.finish().assert_unharmed();
    server.upgrade_well();
}

/// P3. Both sides learn of it; one of them owns, the other goes.
fn p3_a_broken_link_leaves_one_owner() {
    for step in ["hello", "welcome", "adopted", "ready", "serving"] {
        let server = Server::start(Release::default());
        let load = Load::start(&[server.address("main")], 2);
        load.until_answered(5);
        server.fault(Side::Successor, step, Action::CutLink);
        server.signal(server.pid(0), Signal::SIGHUP);
        server.until_report(0);
        let owner = until("one process and one owner", || {
            let owners = server.owners();
            let alone = process::born_in(server.directory()).len() == 1;
            (alone && owners.len() == 1).then(|| owners[0])
        });
        load.until_answered(5);
        assert_harmed_at_most(2, &load.finish());
        assert!(server.ask("who").starts_with(&format!("{} ", owner.0)), "at {step}");
    }
}

/// P3. It is stopped until the successor has taken over by itself.
fn p3_a_predecessor_that_wakes_late_does_nothing_that_an_owner_does() {
    let server = Server::start(Release {
        probation: Duration::from_millis(300),
        silence: Duration::from_secs(2),
        commit: Duration::from_secs(1),
        pid_file: true,
        ..Release::default()
    });
    server.fault(Side::Predecessor, "probation", Action::Stop);
    let predecessor = server.pid(0);
    server.signal(predecessor, Signal::SIGHUP);
    let successor = server.until_owner(1);
    assert!(process::is_stopped(predecessor));
    let load = Load::start(&[server.address("main")], 2);
    load.until_answered(20);
    // All its timers have run out, and another upgrade has been asked of it.
    server.signal(predecessor, Signal::SIGHUP);
    server.signal(predecessor, Signal::SIGCONT);
    server.until_gone(predecessor);
    load.until_answered(20);
    let tally = load.finish();
    tally.assert_unharmed();
    assert!(!tally.generations().contains(&0), "{tally}");
    assert_eq!(server.until_report(0).outcome, UpgradeOutcome::Committed);
    let pid = std::fs::read_to_string(server.path("pid")).unwrap();
    let owner = server.owner();
    assert_eq!(pid.trim(), owner.to_string());
    assert!(owner >= successor || server.owners().len() == 1);
}

/// P3, P7. Its process ends in an orderly way, or by a panic while a blocking task never ends: for
/// the service that is the same as its death.
fn p3_the_successor_owns_when_the_predecessors_application_fails_in_probation() {
    for how in ["fail", "panic"] {
        let server = Server::start(Release { probation: LONG, ..Release::default() });
        let predecessor = server.pid(0);
        let mut before = server.client("main");
        assert!(before.ask("who").starts_with("0 "));
        before.ask("stuck");
        server.signal(predecessor, Signal::SIGHUP);
        server.until_role(1, "successor");
        before.ask(how);
        server.until_gone(predecessor);
        server.until_owner(1);
        assert!(server.ask("who").starts_with("1 "), "after {how}");
    }
}

/// P3. It slept and was rejected; awake again it finishes what it had, and is all that is left.
fn p3_a_rejected_successor_that_still_serves_takes_over_when_the_predecessor_dies() {
    let (server, successor) =
        in_probation(Release { silence: Duration::from_millis(600), ..Release::default() });
    let mut held = server.client("main");
    assert_eq!(held.ask("hold"), "held 1");
    server.signal(successor, Signal::SIGSTOP);
    assert_eq!(server.until_report(0).outcome, UpgradeOutcome::RolledBack);
    server.signal(successor, Signal::SIGCONT);
    server.until_role(1, "leaving");
    server.signal(server.pid(0), Signal::SIGKILL);
    server.until_owner(1);
    let mut client = server.client("main");
    for _ in 0..2 {
        assert!(client.ask("who").starts_with("1 "));
    }
    assert!(!client.told_to_go, "newcomers are served like any others");
    assert_eq!(held.ask("release"), "released 1");
}

/// P4. A wrapper's helper inherits link and environment, and lives on: no end of file ever comes.
fn p4_a_death_is_known_although_a_helper_holds_the_link() {
    let server = Server::start(Release {
        probation: LONG,
        silence: LONG,
        ready: LONG,
        ..Release::default()
    });
    server.install(crate::support::server::Program::Script("sleep 600 & exec \"$SERVER\" \"$@\""));
    server.signal(server.pid(0), Signal::SIGHUP);
    let successor = server.until_role(1, "successor");
    let begun = Instant::now();
    server.signal(successor, Signal::SIGKILL);
    let report = rolled_back(&server);
    let known = begun.elapsed();
    assert!(known < Duration::from_secs(5), "known after {known:?}");
    assert!(report.cause.unwrap().contains("SIGKILL"));
    let born = process::born_in(server.directory());
    assert!(born.len() >= 2, "the helper lives: {born:?}");
}

/// P12, P2.
fn p12_an_exit_at_any_step_is_reported_with_its_status() {
    let server = Server::start(Release { pid_file: true, ..Release::default() });
    for (index, step) in ["hello", "welcome", "adopted", "ready", "serving"].iter().enumerate() {
        server.fault(Side::Successor, step, Action::Exit(3));
        let report = server.upgrade_badly();
        let cause = report.cause.clone().unwrap();
        assert!(cause.contains("exited with status 3"), "at {step}: {report}");
        assert_eq!(report.to.get(), index as u64 + 1, "a number is given once");
        assert!(server.ask("who").starts_with("0 "), "at {step}");
    }
    server.upgrade_well();
}

/// P4, P1. A thread that waits for the disk, or for its turn on a busy machine.
fn p4_a_driver_that_is_slow_at_any_step_harms_nobody() {
    let predecessor = ["offer", "start", "ready", "park", "yield", "probation", "permit", "commit"];
    let successor = ["welcome", "adopted", "ready", "serving", "committed", "owner"];
    let of_predecessor = predecessor.map(|step| (Side::Predecessor, step));
    let server = Server::start(Release::default());
    let load = Load::start(&[server.address("main")], 2);
    for (side, step) in of_predecessor.into_iter().chain(successor.map(|s| (Side::Successor, s))) {
        server.fault(side, step, Action::Block(Duration::from_millis(150)));
        server.upgrade_well();
    }
    load.finish().assert_unharmed();
}

/// P10. A listener left in epoll would wake it for each connection.
fn p10_a_parked_predecessor_is_not_woken() {
    let (server, _) =
        in_probation(Release { silence: Duration::from_secs(16), ..Release::default() });
    let predecessor = server.pid(0);
    let load = Load::start(&[server.address("main")], 2);
    load.until_answered(50);
    let before = process::wake_ups(predecessor);
    load.until_answered(500);
    let woken = process::wake_ups(predecessor) - before;
    load.finish().assert_unharmed();
    assert!(woken < 50, "woken {woken} times by 500 connections to the successor");
}

/// No arithmetic of a deadline goes wrong with them.
fn durations_without_end_mean_never() {
    let never = Duration::MAX;
    let server = Server::start(Release {
        control: true,
        gap: never,
        hello: never,
        adopt: never,
        ready: never,
        silence: never,
        commit: never,
        drain: never,
        shutdown: never,
        progress: never,
        take_over_deadline: never,
        hold_off: Some(never),
        ..Release::default()
    });
    let mut held = server.client("main");
    held.ask("hold");
    server.next_release(|release| release.probation = never);
    server.upgrade_well();
    assert_eq!(held.ask("release"), "released 0");
    let owner = server.pid(1);
    server.signal(owner, Signal::SIGHUP);
    let successor = server.until_role(2, "successor");
    server.signal(owner, Signal::SIGTERM);
    server.until_gone(successor);
    server.until_gone(owner);
}
