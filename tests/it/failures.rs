//! What goes wrong before the turn is given: the predecessor does not stop serving for a moment.

use std::time::Duration;

use heirloom::{Report, UpgradeOutcome, UpgradePhase};

use crate::support::release::{Action, Side};
use crate::support::server::Program;
use crate::support::wait::until;
use crate::support::{Load, Release, Server, Start, process};

trials![
    p2_a_missing_program_fails_the_upgrade_and_a_restored_one_commits,
    p12_an_error_before_ready_reaches_the_report_in_its_own_words,
    p12_a_configuration_that_cannot_be_used_is_reported,
    p12_a_panic_before_ready_is_reported,
    p12_an_exit_before_ready_is_reported_with_its_status,
    p12_an_exit_before_the_first_word_is_reported_with_its_status,
    p4_a_successor_that_says_nothing_meets_its_deadline,
    p4_a_successor_that_is_never_ready_meets_its_deadline,
    p4_a_successor_that_does_not_take_the_offer_meets_its_deadline,
    p5_twenty_failed_upgrades_leave_nothing_behind,
    p3_a_successor_whose_predecessor_dies_before_the_offer_says_so_and_goes,
    p12_the_caller_of_an_upgrade_is_told_why_it_failed,
];

/// A release that fails, under load; then one that does not.
fn fails(change: impl FnOnce(&mut Release)) -> Report {
    fails_beside(Release::default(), change)
}

/// The same, with the deadlines of this one.
fn fails_beside(good: Release, change: impl FnOnce(&mut Release)) -> Report {
    let server = Server::start(good);
    let good = Release::read(server.directory());
    let load = Load::start(&[server.address("main")], 2);
    load.until_answered(10);
    server.next_release(change);
    let report = server.upgrade_badly();
    assert_eq!(report.outcome, UpgradeOutcome::Failed, "{report}");
    load.until_answered(10);
    if let Some(pid) = report.successor_pid {
        server.until_gone(pid);
    }
    let tally = load.finish();
    tally.assert_unharmed();
    assert_eq!(tally.generations(), [0]);
    assert_eq!(report.longest_gap, Duration::ZERO, "{report}");
    server.next_release(|release| *release = good);
    server.upgrade_well();
    report
}

fn cause(report: &Report) -> &str {
    report.cause.as_deref().expect("a cause")
}

/// P2. Nothing is left set that would keep the next upgrade away.
fn p2_a_missing_program_fails_the_upgrade_and_a_restored_one_commits() {
    let server = Server::start(Release::default());
    server.install(Program::Nothing);
    for _ in 0..2 {
        let report = server.upgrade_badly();
        assert_eq!(report.outcome, UpgradeOutcome::Failed);
        assert_eq!(report.phase, UpgradePhase::Spawn);
        assert!(cause(&report).contains("does not exist"), "{report}");
        assert_eq!(report.successor_pid, None);
    }
    assert!(server.ask("who").starts_with("0 "));
    server.install(Program::Server);
    server.upgrade_well();
}

/// P2, P12.
fn p12_an_error_before_ready_reaches_the_report_in_its_own_words() {
    let words = "migration 42 is missing: run it first";
    let report = fails(|release| release.start = Start::Fail(words.into()));
    assert!(cause(&report).contains(words), "{report}");
    assert_eq!(report.phase, UpgradePhase::Start);
}

/// P2, P12. The process ends before there is a runtime.
fn p12_a_configuration_that_cannot_be_used_is_reported() {
    let report = fails(|release| release.start = Start::Misconfigured);
    assert!(cause(&report).contains("\"a:b\""), "{report}");
}

/// P2, P12.
fn p12_a_panic_before_ready_is_reported() {
    let report = fails(|release| release.start = Start::Panic("out of luck".into()));
    assert!(cause(&report).contains("101"), "{report}");
}

/// P2, P12.
fn p12_an_exit_before_ready_is_reported_with_its_status() {
    let report = fails(|release| release.start = Start::Exit(3));
    assert!(cause(&report).contains("exited with status 3"), "{report}");
}

