//! Who may judge a successor: the operator, the successor itself, its requests; and what the
//! application hears of it.

use std::time::Duration;

use heirloom::{Report, UpgradeOutcome, UpgradePhase};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::release::OnYield;
use crate::support::wait::until;
use crate::support::{Release, Server};

trials![
    an_operator_commits_before_probation_ends,
    an_operator_takes_a_successor_back,
    an_operator_ends_an_upgrade_before_its_turn,
    a_word_that_does_not_fit_the_moment_is_refused,
    a_successor_that_says_it_is_unhealthy_is_taken_back,
    a_successor_that_spends_its_error_budget_is_taken_back,
    failures_within_the_budget_are_borne,
    why_a_successor_is_not_ready_is_known_and_in_the_report,
    hooks_are_called_on_both_sides_of_a_commit,
    hooks_are_called_on_both_sides_of_a_roll_back,
    a_hook_that_is_there_before_the_turn_misses_no_commit,
    who_has_no_hook_to_yield_is_told_of_a_roll_back,
    p2_an_application_that_does_not_yield_ends_the_upgrade,
];

const LONG: Duration = Duration::from_secs(3600);

/// Generation 1 serves in a probation that would last an hour.
fn in_probation(release: Release) -> Server {
    let server = Server::start(Release { probation: LONG, ..release });
    server.signal(server.pid(0), Signal::SIGHUP);
    server.until_role(1, "successor");
    server
}

/// A connection to generation 0, which is made before it hands over and lives on.
fn held(release: Release) -> (Server, crate::support::Client) {
    let server = Server::start(Release { probation: LONG, ..release });
    let client = server.client("main");
    server.signal(server.pid(0), Signal::SIGHUP);
    server.until_role(1, "successor");
    (server, client)
}

