//! Programs: what ran before can be run again, what has failed is not started by itself, and what
//! is new is tried before it is started.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;

use heirloom::{CauseKind, Report, UpgradeOutcome, UpgradePhase};
use nix::sys::resource::{Resource, getrlimit};
use serde_json::{Value, json};

use crate::support::release::{OnYield, Start};
use crate::support::server::{Program, copy_labelled};
use crate::support::wait::until;
use crate::support::{Load, Release, Server, process};

trials![
    a_release_is_rolled_back_after_its_commit_though_its_file_is_gone,
    a_program_that_was_overwritten_in_place_is_refused_by_name,
    there_is_nothing_to_roll_back_to_where_no_other_program_ran,
    a_program_that_failed_is_held_off_from_retries_but_not_from_operators,
    p2_a_release_that_fails_its_preflight_is_never_started,
    a_roll_back_of_an_upgrade_that_runs_ends_it,
    what_the_predecessor_would_not_do_is_not_held_against_the_release,
    what_the_predecessor_could_not_do_is_not_held_against_the_release,
    two_operators_who_roll_back_get_one_roll_back,
    a_roll_back_of_a_named_generation_takes_no_other_back,
    who_rolls_back_does_not_get_what_was_queued_before,
    p2_a_program_that_takes_the_place_of_the_one_that_was_tried_is_not_started,
];

fn refusal(answer: &str) -> (String, String) {
    let value: Value = serde_json::from_str(answer).unwrap();
    let text = |name: &str| value[name].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
    (text("kind"), text("error"))
}

fn labelled(label: &str) -> Server {
    let server = Server::prepare(Release::default());
    server.install(Program::Copy(label));
    server.launch(|directory| std::process::Command::new(directory.join("server")));
    server.until_owner(0);
    server
}

fn label(server: &Server) -> String {
    serde_json::from_str(&server.ask("label")).unwrap()
}

fn a_release_is_rolled_back_after_its_commit_though_its_file_is_gone() {
    let server = labelled("one");
    server.install(Program::Copy("two"));
    server.upgrade_well();
    assert_eq!(label(&server), "two");
    server.until_gone(server.pid(0));
    let load = Load::start(&[server.address("main")], 2);
    load.until_answered(20);
    let rolled_back = server.reported(&server.ask("roll-back"));
    assert_eq!(rolled_back.outcome, UpgradeOutcome::Committed, "{rolled_back}");
    assert_eq!(rolled_back.to.get(), 2);
    let owner = server.until_owner(2);
    load.until_answered(20);
    let tally = load.finish();
    assert!(tally.failures.is_empty(), "{tally}");
    assert_eq!(label(&server), "one");
    // It was started as any other: standard streams and the link, and a name to be found by.
    let born = server.until_entry("born", |entry| entry.pid == owner);
    let descriptors = born.data["descriptors"].as_object().unwrap();
    assert_eq!(descriptors.keys().collect::<Vec<_>>(), ["0", "1", "2", "3"], "{descriptors:?}");
    let name = fs::read_to_string(format!("/proc/{owner}/comm")).unwrap();
    assert_eq!(name.trim(), "server");

    // What was rolled back is not started again by itself, and by an operator at any time.
    let (kind, text) = refusal(&server.ask("unattended"));
    assert_eq!(kind, "HeldOff", "{text}");
    assert!(text.contains("an operator rolled it back"), "{text}");
    server.upgrade_well();
    assert_eq!(label(&server), "two");
    // And back again: the one before is again "one".
    let rolled_back = server.reported(&server.ask("roll-back"));
    assert_eq!(rolled_back.outcome, UpgradeOutcome::Committed, "{rolled_back}");
    assert_eq!(label(&server), "one");
}

/// Two releases in files of their own, and a link that leads to the current one.
fn switch(server: &Server, to: &Path) {
    let link = server.path("server");
    let _ = fs::remove_file(&link);
    symlink(to, link).unwrap();
}

fn a_program_that_was_overwritten_in_place_is_refused_by_name() {
    let server = Server::prepare(Release::default());
    let (one, two) = (server.path("release-1"), server.path("release-2"));
    copy_labelled(&one, "one");
    copy_labelled(&two, "two");
    switch(&server, &one);
    server.launch(|directory| std::process::Command::new(directory.join("server")));
    server.until_owner(0);
    // While it runs, nobody can write into it: by then what it holds has been taken note of.
    server.until_entry("step", |entry| entry.data["step"] == "identified");
    switch(&server, &two);
    server.upgrade_well();
    server.until_gone(server.pid(0));
    // As `cp` or `rsync --inplace` would, with the time set back.
    let modified = fs::metadata(&one).unwrap().modified().unwrap();
    let file = OpenOptions::new().write(true).open(&one).unwrap();
    let length = file.metadata().unwrap().len();
    file.write_all_at(b"eno", length - 3).unwrap();
    file.set_modified(modified).unwrap();
    drop(file);
    let (kind, text) = refusal(&server.ask("roll-back"));
    assert_eq!(kind, "RolledBack", "{text}");
    assert!(text.contains("overwritten in place") && text.contains("server"), "{text}");
    let last = server.until_report(1);
    assert_eq!((last.outcome, last.phase), (UpgradeOutcome::Failed, UpgradePhase::Preflight));
    assert_eq!(label(&server), "two");
}

