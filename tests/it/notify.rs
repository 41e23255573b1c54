//! What a service manager is told, and what it can make of it.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use heirloom::UpgradeOutcome;
use nix::sys::signal::Signal;

use crate::support::manager::{Manager, Said};
use crate::support::release::{Action, Ailment, Habit, Side, Start};
use crate::support::{Load, Release, Server, Socket, process};

trials![
    p12_a_manager_hears_the_story_of_an_upgrade_in_order,
    p12_an_abstract_notify_socket_is_heard,
    p12_a_failed_upgrade_is_told_with_its_cause,
    p12_a_rolled_back_upgrade_is_told_with_its_cause,
    p2_a_successor_says_nothing_before_the_verdict,
    p3_a_predecessor_that_slept_still_names_the_main_process,
    p3_a_generation_that_owns_again_says_so,
    p7_more_time_is_asked_for_again_and_again_while_a_stop_drains,
    p7_more_time_is_asked_for_again_and_again_during_the_notice_of_a_stop,
    p10_the_watchdog_is_fed_by_the_owner_alone,
    p10_a_watchdog_is_not_fed_while_the_application_says_that_it_is_not_well,
    p1_a_killed_service_gets_its_sockets_back_from_the_store,
    p5_what_is_not_wanted_any_more_leaves_the_store,
    p4_a_manager_that_is_gone_keeps_nobody_waiting,
];

const LONG: Duration = Duration::from_secs(3600);

fn start(release: Release, variables: &str) -> (Server, Manager) {
    let server = Server::prepare(release);
    let manager = Manager::at(server.directory());
    server.launch(|directory| manager.starts(directory, variables));
    server.until_owner(0);
    (server, manager)
}

/// The messages that change something, each by what it is; statuses and time asked for are left
/// out.
fn acts(manager: &Manager) -> Vec<(i32, String)> {
    let said = manager.said();
    let kind = |said: &Said| {
        let first = said.lines.first()?;
        let beside = ["STATUS=", "EXTEND_TIMEOUT_USEC=", "WATCHDOG=", "FDSTORE"];
        if beside.iter().any(|beside| first.starts_with(beside)) {
            return None;
        }
        let numbered = ["MONOTONIC_USEC=", "MAINPIDFDID=", "STATUS=", "WATCHDOG="];
        let kept = said
            .lines
            .iter()
            .filter(|line| !numbered.iter().any(|numbered| line.starts_with(numbered)));
        Some((said.pid, kept.cloned().collect::<Vec<_>>().join(" ")))
    };
    said.iter().filter_map(kind).collect()
}

/// P12. And nobody but the main process of that moment has said anything.
fn p12_a_manager_hears_the_story_of_an_upgrade_in_order() {
    let (server, manager) = start(Release::default(), "");
    let first = server.pid(0);
    let second = server.upgrade_well();
    server.until_gone(first);
    server.stop();
    let expected = [
        (first, format!("READY=1 MAINPID={first}")),
        (first, String::from("RELOADING=1")),
        (first, format!("MAINPID={second} READY=1")),
        (second, format!("READY=1 MAINPID={second}")),
        (first, String::from("BARRIER=1")),
        (second, String::from("STOPPING=1")),
        (second, String::from("BARRIER=1")),
    ];
    let mut got = acts(&manager);
    // The elder's last word and the owner's first are not ordered.
    got.sort_by_key(|(pid, text)| (*pid == second, text.starts_with("BARRIER")));
    let mut sorted = expected.clone();
    sorted.sort_by_key(|(pid, text)| (*pid == second, text.starts_with("BARRIER")));
    assert_eq!(got, sorted);
    let said = manager.said();
    let place = |text: &str| acts(&manager).iter().position(|(_, other)| other == text).unwrap();
    assert!(place(&expected[2].1) < place(&expected[3].1));
    let unheard = said.iter().filter(|said| !said.heard && !said.has("BARRIER=1"));
    assert_eq!(unheard.count(), 0, "{said:?}");
    let reloading = said.iter().find(|said| said.has("RELOADING=1")).unwrap();
    assert!(reloading.value("MONOTONIC_USEC").unwrap().parse::<u64>().unwrap() > 0);
    for phase in ["spawn", "offer", "probation", "commit"] {
        let status = format!("STATUS=upgrades to generation 1: {phase}");
        assert!(said.iter().any(|said| said.has(&status)), "{phase}: {said:?}");
    }
    assert_eq!(manager.main(), second);
}

