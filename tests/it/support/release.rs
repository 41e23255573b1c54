//! The release: what a generation reads at its start, and so how it behaves.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::disk;
use super::sessions::Moving;
use super::states::Stateful;

/// Short deadlines, one TCP listener, nothing wrong.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Release {
    pub version: String,
    pub sockets: Vec<Socket>,
    pub start: Start,
    /// What goes wrong so long after its turn came, if it does not own by then.
    pub ailment: Option<(Duration, Ailment)>,
    pub start_delay: Duration,
    pub probation: Duration,
    pub gap: Duration,
    pub hello: Duration,
    pub adopt: Duration,
    pub ready: Duration,
    pub silence: Duration,
    pub commit: Duration,
    pub drain: Duration,
    pub lame_duck: Duration,
    pub shutdown: Duration,
    pub max_draining: usize,
    pub pid_file: bool,
    /// Changes to this directory once it has started.
    pub directory: Option<PathBuf>,
    /// Becomes this user once it has its sockets.
    pub user: Option<u32>,
    /// Is this user from the start. Its program has to be set-user-ID root.
    pub born_as: Option<u32>,
    pub habits: Vec<Habit>,
    /// The rate of failed requests that a successor of this release may have, and how many
    /// requests prove something.
    pub error_budget: Option<(f64, u64)>,
    /// The new program is tried with `--check` before it is started for real.
    pub preflight: bool,
    /// Asked by `echo well` through the front door, answered by `well`.
    pub health: Vec<Health>,
    pub min_healthy_time: Duration,
    pub progress: Duration,
    /// So many tries of `ready_when` fail, with a reason.
    pub not_yet: u64,
    pub on_yield: OnYield,
    /// Answers on `control.sock` in the test's directory; at the default place, if its supervisor
    /// has given it a directory for that.
    pub control: bool,
    /// Users who may give commands besides its own and root.
    pub control_users: Vec<u32>,
    /// What it does if no predecessor has started it.
    pub take_over: TakeOver,
    pub take_over_deadline: Duration,
    /// How long a session may be in doubt.
    pub session: Duration,
    /// How long a program that has failed may not take over, at first and at most.
    pub hold_off: Option<Duration>,
    /// From the wish to stop to the end of accepting.
    pub stop_notice: Duration,
    /// Where it writes the journal of upgrades, relative to the test's directory.
    pub journal: Option<PathBuf>,
    /// How long that file may get, in bytes.
    pub journal_bytes: u64,
    /// What it does with state; nothing if there is none.
    pub state: Option<Stateful>,
    /// How its sessions move; they do not if there is none.
    pub moving: Option<Moving>,
    /// Its stream sockets speak HTTP, by the wing.
    pub web: Option<Web>,
}

/// How a release speaks HTTP.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Web {
    /// Its idle connections do not move.
    pub stays: bool,
    /// TCP is for TLS.
    pub tls: bool,
    /// Connections are asked to go one after another over this time.
    pub spread: Duration,
}

/// As [`heirloom::TakeOver`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum TakeOver {
    Never,
    IfSomeoneAnswers,
    Require,
}

/// A health check of the release's successor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Health {
    /// The listener that it goes to.
    pub listener: String,
    pub interval: Duration,
    pub timeout: Duration,
    pub healthy: u32,
    pub unhealthy: u32,
}

impl Health {
    pub(crate) fn of(listener: &str) -> Self {
        Self {
            listener: listener.to_owned(),
            interval: Duration::from_millis(50),
            timeout: Duration::from_millis(2_000),
            healthy: 1,
            unhealthy: 2,
        }
    }
}

/// What the application does when it is asked to yield. Hooks are written down if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum OnYield {
    NotAsked,
    /// Not asked, and told how it went on.
    Told,
    Yields,
    Refuses,
    NeverAnswers,
    Panics,
    /// The thread that asks it does nothing else for so long.
    Blocks(Duration),
}

/// One socket, or one group of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Socket {
    pub name: String,
    pub kind: Kind,
    /// `127.0.0.1:0`, a path relative to the test's directory, or `@name`.
    pub address: String,
    pub backlog: Option<u32>,
    /// Nobody accepts on it if false.
    pub accepts: bool,
    /// The pause after each accepted connection.
    pub pace: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    Tcp,
    /// So many TCP sockets on one port.
    Group(usize),
    Unix,
    /// Sequential packets on a path.
    Seqpacket,
    /// Datagrams on a path.
    Datagram,
    Udp,
    /// So many UDP sockets on one port.
    UdpGroup(usize),
}

