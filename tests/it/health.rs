//! Health checks through the front door: what they find, and whom they ask.

use std::time::{Duration, Instant};

use heirloom::{Report, UpgradeOutcome, UpgradePhase};
use nix::sys::signal::Signal;

use crate::support::release::{Habit, Health, Socket};
use crate::support::wait::pause;
use crate::support::{Load, Operator, Release, Server};

trials![
    a_healthy_successor_commits,
    probation_goes_on_until_the_successor_is_healthy,
    p2_a_successor_that_never_answers_is_taken_back,
    p2_a_successor_that_answers_wrong_is_taken_back,
    p2_a_successor_that_accepts_nothing_is_taken_back,
    p4_a_successor_that_never_becomes_healthy_meets_the_progress_deadline,
    a_check_reaches_every_member_of_a_group,
    a_check_goes_through_a_unix_socket_as_well,
    a_successor_that_is_saturated_as_its_predecessor_was_is_not_taken_back,
    a_check_of_a_listener_that_the_release_does_not_have_says_so,
    a_release_is_not_judged_by_a_door_that_an_operator_has_closed,
    p3_a_predecessor_that_was_stopped_does_not_blame_its_successor,
];

fn checked(listener: &str) -> Release {
    Release { health: vec![Health::of(listener)], ..Release::default() }
}

fn taken_back(server: &Server, why: &str) -> Report {
    let report = server.upgrade_badly();
    assert_eq!(report.outcome, UpgradeOutcome::RolledBack, "{report}");
    assert_eq!(report.phase, UpgradePhase::Probation, "{report}");
    assert!(report.cause.as_deref().unwrap().contains(why), "{report}");
    assert!(server.ask("who").starts_with("0 "));
    report
}

fn a_healthy_successor_commits() {
    let release = Release { probation: Duration::from_millis(300), ..checked("main") };
    let server = Server::start(release);
    server.upgrade_well();
    server.upgrade_well();
}

fn probation_goes_on_until_the_successor_is_healthy() {
    // Three passes take at least two intervals, long after probation.
    let health = Health { healthy: 3, interval: Duration::from_millis(200), ..Health::of("main") };
    let healthy = Duration::from_millis(200);
    let server = Server::start(Release {
        probation: Duration::ZERO,
        health: vec![health],
        min_healthy_time: healthy,
        ..Release::default()
    });
    let report = server.upgrade();
    assert_eq!(report.outcome, UpgradeOutcome::Committed, "{report}");
    let in_probation = report.phases.iter().find(|(phase, _)| *phase == UpgradePhase::Probation);
    let (_, length) = in_probation.unwrap();
    assert!(*length >= Duration::from_millis(400) + healthy, "{report}");
}

fn p2_a_successor_that_never_answers_is_taken_back() {
    let server = Server::start(Release {
        health: vec![Health { timeout: Duration::from_millis(300), ..Health::of("main") }],
        probation: Duration::from_secs(60),
        drain: Duration::from_millis(500),
        ..Release::default()
    });
    server.next_release(|release| release.habits.push(Habit::NeverAnswers));
    let report = taken_back(&server, "no answer");
    assert_eq!(report.accepted, Some(0), "checks are no clients: {report}");
}

fn p2_a_successor_that_answers_wrong_is_taken_back() {
    let release = Release { probation: Duration::from_secs(60), ..checked("main") };
    let server = Server::start(release);
    server.next_release(|release| release.habits.push(Habit::AnswersWrong));
    taken_back(&server, "something else");
}

fn p2_a_successor_that_accepts_nothing_is_taken_back() {
    let server = Server::start(Release {
        health: vec![Health { timeout: Duration::from_millis(300), ..Health::of("main") }],
        probation: Duration::from_secs(60),
        ..Release::default()
    });
    server.next_release(|release| {
        release.sockets = vec![Socket::tcp("main").not_accepting()];
    });
    let load = Load::start(&[server.address("main")], 2);
    load.until_answered(20);
    taken_back(&server, "not accepted");
    load.until_answered(20);
    let tally = load.finish();
    assert!(tally.failures.is_empty(), "whoever waited was served: {tally}");
}

/// P4: neither healthy nor unhealthy is no place to stay.
fn p4_a_successor_that_never_becomes_healthy_meets_the_progress_deadline() {
    let server = Server::start(Release {
        health: vec![Health { unhealthy: u32::MAX, ..Health::of("main") }],
        probation: Duration::ZERO,
        progress: Duration::from_secs(2),
        drain: Duration::from_millis(500),
        ..Release::default()
    });
    server.next_release(|release| release.habits.push(Habit::AnswersWrong));
    let report = taken_back(&server, "too late with its health");
    assert!(report.cause.as_deref().unwrap().contains("something else"), "{report}");
}

