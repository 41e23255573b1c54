//! The real systemd, in a container that `tests/systemd/run` makes. Left out everywhere else.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::client::Failure;
use crate::support::release::{Action, Ailment, Health, Side, Start};
use crate::support::unit::{self, Unit, systemctl};
use crate::support::wait::until;
use crate::support::{Client, Load, Release, Socket, process};

const LONG: Duration = Duration::from_secs(3600);

/// They need a machine of their own.
pub(crate) fn trials() -> Vec<libtest_mimic::Trial> {
    let all: [(&str, fn()); 15] = [
        ("p12_twenty_reloads_by_signal_lose_nothing", by_signal),
        ("p12_twenty_reloads_by_command_lose_nothing", by_command),
        ("p12_a_reload_fails_when_the_upgrade_fails", failing_command),
        ("p12_a_failed_upgrade_by_signal_leaves_the_service_active", failing_signal),
        ("p12_a_reload_by_signal_and_command_fails_when_the_upgrade_fails", both),
        ("p1_a_crash_refuses_nobody", crash),
        ("p1_a_restart_refuses_nobody", restart),
        ("p1_a_socket_unit_is_claimed_and_handed_on", socket_unit),
        ("p7_a_stop_during_an_upgrade_ends_both", stop_during_upgrade),
        ("p7_a_drain_longer_than_the_stop_timeout_is_not_killed", long_drain),
        ("p10_the_watchdog_lives_on_over_upgrades", watchdog),
        ("p10_a_service_that_hangs_is_restarted_by_the_watchdog", hanging),
        ("p3_a_main_process_that_dies_beside_its_elder", owner_dies),
        ("p2_an_upgrade_works_in_the_hardened_unit", hardened),
        ("p3_rights_are_dropped_before_ready", dropped_rights),
    ];
    let ignored = !unit::may_run();
    all.into_iter()
        .map(|(name, test)| {
            let run = move || {
                test();
                Ok(())
            };
            libtest_mimic::Trial::test(format!("systemd::{name}"), run).with_ignored_flag(ignored)
        })
        .collect()
}

fn load(unit: &Unit) -> Load {
    let load = Load::start(&[unit.server.address("main")], 2);
    load.until_answered(5);
    load
}

/// What a client is answered by is what systemd takes for the main process.
fn assert_main(unit: &Unit) {
    let answerer = unit.server.client("main").who().unwrap();
    assert_eq!(unit.main_pid(), answerer.pid);
}

fn reload_twenty_times(unit: &Unit) {
    let load = load(unit);
    let mut mains = vec![unit.main_pid()];
    let mut longest = Duration::ZERO;
    for _ in 0..20 {
        load.until_answered(5);
        let begun = Instant::now();
        let reloaded = unit.systemctl("reload");
        longest = longest.max(begun.elapsed());
        assert!(reloaded.is_ok(), "{reloaded:?}\n{}", unit.journal());
        // It returns when the next generation serves, and owns.
        let generation = u64::try_from(mains.len()).unwrap();
        assert_eq!(unit.server.client("main").who().unwrap().generation, generation);
        assert_main(unit);
        mains.push(unit.main_pid());
        assert!(unit.show("StatusText").contains(&format!("generation {generation}")));
    }
    mains.dedup();
    assert_eq!(mains.len(), 21);
    let tally = load.finish();
    tally.assert_unharmed();
    unit.assert_one_story();
    report(&format!("20 reloads, the longest {longest:?}: {tally}"));
}

/// A figure for whoever runs it.
fn report(text: &str) {
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("  {text}\n").as_bytes());
}

fn by_signal() {
    let unit = Unit::start(Release::default(), "Type=notify-reload");
    reload_twenty_times(&unit);
}

fn by_command() {
    let unit = Unit::start(Release::default(), &Unit::asks());
    reload_twenty_times(&unit);
}

