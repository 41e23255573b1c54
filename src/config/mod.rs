//! Every setting, its default and its reason.

mod judging;
mod moving;
mod program;
mod steering;
mod supervised;

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;

use self::steering::Steering;
pub use self::steering::TakeOver;
use crate::birth::{STOP, UPGRADE, Unnamed};
use crate::drain::DrainSettings;
use crate::error::{Error, ErrorKind, Result};
use crate::executable::{HoldOff, Preflight};
use crate::handoff::clock::Lengths;
use crate::health::Policy;
use crate::name::Name;
use crate::requests::ErrorBudget;
use crate::state::Limits;

/// How a server built on this crate behaves; every setting has a default that suits a server
/// behind one address with requests of up to half a minute.
///
/// # Deadlines
///
/// Each step of a handoff ends at its own deadline at the latest. Whatever runs out before the
/// verdict, the predecessor serves on.
///
/// | step | setting | default |
/// | --- | --- | --- |
/// | start of the program until its first word | [`hello_deadline`](Self::hello_deadline) | 10 s |
/// | the offer's way to the successor | [`adopt_deadline`](Self::adopt_deadline) | 10 s |
/// | the application's start until it is ready | [`ready_deadline`](Self::ready_deadline) | 60 s |
/// | each state that is handed over | [`state_deadline`](Self::state_deadline) | 10 s |
/// | from ready to serving, while new connections wait | [`gap_deadline`](Self::gap_deadline) | 500 ms |
/// | watch over the successor | [`probation`](Self::probation) | 5 s |
/// | until its health checks are content | [`progress_deadline`](Self::progress_deadline) | 30 s |
/// | longest silence of the other side | [`silence_deadline`](Self::silence_deadline) | 2 s |
/// | from permission to commit, and from commit to owner | [`commit_deadline`](Self::commit_deadline) | 2 s |
/// | each session that is handed over | [`session_deadline`](Self::session_deadline) | 5 s |
/// | drain of what was accepted | [`drain_deadline`](Self::drain_deadline) | 30 s |
/// | until the turn begins that was asked for | [`take_over_deadline`](Self::take_over_deadline) | 60 s |
/// | the runtime's end after the application's | [`shutdown_deadline`](Self::shutdown_deadline) | 2 s |
#[derive(Clone)]
#[must_use = "a configuration does nothing until it is run or started"]
pub struct Config {
    pub(crate) service: String,
    pub(crate) version: String,
    pub(crate) deadlines: Lengths,
    pub(crate) drain: DrainSettings,
    pub(crate) shutdown: Duration,
    pub(crate) max_draining: usize,
    pub(crate) upgrade_signal: Option<Signal>,
    pub(crate) stop_signals: Vec<Signal>,
    pub(crate) pid_file: Option<PathBuf>,
    pub(crate) program: ProgramOverrides,
    pub(crate) pass: Vec<(Arc<OwnedFd>, i32)>,
    pub(crate) accept_unenforceable: bool,
    pub(crate) worker_threads: Option<usize>,
    pub(crate) preflight: Option<Preflight>,
    pub(crate) hold_off: HoldOff,
    pub(crate) health: Policy,
    pub(crate) budget: Option<ErrorBudget>,
    pub(crate) ready_interval: Duration,
    pub(crate) steering: Steering,
    pub(crate) states: Limits,
    pub(crate) session_deadline: Duration,
    /// Whether a service manager is told anything.
    pub(crate) manager: bool,
    pub(crate) watchdog: Option<supervised::WatchdogCheck>,
    pub(crate) unnamed: Unnamed,
}

/// What the next generation's program gets instead of what this one got.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProgramOverrides {
    pub executable: Option<PathBuf>,
    pub arguments: Option<Vec<OsString>>,
    pub environment: Vec<(OsString, Option<OsString>)>,
    pub directory: Option<PathBuf>,
}