fn there_is_nothing_to_roll_back_to_where_no_other_program_ran() {
    let server = Server::start(Release::default());
    assert_eq!(refusal(&server.ask("roll-back")).0, "NotNow");
    // The same program again is no other program.
    server.upgrade_well();
    let (kind, text) = refusal(&server.ask("roll-back"));
    assert_eq!(kind, "NotNow", "{text}");
}

fn a_program_that_failed_is_held_off_from_retries_but_not_from_operators() {
    let server = labelled("one");
    server.install(Program::Copy("bad"));
    server.next_release(|release| release.start = Start::Fail("no database".into()));
    let (kind, text) = refusal(&server.ask("unattended"));
    assert_eq!(kind, "RolledBack", "the first time it is tried: {text}");
    let (kind, text) = refusal(&server.ask("unattended"));
    assert_eq!(kind, "HeldOff", "{text}");
    assert!(text.contains("failed 1 times") && text.contains("no database"), "{text}");
    let (kind, _) = refusal(&server.ask("upgrade"));
    assert_eq!(kind, "RolledBack", "an operator is not held off");
    // Another program at the same path is.
    server.install(Program::Copy("good"));
    server.next_release(|release| release.start = Start::Well);
    let report = server.reported(&server.ask("unattended"));
    assert_eq!(report.outcome, UpgradeOutcome::Committed, "{report}");
    // The next generation remembers what failed under the last one.
    server.install(Program::Copy("bad"));
    let (kind, text) = refusal(&server.ask("unattended"));
    assert_eq!(kind, "HeldOff", "{text}");
    // And once it was committed, that it did not.
    let owner = server.upgrade_well();
    server.until_entry("step", |entry| entry.pid == owner && entry.data["step"] == "identified");
    assert_eq!(report_of_unattended(&server).outcome, UpgradeOutcome::Committed);
}

fn report_of_unattended(server: &Server) -> Report {
    server.reported(&server.ask("unattended"))
}

/// P2.
fn p2_a_release_that_fails_its_preflight_is_never_started() {
    let server = Server::start(Release { preflight: true, ..Release::default() });
    server.upgrade_well();
    // Standard streams, no socket and no link.
    assert_eq!(server.until_entry("checked", |_| true).data, json!([0, 1, 2]));
    server.next_release(|release| release.start = Start::Misconfigured);
    let report = server.upgrade_badly();
    assert_eq!(report.outcome, UpgradeOutcome::Failed, "{report}");
    assert_eq!(report.phase, UpgradePhase::Preflight, "{report}");
    let cause = report.cause.as_deref().unwrap();
    assert!(cause.contains("status 3") && cause.contains("has no name"), "{cause}");
    assert_eq!(report.successor_pid, None, "{report}");
    server.next_release(|release| release.start = Start::Well);
    server.upgrade_well();
}

fn a_roll_back_of_an_upgrade_that_runs_ends_it() {
    let server = Server::start(Release::default());
    server.next_release(|release| release.start = Start::NeverReady);
    server.signal(server.pid(0), nix::sys::signal::Signal::SIGHUP);
    server.pid(1);
    let report = server.reported(&server.ask("roll-back"));
    assert_eq!(report.outcome, UpgradeOutcome::Failed, "{report}");
    assert!(server.ask("who").starts_with("0 "));
}

fn two_operators_who_roll_back_get_one_roll_back() {
    let server = labelled("one");
    server.install(Program::Copy("two"));
    server.upgrade_well();
    server.until_gone(server.pid(0));
    server.next_release(|release| release.start = Start::NeverReady);
    let mut operators = [server.client("main"), server.client("main")];
    for operator in &mut operators {
        operator.send("roll-back").unwrap();
    }
    server.pid(2);
    // Only an explicit word ends it.
    let ended = server.reported(&server.ask("abort-upgrade enough"));
    assert!(ended.cause.as_deref().unwrap().contains("enough"), "{ended}");
    for operator in &mut operators {
        let (kind, text) = refusal(&operator.receive().unwrap());
        assert!(kind == "RolledBack" && text.contains("enough"), "{kind}: {text}");
    }
    assert_eq!(label(&server), "two");
}

