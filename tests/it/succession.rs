//! Who owns after one of three generations, or the application of one, is gone.

use std::time::Duration;

use heirloom::UpgradeOutcome;
use nix::sys::signal::Signal;

use crate::support::client::Client;
use crate::support::release::{Action, Side};
use crate::support::wait::until;
use crate::support::{Load, Release, Server};

trials![
    p3_a_rejected_successor_does_not_take_over_beside_an_accepted_one,
    p6_a_rejected_successor_finishes_after_its_predecessor_has_handed_over,
    p3_a_rejected_successor_serves_again_when_its_predecessor_has_died,
    p3_a_stopped_elder_wakes_after_its_drain_and_its_owner_and_owns,
    p3_the_successor_owns_when_the_application_of_its_predecessor_fails,
    p3_an_elder_that_read_garbage_does_not_own_beside_a_newer_generation,
    p3_an_elder_whose_link_was_shut_down_does_not_own_beside_a_newer_generation,
];

/// Generation 1 has been rejected for its silence and still serves what it had accepted.
fn one_rejected() -> (Server, i32, Client) {
    let server = Server::start(Release {
        probation: Duration::from_millis(1_500),
        silence: Duration::from_millis(600),
        pid_file: true,
        ..Release::default()
    });
    server.signal(server.pid(0), Signal::SIGHUP);
    let rejected = server.until_role(1, "successor");
    let mut held = server.client("main");
    assert_eq!(held.ask("hold"), "held 1");
    server.signal(rejected, Signal::SIGSTOP);
    let report = server.until_report(0);
    assert_eq!(report.outcome, UpgradeOutcome::RolledBack, "{report}");
    (server, rejected, held)
}

/// P3. Both see the predecessor die.
fn p3_a_rejected_successor_does_not_take_over_beside_an_accepted_one() {
    let (server, rejected, mut held) = one_rejected();
    // Asked while it cannot take one more as it wakes.
    let mut old = server.client("main");
    assert_eq!(old.ask("hold"), "held 0");
    server.signal(rejected, Signal::SIGCONT);
    let owner = server.upgrade_well();
    server.signal(server.pid(0), Signal::SIGKILL);
    server.until_gone(server.pid(0));
    assert_eq!(held.ask("release"), "released 1");
    server.until_gone(rejected);
    assert_eq!(server.owners(), [(2, owner)]);
    let pid = std::fs::read_to_string(server.path("pid")).unwrap();
    assert_eq!(pid.trim(), owner.to_string());
    assert!(
        server.journal().iter().all(|entry| entry.pid != rejected || entry.data["role"] != "owner")
    );
}

/// P6.
fn p6_a_rejected_successor_finishes_after_its_predecessor_has_handed_over() {
    let (server, rejected, mut held) = one_rejected();
    server.signal(rejected, Signal::SIGCONT);
    server.upgrade_well();
    assert_eq!(server.client("main").ask("echo x"), "x");
    assert_eq!(held.ask("release"), "released 1");
    server.until_gone(rejected);
    server.until_gone(server.pid(0));
}

/// P3. It wakes when the predecessor is dead, and has already been told to go.
fn p3_a_rejected_successor_serves_again_when_its_predecessor_has_died() {
    let (server, rejected, mut held) = one_rejected();
    server.signal(server.pid(0), Signal::SIGKILL);
    server.signal(rejected, Signal::SIGCONT);
    server.until_owner(1);
    let load = Load::start(&[server.address("main")], 2);
    load.until_answered(20);
    load.finish().assert_unharmed();
    assert_eq!(held.ask("release"), "released 1");
    server.upgrade_well();
}

/// P3. Its timers have all run out when it wakes; what happened meanwhile counts first.
fn p3_a_stopped_elder_wakes_after_its_drain_and_its_owner_and_owns() {
    let server =
        Server::start(Release { drain: Duration::from_millis(1_500), ..Release::default() });
    let mut held = server.client("main");
    assert_eq!(held.ask("hold"), "held 0");
    let elder = server.pid(0);
    let owner = server.upgrade_well();
    server.signal(elder, Signal::SIGSTOP);
    let asleep = std::time::Instant::now();
    until("the elder's drain to be over", || {
        (asleep.elapsed() > Duration::from_millis(2_800)).then_some(())
    });
    server.signal(owner, Signal::SIGKILL);
    server.until_gone(owner);
    server.signal(elder, Signal::SIGCONT);
    until("generation 0 to own again", || (server.owners() == [(0, elder)]).then_some(()));
    assert!(server.ask("who").starts_with("0 "));
}

/// P3. A process that ends by its own fault is as dead as one that was killed.
fn p3_the_successor_owns_when_the_application_of_its_predecessor_fails() {
    let server = Server::start(Release {
        probation: Duration::from_secs(3600),
        silence: Duration::from_millis(600),
        ..Release::default()
    });
    let mut old = server.client("main");
    server.next_release(|release| release.probation = Duration::from_millis(50));
    server.signal(server.pid(0), Signal::SIGHUP);
    server.until_role(1, "successor");
    let load = Load::start(&[server.address("main")], 2);
    load.until_answered(20);
    old.ask("fail");
    server.until_owner(1);
    load.until_answered(20);
    load.finish().assert_unharmed();
    server.upgrade_well();
}

/// P3.
fn p3_an_elder_that_read_garbage_does_not_own_beside_a_newer_generation() {
    an_elder_stays_one_after(Action::Garbage(64));
}

/// P3.
fn p3_an_elder_whose_link_was_shut_down_does_not_own_beside_a_newer_generation() {
    an_elder_stays_one_after(Action::CutLink);
}

/// Its successor has handed over and gone, and it cannot hear of the one that owns now.
fn an_elder_stays_one_after(fault: Action) {
    let server = Server::start(Release::default());
    let mut held = server.client("main");
    assert_eq!(held.ask("hold"), "held 0");
    let elder = server.pid(0);
    server.fault(Side::Successor, "committed", fault);
    let second = server.upgrade_well();
    let third = server.upgrade_well();
    server.until_gone(second);
    assert_eq!(held.ask("release"), "released 0");
    server.until_gone(elder);
    assert_eq!(server.owners(), [(2, third)]);
    let journal = server.journal();
    let mut steps = journal.iter().filter(|entry| entry.pid == elder && entry.event == "step");
    assert!(!steps.any(|step| step.data["step"] == "owns again"), "generation 0 owns again");
}