/// An upgrade that fails before the turn, and one that is rolled back.
fn fail_twice(unit: &Unit, reload_fails: bool) {
    let load = load(unit);
    let main = unit.main_pid();
    unit.server.next_release(|release| release.start = Start::Fail("the cache is gone".into()));
    assert_eq!(unit.systemctl("reload").is_err(), reload_fails, "{}", unit.journal());
    assert!(unit.show("StatusText").contains("the cache is gone"));
    unit.server.next_release(|release| {
        release.start = Start::Well;
        release.probation = Duration::from_secs(2);
        release.ailment = Some((Duration::from_millis(10), Ailment::Fail));
    });
    // The predecessor's probation is what counts: the first that succeeds makes it long.
    let _ = unit.systemctl("reload");
    assert_eq!(unit.show("ActiveState"), "active");
    assert_main(unit);
    if unit.main_pid() == main {
        assert!(unit.show("StatusText").contains("told to fail"), "{}", unit.show("StatusText"));
    }
    load.until_answered(5);
    load.finish().assert_unharmed();
    unit.server.next_release(|release| release.ailment = None);
    unit.systemctl("reload").unwrap();
    assert_main(unit);
    assert_eq!(unit.show("NRestarts"), "0");
    assert_eq!(unit.show("ActiveExitTimestampMonotonic"), "0");
}

fn failing_command() {
    let release = Release { probation: Duration::from_millis(500), ..Release::default() };
    let unit = Unit::start(release, &Unit::asks());
    fail_twice(&unit, true);
}

/// The protocol has no word for it: the reload succeeds, and the status says what happened.
fn failing_signal() {
    let release = Release { probation: Duration::from_millis(500), ..Release::default() };
    let unit = Unit::start(release, "Type=notify-reload");
    fail_twice(&unit, false);
}

/// The signal of `notify-reload` means nothing to the server then.
fn both() {
    let lines = format!("Type=notify-reload\nReloadSignal=SIGURG\n{}", Unit::asks());
    let release = Release { probation: Duration::from_millis(500), ..Release::default() };
    let unit = Unit::start(release, &lines);
    fail_twice(&unit, true);
}

const KEEPS: &str = "Restart=always\nRestartSec=200ms\nFileDescriptorStoreMax=64";

fn crash() {
    let unit = Unit::start(Release::with([Socket::tcp("main"), Socket::unix("admin")]), KEEPS);
    assert_eq!(unit.show("NFileDescriptorStore"), "2");
    unit.server.signal(unit.main_pid(), Signal::SIGHUP);
    unit.server.until_owner(1);
    unit.until_shows("MainPID", |pid| pid == unit.server.pid(1).to_string());
    let load = load(&unit);
    for round in 1..=3 {
        let main = unit.main_pid();
        unit.server.signal(main, Signal::SIGKILL);
        unit.until_shows("NRestarts", |restarts| restarts == round.to_string());
        unit.until_shows("ActiveState", |state| state == "active");
        load.until_answered(20);
        assert_ne!(unit.main_pid(), main);
    }
    assert_eq!(unit.show("NFileDescriptorStore"), "2");
    let tally = load.finish();
    // Only what was in flight in the process that was killed: two clients, three times.
    assert!(
        tally
            .failed()
            .keys()
            .all(|failure| { matches!(failure, Failure::Reset | Failure::Closed) }),
        "{tally}"
    );
    assert!(tally.failures.len() <= 6, "{tally}");
    report(&format!("3 crashes: {tally}"));
}

fn restart() {
    let unit = Unit::start(
        Release::with([Socket::tcp("main"), Socket::unix("admin")]),
        &format!("{KEEPS}\nType=notify-reload"),
    );
    let addresses = [unit.server.address("main"), unit.server.address("admin")];
    let load = Load::start(&addresses, 2);
    for _ in 0..3 {
        unit.systemctl("reload").unwrap();
        unit.systemctl("restart").unwrap();
        load.until_answered(20);
    }
    let tally = load.finish();
    tally.assert_unharmed();
    report(&format!("3 restarts: {tally}"));
}

