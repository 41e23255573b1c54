//! The server's processes: the first one started, every later one known by its pid, all ended.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, pidfd_open};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

use crate::Failure;
use crate::ledger::Ledger;
use crate::load::Addresses;
use crate::options::Options;
use crate::serve::files;

/// How often a file is looked at that somebody else writes: this is a view from outside.
const GLANCE: Duration = Duration::from_millis(2);

/// How long the first generation may take to be ready.
const START: Duration = Duration::from_secs(15);

/// How a process ended, and when.
#[derive(Clone, Debug)]
pub(crate) struct End {
    /// Since the demo began.
    pub(crate) at: Duration,
    /// Its exit status, or none if its own parent waited for it: a successor may well end before
    /// its predecessor has drained.
    pub(crate) status: Option<Status>,
}

/// An exit status.
#[derive(Clone, Debug)]
pub(crate) enum Status {
    /// It exited with this code.
    Code(i32),
    /// This signal ended it.
    Killed(Signal),
}

impl End {
    /// Whether it is known to have failed.
    pub(crate) fn failed(&self) -> bool {
        !matches!(self.status, None | Some(Status::Code(0)))
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.status {
            Some(Status::Code(code)) => write!(f, "exited with status {code}"),
            Some(Status::Killed(signal)) => write!(f, "killed by {signal}"),
            None => f.write_str("ended, and its parent has its status"),
        }
    }
}

/// All the processes of the server. When it is dropped, the pipe that is every generation's
/// standard input closes, and whatever still runs ends itself.
#[derive(Debug)]
pub(crate) struct Fleet {
    dir: TempDir,
    log: PathBuf,
    addresses: Addresses,
    ended: Arc<Mutex<BTreeMap<i32, End>>>,
    /// They see the processes end; they end with the fleet.
    _witnesses: JoinSet<()>,
    stdin: Option<ChildStdin>,
}

impl Fleet {
    /// Starts the first generation and waits until it serves.
    pub(crate) async fn start(options: &Options, ledger: &Arc<Ledger>) -> Result<Self, Failure> {
        let dir = tempfile::Builder::new().prefix("heirloom-demo-").tempdir()?;
        let log = options.log.clone().unwrap_or_else(|| dir.path().join("server.log"));
        let output = OpenOptions::new().create(true).append(true).open(&log)?;
        let ended = Arc::new(Mutex::default());
        let mut witnesses = JoinSet::new();
        witnesses.spawn(reap(Arc::clone(ledger), Arc::clone(&ended))?);
        witnesses.spawn(watch(Arc::clone(ledger), Arc::clone(&ended)));
        let mut fleet = Self {
            addresses: files::nowhere(dir.path()),
            dir,
            log,
            ended,
            _witnesses: witnesses,
            stdin: None,
        };
        fleet.stdin = launch(fleet.dir.path(), options, output)?;
        match timeout(START, fleet.first_answers()).await {
            Ok(addresses) => fleet.addresses = addresses?,
            Err(_) => {
                let words = fleet.last_words(10);
                fleet.stop(Duration::ZERO).await;
                return Err(format!("the server was not ready in {START:?}:\n{words}").into());
            }
        }
        Ok(fleet)
    }

    /// Waits until the first generation has written where it listens and who it is.
    async fn first_answers(&self) -> Result<Addresses, Failure> {
        let mut glance = interval(GLANCE);
        loop {
            glance.tick().await;
            if self.ended.lock().unwrap_or_else(PoisonError::into_inner).values().next().is_some() {
                return Err(format!("the server ended at once:\n{}", self.last_words(10)).into());
            }
            if self.owner().is_some() {
                return files::addresses(self.dir.path());
            }
        }
    }

    /// Where the server listens.
    pub(crate) fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// The owner, as the PID file names it.
    pub(crate) fn owner(&self) -> Option<Pid> {
        let text = std::fs::read_to_string(files::pid(self.dir.path())).ok()?;
        text.trim().parse().ok().map(Pid::from_raw)
    }

    /// Waits until the PID file names this process: the commit, as it is seen from outside.
    pub(crate) async fn owned_by(&self, pid: i32) {
        let mut glance = interval(GLANCE);
        while self.owner() != Some(Pid::from_raw(pid)) {
            glance.tick().await;
        }
    }