impl Config {
    /// The defaults for the service of this name.
    ///
    /// The name stands in logs and reports. It must be a valid [`Name`]; that is checked when the
    /// configuration is run or started.
    pub fn new(service: impl Into<String>) -> Self {
        Self {
            service: service.into(),
            version: String::from("unversioned"),
            deadlines: Lengths {
                preflight: Duration::from_secs(30),
                hello: Duration::from_secs(10),
                adopt: Duration::from_secs(10),
                ready: Duration::from_secs(60),
                gap: Duration::from_millis(500),
                probation: Duration::from_secs(5),
                progress: Duration::from_secs(30),
                silence: Duration::from_secs(2),
                ping: Duration::from_millis(250),
                commit: Duration::from_secs(2),
            },
            drain: DrainSettings::default(),
            shutdown: Duration::from_secs(2),
            max_draining: 3,
            upgrade_signal: Some(UPGRADE),
            stop_signals: STOP.to_vec(),
            pid_file: None,
            program: ProgramOverrides::default(),
            pass: Vec::new(),
            accept_unenforceable: false,
            worker_threads: None,
            preflight: None,
            hold_off: HoldOff::default(),
            health: Policy::default(),
            budget: None,
            ready_interval: Duration::from_millis(100),
            steering: Steering::default(),
            session_deadline: Duration::from_secs(5),
            states: Limits { length: 1 << 30, deadline: Duration::from_secs(10) },
            manager: true,
            watchdog: None,
            unnamed: Unnamed::Ignored,
        }
    }