fn a_roll_back_of_a_named_generation_takes_no_other_back() {
    let server = labelled("one");
    server.install(Program::Copy("two"));
    server.upgrade_well();
    server.until_gone(server.pid(0));
    let (kind, text) = refusal(&server.ask("roll-back 0"));
    assert!(kind == "NotNow" && text.contains("generation 1 is"), "{kind}: {text}");
    // Two presses, one of which comes late.
    assert_eq!(server.reported(&server.ask("roll-back 1")).outcome, UpgradeOutcome::Committed);
    assert_eq!(label(&server), "one");
    server.until_gone(server.pid(1));
    let (kind, _) = refusal(&server.ask("roll-back 1"));
    assert_eq!(kind, "NotNow");
    assert_eq!(label(&server), "one");
    // While an upgrade runs its successor is the newest.
    server.next_release(|release| release.start = Start::NeverReady);
    server.signal(server.pid(2), nix::sys::signal::Signal::SIGHUP);
    server.pid(3);
    assert_eq!(refusal(&server.ask("roll-back 2")).0, "NotNow");
    assert_eq!(server.reported(&server.ask("roll-back 3")).outcome, UpgradeOutcome::Failed);
    assert_eq!(label(&server), "one");
}

fn who_rolls_back_does_not_get_what_was_queued_before() {
    let server = labelled("one");
    server.next_release(|release| release.start = Start::NeverReady);
    server.signal(server.pid(0), nix::sys::signal::Signal::SIGHUP);
    server.pid(1);
    let mut wish = server.client("main");
    wish.send("upgrade").unwrap();
    until("the wish to be queued", || {
        server.ask("status").contains("\"queued\":true").then_some(())
    });
    // What retries by itself is not queued.
    assert_eq!(refusal(&server.ask("unattended")).0, "Busy");
    assert_eq!(server.reported(&server.ask("roll-back")).outcome, UpgradeOutcome::Failed);
    let (kind, text) = refusal(&wish.receive().unwrap());
    assert!(kind == "NotNow" && text.contains("rolled back"), "{kind}: {text}");
    server.next_release(|release| release.start = Start::Well);
    // The next number says that nothing was started in between.
    server.upgrade_well();
    assert!(server.ask("who").starts_with("2 "));
}

/// P2.
fn p2_a_program_that_takes_the_place_of_the_one_that_was_tried_is_not_started() {
    let server = Server::start(Release { preflight: true, ..Release::default() });
    server.next_release(|release| release.start = Start::ReplacedWhileTried);
    let report = server.upgrade_badly();
    assert_eq!(report.phase, UpgradePhase::Preflight, "{report}");
    assert!(report.cause.as_deref().unwrap().contains("while it was tried"), "{report}");
    assert_eq!(report.successor_pid, None, "{report}");
    server.next_release(|release| release.start = Start::Well);
    server.install(Program::Server);
    server.upgrade_well();
}

fn what_the_predecessor_would_not_do_is_not_held_against_the_release() {
    let server = Server::start(Release { on_yield: OnYield::Refuses, ..Release::default() });
    for _ in 0..2 {
        let (kind, text) = refusal(&server.ask("unattended"));
        assert_eq!(kind, "RolledBack", "not held off: {text}");
        assert!(text.contains("the journal cannot be flushed"), "{text}");
    }
}

/// Whichever descriptor it is that cannot be had.
fn what_the_predecessor_could_not_do_is_not_held_against_the_release() {
    let seen = phases_without_a_descriptor(true);
    assert!(seen.contains(&UpgradePhase::Preflight), "{seen:?}");
    let seen = phases_without_a_descriptor(false);
    assert!(seen.contains(&UpgradePhase::Spawn), "{seen:?}");
}

/// In which phases upgrades fail for want of a descriptor, until a program runs that may open no
/// more than its predecessor.
fn phases_without_a_descriptor(preflight: bool) -> BTreeSet<UpgradePhase> {
    const MOST: u64 = 64;
    let server = Server::start(Release { preflight, ..Release::default() });
    let owner = server.pid(0);
    let mut retry = server.client("main");
    retry.ask("who");
    let used = process::descriptors(owner).len() as u64;
    let usual = getrlimit(Resource::RLIMIT_NOFILE).unwrap().0;
    let mut seen = BTreeSet::new();
    for (round, limit) in (used..used + MOST).enumerate() {
        process::limit_descriptors(owner, limit);
        let answer = retry.ask("unattended");
        let report = server.until_report(round);
        if report.cause_kind != Some(CauseKind::Predecessor) {
            let has_run = match report.phase {
                UpgradePhase::Preflight => report.cause.as_ref().unwrap().contains("status"),
                _ => report.successor_pid.is_some(),
            };
            assert!(has_run, "{report}");
            break;
        }
        assert_eq!(refusal(&answer).0, "RolledBack", "{report}");
        seen.insert(report.phase);
    }
    process::limit_descriptors(owner, usual);
    seen
}
