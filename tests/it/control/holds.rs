//! Pauses and drains by several hands, and in the middle of upgrades.

use std::time::Duration;

use heirloom::control::{Accepting, Upgrade};
use heirloom::{DrainOutcome, ErrorKind, UpgradeOutcome};

use super::{LONG, is_taken, release, start};
use crate::support::operator::kind;
use crate::support::wait::PATIENCE;
use crate::support::{Operator, Release};

trials![
    two_operators_who_drain_are_told_the_same,
    a_drain_that_an_upgrade_overtakes_goes_on_in_the_next_generation,
    a_drain_holds_through_an_upgrade_that_is_taken_back,
    a_resume_is_the_last_word_however_soon_it_comes,
];

const SHORT: Duration = Duration::from_millis(150);

async fn until_drained(operator: &Operator) {
    while operator.client.status().await.unwrap().accepting != Accepting::Drained {
        tokio::task::yield_now().await;
    }
}

/// Who asks again joins the drain that runs.
fn two_operators_who_drain_are_told_the_same() {
    let (server, operator) = start(Release { drain: Duration::from_millis(400), ..release() });
    let second = Operator::of(server.directory());
    let mut held = server.client("main");
    held.ask("hold");
    let (one, other) = operator.run(async {
        let join = async {
            until_drained(&second).await;
            second.client.drain(|_| {}).await
        };
        tokio::join!(operator.client.drain(|_| {}), join)
    });
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!((one.outcome, one.cut_count), (DrainOutcome::Cut, 1));
    assert_eq!(one, other);
    // Nothing is left to drain, and nobody waits for what others have been told already.
    let again = operator.run(operator.client.drain(|_| {})).unwrap();
    assert_eq!((again.outcome, again.drained, again.cut_count), (DrainOutcome::Drained, 0, 0));
}

/// The successor is paused, and whoever asked for the drain is answered by it.
fn a_drain_that_an_upgrade_overtakes_goes_on_in_the_next_generation() {
    let (server, operator) = start(Release { stop_notice: LONG, ..release() });
    let second = Operator::of(server.directory());
    server.next_release(|next| next.stop_notice = Duration::ZERO);
    let drained = operator.run(async {
        let upgrade = async {
            until_drained(&second).await;
            let report = second.client.upgrade_and_wait(Upgrade::new(), |_| {}).await.unwrap();
            assert_eq!(report.outcome, UpgradeOutcome::Committed, "{report}");
        };
        tokio::join!(operator.client.drain(|_| {}), upgrade).0
    });
    assert_eq!(drained.unwrap().outcome, DrainOutcome::Drained);
    let status = operator.status();
    assert_eq!((status.owner.get(), status.accepting), (1, Accepting::Drained));
    assert!(!is_taken(&server, SHORT));
    operator.run(operator.client.resume()).unwrap();
    assert!(is_taken(&server, PATIENCE));
}

/// The notice ends while the successor is in probation; whoever has the sockets back keeps to it.
fn a_drain_holds_through_an_upgrade_that_is_taken_back() {
    let notice = Duration::from_millis(300);
    let (server, operator) = start(Release { stop_notice: notice, probation: LONG, ..release() });
    let second = Operator::of(server.directory());
    let drained = operator.run(async {
        let upgrade = async {
            until_drained(&second).await;
            second.client.upgrade(Upgrade::new()).await.unwrap();
        };
        tokio::join!(operator.client.drain(|_| {}), upgrade).0
    });
    assert_eq!(drained.unwrap().outcome, DrainOutcome::Drained);
    operator.until_probation();
    let report = operator.run(operator.client.abort("not now")).unwrap();
    assert_eq!(report.outcome, UpgradeOutcome::RolledBack);
    assert_eq!(operator.status().accepting, Accepting::Drained);
    assert!(!is_taken(&server, SHORT));
    operator.run(operator.client.resume()).unwrap();
    assert!(is_taken(&server, PATIENCE));
}

/// At about the moment when the notice ends and the drain would begin.
fn a_resume_is_the_last_word_however_soon_it_comes() {
    let notice = Duration::from_millis(1);
    let (server, operator) = start(Release { stop_notice: notice, ..release() });
    let second = Operator::of(server.directory());
    for round in 0..200 {
        let told = operator.run(async {
            let resume = async {
                until_drained(&second).await;
                second.client.resume().await.unwrap();
            };
            tokio::join!(operator.client.drain(|_| {}), resume).0
        });
        assert!(told.is_ok() || kind(told) == ErrorKind::NotNow);
        assert_eq!(operator.status().accepting, Accepting::Open);
        assert!(is_taken(&server, PATIENCE), "in round {round}");
    }
}
