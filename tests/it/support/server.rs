//! The service under test, seen from outside: its generations, its reports, its sockets.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use heirloom::{Report, UpgradeOutcome};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::client::{Address, Client};
use super::disk;
use super::fixture::VARIABLE;
use super::journal::{self, Entry, Journal};
use super::process;
use super::release::{Action, Fault, Release, Side};
use super::wait::until;

/// A service in a directory of its own. When it goes, every process that was born in there ends.
pub(crate) struct Server {
    directory: TempDir,
    release: RefCell<Release>,
    pids: RefCell<BTreeSet<i32>>,
}

/// What stands where the server's program is looked for.
pub(crate) enum Program<'a> {
    Server,
    Nothing,
    /// A shell script, in which `$SERVER` is the server.
    Script(&'a str),
    /// A copy of the server in a file of its own, which ends with this label.
    Copy(&'a str),
}

impl Server {
    /// Generation 0, as soon as it owns.
    pub(crate) fn start(release: Release) -> Self {
        Self::start_by(release, |directory| Command::new(directory.join("server")))
    }

    /// Generation 0 by the command that is made of the directory, in which `server` is the program.
    pub(crate) fn start_by(release: Release, make: impl FnOnce(&Path) -> Command) -> Self {
        let server = Self::prepare(release);
        server.launch(make);
        server.until_owner(0);
        server
    }

    /// Generation 0, which becomes this user, as soon as it owns. Its program is a copy that
    /// everybody may run, with these permissions. Only root can start it.
    pub(crate) fn start_as(release: Release, user: u32, permissions: u32) -> Self {
        let server = Self::prepare(Release { user: Some(user), ..release });
        let allow = |path: &Path, mode: u32| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        let program = server.path("server");
        fs::remove_file(&program).unwrap();
        // Not by this process: a child that another test starts meanwhile would hold the copy open
        // for writing for a moment, and it could not be run (ETXTBSY).
        let real = std::env::current_exe().unwrap();
        assert!(Command::new("cp").arg(real).arg(&program).status().unwrap().success());
        allow(&program, permissions);
        allow(server.directory(), 0o777);
        server.launch(|directory| Command::new(directory.join("server")));
        server.until_owner(0);
        for name in ["events.jsonl", "trace.log", "output.log"] {
            allow(&server.path(name), 0o666);
        }
        server
    }

    /// All but the process.
    pub(crate) fn prepare(release: Release) -> Self {
        let directory = tempfile::Builder::new().prefix("hl").tempdir().unwrap();
        release.write(directory.path());
        let server = Self { directory, release: RefCell::new(release), pids: RefCell::default() };
        server.install(Program::Server);
        server
    }

    /// Starts the command that is made of the directory; returns its pid.
    pub(crate) fn launch(&self, make: impl FnOnce(&Path) -> Command) -> i32 {
        self.launch_on(Stdio::null(), make)
    }

    /// The same with this standard input.
    pub(crate) fn launch_on(&self, stdin: Stdio, make: impl FnOnce(&Path) -> Command) -> i32 {
        let output =
            fs::OpenOptions::new().append(true).create(true).open(self.path("output.log")).unwrap();
        let mut command = make(self.directory.path());
        if command.get_current_dir().is_none() {
            command.current_dir(self.directory.path());
        }
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("RUST_BACKTRACE", "1")
            .env(VARIABLE, self.directory.path())
            .stdin(stdin)
            .stdout(output.try_clone().unwrap())
            .stderr(output);
        let pid = command.spawn().unwrap().id().cast_signed();
        self.pids.borrow_mut().insert(pid);
        pid
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The PID file, as this process of the server sees it.
    pub(crate) fn pid_file(&self, pid: i32) -> PathBuf {
        let path = self.release.borrow().pid_path(self.directory.path());
        disk::seen_by(pid, &path)
    }

    /// Changes what the next generation will be.
    pub(crate) fn next_release(&self, change: impl FnOnce(&mut Release)) {
        let mut release = self.release.borrow_mut();
        change(&mut release);
        release.write(self.directory.path());
    }

    /// Changes the program that the next generation runs.
    pub(crate) fn install(&self, program: Program<'_>) {
        let path = self.path("server");
        let _ = fs::remove_file(&path);
        let real = std::env::current_exe().unwrap();
        match program {
            Program::Server => symlink(real, &path).unwrap(),
            Program::Nothing => {}
            Program::Copy(label) => {
                let temporary = self.path(".server");
                copy_labelled(&temporary, label);
                fs::rename(temporary, path).unwrap();
            }
            Program::Script(commands) => {
                let text = format!("#!/bin/sh\nSERVER='{}'\n{commands}\n", real.display());
                // Written elsewhere and renamed, so that nobody has it open for writing when it runs.
                let temporary = self.path(".server");
                fs::write(&temporary, text).unwrap();
                fs::set_permissions(&temporary, fs::Permissions::from_mode(0o755)).unwrap();
                fs::rename(temporary, path).unwrap();
            }
        }
    }

    /// At that step of the next handoff, that happens.
    pub(crate) fn fault(&self, side: Side, step: &str, action: Action) {
        Fault::new(side, step, action).arm(self.directory.path());
    }

    /// The fault that has not happened will not.
    pub(crate) fn no_fault(&self) {
        Fault::disarm(self.directory.path());
    }

    /// Everything that the generations have written down.
    pub(crate) fn journal(&self) -> Vec<Entry> {
        Journal::read(self.directory.path())
    }

    /// The journal begins anew, with what this process has said last of each event; no other lives.
    pub(crate) fn forget_all_but(&self, pid: i32) {
        let (own, others): (Vec<_>, Vec<_>) =
            self.journal().into_iter().partition(|entry| entry.pid == pid);
        // Those whose parent died before them are ours to reap.
        others.iter().for_each(|entry| process::reap(entry.pid));
        let mut kept: Vec<Entry> = Vec::new();
        for entry in own.into_iter().rev() {
            let known = kept.iter().any(|other| other.event == entry.event);
            if !known && ["starting", "bound", "status"].contains(&entry.event.as_str()) {
                kept.insert(0, entry);
            }
        }
        journal::rewrite(self.directory.path(), &kept);
    }

    /// The newest entry of this event that meets the condition, as soon as there is one.
    pub(crate) fn until_entry(&self, event: &str, meets: impl Fn(&Entry) -> bool) -> Entry {
        until(&format!("'{event}' in the journal"), || {
            let mut entries = self.journal().into_iter().rev();
            entries.find(|entry| entry.event == event && meets(entry))
        })
    }

    /// The process of the generation that says it owns, as soon as it does.
    pub(crate) fn until_owner(&self, generation: u64) -> i32 {
        self.until_role(generation, "owner")
    }

    pub(crate) fn until_role(&self, generation: u64, role: &str) -> i32 {
        let here =
            |entry: &Entry| entry.generation == Some(generation) && entry.data["role"] == role;
        until(&format!("generation {generation} to be {role}"), || {
            let journal = self.journal();
            let found =
                journal.iter().rev().find(|entry| entry.event == "status" && here(entry))?;
            Some(found.pid)
        })
    }

    /// The process that says last that it owns, and lives.
    pub(crate) fn owner(&self) -> i32 {
        until("an owner", || {
            let owners = self.owners();
            owners.last().map(|(_, pid)| *pid)
        })
    }

    /// Every live process whose last word about its role was 'owner', with its generation.
    pub(crate) fn owners(&self) -> Vec<(u64, i32)> {
        let journal = self.journal();
        let mut owners = Vec::new();
        let pids: BTreeSet<i32> = journal.iter().map(|entry| entry.pid).collect();
        for pid in pids.into_iter().filter(|pid| process::lives(*pid)) {
            let mut roles = journal.iter().filter(|entry| {
                entry.pid == pid && entry.event == "status" && !entry.data["role"].is_null()
            });
            if let Some(last) = roles.next_back()
                && last.data["role"] == "owner"
            {
                owners.push((last.generation.unwrap_or(0), pid));
            }
        }
        owners.sort_unstable();
        owners
    }

    /// The last process that started as this generation, as soon as there is one.
    pub(crate) fn pid(&self, generation: u64) -> i32 {
        self.until_entry("starting", |entry| entry.generation == Some(generation)).pid
    }

    pub(crate) fn signal(&self, pid: i32, signal: Signal) {
        process::signal(pid, signal);
    }

    pub(crate) fn until_gone(&self, pid: i32) {
        assert!(process::ends(pid), "pid {pid} does not end");
    }

    /// Where the newest generation says that this socket is.
    pub(crate) fn address(&self, name: &str) -> Address {
        until(&format!("the address of {name}"), || {
            let journal = self.journal();
            let mut entries = journal.iter().rev().filter(|entry| entry.event == "bound");
            entries.find_map(|entry| serde_json::from_value(entry.data[name].clone()).ok())
        })
    }

    /// A connection to this socket.
    pub(crate) fn client(&self, name: &str) -> Client {
        Client::connect(&self.address(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// What a new connection to the socket `main` is answered.
    pub(crate) fn ask(&self, command: &str) -> String {
        self.client("main").ask(command)
    }

    /// All reports, in their order.
    pub(crate) fn reports(&self) -> Vec<Report> {
        let journal = self.journal();
        let reports = journal.iter().filter(|entry| entry.event == "report");
        reports.map(Entry::read).collect()
    }

    /// The report with this index, as soon as there is one.
    pub(crate) fn until_report(&self, index: usize) -> Report {
        until(&format!("report {index}"), || self.reports().into_iter().nth(index))
    }

    /// The report that an operator was answered, once it is in the journal as well: it comes there
    /// after the answer.
    pub(crate) fn reported(&self, answer: &str) -> Report {
        let value: serde_json::Value = serde_json::from_str(answer).unwrap();
        let report = serde_json::from_value(value["report"].clone());
        let report: Report = report.unwrap_or_else(|_| panic!("{answer}"));
        until("the report in the journal", || {
            self.reports().iter().any(|known| known.id == report.id).then_some(())
        });
        report
    }

    /// SIGHUP to the owner; the report, as soon as it is there and whoever owns says so.
    pub(crate) fn upgrade(&self) -> Report {
        let before = self.reports().len();
        self.signal(self.owner(), Signal::SIGHUP);
        let report = self.until_report(before);
        if report.outcome == UpgradeOutcome::Committed {
            self.until_owner(report.to.get());
        }
        report
    }

    /// An upgrade that must commit; the process of the new generation.
    pub(crate) fn upgrade_well(&self) -> i32 {
        let report = self.upgrade();
        assert_eq!(report.outcome, UpgradeOutcome::Committed, "{report}");
        self.pid(report.to.get())
    }

    /// An upgrade that must not commit.
    pub(crate) fn upgrade_badly(&self) -> Report {
        let report = self.upgrade();
        assert_ne!(report.outcome, UpgradeOutcome::Committed, "{report}");
        report
    }

    /// SIGTERM to the owner, and the end of every generation.
    pub(crate) fn stop(&self) {
        let owner = self.owner();
        self.signal(owner, Signal::SIGTERM);
        self.until_gone(owner);
        until("the end of every generation", || {
            process::born_in(self.directory.path()).is_empty().then_some(())
        });
    }

    fn dump(&self) {
        let mut error = std::io::stderr().lock();
        for name in ["events.jsonl", "trace.log", "output.log"] {
            let text = fs::read_to_string(self.path(name)).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let last = &lines[lines.len().saturating_sub(120)..];
            let _ = writeln!(error, "---- {name}\n{}", last.join("\n"));
        }
    }
}

/// A copy of the server with a label at its end, where no loader looks.
pub(crate) fn copy_labelled(path: &Path, label: &str) {
    fs::copy(std::env::current_exe().unwrap(), path).unwrap();
    let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
    write!(file, "{label:>16}").unwrap();
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.dump();
        }
        let mut pids = self.pids.take();
        pids.extend(self.journal().iter().map(|entry| entry.pid));
        // One that is killed may just have started another.
        until("the end of what the test started", || {
            let alive = process::born_in(self.directory.path());
            for pid in &alive {
                process::signal(*pid, Signal::SIGKILL);
            }
            pids.extend(&alive);
            alive.is_empty().then_some(())
        });
        pids.into_iter().for_each(process::reap);
    }
}
