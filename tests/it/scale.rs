//! Many listeners, and many generations.

use std::collections::BTreeMap;
use std::time::Duration;

use heirloom::UpgradeOutcome;
use heirloom::control::Stop;

use crate::support::client::{Address, Client, Failure};
use crate::support::wait::until;
use crate::support::{Load, Operator, Release, Server, Socket, process};

trials![
    p11_one_listener_is_handed_over,
    p11_as_many_listeners_as_one_message_carries,
    p11_one_listener_more_than_one_message_carries,
    p11_a_thousand_listeners_are_handed_over,
    p6_a_generation_drains_while_two_others_commit,
    p7_the_oldest_is_hurried_when_too_many_drain,
    p7_who_has_just_begun_to_drain_has_a_second_for_it_however_many_drain,
    p7_a_forced_stop_cuts_even_those_who_have_just_begun_to_drain,
    p7_a_forced_stop_in_probation_cuts_who_drains_and_says_why,
    p3_an_elder_between_two_others_owns_again_if_both_newer_ones_die,
];

/// All of them, twice over, and back to a few.
fn hand_over(listeners: usize) {
    let sockets = |count: usize| (0..count).map(|number| Socket::abstract_unix(&name(number)));
    let server = Server::start(Release::with(sockets(listeners)));
    let addresses: Vec<Address> = {
        let bound = server.until_entry("bound", |_| true);
        let mut addresses: BTreeMap<String, Address> = bound.read();
        (0..listeners).map(|number| addresses.remove(&name(number)).unwrap()).collect()
    };
    for generation in 1..=2 {
        let report = server.upgrade();
        assert_eq!(report.outcome, UpgradeOutcome::Committed, "{report}");
        assert_eq!(report.claimed, listeners, "{report}");
        for address in &addresses {
            let by = Client::connect(address).unwrap().who().unwrap();
            assert_eq!(by.generation, generation);
        }
    }
    let few = listeners.div_ceil(2);
    server.next_release(|release| release.sockets.truncate(few));
    let report = server.upgrade();
    assert_eq!((report.claimed, report.unclaimed), (few, listeners - few), "{report}");
    server.until_gone(server.pid(2));
    assert_eq!(Client::connect(&addresses[0]).unwrap().who().unwrap().generation, 3);
}

fn name(number: usize) -> String {
    format!("s{number}")
}

/// P11.
fn p11_one_listener_is_handed_over() {
    hand_over(1);
}

/// P11. `SCM_MAX_FD` is 253; verdict and pidfd go along.
fn p11_as_many_listeners_as_one_message_carries() {
    hand_over(251);
    hand_over(253);
}

/// P11.
fn p11_one_listener_more_than_one_message_carries() {
    hand_over(252);
    hand_over(254);
}

/// P11.
fn p11_a_thousand_listeners_are_handed_over() {
    hand_over(1_000);
}

/// P6, P12. The owner knows of it all the time.
fn p6_a_generation_drains_while_two_others_commit() {
    let server = Server::start(Release::default());
    let mut held = server.client("main");
    assert_eq!(held.ask("hold"), "held 0");
    let load = Load::start(&[server.address("main")], 1);
    for generation in 1..=3 {
        load.until_answered(10);
        server.upgrade_well();
        let status: serde_json::Value = serde_json::from_str(&server.ask("status")).unwrap();
        let elders = status["elders"].as_array().unwrap();
        assert!(elders.contains(&0.into()), "after commit {generation}: {status}");
    }
    load.finish().assert_unharmed();
    assert!(process::lives(server.pid(0)));
    assert_eq!(held.ask("release"), "released 0");
    server.until_gone(server.pid(0));
    let owner = server.owner();
    server.until_entry("event", |entry| entry.pid == owner && entry.data == "alone_at_last");
    let drained = server.until_entry("event", |entry| {
        entry.pid == owner && entry.data["elder_drained"]["generation"] == 0
    });
    assert_eq!(drained.data["elder_drained"]["cut"], 0, "{}", drained.data);
}