/// P12.
fn p12_an_abstract_notify_socket_is_heard() {
    let server = Server::prepare(Release::default());
    let manager = Manager::at_abstract(server.directory());
    server.launch(|directory| manager.starts(directory, ""));
    server.until_owner(0);
    let second = server.upgrade_well();
    manager.until_said("the new owner", 0, |said| said.pid == second && said.has("READY=1"));
}

/// P12. There is no 'reload failed': the old one is ready, and its status has the cause.
fn p12_a_failed_upgrade_is_told_with_its_cause() {
    let (server, manager) = start(Release::default(), "");
    server.next_release(|release| release.start = Start::Fail("the cache is gone".into()));
    server.upgrade_badly();
    let first = server.pid(0);
    let (_, ready) = manager.until_said("the end of the reload", 0, |said| {
        said.has("READY=1") && said.value("STATUS").is_some_and(|status| status.contains("cache"))
    });
    assert_eq!((ready.pid, ready.heard), (first, true));
    let expected = [format!("READY=1 MAINPID={first}"), "RELOADING=1".into(), "READY=1".into()];
    assert_eq!(acts(&manager), expected.map(|text| (first, text)));
}

/// P12.
fn p12_a_rolled_back_upgrade_is_told_with_its_cause() {
    let (server, manager) =
        start(Release { probation: Duration::from_millis(800), ..Release::default() }, "");
    server.next_release(|release| {
        release.ailment = Some((Duration::from_millis(10), Ailment::Exit(7)));
    });
    let report = server.upgrade_badly();
    assert_eq!(report.outcome, UpgradeOutcome::RolledBack, "{report}");
    let first = server.pid(0);
    let (_, ready) = manager.until_said("the end of the reload", 0, |said| {
        said.has("READY=1") && said.value("STATUS").is_some_and(|status| status.contains("rolled"))
    });
    assert!(ready.value("STATUS").unwrap().contains("status 7"), "{ready:?}");
    assert!(manager.said().iter().all(|said| said.pid == first), "{:?}", manager.said());
    assert_eq!(manager.main(), first);
}

/// P2. Neither that it is ready, nor that it lives.
fn p2_a_successor_says_nothing_before_the_verdict() {
    let release = Release { probation: LONG, ..Release::default() };
    let (server, manager) = start(release, "WATCHDOG_USEC=40000 WATCHDOG_PID=$$");
    let first = server.pid(0);
    server.signal(first, Signal::SIGHUP);
    server.until_role(1, "successor");
    // Two signs of life of the owner later.
    let now = manager.said().len();
    let (at, _) = manager.until_said("a sign of life", now, |said| said.has("WATCHDOG=1"));
    manager.until_said("another", at + 1, |said| said.has("WATCHDOG=1"));
    assert!(manager.said().iter().all(|said| said.pid == first), "{:?}", manager.said());
}

