//! Restarts and stops.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{KEEPS, LONG, report};
use crate::support::unit::{Unit, systemctl};
use crate::support::wait::until;
use crate::support::{Load, Release, Socket, process};

pub(super) fn restart() {
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

/// P1. With `FileDescriptorStorePreserve=yes` the sockets are open while nobody runs: whoever
/// connects waits for the next start.
pub(super) fn preserve() {
    let unit = Unit::start(
        Release::with([Socket::tcp("main"), Socket::unix("admin")]),
        &format!("{KEEPS}\nFileDescriptorStorePreserve=yes"),
    );
    // systemd forgets a unit that is inactive and that no other one refers to, and its sockets.
    unit.enable();
    let addresses = [unit.server.address("main"), unit.server.address("admin")];
    let load = Load::start(&addresses, 2);
    for _ in 0..3 {
        load.until_answered(5);
        unit.server.signal(unit.main_pid(), Signal::SIGHUP);
        unit.until_shows("StatusText", |text| text.starts_with("generation 1 serves"));
        unit.systemctl("stop").unwrap();
        assert_eq!(unit.show("ActiveState"), "inactive");
        assert_eq!(unit.show("NFileDescriptorStore"), "2");
        // While it is away, both kinds of clients connect, and wait.
        let begun = Instant::now();
        until("some time without a server", || {
            (begun.elapsed() > Duration::from_millis(300)).then_some(())
        });
        unit.systemctl("start").unwrap();
        load.until_answered(5);
        unit.systemctl("restart").unwrap();
        load.until_answered(5);
    }
    let tally = load.finish();
    tally.assert_unharmed();
    report(&format!("3 stops, starts and restarts: {tally}"));
}

/// P6. The main process is one that another generation started, and the only one: systemd would not
/// wait for it by itself.
pub(super) fn alone() {
    let unit = Unit::start(Release { drain: LONG, ..Release::default() }, "Type=notify-reload");
    unit.systemctl("reload").unwrap();
    until("the main process alone", || (unit.processes() == 1).then_some(()));
    let mut held = unit.server.client("main");
    assert_eq!(held.ask("hold"), "held 1");
    systemctl(&["stop", "--no-block", &unit.name]).unwrap();
    unit.server.until_role(1, "stopping");
    let begun = Instant::now();
    until("a second", || (begun.elapsed() > Duration::from_secs(1)).then_some(()));
    assert_eq!(unit.show("ActiveState"), "deactivating");
    assert_eq!(held.ask("release"), "released 1");
    unit.until_shows("ActiveState", |state| state == "inactive");
    assert_eq!(unit.show("Result"), "success", "{}", unit.journal());
    assert!(!unit.journal().contains("SIGKILL"), "{}", unit.journal());
}

pub(super) fn during_upgrade() {
    let unit = Unit::start(Release { probation: LONG, ..Release::default() }, "TimeoutStopSec=10");
    let main = unit.main_pid();
    unit.server.signal(main, Signal::SIGHUP);
    let successor = unit.server.until_role(1, "successor");
    unit.systemctl("stop").unwrap();
    assert_eq!(unit.show("Result"), "success");
    assert!(!process::lives(main) && !process::lives(successor));
}

pub(super) fn long_drain() {
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