/// How the application starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Start {
    Well,
    /// An error before ready, with this text.
    Fail(String),
    Panic(String),
    Exit(i32),
    /// The process ends before it has said anything.
    ExitBeforeHello(i32),
    /// The process runs and never says anything.
    SilentForever,
    /// It never becomes ready.
    NeverReady,
    /// The configuration cannot be used.
    Misconfigured,
    /// While it is tried, another program takes its place.
    ReplacedWhileTried,
}

/// What goes wrong with an application that serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Ailment {
    Abort,
    Exit(i32),
    Panic,
    /// Its `main` returns an error.
    Fail,
    /// Nothing of it runs for so long.
    Hang(Duration),
}

/// What an application does besides serving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Habit {
    /// A thread that takes the status of any child.
    WaitsForAnyChild,
    /// A thread that starts helpers one after the other and looks at their descriptors.
    StartsHelpers,
    /// A descriptor without `CLOEXEC`, like those of a C library.
    StrayDescriptor,
    /// A descriptor that is passed to each next generation under a number.
    PassesDescriptor,
    /// A file that is handed on by name.
    KeepsNote,
    /// It starts in a runtime that exists already.
    OwnRuntime,
    /// The same, and that runtime has no thread but the one that `main` runs on.
    OneThread,
    /// One thread runs all its tasks.
    OneWorker,
    /// It accepts, and never answers.
    NeverAnswers,
    /// It answers something else.
    AnswersWrong,
    /// Nobody accepts on the first socket of a group.
    NeglectsOneMember,
    /// Its PID file is on a disk of its own, which may be full.
    OwnDisk,
    /// It is not well while there is a file `ill`, and says so when the watchdog is to be fed.
    MayVeto,
    /// Its log cannot be written, and whoever logs panics.
    LogPanics,
    /// It takes sockets that were passed to nobody in particular.
    TakesUnnamed,
    /// It hands over to a process that it may not signal.
    AcceptsUnenforceable,
    /// It tells its manager what makes no sense.
    TellsNonsense,
    /// No signal stops it gracefully.
    HasNoStopSignal,
}