/// P3. What the new owner said meanwhile was not heard; 'ready' comes with its name.
fn p3_a_predecessor_that_slept_still_names_the_main_process() {
    let (server, manager) = start(
        Release {
            probation: Duration::from_millis(300),
            silence: Duration::from_secs(2),
            commit: Duration::from_secs(1),
            ..Release::default()
        },
        "",
    );
    server.fault(Side::Predecessor, "probation", Action::Stop);
    let first = server.pid(0);
    server.signal(first, Signal::SIGHUP);
    let second = server.until_owner(1);
    let (at, unheard) = manager.until_said("the new owner", 0, |said| said.pid == second);
    assert!(unheard.has("READY=1") && !unheard.heard, "{unheard:?}");
    server.signal(first, Signal::SIGCONT);
    let named = format!("MAINPID={second}");
    let (_, late) =
        manager.until_said("its name", at, |said| said.pid == first && said.has(&named));
    assert!(late.has("READY=1") && late.heard, "{late:?}");
    assert_eq!(manager.main(), second);
}

/// P3. Whether it is heard depends on `NotifyAccess=`: here the main process is gone.
fn p3_a_generation_that_owns_again_says_so() {
    let (server, manager) = start(Release { drain: LONG, ..Release::default() }, "");
    let first = server.pid(0);
    let mut held = server.client("main");
    assert_eq!(held.ask("hold"), "held 0");
    let second = server.upgrade_well();
    let (at, _) = manager.until_said("the new owner", 0, |said| said.pid == second);
    server.signal(second, Signal::SIGKILL);
    let own = format!("MAINPID={first}");
    let (_, again) = manager.until_said("the old one again", at, |said| said.has(&own));
    assert!(again.has("READY=1") && again.pid == first && !again.heard, "{again:?}");
}

/// P7. The manager's own deadline may be shorter than the drain.
fn p7_more_time_is_asked_for_again_and_again_while_a_stop_drains() {
    let (server, manager) = start(Release { drain: LONG, ..Release::default() }, "");
    let mut held = server.client("main");
    assert_eq!(held.ask("hold"), "held 0");
    let first = server.pid(0);
    server.signal(first, Signal::SIGTERM);
    let (stops, _) = manager.until_said("the stop", 0, |said| said.has("STOPPING=1"));
    let asks = |said: &Said| said.value("EXTEND_TIMEOUT_USEC") == Some("15000000");
    let (at, _) = manager.until_said("more time", stops, asks);
    manager.until_said("more time again", at + 1, asks);
    assert_eq!(held.ask("release"), "released 0");
    server.until_gone(first);
}

/// P7. What load balancers need to notice counts as well, and the last that is said covers what
/// the process needs to end.
fn p7_more_time_is_asked_for_again_and_again_during_the_notice_of_a_stop() {
    let release =
        Release { stop_notice: LONG, shutdown: Duration::from_secs(60), ..Release::default() };
    let (server, manager) = start(release, "");
    let first = server.pid(0);
    server.signal(first, Signal::SIGTERM);
    let (stops, _) = manager.until_said("the stop", 0, |said| said.has("STOPPING=1"));
    let asks = |said: &Said| said.value("EXTEND_TIMEOUT_USEC") == Some("15000000");
    let (at, _) = manager.until_said("more time", stops, asks);
    let (at, _) = manager.until_said("more time again", at + 1, asks);
    server.signal(first, Signal::SIGTERM);
    server.until_gone(first);
    manager.until_said("time for the end", at + 1, |said| {
        said.value("EXTEND_TIMEOUT_USEC") == Some("75000000")
    });
}

/// P10, P3. An elder does not feed it, and a successor gets its interval.
fn p10_the_watchdog_is_fed_by_the_owner_alone() {
    let (server, manager) =
        start(Release { drain: LONG, ..Release::default() }, "WATCHDOG_USEC=60000 WATCHDOG_PID=$$");
    let first = server.pid(0);
    let mut held = server.client("main");
    assert_eq!(held.ask("hold"), "held 0");
    let fed = |said: &Said| said.lines == ["WATCHDOG=1"];
    manager.until_said("a sign of life", 0, fed);
    let second = server.upgrade_well();
    let (mut at, _) = manager.until_said("the new owner", 0, |said| said.pid == second);
    let begun = at;
    for _ in 0..5 {
        let (next, said) = manager.until_said("a sign of life", at + 1, fed);
        assert_eq!(said.pid, second);
        at = next;
    }
    let of_first = manager.said()[begun..].iter().filter(|said| said.pid == first).count();
    assert_eq!(of_first, 0);
}

