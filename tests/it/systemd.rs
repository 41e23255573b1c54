//! The real systemd, in a container that `tests/systemd/run` makes. Left out everywhere else.

mod reload;
mod rights;
mod stopping;

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::client::Failure;
use crate::support::release::{Action, Side};
use crate::support::unit::{self, Unit, systemctl};
use crate::support::wait::until;
use crate::support::{Client, Load, Release, Socket};

const LONG: Duration = Duration::from_secs(3600);

/// They need a machine of their own.
pub(crate) fn trials() -> Vec<libtest_mimic::Trial> {
    let all: [(&str, fn()); 19] = [
        ("p12_twenty_reloads_by_signal_lose_nothing", reload::by_signal),
        ("p12_twenty_reloads_by_command_lose_nothing", reload::by_command),
        ("p12_a_reload_fails_when_the_upgrade_fails", reload::failing_command),
        ("p12_a_failed_upgrade_by_signal_leaves_the_service_active", reload::failing_signal),
        ("p12_a_reload_by_signal_and_command_fails_when_the_upgrade_fails", reload::both),
        ("p12_a_reload_fails_whichever_way_the_upgrade_fails", reload::each_failure),
        ("p4_a_reload_may_take_longer_than_the_start_timeout", reload::long),
        ("p1_a_crash_refuses_nobody", crash),
        ("p1_a_socket_unit_is_claimed_and_handed_on", socket_unit),
        ("p1_a_restart_refuses_nobody", stopping::restart),
        ("p1_a_stop_and_a_start_refuse_nobody_with_preserved_descriptors", stopping::preserve),
        ("p6_a_stop_long_after_an_upgrade_lets_work_finish", stopping::alone),
        ("p7_a_stop_during_an_upgrade_ends_both", stopping::during_upgrade),
        ("p7_a_drain_longer_than_the_stop_timeout_is_not_killed", stopping::long_drain),
        ("p10_the_watchdog_lives_on_over_upgrades", watchdog),
        ("p10_a_service_that_hangs_is_restarted_by_the_watchdog", hanging),
        ("p3_a_main_process_that_dies_beside_its_elder", owner_dies),
        ("p2_an_upgrade_works_in_the_hardened_unit", rights::hardened),
        ("p3_rights_are_dropped_before_ready", rights::dropped),
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

/// A figure for whoever runs it.
fn report(text: &str) {
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("  {text}\n").as_bytes());
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
        // A reload of a main process that is gone ends with this timeout.
        let lines = format!(
            "Type=notify-reload\nNotifyAccess={access}\nRestart=always\nRestartSec=100ms\n\
             TimeoutStartSec=3"
        );
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
