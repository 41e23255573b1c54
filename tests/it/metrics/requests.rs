//! Requests, as the metrics count them and as those count them who asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use heirloom::UpgradeOutcome;

use super::{figures, start};
use crate::support::Release;
use crate::support::client::Address;
use crate::support::release::{Ailment, Web};
use crate::support::visitor::Visitor;
use crate::support::wait::{pause, until};

const LONG: Duration = Duration::from_secs(3_600);

trials![p12_requests_over_twenty_upgrades_are_what_the_clients_counted];

/// A client that keeps its connections as long as it may; answers it got, and failed ones of them.
fn visits(address: &Address, stop: &AtomicBool) -> (u64, u64) {
    let (mut answered, mut failed) = (0, 0);
    let mut visitor = Visitor::connect(address);
    while !stop.load(Ordering::Relaxed) {
        let target = if answered % 7 == 3 { "/fail" } else { "/" };
        let answer = visitor.get(target).unwrap();
        answered += 1;
        failed += u64::from(answer.failed);
        if answer.says_close || answered % 25 == 0 {
            visitor = Visitor::connect(address);
        }
        pause(Duration::from_millis(1));
    }
    (answered, failed)
}

/// P12. Of a roll back as well: what a successor in probation has answered is not lost with it.
fn p12_requests_over_twenty_upgrades_are_what_the_clients_counted() {
    // A busy machine takes its time to find out that a release is bad.
    let web = Some(Web::default());
    let (server, operator) = start(Release { web, probation: LONG, ..Release::default() });
    let (address, stop) = (server.address("main"), Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (address, stop) = (address.clone(), Arc::clone(&stop));
            std::thread::spawn(move || visits(&address, &stop))
        })
        .collect();
    let (mut window, mut back) = (0, 0);
    for number in 1..=20 {
        let rolled_back = number % 5 == 0;
        if rolled_back {
            let ailment = Some((Duration::from_millis(20), Ailment::Fail));
            server.next_release(|next| next.ailment = ailment);
            let report = operator.upgrade().unwrap();
            assert_eq!(report.outcome, UpgradeOutcome::RolledBack, "{report}");
            server.next_release(|next| next.ailment = None);
            back += 1;
            window += report.window.unwrap().requests;
        }
        let report = operator.upgrade_and_commit();
        assert_eq!(report.outcome, UpgradeOutcome::Committed, "{report}");
        window += report.window.unwrap().requests;
    }
    stop.store(true, Ordering::Relaxed);
    let counts: Vec<(u64, u64)> = clients.into_iter().map(|it| it.join().unwrap()).collect();
    let answered: u64 = counts.iter().map(|(answered, _)| answered).sum();
    let failed: u64 = counts.iter().map(|(_, failed)| failed).sum();
    until("the end of the elders", || (operator.status().generations.len() == 1).then_some(()));
    let figures = figures(&operator);
    let of = |outcome: &str| figures[&format!("heirloom_requests_total{{outcome=\"{outcome}\"}}")];
    assert_eq!((of("failed"), of("succeeded")), (failed as f64, (answered - failed) as f64));
    assert_eq!(figures["heirloom_window_requests_total"], window as f64);
    assert!(failed > 0 && back == 4 && window <= answered, "{window} of {answered}");
}
