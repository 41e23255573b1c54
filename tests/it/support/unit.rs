//! A unit of the systemd that runs as process 1 of the container in which these tests are.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::fixture;
use super::wait::until;
use super::{Release, Server};

/// Set by `tests/systemd/run`, which starts the container.
const VARIABLE: &str = "HEIRLOOM_SYSTEMD";

/// Whether these tests may start and stop units here.
pub(crate) fn may_run() -> bool {
    std::env::var_os(VARIABLE).is_some()
        && fs::read_to_string("/proc/1/comm").is_ok_and(|name| name.trim() == "systemd")
}

/// A service of systemd's. When it goes, the unit goes.
pub(crate) struct Unit {
    pub name: String,
    pub server: Server,
}

impl Unit {
    /// A service with these lines in its unit, as soon as systemd says that it is started.
    pub(crate) fn start(release: Release, lines: &str) -> Self {
        let unit = Self::prepare(release, lines);
        let started = unit.systemctl("start");
        assert!(started.is_ok(), "{started:?}\n{}", unit.journal());
        unit
    }

    /// All but the start.
    pub(crate) fn prepare(release: Release, lines: &str) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let server = Server::prepare(release);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("heirloom-{}-{number}", std::process::id());
        let directory = server.directory().display().to_string();
        let text = format!(
            "[Unit]\nStartLimitIntervalSec=0\n\n[Service]\nType=notify\nNotifyAccess=main\n\
             Environment={}={directory} RUST_BACKTRACE=1\n\
             WorkingDirectory={directory}\nExecStart={directory}/server\n{}\n{lines}\n",
            fixture::VARIABLE,
            shipped_line("ExecStop"),
        );
        let unit = Self { name, server };
        unit.write("service", &text);
        unit
    }

    /// A file of this unit's name.
    pub(crate) fn write(&self, kind: &str, text: &str) {
        fs::write(self.file(kind), text).unwrap();
        systemctl(&["daemon-reload"]).unwrap();
    }

    fn file(&self, kind: &str) -> PathBuf {
        PathBuf::from(format!("/run/systemd/system/{}.{kind}", self.name))
    }

    /// The line by which a reload asks for an upgrade and fails if that fails: the shipped one, with
    /// the control socket in the test's directory, which is the service's.
    pub(crate) fn asks() -> String {
        shipped_line("ExecReload").replace("--service server", "--socket control.sock")
    }

    /// A target wants it, as after `systemctl enable`.
    pub(crate) fn enable(&self) {
        let link = self.wanted();
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(self.file("service"), link).unwrap();
        systemctl(&["daemon-reload"]).unwrap();
    }

    fn wanted(&self) -> PathBuf {
        PathBuf::from(format!("/run/systemd/system/multi-user.target.wants/{}.service", self.name))
    }

    /// How many processes the unit has.
    pub(crate) fn processes(&self) -> usize {
        let group = self.show("ControlGroup");
        let list = fs::read_to_string(format!("/sys/fs/cgroup{group}/cgroup.procs")).unwrap();
        list.lines().count()
    }

    pub(crate) fn systemctl(&self, command: &str) -> Result<String, String> {
        systemctl(&[command, &self.name])
    }

    pub(crate) fn show(&self, property: &str) -> String {
        systemctl(&["show", "--value", "-p", property, &self.name]).unwrap().trim().to_owned()
    }

    pub(crate) fn main_pid(&self) -> i32 {
        self.show("MainPID").parse().unwrap()
    }

    pub(crate) fn until_shows(&self, property: &str, meets: impl Fn(&str) -> bool) -> String {
        until(&format!("{property} of {}", self.name), || {
            Some(self.show(property)).filter(|value| meets(value))
        })
    }

    /// What the journal has of this unit, systemd's own words included.
    pub(crate) fn journal(&self) -> String {
        // Whatever was written before this is there afterwards.
        let _ = Command::new("journalctl").arg("--sync").status();
        let unit = format!("{}.service", self.name);
        let output = Command::new("journalctl").args(["-o", "cat", "-u", &unit]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// It was started once, never left 'active' but for reloads, and was never spoken to by a
    /// process that it does not listen to.
    pub(crate) fn assert_one_story(&self) {
        assert_eq!(self.show("ActiveState"), "active");
        assert_eq!(self.show("NRestarts"), "0");
        assert_eq!(self.show("ActiveExitTimestampMonotonic"), "0");
        let journal = self.journal();
        for complaint in ["reception only permitted", "refusing", "Failed", "killed", "timed out"] {
            assert!(!journal.contains(complaint), "{complaint}: {journal}");
        }
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = std::io::Write::write_all(&mut std::io::stderr(), self.journal().as_bytes());
        }
        // Most are not enabled.
        let _ = fs::remove_file(self.wanted());
        for kind in ["socket", "service"] {
            if self.file(kind).exists() {
                let name = format!("{}.{kind}", self.name);
                let _ = systemctl(&["kill", "-s", "KILL", &name]);
                let _ = systemctl(&["stop", &name]);
                let _ = systemctl(&["clean", "--what=fdstore", &name]);
                let _ = systemctl(&["reset-failed", &name]);
                fs::remove_file(self.file(kind)).unwrap();
            }
        }
        let _ = systemctl(&["daemon-reload"]);
    }
}

/// The unit that is shipped.
pub(crate) const SHIPPED: &str = include_str!("../../../examples/deploy/systemd/server.service");

/// Its only line that sets this.
pub(crate) fn shipped_line(setting: &str) -> String {
    let begins = format!("{setting}=");
    let mut lines = SHIPPED.lines().filter(|line| line.starts_with(&begins));
    let line = lines.next().unwrap();
    assert!(lines.next().is_none(), "{setting}");
    line.to_owned()
}

/// What it says, or why it failed.
pub(crate) fn systemctl(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("systemctl").args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(said);
    }
    Err(format!("{}{said}{}", output.status, String::from_utf8_lossy(&output.stderr)))
}