fn socket_unit() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let unit = Unit::prepare(Release::with([Socket::tcp("main")]), KEEPS);
    let socket = format!("[Socket]\nListenStream={free}\nFileDescriptorName=main\n");
    unit.write("socket", &socket);
    systemctl(&["start", &format!("{}.socket", unit.name)]).unwrap();
    unit.systemctl("start").unwrap();
    let address = unit.server.address("main");
    let load = load(&unit);
    for generation in 1..=3 {
        unit.server.signal(unit.main_pid(), Signal::SIGHUP);
        unit.server.until_owner(generation);
        unit.until_shows("StatusText", |text| {
            text.starts_with(&format!("generation {generation}"))
        });
        assert_eq!(unit.server.address("main"), address);
    }
    // It is in the fd store as well, and counts once.
    unit.systemctl("restart").unwrap();
    load.until_answered(20);
    assert_eq!(unit.server.address("main"), address);
    load.finish().assert_unharmed();
}

fn stop_during_upgrade() {
    let unit = Unit::start(Release { probation: LONG, ..Release::default() }, "TimeoutStopSec=10");
    let main = unit.main_pid();
    unit.server.signal(main, Signal::SIGHUP);
    let successor = unit.server.until_role(1, "successor");
    unit.systemctl("stop").unwrap();
    assert_eq!(unit.show("Result"), "success");
    assert!(!process::lives(main) && !process::lives(successor));
}

fn long_drain() {
    let release = Release { drain: LONG, ..Release::default() };
    let unit = Unit::start(release, "TimeoutStopSec=1\nType=notify-reload");
    let mut elder = unit.server.client("main");
    assert_eq!(elder.ask("hold"), "held 0");
    unit.systemctl("reload").unwrap();
    let mut held = unit.server.client("main");
    assert_eq!(held.ask("hold"), "held 1");
    let begun = Instant::now();
    systemctl(&["stop", "--no-block", &unit.name]).unwrap();
    unit.server.until_role(1, "stopping");
    until("three times the timeout to pass", || {
        (begun.elapsed() > Duration::from_secs(3)).then_some(())
    });
    assert_eq!(unit.show("ActiveState"), "deactivating");
    assert_eq!(elder.ask("release"), "released 0");
    assert_eq!(held.ask("release"), "released 1");
    unit.until_shows("ActiveState", |state| state == "inactive");
    assert_eq!(unit.show("Result"), "success");
}

fn watchdog() {
    let unit = Unit::start(Release::default(), "WatchdogSec=2s\nRestart=always");
    let load = load(&unit);
    for generation in 1..=5 {
        unit.server.signal(unit.main_pid(), Signal::SIGHUP);
        unit.server.until_owner(generation);
        let pid = unit.server.pid(generation).to_string();
        unit.until_shows("MainPID", |main| main == pid);
        let begun = Instant::now();
        until("the watchdog's time to pass", || {
            (begun.elapsed() > Duration::from_secs(2)).then_some(())
        });
    }
    load.finish().assert_unharmed();
    unit.assert_one_story();
}

fn hanging() {
    let lines = format!("WatchdogSec=2s\nTimeoutAbortSec=2\n{KEEPS}");
    let unit = Unit::start(Release::default(), &lines);
    unit.server.fault(Side::Predecessor, "owns", Action::BlockWorkers(LONG));
    unit.server.signal(unit.main_pid(), Signal::SIGHUP);
    unit.until_shows("NRestarts", |restarts| restarts == "1");
    unit.until_shows("ActiveState", |state| state == "active");
    until("an answer", || Client::connect(&unit.server.address("main")).ok()?.who().ok());
    assert!(unit.journal().contains("Watchdog timeout"), "{}", unit.journal());
}

