//! State that a generation provides and the next one takes.

use std::time::Duration;

use heirloom::{UpgradeOutcome, UpgradePhase};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::process::Counts;
use crate::support::release::{Action, OnYield, Side};
use crate::support::states::{Asking, Sends, Stateful, TakesIn};
use crate::support::wait::until;
use crate::support::{Release, Server, Start};

trials![
    a_state_passes_from_generation_to_generation,
    nothing_is_written_down_unless_the_successor_asks,
    p8_releases_meet_in_the_newest_version_that_both_know,
    a_version_that_one_side_does_not_know_fails_the_upgrade_and_both_are_named,
    a_refused_state_starts_cold_if_that_is_wanted,
    a_state_beyond_the_limit_is_refused,
    p4_a_provider_that_is_too_slow_is_refused_and_the_service_serves_meanwhile,
    p5_a_successor_that_asks_and_dies_or_hangs_leaves_nothing_behind,
    a_successor_whose_predecessor_dies_while_it_asks_starts_cold_and_serves,
    a_delta_comes_after_the_hooks_and_before_the_first_connection,
    a_delta_that_fails_on_either_side_takes_the_turn_back,
    a_roll_back_after_the_delta_leaves_the_state_where_it_was,
    a_predecessor_that_dies_after_its_delta_leaves_it_to_the_successor,
    large_states_arrive_whole,
];

fn stateful(stateful: Stateful) -> Release {
    Release { state: Some(stateful), ..Release::default() }
}

/// Changes the state of the next release.
fn next(server: &Server, change: impl FnOnce(&mut Stateful)) {
    server.next_release(|release| change(release.state.as_mut().unwrap()));
}

/// What that generation took.
fn taken(server: &Server, generation: u64) -> Value {
    server.until_entry("state", |entry| entry.generation == Some(generation)).data
}

fn count(server: &Server, event: &str) -> usize {
    server.journal().iter().filter(|entry| entry.event == event).count()
}

fn a_state_passes_from_generation_to_generation() {
    let server = Server::start(stateful(Stateful { length: 100_000, ..Stateful::default() }));
    assert!(taken(&server, 0).is_null(), "the first one starts cold");
    for generation in 1..=4 {
        server.upgrade_well();
        let state = taken(&server, generation);
        let all: String = (0..generation).map(|number| format!("{number} ")).collect();
        assert_eq!(state["history"], all);
        assert_eq!((&state["length"], &state["damaged"]), (&100_000.into(), &0.into()));
    }
}

fn nothing_is_written_down_unless_the_successor_asks() {
    let server = Server::start(stateful(Stateful::default()));
    server.next_release(|release| release.state = None);
    server.upgrade_well();
    assert_eq!(count(&server, "writes"), 0);
    // Nobody provides it any more: the next one starts cold.
    server.next_release(|release| release.state = Some(Stateful::default()));
    server.upgrade_well();
    assert!(taken(&server, 2).is_null());
}

/// P8. Also when an older release follows.
fn p8_releases_meet_in_the_newest_version_that_both_know() {
    let server = Server::start(stateful(Stateful::default()));
    for (oldest, newest, met) in [(1, 3, 1), (2, 4, 3), (1, 2, 2)] {
        next(&server, |state| (state.oldest, state.newest) = (oldest, newest));
        let report = server.upgrade();
        assert_eq!(report.outcome, UpgradeOutcome::Committed, "{report}");
        assert_eq!(taken(&server, report.to.get())["version"], met);
    }
}

fn a_version_that_one_side_does_not_know_fails_the_upgrade_and_both_are_named() {
    let server = Server::start(stateful(Stateful { oldest: 2, newest: 3, ..Stateful::default() }));
    for (oldest, newest, theirs) in [(4, 5, "versions 4 to 5"), (1, 1, "version 1")] {
        next(&server, |state| (state.oldest, state.newest) = (oldest, newest));
        let report = server.upgrade_badly();
        assert_eq!((report.outcome, report.phase), (UpgradeOutcome::Failed, UpgradePhase::Start));
        let cause = report.cause.unwrap();
        assert!(cause.contains("state \"history\""), "{cause}");
        assert!(cause.contains("provided in versions 2 to 3") && cause.contains(theirs), "{cause}");
        assert!(server.ask("who").starts_with("0 "));
    }
    assert_eq!(count(&server, "writes"), 0, "nothing was serialised for nothing");
    next(&server, |state| (state.oldest, state.newest) = (3, 5));
    server.upgrade_well();
}