/// What happens to a process at one step of a handoff.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Fault {
    pub side: Side,
    pub step: String,
    pub action: Action,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Side {
    Predecessor,
    Successor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Action {
    Kill,
    Stop,
    Exit(i32),
    /// The other side stops, then this one.
    StopBoth,
    /// The thread that drives the handoff does nothing for so long.
    Block(Duration),
    /// Every thread that runs tasks does nothing for so long.
    BlockWorkers(Duration),
    /// The link is shut down in both directions.
    CutLink,
    /// The other side finds so many bytes on the link that are no message.
    Garbage(usize),
    /// No descriptor can be opened any more, none be accepted.
    NoDescriptors,
    /// No memory can be mapped any more.
    NoMemory,
    /// No file can become long any more.
    NoRoom,
    /// For this time so many threads or processes more can be started, and no more. Not for root.
    FewProcesses(usize, Duration),
    /// The disk on which the PID file is has no room left.
    FullDisk,
    /// The children get so many SIGHUP.
    HangUpChildren(usize),
}

impl Default for Release {
    fn default() -> Self {
        let millis = Duration::from_millis;
        Self {
            version: String::from("1.0"),
            sockets: vec![Socket::tcp("main")],
            start: Start::Well,
            ailment: None,
            start_delay: Duration::ZERO,
            probation: millis(50),
            gap: millis(2_000),
            hello: millis(10_000),
            adopt: millis(10_000),
            ready: millis(20_000),
            silence: millis(5_000),
            commit: millis(2_000),
            drain: millis(20_000),
            lame_duck: millis(20),
            shutdown: millis(500),
            max_draining: 3,
            pid_file: false,
            directory: None,
            user: None,
            born_as: None,
            habits: Vec::new(),
            error_budget: None,
            preflight: false,
            health: Vec::new(),
            min_healthy_time: Duration::ZERO,
            progress: millis(30_000),
            not_yet: 0,
            on_yield: OnYield::NotAsked,
            control: false,
            control_users: Vec::new(),
            take_over: TakeOver::Never,
            take_over_deadline: millis(30_000),
            session: millis(2_000),
            hold_off: None,
            stop_notice: Duration::ZERO,
            journal: None,
            journal_bytes: 1 << 20,
            state: None,
            moving: None,
            web: None,
        }
    }
}

impl Release {
    /// With these sockets instead of the one.
    pub(crate) fn with(sockets: impl IntoIterator<Item = Socket>) -> Self {
        Self { sockets: sockets.into_iter().collect(), ..Self::default() }
    }

    /// Where the PID file is, as the server sees it.
    pub(crate) fn pid_path(&self, directory: &Path) -> PathBuf {
        if self.habits.contains(&Habit::OwnDisk) {
            directory.join(disk::NAME).join("pid")
        } else {
            directory.join("pid")
        }
    }

    pub(crate) fn read(directory: &Path) -> Self {
        let text = std::fs::read(directory.join("release.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    /// Renamed into place: no generation reads half of it.
    pub(crate) fn write(&self, directory: &Path) {
        write(directory, "release.json", self);
    }
}

impl Fault {
    pub(crate) fn new(side: Side, step: &str, action: Action) -> Self {
        let step = step.to_owned();
        Self { side, step, action }
    }

    pub(crate) fn arm(&self, directory: &Path) {
        write(directory, "fault.json", self);
    }

    /// One that was armed does not happen any more.
    pub(crate) fn disarm(directory: &Path) {
        // It may have happened.
        let _ = std::fs::remove_file(directory.join("fault.json"));
    }

    /// The armed fault, if it is for this step. It happens once.
    pub(crate) fn take(directory: &Path, side: Side, step: &str) -> Option<Self> {
        let path = directory.join("fault.json");
        let fault: Self = serde_json::from_slice(&std::fs::read(&path).ok()?).ok()?;
        let here = fault.side == side && fault.step == step;
        // Whoever renames it has it.
        let taken = here && std::fs::rename(&path, directory.join("fault.taken")).is_ok();
        taken.then_some(fault)
    }
}

impl Socket {
    fn new(name: &str, kind: Kind, address: String) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            address,
            backlog: None,
            accepts: true,
            pace: Duration::ZERO,
        }
    }

    /// A TCP listener on a port that the kernel chooses.
    pub(crate) fn tcp(name: &str) -> Self {
        Self::new(name, Kind::Tcp, String::from("127.0.0.1:0"))
    }

    pub(crate) fn group(name: &str, members: usize) -> Self {
        Self::new(name, Kind::Group(members), String::from("127.0.0.1:0"))
    }

    /// A Unix listener on a path in the test's directory.
    pub(crate) fn unix(name: &str) -> Self {
        Self::new(name, Kind::Unix, format!("{name}.sock"))
    }

    /// A Unix listener on an abstract name, with the test's directory in it.
    pub(crate) fn abstract_unix(name: &str) -> Self {
        Self::new(name, Kind::Unix, format!("@{name}"))
    }

    pub(crate) fn seqpacket(name: &str) -> Self {
        Self::new(name, Kind::Seqpacket, format!("{name}.sock"))
    }

    pub(crate) fn datagram(name: &str) -> Self {
        Self::new(name, Kind::Datagram, format!("{name}.sock"))
    }

    pub(crate) fn udp_group(name: &str, members: usize) -> Self {
        Self::new(name, Kind::UdpGroup(members), String::from("127.0.0.1:0"))
    }

    pub(crate) fn udp(name: &str) -> Self {
        Self::new(name, Kind::Udp, String::from("127.0.0.1:0"))
    }

    pub(crate) fn at(mut self, address: impl Into<String>) -> Self {
        self.address = address.into();
        self
    }

    pub(crate) fn backlog(mut self, connections: u32) -> Self {
        self.backlog = Some(connections);
        self
    }

    pub(crate) fn not_accepting(mut self) -> Self {
        self.accepts = false;
        self
    }

    pub(crate) fn pace(mut self, pace: Duration) -> Self {
        self.pace = pace;
        self
    }
}

fn write(directory: &Path, name: &str, value: &impl Serialize) {
    let temporary = directory.join(format!(".{name}"));
    std::fs::write(&temporary, serde_json::to_vec_pretty(value).unwrap()).unwrap();
    std::fs::rename(temporary, directory.join(name)).unwrap();
}