    /// The application's version, as reports and refusals name it. Default: `unversioned`.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self
    }

    /// How long a successor is watched before it may commit. Default 5 s.
    ///
    /// The successor serves from the beginning of it. If it dies, exits or falls silent before its
    /// end, the predecessor takes the turn back. Zero commits as soon as the successor serves.
    pub fn probation(mut self, length: Duration) -> Self {
        self.deadlines.probation = length;
        self
    }

    /// How often the checks of [`Starting::ready_when`](crate::Starting::ready_when) are tried
    /// again. Default 100 ms.
    pub fn ready_interval(mut self, interval: Duration) -> Self {
        self.ready_interval = interval.max(Duration::from_millis(1));
        self
    }

    /// From the spawn of the program until its first word over the link. Default 10 s.
    pub fn hello_deadline(mut self, deadline: Duration) -> Self {
        self.deadlines.hello = deadline;
        self
    }

    /// Until the successor holds every descriptor of the offer. Default 10 s.
    pub fn adopt_deadline(mut self, deadline: Duration) -> Self {
        self.deadlines.adopt = deadline;
        self
    }

    /// Until the successor's application is ready: it loads, claims, binds. Default 60 s.
    pub fn ready_deadline(mut self, deadline: Duration) -> Self {
        self.deadlines.ready = deadline;
        self
    }

    /// From the successor's 'ready' to its 'serving', the time in which new connections wait in
    /// the backlog. Default 500 ms; the usual length is below 1 ms.
    pub fn gap_deadline(mut self, deadline: Duration) -> Self {
        self.deadlines.gap = deadline;
        self
    }

    /// How long the other side may be silent during probation. Default 2 s; pings go out every
    /// eighth of it.
    ///
    /// A successor that has not heard from its predecessor for probation plus this long takes over
    /// by itself.
    pub fn silence_deadline(mut self, deadline: Duration) -> Self {
        self.deadlines.silence = deadline;
        self.deadlines.ping = (deadline / 8).max(Duration::from_millis(1));
        self
    }

    /// From the permission to commit to the successor's commit, and from there to the
    /// predecessor's last act as owner. Default 2 s each.
    pub fn commit_deadline(mut self, deadline: Duration) -> Self {
        self.deadlines.commit = deadline;
        self
    }

    /// How long connections may take to finish once the drain begins. Default 30 s.
    pub fn drain_deadline(mut self, deadline: Duration) -> Self {
        self.drain.deadline = deadline;
        self
    }

    /// How long a drain begins by only telling clients to go (`Connection: close` on each answer)
    /// before idle connections are closed. Default 500 ms. Part of the drain's deadline.
    pub fn lame_duck(mut self, length: Duration) -> Self {
        self.drain.lame_duck = length;
        self
    }

    /// Spreads the graceful closings evenly over this window, so that the clients do not all come
    /// back at once. Default zero: all at once. HTTP/2 clients are told to go (GOAWAY) in their turn,
    /// and not in the lame duck phase.
    pub fn drain_spread(mut self, window: Duration) -> Self {
        self.drain.spread = window;
        self
    }

    /// How long a cut connection's task has to notice that it was cut, after the drain's deadline.
    /// Default 1 s.
    pub fn force_grace(mut self, grace: Duration) -> Self {
        self.drain.force_grace = grace;
        self
    }

    /// How long [`run`](crate::run) waits for the runtime to end after the application has; a
    /// blocking task that never ends is left behind then. Default 2 s.
    pub fn shutdown_deadline(mut self, deadline: Duration) -> Self {
        self.shutdown = deadline;
        self
    }

    /// How many generations may drain at once, at least 1. Default 3. Beyond it the owner hurries
    /// the oldest: its connections are cut at once, requests in flight among them, however much of
    /// their [`drain_deadline`](Self::drain_deadline) is left. The log of both says so. But every
    /// generation drains for 1 s at least, and longer while connections wait for their turn to move
    /// to its successor (at most until the drain's deadline), so after upgrades in quick
    /// succession more of them may be there for a moment.
    pub fn max_draining(mut self, generations: usize) -> Self {
        self.max_draining = generations.max(1);
        self
    }

    /// The signal that asks for an upgrade. Default `SIGHUP`; `None` for no signal.
    pub fn upgrade_signal(mut self, signal: impl Into<Option<Signal>>) -> Self {
        self.upgrade_signal = signal.into();
        self
    }

    /// The signals that stop the server gracefully; a second one hurries. Default `SIGTERM` and
    /// `SIGINT`.
    pub fn stop_signals(mut self, signals: impl IntoIterator<Item = Signal>) -> Self {
        self.stop_signals = signals.into_iter().collect();
        self
    }

    /// A file that holds the owner's pid, renamed into place after the verdict. Default none.
    pub fn pid_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.pid_file = Some(path.into());
        self
    }

    /// Accepts a successor that this process may not signal (another user, another namespace).
    /// Default: it is refused, since a roll back could not be enforced.
    ///
    /// With it the successor guards itself: it stops accepting while it cannot hear its
    /// predecessor, and the report says that the roll back was not enforceable.
    pub fn accept_unenforceable(mut self) -> Self {
        self.accept_unenforceable = true;
        self
    }

    /// The number of worker threads of the runtime that [`run`](crate::run) builds. Default: the
    /// number of processors.
    pub fn worker_threads(mut self, threads: usize) -> Self {
        self.worker_threads = Some(threads.max(1));
        self
    }

    /// What cannot work is said before anything is started.
    pub(crate) fn check(&self) -> Result<()> {
        self.service_name()?;
        self.health.validate()?;
        self.check_take_over()?;
        let needed = [
            ("hello", self.deadlines.hello),
            ("adopt", self.deadlines.adopt),
            ("ready", self.deadlines.ready),
            ("gap", self.deadlines.gap),
            ("state", self.states.deadline),
            ("silence", self.deadlines.silence),
            ("commit", self.deadlines.commit),
        ];
        match needed.iter().find(|(_, deadline)| deadline.is_zero()) {
            Some((name, _)) => Err(Error::new(
                ErrorKind::Config,
                format!("{name} deadline: no upgrade could meet a deadline of zero"),
            )),
            None => Ok(()),
        }
    }

    /// How long each step may take, as an upgrade needs it.
    pub(crate) fn lengths(&self) -> Lengths {
        let least = self.deadlines.probation.saturating_add(self.health.min_healthy_time);
        let progress = self.deadlines.progress.max(least);
        // The check ends itself at its own deadline; this one is for what hinders it.
        let preflight = match &self.preflight {
            Some(preflight) => preflight.longest().saturating_add(self.deadlines.commit),
            None => self.deadlines.preflight,
        };
        Lengths { preflight, progress, ..self.deadlines }
    }

    pub(crate) fn service_name(&self) -> Result<Name> {
        self.service.parse()
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("service", &self.service)
            .field("version", &self.version)
            .field("deadlines", &self.deadlines)
            .field("drain", &self.drain)
            .finish_non_exhaustive()
    }
}