fn a_refused_state_starts_cold_if_that_is_wanted() {
    let why = String::from("the index is being rebuilt");
    let server =
        Server::start(stateful(Stateful { refuses: Some(why.clone()), ..Stateful::default() }));
    let cause = server.upgrade_badly().cause.unwrap();
    assert!(cause.contains(&why), "{cause}");
    next(&server, |state| state.or_cold = true);
    server.upgrade_well();
    let refused = server.until_entry("refused", |_| true).data.to_string();
    assert!(refused.contains(&why), "{refused}");
    next(&server, |state| state.refuses = None);
    server.upgrade_well();
    server.upgrade_well();
}

fn a_state_beyond_the_limit_is_refused() {
    let limit = 100_000;
    let server =
        Server::start(stateful(Stateful { limit, length: 100_001, ..Stateful::default() }));
    let cause = server.upgrade_badly().cause.unwrap();
    assert!(cause.contains("longer than 100000 bytes (Config::state_limit)"), "{cause}");
    // The limit of the side that takes.
    let server = Server::start(stateful(Stateful { length: 100_001, ..Stateful::default() }));
    next(&server, |state| state.limit = limit);
    let cause = server.upgrade_badly().cause.unwrap();
    assert!(cause.contains("it has 100001 bytes, more than 100000"), "{cause}");
}

/// P4.
fn p4_a_provider_that_is_too_slow_is_refused_and_the_service_serves_meanwhile() {
    let (pace, deadline) = (Duration::from_secs(3), Duration::from_millis(300));
    let server = Server::start(stateful(Stateful { pace, deadline, ..Stateful::default() }));
    server.signal(server.pid(0), Signal::SIGHUP);
    server.until_entry("writes", |_| true);
    assert!(server.ask("who").starts_with("0 "), "while its state is written");
    let cause = server.until_report(0).cause.unwrap();
    assert!(cause.contains("longer than Config::state_deadline, 300ms"), "{cause}");
    assert!(server.ask("who").starts_with("0 "));
}

/// P5, P4.
fn p5_a_successor_that_asks_and_dies_or_hangs_leaves_nothing_behind() {
    let server = Server::start(Release {
        ready: Duration::from_millis(2_000),
        ..stateful(Stateful {
            length: 8_000_000,
            pace: Duration::from_millis(100),
            ..Stateful::default()
        })
    });
    let counts = || -> Counts { serde_json::from_str(&server.ask("counts")).unwrap() };
    let quiet =
        || until("what was rejected to be gone", || Some(counts()).filter(|now| now.children == 0));
    let before = quiet();
    for asking in [Asking::Dies, Asking::Hangs, Asking::Dies, Asking::Hangs] {
        // It asks, and what comes finds it dead or stopped.
        next(&server, |state| (state.asking, state.pace) = (asking, Duration::ZERO));
        let report = server.upgrade_badly();
        assert_eq!(report.phase, UpgradePhase::Start, "{report}");
        assert!(server.ask("who").starts_with("0 "));
    }
    until("as much as before", || {
        let now = quiet();
        let same = now.descriptors <= before.descriptors && now.threads <= before.threads;
        same.then_some(())
    });
    next(&server, |state| state.asking = Asking::Waits);
    server.upgrade_well();
    assert_eq!(taken(&server, 5)["damaged"], 0);
}

fn a_successor_whose_predecessor_dies_while_it_asks_starts_cold_and_serves() {
    let pace = Duration::from_secs(3);
    let server = Server::start(stateful(Stateful { pace, ..Stateful::default() }));
    server.signal(server.pid(0), Signal::SIGHUP);
    server.until_entry("writes", |_| true);
    server.signal(server.pid(0), Signal::SIGKILL);
    server.until_owner(1);
    assert!(taken(&server, 1).is_null());
    assert!(server.ask("who").starts_with("1 "));
}