fn kind(answer: &str) -> String {
    let value: Value = serde_json::from_str(answer).unwrap();
    value["kind"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

fn taken_back(server: &Server, why: &str) -> Report {
    let report = server.until_report(0);
    assert_eq!(report.outcome, UpgradeOutcome::RolledBack, "{report}");
    assert_eq!(report.phase, UpgradePhase::Probation, "{report}");
    assert!(report.cause.as_deref().unwrap().contains(why), "{report}");
    server.until_gone(report.successor_pid.unwrap());
    assert!(server.ask("who").starts_with("0 "));
    report
}

fn an_operator_commits_before_probation_ends() {
    let (server, mut operator) = held(Release::default());
    let report = server.reported(&operator.ask("commit"));
    assert_eq!(report.outcome, UpgradeOutcome::Committed, "{report}");
    server.until_owner(1);
}

fn an_operator_takes_a_successor_back() {
    let (server, mut operator) = held(Release::default());
    assert!(server.ask("who").starts_with("1 "));
    assert!(server.ask("who").starts_with("1 "));
    let told = server.reported(&operator.ask("abort-upgrade the dashboards are red"));
    let report = taken_back(&server, "the dashboards are red");
    assert_eq!(told, report);
    assert_eq!(report.accepted, Some(2), "what the rejected generation had accepted");
    let left = server.until_entry("event", |entry| !entry.data["successor_left"].is_null());
    assert_eq!(left.data["successor_left"]["accepted"], 2);
}

fn an_operator_ends_an_upgrade_before_its_turn() {
    let server = Server::start(Release::default());
    server.next_release(|release| release.start = crate::support::release::Start::NeverReady);
    server.signal(server.pid(0), Signal::SIGHUP);
    server.pid(1);
    let report = server.reported(&server.ask("abort-upgrade not today"));
    assert_eq!(report.outcome, UpgradeOutcome::Failed, "{report}");
    assert!(report.cause.as_deref().unwrap().contains("not today"), "{report}");
    assert_eq!(report.accepted, None);
    server.next_release(|release| release.start = crate::support::release::Start::Well);
    server.upgrade_well();
}

fn a_word_that_does_not_fit_the_moment_is_refused() {
    let server = in_probation(Release::default());
    // Generation 1 serves, and does not own.
    for word in ["commit", "abort-upgrade no"] {
        assert_eq!(kind(&server.ask(word)), "NotNow");
    }
    let server = Server::start(Release::default());
    for word in ["commit", "abort-upgrade no"] {
        assert_eq!(kind(&server.ask(word)), "NotNow");
    }
    assert_eq!(server.ask("unhealthy by mistake"), "NotNow");
    assert_eq!(server.ask("owns"), "true");
}

fn a_successor_that_says_it_is_unhealthy_is_taken_back() {
    let server = in_probation(Release::default());
    assert_eq!(server.ask("unhealthy its cache is broken"), "said");
    taken_back(&server, "its cache is broken");
}

fn a_successor_that_spends_its_error_budget_is_taken_back() {
    let release = Release { error_budget: Some((0.1, 20)), ..Release::default() };
    let server = in_probation(release);
    server.ask("requests 18 2");
    assert_eq!(server.owners().last().unwrap().0, 0, "a tenth is borne");
    server.ask("requests 0 1");
    taken_back(&server, "3 of 21 requests failed");
}

fn failures_within_the_budget_are_borne() {
    let (server, mut operator) =
        held(Release { error_budget: Some((0.5, 4)), ..Release::default() });
    server.ask("requests 10 10");
    let report = server.reported(&operator.ask("commit"));
    assert_eq!(report.outcome, UpgradeOutcome::Committed, "{report}");
    server.until_owner(1);
    // Nobody watches any more.
    server.ask("requests 0 100");
    assert!(server.ask("who").starts_with("1 "));
}

fn why_a_successor_is_not_ready_is_known_and_in_the_report() {
    let server = Server::start(Release::default());
    server.next_release(|release| release.not_yet = u64::MAX);
    server.signal(server.pid(0), Signal::SIGHUP);
    let mut client = server.client("main");
    until("the reason in the predecessor's status", || {
        let status: Value = serde_json::from_str(&client.ask("status")).unwrap();
        let text = status["not_yet"].as_str().unwrap_or_default().to_owned();
        (text == "database: connection refused").then_some(())
    });
    let report = server.reported(&client.ask("abort-upgrade enough"));
    assert_eq!(report.phase, UpgradePhase::Start, "{report}");

    server.next_release(|release| release.not_yet = 3);
    server.upgrade_well();
    // It has said what follows since it was ready.
    for entry in server.journal() {
        let told = entry.event == "status" && entry.generation == Some(2);
        assert!(!told || entry.data["not_yet"].is_null(), "it waits for nothing: {}", entry.data);
    }
    // The deadline of a release holds for its successor.
    server.next_release(|release| release.ready = Duration::from_millis(400));
    server.upgrade_well();
    server.next_release(|release| release.not_yet = u64::MAX);
    let report = server.upgrade_badly();
    let cause = report.cause.unwrap();
    assert!(cause.contains("its readiness: database: connection refused"), "{cause}");
}

/// Every hook that was called, in order: the process, the moment, and whether it owned then.
fn hooks(server: &Server, count: usize) -> Vec<(u64, String, bool)> {
    until("the hooks", || {
        let journal = server.journal();
        let hooks = journal.iter().filter(|entry| entry.event == "hook");
        let hooks: Vec<_> = hooks
            .map(|entry| {
                let moment = entry.data["moment"].as_str().unwrap().to_owned();
                (entry.generation.unwrap(), moment, entry.data["owns"] == true)
            })
            .collect();
        (hooks.len() >= count).then_some(hooks)
    })
}

fn hooks_are_called_on_both_sides_of_a_commit() {
    let server = Server::start(Release { on_yield: OnYield::Yields, ..Release::default() });
    server.upgrade_well();
    let mut hooks = hooks(&server, 3);
    assert_eq!(hooks.remove(0), (0, "yield".into(), true));
    hooks.sort();
    assert_eq!(hooks[0], (0, "commit".into(), false));
    assert_eq!(hooks[1], (1, "commit".into(), true), "it owns when it is told so");
    assert_eq!(hooks.len(), 2);
}

/// The commit follows the turn at once.
fn a_hook_that_is_there_before_the_turn_misses_no_commit() {
    let release =
        Release { on_yield: OnYield::Told, probation: Duration::ZERO, ..Release::default() };
    let server = Server::start(release);
    for generation in 1..4 {
        server.upgrade_well();
        let told = server.until_entry("hook", |entry| entry.generation == Some(generation));
        assert_eq!((&told.data["moment"], &told.data["owns"]), (&"commit".into(), &true.into()));
    }
}

/// Who is not asked before it gives its turn is told all the same that it has it back.
fn who_has_no_hook_to_yield_is_told_of_a_roll_back() {
    let (server, mut operator) = held(Release { on_yield: OnYield::Told, ..Release::default() });
    operator.ask("abort-upgrade no");
    let mut hooks = hooks(&server, 2);
    hooks.sort();
    assert_eq!(hooks, [(0, "roll back".into(), true), (1, "roll back".into(), false)]);
}

fn hooks_are_called_on_both_sides_of_a_roll_back() {
    let (server, mut operator) = held(Release { on_yield: OnYield::Yields, ..Release::default() });
    operator.ask("abort-upgrade no");
    let mut hooks = hooks(&server, 3);
    assert_eq!(hooks.remove(0), (0, "yield".into(), true));
    hooks.sort();
    assert_eq!(hooks, [(0, "roll back".into(), true), (1, "roll back".into(), false)]);
}

/// P2, P4: it is told afterwards that the turn stays where it was.
fn p2_an_application_that_does_not_yield_ends_the_upgrade() {
    let short = Duration::from_millis(300);
    for (on_yield, gap, why) in [
        (OnYield::Refuses, short, "on_yield: the journal cannot be flushed"),
        (OnYield::NeverAnswers, short, "on_yield has not returned"),
        // A backtrace takes its time.
        (OnYield::Panics, LONG, "on_yield panicked"),
        (OnYield::Blocks(Duration::from_secs(2)), short, "on_yield has not returned"),
    ] {
        let server = Server::start(Release { on_yield, gap, ..Release::default() });
        let report = server.upgrade_badly();
        assert_eq!(report.phase, UpgradePhase::Park, "{report}");
        assert!(report.cause.as_deref().unwrap().contains(why), "{report}");
        assert!(server.ask("who").starts_with("0 "));
        let hooks = hooks(&server, 2);
        assert_eq!(hooks, [(0, "yield".into(), true), (0, "roll back".into(), true)]);
    }
}