/// P10.
fn p10_a_watchdog_is_not_fed_while_the_application_says_that_it_is_not_well() {
    let release = Release { habits: vec![Habit::MayVeto], ..Release::default() };
    let (server, manager) = start(release, "WATCHDOG_USEC=60000");
    let fed = |said: &Said| said.has("WATCHDOG=1");
    manager.until_said("a sign of life", 0, |said| said.lines == ["WATCHDOG=1"]);
    fs::write(server.path("ill"), "the queue is stuck").unwrap();
    let vetoed = |said: &Said| {
        said.value("STATUS").is_some_and(|status| status.contains("the queue is stuck"))
    };
    let (at, _) = manager.until_said("the veto", 0, vetoed);
    let (then, _) = manager.until_said("the veto again", at + 1, vetoed);
    assert!(!manager.said()[at..=then].iter().any(fed));
    fs::remove_file(server.path("ill")).unwrap();
    manager.until_said("a sign of life again", then, fed);
}

/// What a manager does that restarts a service with what it has stored.
fn restarted(manager: &Manager, directory: &Path) -> Command {
    let passed = "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=main; exec 3<&0 </dev/null";
    manager.starts(directory, passed)
}

/// P1. Whoever connects meanwhile waits in the backlog; only the work in flight is lost.
fn p1_a_killed_service_gets_its_sockets_back_from_the_store() {
    for socket in [Socket::tcp("main"), Socket::unix("main")] {
        kill_and_restart(Release::with([socket]));
    }
}

fn kill_and_restart(release: Release) {
    let (server, manager) = start(release, "");
    let address = server.address("main");
    let second = server.upgrade_well();
    manager.until_said("the store", 0, |said| said.pid == second && said.has("FDSTORE=1"));
    assert!(manager.stored().iter().all(|name| name == "main"), "{:?}", manager.stored());
    server.signal(second, Signal::SIGKILL);
    server.until_gone(second);
    let load = Load::start(std::slice::from_ref(&address), 1);
    manager.forget_main();
    let stored: OwnedFd = manager.copy("main");
    let third = server.launch_on(Stdio::from(stored), |directory| restarted(&manager, directory));
    manager.until_said("the new start", 0, |said| said.pid == third && said.has("READY=1"));
    assert_eq!(server.address("main"), address);
    load.until_answered(20);
    load.finish().assert_unharmed();
    server.upgrade_well();
}

/// P5. A name that a release does not claim, and one that it moves.
fn p5_what_is_not_wanted_any_more_leaves_the_store() {
    let all = [Socket::tcp("main"), Socket::tcp("extra"), Socket::unix("admin")];
    let (server, manager) = start(Release::with(all), "");
    manager.until_said("the last of them", 0, |said| said.value("FDNAME") == Some("admin"));
    assert_eq!(manager.stored(), ["admin", "extra", "main"]);
    server.next_release(|release| release.sockets.retain(|socket| socket.name != "extra"));
    let second = server.upgrade_well();
    manager.until_said("the store of the new owner", 0, |said| {
        said.pid == second && said.value("FDNAME") == Some("admin")
    });
    let mut names = manager.stored();
    // This manager does not see that it holds the same socket already.
    names.dedup();
    assert_eq!(names, ["admin", "main"]);
}

/// P4. It ends as fast as without one.
fn p4_a_manager_that_is_gone_keeps_nobody_waiting() {
    let (server, manager) = start(Release::default(), "WATCHDOG_USEC=60000");
    drop(manager);
    let first = server.pid(0);
    let begun = std::time::Instant::now();
    server.upgrade_well();
    server.until_gone(first);
    server.stop();
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert!(process::born_in(server.directory()).is_empty());
}
