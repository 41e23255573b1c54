//! One upgrade to one bad release.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::Failure;
use crate::clients::{Asked, Clients};
use crate::serve::{Fault, VARIABLE, read, write};

/// How often a file is looked at that a server writes.
const GLANCE: Duration = Duration::from_millis(2);
const PATIENCE: Duration = Duration::from_secs(15);
/// How long the clients go on after the release went bad.
const AFTERMATH: Duration = Duration::from_millis(1_500);

/// When the old release gives up what it could take back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handoff {
    /// When the new one has proven itself.
    Probation,
    /// When the new one says that it is ready.
    ReadyIsTheEnd,
}

/// What the clients saw of it.
#[derive(Clone, Debug)]
pub(crate) struct Trial {
    pub(crate) asked: usize,
    pub(crate) failed: usize,
    /// From the fault until a client that connected after it had a good answer of the old
    /// release; none if that did not happen.
    pub(crate) back_after: Option<Duration>,
}

impl Trial {
    pub(crate) fn taken_back(&self) -> bool {
        self.back_after.is_some()
    }

    pub(crate) fn perform(fault: Fault, handoff: Handoff) -> Result<Self, Failure> {
        let directory = tempfile::Builder::new().prefix("probation").tempdir()?;
        if handoff == Handoff::Probation {
            write(directory.path(), "watched", "");
        }
        let server = Server::start(directory)?;
        let address = until(server.path(), "address")?.parse()?;
        until(server.path(), "serving-0")?;
        let clients = Clients::start(address)?;
        std::thread::sleep(Duration::from_millis(200));
        write(server.path(), "fault", fault.name());
        kill(server.pid(), Signal::SIGHUP)?;
        let went_bad = until(server.path(), "went-bad");
        std::thread::sleep(AFTERMATH);
        let asked = clients.finish();
        server.end();
        Ok(Self::of(&asked, Duration::from_nanos(went_bad?.parse()?)))
    }

    fn of(asked: &[Asked], went_bad: Duration) -> Self {
        let back = asked.iter().filter(|asked| asked.good == Some(0) && asked.at > went_bad);
        Self {
            asked: asked.len(),
            failed: asked.iter().filter(|asked| asked.good.is_none()).count(),
            back_after: back.map(|asked| asked.ended - went_bad).min(),
        }
    }
}

/// The first generation; it goes with all its successors.
struct Server {
    child: Child,
    directory: TempDir,
}

impl Server {
    fn start(directory: TempDir) -> Result<Self, Failure> {
        let child = Command::new(std::env::current_exe()?)
            .env(VARIABLE, directory.path())
            .stdin(Stdio::null())
            .stderr(fs::File::create(directory.path().join("errors"))?)
            .spawn()?;
        Ok(Self { child, directory })
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Ends every generation. Those whose parent is gone are our own children by now.
    fn end(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => end_children(),
                Ok(_) => {}
                // No child is left.
                Err(_) => return,
            }
        }
    }
}

fn end_children() {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    for task in tasks {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        for pid in children.split_whitespace().filter_map(|pid| pid.parse().ok()) {
            // Ours, and not waited for yet: the pid is still its own.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
    std::thread::sleep(GLANCE);
}

/// What is in the file, as soon as it is there.
fn until(directory: &Path, name: &str) -> Result<String, Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(text) = read(&directory.join(name)) {
            return Ok(text);
        }
        if Instant::now() > deadline {
            let errors = read(&directory.join("errors")).unwrap_or_default();
            return Err(format!("no file {name} within {PATIENCE:?}: {errors}").into());
        }
        std::thread::sleep(GLANCE);
    }
}

/// The monotonic clock, which all processes of this machine share.
pub(crate) fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from)
}
