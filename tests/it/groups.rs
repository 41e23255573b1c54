//! `SO_REUSEPORT` groups that change their size: each member has a queue of its own, and closing one
//! resets what is in it.

use std::time::Duration;

use heirloom::UpgradeOutcome;
use nix::sys::signal::Signal;

use crate::support::load::Tally;
use crate::support::{Load, Release, Server, Socket};

trials![
    p1_a_group_that_grows_resets_nobody_when_it_is_rolled_back,
    p1_a_group_that_grows_resets_nobody_when_it_is_committed,
    p1_a_group_that_shrinks_resets_nobody,
];

const LONG: Duration = Duration::from_secs(3600);

/// Load on a group while the next generation, with another number of members, is in probation;
/// then it is told to go, or commits.
fn resize(from: usize, to: usize, committed: bool) -> (Server, Tally) {
    let probation = if committed { Duration::from_millis(500) } else { LONG };
    let server =
        Server::start(Release { probation, ..Release::with([Socket::group("main", from)]) });
    let load = Load::start(&[server.address("main")], 4);
    load.until_answered(100);
    server.next_release(|release| release.sockets = vec![Socket::group("main", to)]);
    server.signal(server.pid(0), Signal::SIGHUP);
    let successor = server.until_role(1, "successor");
    load.until_answered(100);
    if !committed {
        server.signal(successor, Signal::SIGTERM);
    }
    let report = server.until_report(0);
    assert_eq!(report.outcome == UpgradeOutcome::Committed, committed, "{report}");
    load.until_answered(400);
    let tally = load.finish();
    (server, tally)
}

/// P1. A member that joins takes its share at once, and resets it when it goes.
fn p1_a_group_that_grows_resets_nobody_when_it_is_rolled_back() {
    let (server, tally) = resize(4, 6, false);
    tally.assert_unharmed();
    assert_eq!(tally.generations(), [0, 1]);
    assert!(server.ask("who").starts_with("0 "));
}

/// P1.
fn p1_a_group_that_grows_resets_nobody_when_it_is_committed() {
    let (server, tally) = resize(4, 6, true);
    tally.assert_unharmed();
    assert!(server.ask("who").starts_with("1 "));
}

/// P1. Each member has a queue of its own, which must have somebody who accepts.
fn p1_a_group_that_shrinks_resets_nobody() {
    let (server, tally) = resize(4, 2, true);
    tally.assert_unharmed();
    server.upgrade_well();
    for _ in 0..20 {
        assert!(server.ask("who").starts_with("2 "), "every member is served");
    }
}