    /// The processes that have ended, by pid.
    pub(crate) fn ended(&self) -> BTreeMap<i32, End> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The last lines of the server's log.
    pub(crate) fn last_words(&self, lines: usize) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let all: Vec<&str> = log.lines().collect();
        all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
    }

    /// Asks the owner to stop, waits for every generation, and ends what is left at the deadline.
    pub(crate) async fn stop(&self, deadline: Duration) {
        if let Some(owner) = self.owner() {
            let _ = kill(owner, Signal::SIGTERM);
        }
        let _ = timeout(deadline, self.all_gone()).await;
        // A killed parent leaves its children to us, hence the rounds.
        for _ in 0..5 {
            if !any_left() {
                break;
            }
            for pid in children() {
                let _ = kill(pid, Signal::SIGKILL);
            }
            let _ = timeout(Duration::from_secs(1), self.all_gone()).await;
        }
    }

    /// Waits until we have no child any more, born to us or inherited.
    async fn all_gone(&self) {
        let mut glance = interval(GLANCE);
        while any_left() {
            glance.tick().await;
        }
    }
}

/// Starts generation 0: this program with `--serve`. Its standard input is the pipe whose other
/// end we return; its output goes to the log; Ctrl-C is for the demo alone, which ends it in order.
fn launch(dir: &Path, options: &Options, output: File) -> Result<Option<ChildStdin>, Failure> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("--serve")
        .arg(dir)
        .args(options.for_server())
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()?;
    Ok(child.stdin.take())
}

/// Waits for every child that ends, ours and the orphans that came to us, and writes it down.
fn reap(
    ledger: Arc<Ledger>,
    ended: Arc<Mutex<BTreeMap<i32, End>>>,
) -> std::io::Result<impl Future<Output = ()>> {
    let mut deaths = signal(SignalKind::child())?;
    Ok(async move {
        while deaths.recv().await.is_some() {
            // Locked all along: whoever sees that no child is left also sees how they ended.
            let mut ended = ended.lock().unwrap_or_else(PoisonError::into_inner);
            while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                let (pid, status) = match status {
                    WaitStatus::Exited(pid, code) => (pid, Status::Code(code)),
                    WaitStatus::Signaled(pid, signal, _) => (pid, Status::Killed(signal)),
                    _ => break,
                };
                let end = End { at: ledger.now(), status: Some(status) };
                ended.insert(pid.as_raw(), end);
            }
        }
    })
}

/// Sees every generation that answers to its end, whoever waits for its status: a thread for each,
/// asleep until then.
async fn watch(ledger: Arc<Ledger>, ended: Arc<Mutex<BTreeMap<i32, End>>>) {
    let mut newest = None;
    loop {
        let (generation, sighting) = ledger.newer_than(newest).await;
        newest = Some(generation);
        let (ledger, ended) = (Arc::clone(&ledger), Arc::clone(&ended));
        std::thread::spawn(move || {
            wait_for_end(sighting.pid);
            let end = End { at: ledger.now(), status: None };
            ended.lock().unwrap_or_else(PoisonError::into_inner).entry(sighting.pid).or_insert(end);
        });
    }
}

/// Blocks until this process has ended; at once if it has already.
fn wait_for_end(pid: i32) {
    let pidfd = rustix::process::Pid::from_raw(pid).map(|pid| pidfd_open(pid, PidfdFlags::empty()));
    if let Some(Ok(pidfd)) = pidfd {
        let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        while poll(&mut fds, PollTimeout::NONE) == Err(Errno::EINTR) {}
    }
}

/// Whether a child of ours is left that has not been waited for.
fn any_left() -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    waitid(Id::All, flags) != Err(Errno::ECHILD)
}

/// Our children, as `/proc/PID/stat` names their parent. Their pids cannot be used again until
/// we have waited for them.
fn children() -> Vec<Pid> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| parent(*pid) == Some(std::process::id())).map(Pid::from_raw).collect()
}

/// The parent of a process: the second field after the command's closing parenthesis.
fn parent(pid: i32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}
