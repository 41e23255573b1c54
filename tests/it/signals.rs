//! Signals: those that are meant, those that come too early or too often, and what children
//! inherit.

use std::process::Command;

use heirloom::UpgradeOutcome;
use nix::sys::signal::Signal;

use crate::support::release::{Action, Habit, Side};
use crate::support::server::Program;
use crate::support::wait::until;
use crate::support::{Load, Operator, Release, Server, Start, process};

trials![
    p1_upgrades_under_nohup,
    p1_a_hang_up_that_comes_before_the_successor_is_born_harms_nobody,
    p2_a_log_that_cannot_be_written_harms_nobody,
    p1_a_storm_of_a_thousand_hang_ups_harms_nobody,
    p5_no_thread_and_no_helper_is_deaf_after_an_upgrade,
    p5_an_application_that_ignores_sigchld_can_be_upgraded,
    p5_an_application_that_waits_for_any_child_can_be_upgraded,
];

/// `nohup` ignores the very signal that asks for an upgrade.
fn p1_upgrades_under_nohup() {
    let server = Server::start_by(Release::default(), |directory| {
        let mut command = Command::new("nohup");
        command.arg(directory.join("server"));
        command
    });
    for _ in 0..3 {
        server.upgrade_well();
    }
}

/// `pkill -HUP server` hits it as well, before it has a handler.
fn p1_a_hang_up_that_comes_before_the_successor_is_born_harms_nobody() {
    let server = Server::start(Release::default());
    let load = Load::start(&[server.address("main")], 1);
    load.until_answered(5);
    server.fault(Side::Predecessor, "hello", Action::HangUpChildren(10));
    let report = server.upgrade();
    assert_eq!(report.outcome, UpgradeOutcome::Committed, "{report}");
    // It was asked for an upgrade, and has not forgotten it.
    let second = server.until_report(1);
    assert_eq!(second.outcome, UpgradeOutcome::Committed, "{second}");
    assert_eq!(second.from.get(), 1);
    server.until_owner(2);
    load.until_answered(5);
    load.finish().assert_unharmed();
}

/// P2. The reader of standard error has gone, say, and the subscriber panics where it would log.
fn p2_a_log_that_cannot_be_written_harms_nobody() {
    let habits = vec![Habit::LogPanics];
    let server = Server::start(Release { control: true, habits, ..Release::default() });
    let load = Load::start(&[server.address("main")], 1);
    load.until_answered(5);
    server.upgrade_well();
    server.next_release(|release| release.start = Start::Exit(3));
    server.upgrade_badly();
    server.next_release(|release| release.start = Start::Well);
    let operator = Operator::of(server.directory());
    operator.run(operator.client.pause()).unwrap();
    operator.run(operator.client.resume()).unwrap();
    let owner = server.upgrade_well();
    load.until_answered(5);
    load.finish().assert_unharmed();
    process::signal(owner, Signal::SIGTERM);
    server.until_gone(owner);
    let end = server.until_entry("end", |entry| entry.pid == owner);
    assert_eq!(end.data["exit"], "ExitCode(unix_exit_status(0))");
}

/// However many come, at most one is remembered.
fn p1_a_storm_of_a_thousand_hang_ups_harms_nobody() {
    let server = Server::start(Release::default());
    let load = Load::start(&[server.address("main")], 1);
    load.until_answered(5);
    let first = server.pid(0);
    for _ in 0..1_000 {
        process::signal(first, Signal::SIGHUP);
    }
    server.until_owner(1);
    // Those that came late were forwarded; the storm is over when an upgrade has nothing to follow.
    until("the end of the storm", || {
        let status: serde_json::Value = serde_json::from_str(&server.ask("status")).unwrap();
        let calm = status["role"] == "owner" && status["upgrading"] == false;
        (calm && status["queued"] == false).then_some(())
    });
    server.upgrade_well();
    assert!(server.reports().len() < 20, "{} upgrades", server.reports().len());
    load.finish().assert_unharmed();
    assert_eq!(server.owners().len(), 1);
}

/// P5. The signal is blocked in the child's mask until it has a handler, and not one moment longer.
fn p5_no_thread_and_no_helper_is_deaf_after_an_upgrade() {
    let server = Server::start(Release::default());
    for _ in 0..2 {
        server.upgrade_well();
        // A thread that is born or ends just now hears nothing for a moment: the C library's.
        until("every thread to hear every signal", || {
            let masks: Vec<String> = serde_json::from_str(&server.ask("masks")).unwrap();
            assert!(masks.len() >= 4, "main, two workers and a helper: {masks:?}");
            masks.iter().all(|mask| u64::from_str_radix(mask, 16) == Ok(0)).then_some(())
        });
    }
}

/// Failures and successes of the next generations.
fn up_and_down(server: &Server) {
    for round in 0..3 {
        server.next_release(|release| release.start = Start::Exit(3));
        let report = server.upgrade_badly();
        let cause = report.cause.clone().unwrap();
        let known = cause.contains("exited with status 3") || cause.contains("status unknown");
        assert!(known, "{report}");
        server.next_release(|release| release.start = Start::Well);
        let pid = server.upgrade_well();
        assert_eq!(server.owners(), [(report.to.get() + 1, pid)], "round {round}");
    }
}

/// The status of a child is nobody's then.
fn p5_an_application_that_ignores_sigchld_can_be_upgraded() {
    let server = Server::prepare(Release::default());
    server.install(Program::Script("exec env --ignore-signal=CHLD \"$SERVER\" \"$@\""));
    let first = server.launch(|directory| Command::new(directory.join("server")));
    server.until_owner(0);
    assert!(process::ignores(first, Signal::SIGCHLD));
    up_and_down(&server);
}

/// It takes the status of our child.
fn p5_an_application_that_waits_for_any_child_can_be_upgraded() {
    let server =
        Server::start(Release { habits: vec![Habit::WaitsForAnyChild], ..Release::default() });
    up_and_down(&server);
}
