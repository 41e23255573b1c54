//! Words that come while the owner changes.

use std::process::Command;
use std::time::Duration;

use heirloom::control::{Stop, Upgrade};
use heirloom::{AskedBy, UpgradeOutcome};
use nix::sys::signal::Signal;

use super::{LONG, in_probation, release, start};
use crate::support::release::{Action, Habit, Side, TakeOver};
use crate::support::wait::until;
use crate::support::{Operator, Release, Server};

trials![
    p12_whoever_asked_for_a_queued_upgrade_is_known_to_whoever_runs_it,
    p12_whoever_asked_an_elder_is_known_to_the_owner,
    a_stop_in_the_moment_of_the_commit_reaches_the_new_owner,
    an_operator_is_patient_while_the_new_owner_is_slow,
    whoever_is_taken_over_from_stays_ready_though_it_was_stopped,
    p12_a_status_shows_what_a_successor_serves_in_probation,
    p12_requests_are_counted_to_the_moment_of_the_commit,
    p12_each_line_of_either_side_names_its_upgrade,
];

/// As long as a process does nothing. Words come while it sleeps.
const SLEEP: Duration = Duration::from_millis(300);

fn asked_by(server: &Server, index: usize) -> String {
    server.until_report(index).asked_by.to_string()
}

/// P12. The predecessor remembers a wish, of its own or of its successor, and the successor runs it.
fn p12_whoever_asked_for_a_queued_upgrade_is_known_to_whoever_runs_it() {
    let own = std::process::id();
    let queued_by = |ask: &dyn Fn(&Server, &Operator)| {
        let (server, operator) = in_probation(release());
        ask(&server, &operator);
        operator.until_status("the wish to be queued", |status| status.queued);
        operator.run(operator.client.commit()).unwrap();
        operator.until_status("the next owner", |status| status.owner.get() == 1);
        operator.until_probation();
        operator.run(operator.client.commit()).unwrap();
        server.until_owner(2);
        asked_by(&server, 1)
    };
    let by_operator = queued_by(&|server, operator| {
        operator.run(operator.client.upgrade(Upgrade::new())).unwrap();
        // A signal after it changes nothing.
        server.signal(server.pid(0), Signal::SIGHUP);
    });
    assert_eq!(by_operator, format!("user 0, pid {own}"));
    let by_signal = queued_by(&|server, _| server.signal(server.pid(1), Signal::SIGHUP));
    assert_eq!(by_signal, "a signal");
}

/// P12.
fn p12_whoever_asked_an_elder_is_known_to_the_owner() {
    let (server, operator) = start(Release { drain: LONG, ..release() });
    let mut held = server.client("main");
    let mut application = server.client("main");
    held.ask("hold");
    application.ask("who");
    assert_eq!(operator.upgrade().unwrap().outcome, UpgradeOutcome::Committed);
    server.signal(server.pid(0), Signal::SIGHUP);
    server.until_owner(2);
    assert_eq!(server.until_report(1).asked_by, AskedBy::Signal);
    application.send("upgrade").unwrap();
    server.until_owner(3);
    assert_eq!(server.until_report(2).asked_by, AskedBy::Application);
}

/// The successor has sealed the verdict, and its predecessor does not know yet.
fn a_stop_in_the_moment_of_the_commit_reaches_the_new_owner() {
    for wishes in [1, 2] {
        let (server, operator) = start(Release {
            habits: vec![Habit::HasNoStopSignal],
            drain: if wishes == 1 { release().drain } else { LONG },
            ..release()
        });
        let mut application = server.client("main");
        let mut held = server.client("main");
        held.ask("hold");
        application.ask("who");
        server.fault(Side::Successor, "committed", Action::Block(SLEEP));
        operator.run(operator.client.upgrade(Upgrade::new())).unwrap();
        server.until_entry("fault", |_| true);
        (0..wishes).for_each(|_| drop(application.ask("stop")));
        if wishes == 1 {
            assert_eq!(held.ask("release"), "released 0");
            drop(application);
        }
        server.until_gone(server.pid(0));
        server.until_gone(server.pid(1));
    }
}

/// A command that meets a generation which owns no more is sent again until another one answers.
fn an_operator_is_patient_while_the_new_owner_is_slow() {
    let (server, operator) = start(release());
    server.fault(Side::Successor, "committed", Action::Block(SLEEP));
    operator.run(operator.client.upgrade(Upgrade::new())).unwrap();
    server.until_entry("fault", |_| true);
    assert_eq!(operator.status().owner.get(), 1);
    operator.run(operator.client.stop(Stop::Gracefully, |_| {})).unwrap();
    server.until_gone(server.pid(1));
}

/// The service goes on, and no load balancer shall leave it.
fn whoever_is_taken_over_from_stays_ready_though_it_was_stopped() {
    let (server, operator) = start(Release { take_over: TakeOver::IfSomeoneAnswers, ..release() });
    let mut held = server.client("main");
    assert_eq!(held.ask("ready"), "true");
    server.next_release(|next| next.start_delay = SLEEP);
    let taker = server.launch(|directory| Command::new(directory.join("server")));
    operator.until_status("the takeover to begin", |status| status.upgrade.is_some());
    server.signal(server.pid(0), Signal::SIGTERM);
    let owner = until("the takeover, ready all the time", || {
        held.send("ready").unwrap();
        let answer = held.receive().unwrap();
        assert!(answer == "true" || answer == "bye", "{answer}");
        server.owners().last().filter(|(generation, _)| *generation == 1).copied()
    });
    assert_eq!(owner.1, taker);
    drop(held);
    server.until_gone(server.pid(0));
    operator.run(operator.client.check()).unwrap();
}

/// P12.
fn p12_a_status_shows_what_a_successor_serves_in_probation() {
    let silence = Duration::from_millis(800);
    let (server, operator) = in_probation(Release { silence, ..release() });
    let mut held = server.client("main");
    assert_eq!(held.ask("hold"), "held 1");
    let status = operator.until_status("the successor's connection", |status| {
        status.generations[0].connections == Some(1)
    });
    assert_eq!(status.generations[0].generation.get(), 1);
}

/// P12. The successor says how many once more, after the last ping.
fn p12_requests_are_counted_to_the_moment_of_the_commit() {
    let (server, operator) = in_probation(Release { silence: LONG, ..release() });
    assert_eq!(server.ask("requests 40 2"), r#""counted""#);
    let report = operator.run(operator.client.commit()).unwrap();
    let window = report.window.unwrap();
    assert_eq!((window.requests, window.failed), (42, 2), "{report}");
}

/// P12. Whoever looks for an upgrade in the log finds what both generations say of it.
fn p12_each_line_of_either_side_names_its_upgrade() {
    let (server, operator) = start(release());
    server.next_release(|next| next.version = "2.0".into());
    operator.upgrade().unwrap();
    let (old, new) = (server.pid(0), server.pid(1));
    server.until_gone(old);
    let log = std::fs::read_to_string(server.path("trace.log")).unwrap();
    let span = format!(
        "upgrade{{id=fixture-1 from=0 to=1 pid={old} version=1.0 successor_pid={new} \
         successor_version=2.0}}: "
    );
    let lines = |step: &str| {
        let step = format!("step=\"{step}\"");
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(&step)).collect();
        assert!(!lines.is_empty(), "{step} in {log}");
        lines
    };
    for step in ["ready", "serving", "committed", "owner", "draining", "drained"] {
        assert!(lines(step).iter().all(|line| line.contains(&span)), "{step}: {log}");
    }
    assert!(lines("owns")[1].contains(&span), "{log}");
}