/// P7. Two may drain; the third commit is one too many for the oldest.
fn p7_the_oldest_is_hurried_when_too_many_drain() {
    let server = Server::start(Release {
        max_draining: 2,
        drain: Duration::from_secs(3600),
        ..Release::default()
    });
    let mut held = Vec::new();
    for generation in 0..3 {
        let mut session = server.client("main");
        assert_eq!(session.ask("hold"), format!("held {generation}"));
        held.push(session);
        server.upgrade_well();
    }
    assert_eq!(held[0].receive(), Err(Failure::Closed), "the oldest is cut");
    server.until_gone(server.pid(0));
    let end = server.until_entry("outcome", |entry| entry.generation == Some(0));
    let report = &end.data["Ok"]["handed_over"];
    assert_eq!((&report["hurried"], &report["cut_count"]), (&true.into(), &1.into()), "{report}");
    assert_eq!(report["cut"][0]["reason"], "held", "{report}");
    // Everybody is told why: the report, the log, the owner and the metrics of whoever asks.
    assert_eq!((&report["cuts"]["room"], &report["cut"][0]["cut"]), (&1.into(), &"room".into()));
    let told = server
        .until_entry("event", |entry| entry.data["elder_drained"]["generation"] == 0)
        .data["elder_drained"]["cuts"]["room"]
        .clone();
    assert_eq!(told, 1);
    let log = std::fs::read_to_string(server.path("trace.log")).unwrap();
    let line = "cut: 1 connections of main as too many generations drained: held";
    assert!(log.contains(line), "{log}");
    let note = server.until_report(2).notes.join("\n");
    assert!(note.contains("hurries the oldest"), "{note:?}");
    assert_eq!(held[1].ask("release"), "released 1");
    assert_eq!(held[2].ask("release"), "released 2");
}

/// P7. Upgrades in quick succession; what is idle gets the time to move, what is short to end.
fn p7_who_has_just_begun_to_drain_has_a_second_for_it_however_many_drain() {
    let server = Server::start(Release { max_draining: 1, ..Release::default() });
    let mut session = server.client("main");
    assert_eq!(session.ask("hold"), "held 0");
    server.upgrade_well();
    server.upgrade_well();
    assert_eq!(session.receive(), Err(Failure::Closed), "one too many drains");
    let end = server.until_entry("outcome", |entry| entry.generation == Some(0));
    let report = &end.data["Ok"]["handed_over"];
    assert_eq!((&report["hurried"], &report["cut_count"]), (&true.into(), &1.into()), "{report}");
    let elapsed: Duration = serde_json::from_value(report["elapsed"].clone()).unwrap();
    assert!(elapsed >= Duration::from_millis(990), "{report}");
}

/// P7. That second is no operator's to wait for.
fn p7_a_forced_stop_cuts_even_those_who_have_just_begun_to_drain() {
    let server = Server::start(Release {
        max_draining: 1,
        drain: Duration::from_secs(3600),
        ..Release::default()
    });
    let mut session = server.client("main");
    assert_eq!(session.ask("hold"), "held 0");
    let owner = server.upgrade_well();
    server.signal(owner, nix::sys::signal::Signal::SIGTERM);
    server.until_role(1, "stopping");
    server.signal(owner, nix::sys::signal::Signal::SIGTERM);
    is_cut_by_force(&server, session);
    server.until_gone(owner);
}

/// P7, P12. The first wish of all, while an upgrade runs.
fn p7_a_forced_stop_in_probation_cuts_who_drains_and_says_why() {
    let never = Duration::from_secs(3600);
    let server = Server::start(Release { control: true, drain: never, ..Release::default() });
    let mut session = server.client("main");
    assert_eq!(session.ask("hold"), "held 0");
    server.next_release(|release| release.probation = never);
    server.upgrade_well();
    let operator = Operator::of(server.directory());
    operator.begin_probation();
    operator.run(operator.client.stop(Stop::Force, |_| {})).unwrap();
    is_cut_by_force(&server, session);
}

fn is_cut_by_force(server: &Server, mut session: Client) {
    assert_eq!(session.receive(), Err(Failure::Closed), "it is cut");
    let end = server.until_entry("outcome", |entry| entry.generation == Some(0));
    let report = &end.data["Ok"]["handed_over"];
    assert_eq!(report["cuts"]["forced"], 1, "{report}");
}

/// P3. Whoever still holds the sockets serves.
fn p3_an_elder_between_two_others_owns_again_if_both_newer_ones_die() {
    let server = Server::start(Release::default());
    let mut held = server.client("main");
    assert_eq!(held.ask("hold"), "held 0");
    let second = server.upgrade_well();
    let mut also_held = server.client("main");
    assert_eq!(also_held.ask("hold"), "held 1");
    let third = server.upgrade_well();
    server.signal(third, nix::sys::signal::Signal::SIGKILL);
    until("generation 1 to own again", || (server.owners() == [(1, second)]).then_some(()));
    assert!(server.ask("who").starts_with("1 "));
    server.signal(second, nix::sys::signal::Signal::SIGKILL);
    until("generation 0 to own again", || (server.owners() == [(0, server.pid(0))]).then_some(()));
    assert!(server.ask("who").starts_with("0 "));
    assert_eq!(held.ask("release"), "released 0");
    let report = server.upgrade();
    assert_eq!(report.outcome, UpgradeOutcome::Committed, "{report}");
    assert!(report.to.get() > 2, "no number is given twice: {report}");
}