fn a_check_reaches_every_member_of_a_group() {
    let server =
        Server::start(Release { sockets: vec![Socket::group("main", 4)], ..checked("main") });
    server.upgrade_well();
    // One member of four is served by nobody.
    server.next_release(|release| {
        release.health[0].timeout = Duration::from_millis(500);
    });
    server.upgrade_well();
    server.next_release(|release| release.habits.push(Habit::NeglectsOneMember));
    let report = server.upgrade_badly();
    assert_eq!(report.outcome, UpgradeOutcome::RolledBack, "{report}");
}

fn a_check_goes_through_a_unix_socket_as_well() {
    let sockets = vec![Socket::tcp("main"), Socket::unix("path")];
    let server = Server::start(Release { sockets, ..checked("path") });
    server.upgrade_well();
    server.next_release(|release| release.habits.push(Habit::AnswersWrong));
    let report = server.upgrade_badly();
    assert!(report.cause.as_deref().unwrap().contains("path"), "{report}");
}

/// Both accept five connections a second, and clients want more: whoever asks waits longer than the
/// check does.
fn a_successor_that_is_saturated_as_its_predecessor_was_is_not_taken_back() {
    let slow = Socket::tcp("main").pace(Duration::from_millis(200));
    let server = Server::start(Release {
        sockets: vec![slow],
        health: vec![Health {
            timeout: Duration::from_millis(300),
            interval: Duration::from_millis(100),
            unhealthy: 1,
            ..Health::of("main")
        }],
        start_delay: Duration::from_millis(600),
        probation: Duration::from_secs(1),
        ..Release::default()
    });
    let load = Load::start(&[server.address("main")], 8);
    load.until_answered(10);
    let began = Instant::now();
    let report = server.upgrade();
    assert_eq!(report.outcome, UpgradeOutcome::Committed, "{report}");
    assert!(began.elapsed() >= Duration::from_secs(1), "{report}");
    load.until_answered(5);
    let tally = load.finish();
    assert!(tally.failures.is_empty(), "{tally}");
}

fn a_check_of_a_listener_that_the_release_does_not_have_says_so() {
    let sockets = vec![Socket::tcp("main"), Socket::tcp("admin")];
    let server = Server::start(Release { sockets, ..checked("admin") });
    server.next_release(|release| release.sockets.truncate(1));
    let report = server.upgrade_badly();
    assert!(report.cause.as_deref().unwrap().contains("admin"), "{report}");
    assert!(server.ask("who").starts_with("0 "));
}

/// P3: stopped in the midst of a check, it wakes when the time for the answer is over. What came
/// meanwhile counts, and what it never asked was not refused.
fn a_release_is_not_judged_by_a_door_that_an_operator_has_closed() {
    let server = Server::start(Release { control: true, ..checked("main") });
    let operator = Operator::of(server.directory());
    operator.run(operator.client.pause()).unwrap();
    for _ in 0..2 {
        let report = operator.upgrade().unwrap();
        assert_eq!(report.outcome, UpgradeOutcome::Committed, "{report}");
        let said = |note: &String| note.contains("no health check could be made");
        assert!(report.notes.iter().any(said), "{report}");
    }
    operator.run(operator.client.resume()).unwrap();
    server.next_release(|next| next.habits = vec![Habit::AnswersWrong]);
    let report = operator.upgrade().unwrap();
    assert_eq!(report.outcome, UpgradeOutcome::RolledBack, "{report}");
}

fn p3_a_predecessor_that_was_stopped_does_not_blame_its_successor() {
    let health = Health {
        interval: Duration::from_millis(1),
        timeout: Duration::from_millis(400),
        unhealthy: 1,
        ..Health::of("main")
    };
    let server = Server::start(Release {
        health: vec![health],
        probation: Duration::from_secs(3600),
        ..Release::default()
    });
    let mut operator = server.client("main");
    server.signal(server.pid(0), Signal::SIGHUP);
    server.until_role(1, "successor");
    for _ in 0..8 {
        server.signal(server.pid(0), Signal::SIGSTOP);
        // Longer than a check may take.
        pause(Duration::from_millis(500));
        server.signal(server.pid(0), Signal::SIGCONT);
        assert!(operator.ask("who").starts_with("0 "));
    }
    let told = operator.ask("commit");
    assert!(told.contains("committed"), "{told}");
    server.until_owner(1);
}