/// P2, P12.
fn p12_an_exit_before_the_first_word_is_reported_with_its_status() {
    let report = fails(|release| release.start = Start::ExitBeforeHello(4));
    assert!(cause(&report).contains("exited with status 4"), "{report}");
    assert_eq!(report.phase, UpgradePhase::Hello);
}

/// P4.
fn p4_a_successor_that_says_nothing_meets_its_deadline() {
    let deadline = Duration::from_secs(2);
    let good = Release { hello: deadline, ..Release::default() };
    let report = fails_beside(good, |release| release.start = Start::SilentForever);
    assert!(cause(&report).contains("its first word"), "{report}");
    assert!(report.elapsed >= deadline);
}

/// P4.
fn p4_a_successor_that_is_never_ready_meets_its_deadline() {
    let good = Release { ready: Duration::from_secs(2), ..Release::default() };
    let report = fails_beside(good, |release| release.start = Start::NeverReady);
    assert!(cause(&report).contains("its readiness"), "{report}");
    assert_eq!(report.phase, UpgradePhase::Start);
}

/// P4. It is stopped where it has seen the welcome and would read on.
fn p4_a_successor_that_does_not_take_the_offer_meets_its_deadline() {
    let server = Server::start(Release {
        adopt: Duration::from_millis(500),
        commit: Duration::from_millis(500),
        ..Release::default()
    });
    server.fault(Side::Successor, "welcome", Action::Stop);
    let report = server.upgrade_badly();
    assert!(cause(&report).contains("its acknowledgement of the offer"), "{report}");
    assert_eq!(report.phase, UpgradePhase::Offer);
    server.until_gone(report.successor_pid.unwrap());
    assert!(server.ask("who").starts_with("0 "));
}

/// P5. No zombie, no descriptor, no thread that was not there after the second.
fn p5_twenty_failed_upgrades_leave_nothing_behind() {
    let server = Server::start(Release::default());
    let failures = [
        Start::Fail("no".into()),
        Start::Exit(1),
        Start::ExitBeforeHello(1),
        Start::Panic("no".into()),
    ];
    let fail = |round: usize| {
        let start = failures[round % failures.len()].clone();
        server.next_release(|release| release.start = start);
        let report = server.upgrade_badly();
        server.until_gone(report.successor_pid.unwrap());
    };
    let counts = || -> process::Counts { serde_json::from_str(&server.ask("counts")).unwrap() };
    (0..2).for_each(fail);
    let before = until("all that was rejected to be reaped", || {
        Some(counts()).filter(|now| now.children == 0)
    });
    (2..22).for_each(fail);
    until("as much as after the second failure", || {
        let now = counts();
        let same = now.descriptors <= before.descriptors
            && now.threads <= before.threads
            && now.children == 0;
        same.then_some(())
    });
    let files = std::fs::read_dir(server.directory()).unwrap().count();
    assert!(files <= 6, "{files} files in the directory");
}

/// P3. There is nothing it could serve with, and nobody lives who could.
fn p3_a_successor_whose_predecessor_dies_before_the_offer_says_so_and_goes() {
    let server = Server::start(Release::default());
    let predecessor = server.pid(0);
    server.fault(Side::Predecessor, "offer", Action::Kill);
    server.signal(predecessor, nix::sys::signal::Signal::SIGHUP);
    server.until_gone(predecessor);
    let successor = server.until_entry("born", |entry| entry.pid != predecessor).pid;
    server.until_gone(successor);
    let said = std::fs::read_to_string(server.path("output.log")).unwrap();
    assert!(said.contains("the predecessor went away before every descriptor was here"), "{said}");
    assert!(server.owners().is_empty());
}

/// P12. Not only the log tells it.
fn p12_the_caller_of_an_upgrade_is_told_why_it_failed() {
    let server = Server::start(Release::default());
    server.next_release(|release| release.start = Start::Fail("no luck".into()));
    let answer = server.ask("upgrade");
    assert!(answer.contains("no luck") && answer.contains("RolledBack"), "{answer}");
    server.next_release(|release| release.start = Start::Well);
    let answer = server.ask("upgrade");
    assert!(answer.contains("\"outcome\":\"committed\""), "{answer}");
}
