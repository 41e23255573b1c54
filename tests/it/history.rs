//! What is known of the upgrades of a service's life: who asked, what it was like for clients, how
//! long a roll back took; and the same in a file.

use std::fs;
use std::time::Duration;

use heirloom::{AskedBy, CauseKind, Purpose, Report, UpgradeOutcome, UpgradePhase};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::release::{Habit, Start};
use crate::support::server::Program;
use crate::support::wait::until;
use crate::support::{Operator, Release, Server, disk};

trials![
    p12_a_report_says_who_asked_and_what_for,
    p12_requests_in_the_window_stand_against_those_before,
    p12_a_roll_back_says_how_long_it_took_and_why,
    p12_the_history_knows_what_a_drain_has_cut,
    p12_two_generations_write_one_file,
    p2_a_file_that_cannot_be_written_delays_no_upgrade,
    p2_a_full_disk_fails_no_upgrade,
];

const LONG: Duration = Duration::from_secs(3_600);

fn start(release: Release) -> (Server, Operator) {
    let server = Server::start(Release { control: true, ..release });
    let operator = Operator::of(server.directory());
    (server, operator)
}

fn last(operator: &Operator) -> Report {
    operator.run(operator.client.history()).unwrap().pop().unwrap()
}

/// Begins an upgrade and waits until its successor serves.
fn p12_a_report_says_who_asked_and_what_for() {
    let (server, operator) = start(Release::default());
    server.upgrade_well();
    assert_eq!(last(&operator).asked_by, AskedBy::Signal);
    server.ask("upgrade");
    server.until_owner(2);
    assert_eq!(last(&operator).asked_by, AskedBy::Application);
    server.ask("unattended");
    server.until_owner(3);
    assert_eq!(last(&operator).asked_by, AskedBy::Unattended);
    server.install(Program::Copy("other"));
    operator.upgrade().unwrap();
    let AskedBy::Operator { uid, pid, .. } = last(&operator).asked_by else {
        panic!("{}", last(&operator));
    };
    assert_eq!((uid, pid), (nix::unistd::geteuid().as_raw(), std::process::id().cast_signed()));
    assert_eq!(last(&operator).purpose, Purpose::Release);
    server.until_owner(4);
    let report = operator.run(operator.client.roll_back(|_| {})).unwrap();
    assert_eq!((report.outcome, report.purpose), (UpgradeOutcome::Committed, Purpose::RollBack));
    let before_it_served: Duration = report
        .phases
        .iter()
        .filter(|(phase, _)| *phase < UpgradePhase::Serving)
        .map(|(_, time)| *time)
        .sum();
    assert_eq!(report.back_after, Some(before_it_served));
}

fn p12_requests_in_the_window_stand_against_those_before() {
    let (server, operator) = start(Release { probation: LONG, ..Release::default() });
    let mut elder = server.client("main");
    assert_eq!(elder.ask("requests 100 2"), "\"counted\"");
    operator.until_probation();
    elder.ask("requests 7 0");
    assert!(server.ask("who").starts_with("1 "));
    server.ask("requests 50 1");
    let report = operator.run(operator.client.abort("enough")).unwrap();
    let window = report.window.unwrap();
    assert_eq!((window.requests, window.failed), (58, 1), "{report}");
    // The generation is younger than the window is long, or not: all that it has counted before
    // the wish came in that time, or what is known of it.
    let before = report.before.unwrap();
    assert!(before.length <= window.length && before.requests <= 102, "{report}");
    // Of a successor that was taken back no request is forgotten.
    let figures = operator.run(operator.client.metrics()).unwrap();
    for line in [
        "heirloom_requests_total{outcome=\"succeeded\"} 157",
        "heirloom_requests_total{outcome=\"failed\"} 3",
        "heirloom_window_requests_total 58",
        "heirloom_window_errors_total 1",
        "heirloom_rollbacks_total{cause=\"operator\"} 1",
    ] {
        assert!(figures.lines().any(|known| known == line), "{line} in\n{figures}");
    }
}

fn p12_a_roll_back_says_how_long_it_took_and_why() {
    let (server, operator) = start(Release { probation: LONG, ..Release::default() });
    for number in 1..=3 {
        operator.until_probation();
        server.signal(server.pid(number as u64), Signal::SIGKILL);
        let report = until("the roll back", || server.reports().into_iter().nth(number - 1));
        assert_eq!(report.cause_kind, Some(CauseKind::Died), "{report}");
        assert!(report.back_after.unwrap() < Duration::from_secs(1), "{report}");
    }
    server.next_release(|next| next.start = Start::Fail("no licence".into()));
    let report = operator.upgrade().unwrap();
    assert_eq!((report.cause_kind, report.back_after), (Some(CauseKind::Failed), None));
    let (reports, summary) = operator.run(operator.client.history_and_summary()).unwrap();
    assert_eq!(reports.len(), 4);
    assert_eq!((summary.rolled_back, summary.failed, summary.backs), (3, 1, 3));
    let longest = reports.iter().filter_map(|report| report.back_after).max();
    assert_eq!(Some(summary.longest_back), longest);
    assert!(summary.mean_back <= summary.longest_back && !summary.mean_back.is_zero());
}

