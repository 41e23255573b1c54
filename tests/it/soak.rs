//! Many upgrades: what the last generation holds is what the second held.
//!
//! Ignored unless `HEIRLOOM_SOAK` says how many.

use std::io::Write;
use std::time::Instant;

use libtest_mimic::Trial;

use crate::support::process::Counts;
use crate::support::wait::until;
use crate::support::{Load, Release, Server, Socket, process};

/// The last generation's memory may differ from the second's by so much: pages that one allocator
/// has touched and the other has not.
const MEMORY_KB: u64 = 4 * 1024;

pub(crate) fn trials() -> Vec<Trial> {
    let upgrades = std::env::var("HEIRLOOM_SOAK").ok().and_then(|upgrades| upgrades.parse().ok());
    let name = "soak::p5_nothing_grows_with_the_number_of_upgrades";
    let soak = move || {
        p5_nothing_grows_with_the_number_of_upgrades(upgrades.unwrap_or(50));
        Ok(())
    };
    vec![Trial::test(name, soak).with_ignored_flag(upgrades.is_none())]
}

/// P5, P11.
fn p5_nothing_grows_with_the_number_of_upgrades(upgrades: usize) {
    let server = Server::start(Release {
        pid_file: true,
        ..Release::with([Socket::tcp("main"), Socket::unix("path"), Socket::udp("udp")])
    });
    let load = Load::start(&[server.address("main"), server.address("path")], 1);
    let begun = Instant::now();
    let mut second = None;
    let mut slowest = std::time::Duration::ZERO;
    let mut gap = std::time::Duration::ZERO;
    for upgrade in 1..=upgrades.max(3) {
        load.until_answered(5);
        let before = server.owner();
        let report = server.upgrade();
        assert_eq!(report.outcome, heirloom::UpgradeOutcome::Committed, "{report}");
        slowest = slowest.max(report.elapsed);
        gap = gap.max(report.longest_gap);
        server.until_gone(before);
        if upgrade == 2 {
            second = Some(at_rest(&server));
        }
    }
    let (second, last) = (second.unwrap(), at_rest(&server));
    let took = begun.elapsed();
    let tally = load.finish();
    let figures = format!(
        "\n{upgrades} upgrades in {took:.1?}, the slowest {slowest:.1?}, the longest gap {gap:.1?}\n\
         second generation: {second:?}\nlast generation:   {last:?}\nclients: {tally}\n"
    );
    std::io::stdout().write_all(figures.as_bytes()).unwrap();
    tally.assert_unharmed();
    assert_eq!(process::born_in(server.directory()).len(), 1, "one process is left");
    let files = std::fs::read_dir(server.directory()).unwrap().count();
    assert!(files <= 10, "{files} files in the directory");
    assert_eq!(last.descriptors, second.descriptors);
    assert_eq!(last.threads, second.threads);
    assert_eq!((last.zombies, last.children), (0, 0));
    assert!(last.resident_kb <= second.resident_kb + MEMORY_KB);
}

/// What the owner holds once its predecessor is gone and threads of passing use have ended.
fn at_rest(server: &Server) -> Counts {
    let mut client = server.client("main");
    let mut counts = || -> Counts { serde_json::from_str(&client.ask("counts")).unwrap() };
    until("the owner to rest", || {
        let (before, after) = (counts(), counts());
        // A connection of the load may come and go between the two.
        let same = before.descriptors == after.descriptors && before.threads == after.threads;
        (same && after.children == 0 && after.threads <= 3).then_some(after)
    })
}
