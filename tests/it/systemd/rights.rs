//! The unit that is shipped, with its hardening, and servers that give up rights.

use std::process::Command;

use super::{assert_main, load, report};
use crate::support::release::Health;
use crate::support::unit::{SHIPPED, Unit, systemctl};
use crate::support::{Release, Socket, process};

const HARDENED: &str = include_str!("../../../examples/deploy/systemd/hardening.conf");

/// The shipped unit as it is, but for its program and its name, and what the test writes.
struct Hardened(Unit);

impl Hardened {
    fn start() -> Self {
        let release = Release {
            sockets: vec![Socket::tcp("main"), Socket::unix("admin")],
            health: vec![Health::of("main")],
            control: true,
            ..Release::default()
        };
        let service = SHIPPED.split("[Service]").nth(1).unwrap().split("[Install]").next().unwrap();
        let ours = service
            .lines()
            .filter(|line| !line.starts_with("ExecStart=") && !line.starts_with("ExecStop="))
            .map(|line| line.replace("--service server", "--service fixture"));
        let unit = Unit::prepare(release, &ours.collect::<Vec<_>>().join("\n"));
        let directory = unit.server.directory().display().to_string();
        let lines = HARDENED.split("[Service]").nth(1).unwrap();
        let hardened = Self(unit);
        std::fs::create_dir_all(hardened.drop_in()).unwrap();
        let text = format!("[Service]\n{lines}\nReadWritePaths={directory}\n");
        std::fs::write(format!("{}/hardening.conf", hardened.drop_in()), text).unwrap();
        allow_everybody(&hardened.0);
        systemctl(&["daemon-reload"]).unwrap();
        let started = hardened.0.systemctl("start");
        assert!(started.is_ok(), "{started:?}\n{}", hardened.0.journal());
        hardened
    }

    fn drop_in(&self) -> String {
        format!("/run/systemd/system/{}.service.d", self.0.name)
    }
}

impl Drop for Hardened {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.drop_in());
    }
}

pub(super) fn hardened() {
    let hardened = Hardened::start();
    let unit = &hardened.0;
    let load = load(unit);
    for _ in 0..3 {
        let reloaded = unit.systemctl("reload");
        assert!(reloaded.is_ok(), "{reloaded:?}\n{}", unit.journal());
        assert_main(unit);
        let user = process::user(unit.main_pid()).unwrap();
        assert!(user >= 61184, "DynamicUser= was not heeded: {user}");
    }
    operator(unit);
    unit.systemctl("restart").unwrap();
    load.until_answered(5);
    load.finish().assert_unharmed();
    let name = format!("{}.service", unit.name);
    let security =
        Command::new("systemd-analyze").args(["security", "--no-pager", &name]).output().unwrap();
    let said = String::from_utf8_lossy(&security.stdout).into_owned();
    report(said.lines().last().unwrap_or_default());
}

/// Root's command outside of the unit finds the socket of a service that runs as a user of its own.
fn operator(unit: &Unit) {
    let heirloom = |arguments: &[&str]| {
        let mut command = Command::new("/usr/local/bin/heirloom");
        command.args(["-S", "/run/server/fixture.sock"]).args(arguments);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(heirloom(&["status"]).contains(&unit.main_pid().to_string()));
    heirloom(&["upgrade", "--wait"]);
    assert_main(unit);
    assert!(unit.show("StatusText").starts_with("generation 4"));
    heirloom(&["check"]);
}

fn allow_everybody(unit: &Unit) {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(unit.server.directory(), mode).unwrap();
}

/// Bound by root, served by a user; the next generation is that user from the start.
pub(super) fn dropped() {
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