fn p12_the_history_knows_what_a_drain_has_cut() {
    let release = Release { drain: Duration::from_millis(200), ..Release::default() };
    let (server, operator) = start(release);
    let mut held = server.client("main");
    held.ask("hold");
    assert_eq!(operator.upgrade().unwrap().outcome, UpgradeOutcome::Committed);
    // The elder writes it, its successor and whoever comes after read it.
    let drain = until("the end of the drain", || last(&operator).drain);
    assert_eq!((drain.cut, drain.moved), (1, 0), "{drain}");
    assert_eq!((drain.cut_by[0].listener.as_str(), drain.cut_by[0].count), ("main", 1));
    server.next_release(|next| next.drain = Duration::from_secs(20));
    server.until_gone(server.pid(0));
    assert_eq!(operator.upgrade().unwrap().outcome, UpgradeOutcome::Committed);
    let (reports, summary) = operator.run(operator.client.history_and_summary()).unwrap();
    assert_eq!(reports[0].drain.as_ref(), Some(&drain));
    assert!(reports[0].interrupted() && !reports[1].interrupted());
    assert_eq!((summary.committed, summary.interrupted, summary.cut), (2, 1, 1));
}

/// All lines of the files of this name.
fn lines(server: &Server) -> Vec<Value> {
    let mut all = Vec::new();
    for found in fs::read_dir(server.directory()).unwrap() {
        let path = found.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("upgrades.jsonl") {
            let text = fs::read_to_string(path).unwrap();
            all.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
        }
    }
    all.sort_by_key(|line| line["unix_ms"].as_u64());
    all
}

fn p12_two_generations_write_one_file() {
    let journal = Some("upgrades.jsonl".into());
    let server = Server::start(Release { journal, journal_bytes: 6_000, ..Release::default() });
    for _ in 0..6 {
        server.upgrade_well();
    }
    server.next_release(|next| next.start = Start::Fail("no licence".into()));
    server.upgrade_badly();
    server.stop();
    let lines = lines(&server);
    let of = |what: &str| lines.iter().filter(|line| !line[what].is_null()).collect::<Vec<_>>();
    assert!(lines.iter().all(|line| line["service"] == "fixture"), "{lines:#?}");
    let (upgrades, drains, stops) = (of("upgrade"), of("drained"), of("stopped"));
    assert_eq!((upgrades.len(), drains.len(), stops.len()), (7, 6, 1), "{lines:#?}");
    let numbers: Vec<u64> =
        upgrades.iter().map(|line| line["upgrade"]["to"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(upgrades[6]["upgrade"]["cause_kind"], "failed");
    assert!(server.path("upgrades.jsonl.1").exists(), "it is longer than 6 000 bytes");
}

fn p2_a_file_that_cannot_be_written_delays_no_upgrade() {
    let journal = Some("nowhere/upgrades.jsonl".into());
    let server = Server::start(Release { journal, ..Release::default() });
    server.upgrade_well();
    let pipe = server.path("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    server.next_release(|next| next.journal = Some("pipe".into()));
    server.upgrade_well();
    server.upgrade_well();
    server.stop();
    let trace = fs::read_to_string(server.path("trace.log")).unwrap();
    assert!(trace.contains("a line of the journal is lost"), "{trace}");
}

fn p2_a_full_disk_fails_no_upgrade() {
    if !disk::is_possible() {
        return;
    }
    let journal = Some(format!("{}/upgrades.jsonl", disk::NAME).into());
    let habits = vec![Habit::OwnDisk];
    let release = Release { journal, habits, ..Release::default() };
    let server = Server::start_by(release, disk::command);
    server.upgrade_well();
    let owner = server.owner();
    let path = disk::seen_by(owner, &server.path(disk::NAME).join("upgrades.jsonl"));
    let lines = || fs::read_to_string(&path).unwrap_or_default();
    until("the first lines", || (lines().lines().count() == 2).then_some(()));
    disk::fill(&disk::seen_by(owner, server.directory()));
    (0..3).for_each(|_| _ = server.upgrade_well());
    let owner = server.owner();
    let path = disk::seen_by(owner, &server.path(disk::NAME).join("upgrades.jsonl"));
    let text = fs::read_to_string(path).unwrap();
    for line in text.lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok(), "torn: {line}");
    }
    let trace = fs::read_to_string(server.path("trace.log")).unwrap();
    assert!(trace.contains("a line of the journal is lost"), "{trace}");
}