fn with_delta(sends: Sends, takes_in: TakesIn) -> Release {
    Release {
        on_yield: OnYield::Yields,
        gap: Duration::from_millis(if takes_in == TakesIn::Hangs { 500 } else { 10_000 }),
        ..stateful(Stateful { sends, takes_in, ..Stateful::default() })
    }
}

fn a_delta_comes_after_the_hooks_and_before_the_first_connection() {
    let server = Server::start(with_delta(Sends::Delta, TakesIn::Well));
    for generation in 1..=3 {
        server.upgrade_well();
        let journal = server.journal();
        let at = |generation: u64, event: &str| {
            let here = |entry: &&crate::support::journal::Entry| {
                entry.generation == Some(generation) && entry.event == event
            };
            let found = journal.iter().position(|entry| here(&entry));
            found.unwrap_or_else(|| panic!("no {event} of {generation}"))
        };
        let delta = &journal[at(generation, "delta")];
        assert_eq!(delta.data["text"], format!("delta of {}", generation - 1));
        assert!(at(generation - 1, "hook") < at(generation, "delta"));
        assert!(at(generation, "state") < at(generation, "delta"));
        assert!(at(generation, "delta") < at(generation, "turn"));
    }
}

fn a_delta_that_fails_on_either_side_takes_the_turn_back() {
    for (sends, takes_in, phase, why) in [
        (Sends::Failure, TakesIn::Well, UpgradePhase::Park, "the log is torn"),
        (Sends::Delta, TakesIn::Fails, UpgradePhase::Yield, "the delta does not fit"),
        (Sends::Delta, TakesIn::Panics, UpgradePhase::Yield, "on_delta panicked"),
        (Sends::Delta, TakesIn::Nothing, UpgradePhase::Yield, "nothing takes it"),
        (Sends::Delta, TakesIn::Hangs, UpgradePhase::Yield, "the gap from ready to serving"),
    ] {
        let server = Server::start(with_delta(sends, takes_in));
        let report = server.upgrade_badly();
        assert_eq!((report.outcome, report.phase), (UpgradeOutcome::Failed, phase), "{report}");
        let cause = report.cause.unwrap();
        assert!(cause.contains(why), "{cause}");
        assert!(server.ask("who").starts_with("0 "));
        server.until_gone(report.successor_pid.unwrap());
        assert_eq!(count(&server, "turn"), 1, "it never had the turn");
        next(&server, |state| (state.sends, state.takes_in) = (Sends::Nothing, TakesIn::Well));
        if sends == Sends::Delta {
            server.upgrade_well();
        }
    }
}

fn a_roll_back_after_the_delta_leaves_the_state_where_it_was() {
    let server = Server::start(with_delta(Sends::Delta, TakesIn::Well));
    server.fault(Side::Successor, "serving", Action::Kill);
    let report = server.upgrade_badly();
    assert_eq!(count(&server, "delta"), 1, "{report}");
    server.upgrade_well();
    assert_eq!(taken(&server, 2)["history"], "0 ");
    assert_eq!(count(&server, "delta"), 2);
}

fn a_predecessor_that_dies_after_its_delta_leaves_it_to_the_successor() {
    let server = Server::start(with_delta(Sends::Delta, TakesIn::Well));
    server.fault(Side::Predecessor, "yield", Action::Kill);
    server.signal(server.pid(0), Signal::SIGHUP);
    server.until_owner(1);
    assert_eq!(count(&server, "delta"), 1);
    assert!(server.ask("who").starts_with("1 "));
}

/// With `HEIRLOOM_FIGURES=1` it says how long that took.
fn large_states_arrive_whole() {
    for length in [8_000_000, 300_000_000] {
        let server = Server::start(stateful(Stateful { length, ..Stateful::default() }));
        server.next_release(|release| release.start = Start::Well);
        server.upgrade_well();
        let state = taken(&server, 1);
        assert_eq!((&state["length"], &state["damaged"]), (&length.into(), &0.into()));
        if std::env::var_os("HEIRLOOM_FIGURES").is_some() {
            use std::io::Write;
            let millis = state["took_us"].as_u64().unwrap() / 1_000;
            let _ = writeln!(std::io::stderr(), "a state of {length} bytes: {millis} ms to take");
        }
    }
}