/// With `NotifyAccess=main` the elder cannot be heard when the main process is gone; with `all` it
/// can. Either way it serves.
fn owner_dies() {
    for (access, heard) in [("main", false), ("all", true)] {
        let lines =
            format!("Type=notify-reload\nNotifyAccess={access}\nRestart=always\nRestartSec=100ms");
        let unit = Unit::start(Release { drain: LONG, ..Release::default() }, &lines);
        let first = unit.main_pid();
        let mut held = unit.server.client("main");
        assert_eq!(held.ask("hold"), "held 0");
        unit.server.signal(first, Signal::SIGHUP);
        let second = unit.server.until_owner(1);
        unit.until_shows("MainPID", |main| main == second.to_string());
        unit.server.signal(second, Signal::SIGKILL);
        unit.server.until_entry("status", |entry| {
            entry.pid == first
                && entry.generation == Some(0)
                && entry.data["role"] == "owner"
                && entry.at_us > 0
        });
        if heard {
            unit.until_shows("MainPID", |main| main == first.to_string());
            assert_eq!(held.ask("release"), "released 0");
        }
        report(&format!(
            "NotifyAccess={access}: main {} (elder {first}, killed {second}), {} {}",
            unit.main_pid(),
            unit.show("ActiveState"),
            unit.show("SubState"),
        ));
        until("an answer", || Client::connect(&unit.server.address("main")).ok()?.who().ok());
        let reloaded = unit.systemctl("reload");
        report(&format!(
            "NotifyAccess={access}: then a reload {reloaded:?}: main {}, {}, restarts {}",
            unit.main_pid(),
            unit.show("ActiveState"),
            unit.show("NRestarts"),
        ));
        until("an answer", || Client::connect(&unit.server.address("main")).ok()?.who().ok());
    }
}

/// The unit that is shipped, and its hardening.
const SHIPPED: &str = include_str!("../../examples/deploy/systemd/server.service");
const HARDENED: &str = include_str!("../../examples/deploy/systemd/hardening.conf");

fn hardened() {
    let release = Release {
        sockets: vec![Socket::tcp("main"), Socket::unix("admin")],
        health: vec![Health::of("main")],
        ..Release::default()
    };
    let service = SHIPPED.split("[Service]").nth(1).unwrap().split("[Install]").next().unwrap();
    let ours = service.lines().filter(|line| !line.starts_with("ExecStart="));
    let unit = Unit::prepare(release, &ours.collect::<Vec<_>>().join("\n"));
    let directory = unit.server.directory().display().to_string();
    let lines = HARDENED.split("[Service]").nth(1).unwrap();
    std::fs::create_dir_all(format!("/run/systemd/system/{}.service.d", unit.name)).unwrap();
    let path = format!("/run/systemd/system/{}.service.d/hardening.conf", unit.name);
    std::fs::write(&path, format!("[Service]\n{lines}\nReadWritePaths={directory}\n")).unwrap();
    allow_everybody(&unit);
    systemctl(&["daemon-reload"]).unwrap();
    unit.systemctl("start").unwrap();
    let load = load(&unit);
    for _ in 0..3 {
        let reloaded = unit.systemctl("reload");
        assert!(reloaded.is_ok(), "{reloaded:?}\n{}", unit.journal());
        assert_main(&unit);
        let user = process::user(unit.main_pid()).unwrap();
        assert!(user >= 61184, "DynamicUser= was not heeded: {user}");
    }
    load.finish().assert_unharmed();
    let security = std::process::Command::new("systemd-analyze")
        .args(["security", "--no-pager", &format!("{}.service", unit.name)])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&security.stdout).into_owned();
    report(said.lines().last().unwrap_or_default());
    std::fs::remove_dir_all(format!("/run/systemd/system/{}.service.d", unit.name)).unwrap();
}

fn allow_everybody(unit: &Unit) {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(unit.server.directory(), mode).unwrap();
}

/// Bound by root, served by a user; the next generation is that user from the start.
fn dropped_rights() {
    let release = Release {
        sockets: vec![Socket::tcp("main").at("127.0.0.1:80")],
        user: Some(65_533),
        ..Release::default()
    };
    let unit = Unit::prepare(release, "Type=notify-reload");
    allow_everybody(&unit);
    unit.systemctl("start").unwrap();
    for name in ["events.jsonl", "trace.log"] {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::Permissions::from_mode(0o666);
        std::fs::set_permissions(unit.server.path(name), mode).unwrap();
    }
    for _ in 0..3 {
        let reloaded = unit.systemctl("reload");
        assert!(reloaded.is_ok(), "{reloaded:?}\n{}", unit.journal());
        assert_eq!(process::user(unit.main_pid()), Some(65_533));
        assert_main(&unit);
    }
    unit.assert_one_story();
}
