//! The server at work, as its clients and its files show it.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use super::{Failure, Load, REST, now};

/// No single wait of the benchmark is longer, in milliseconds.
const PATIENCE_MS: u16 = 60_000;

/// The times of one upgrade, all from its signal.
pub(crate) struct Round {
    pub(crate) answer: Duration,
    pub(crate) closed: Duration,
    pub(crate) commit: Duration,
    pub(crate) exit: Duration,
}

pub(crate) struct Server {
    directory: PathBuf,
    events: Inotify,
    /// Where a generation answers once, where it holds connections until it is to go, and where as
    /// long as their clients like.
    addresses: [SocketAddr; 3],
    load: Load,
    idle: Vec<TcpStream>,
    /// Where each generation says when it stopped accepting.
    words: ChildStdout,
    owner: Pid,
    generation: u64,
    /// Generation zero, which is waited for like all others.
    _first: Child,
}

impl Server {
    pub(crate) fn start(directory: &Path, load: Load) -> Result<Self, Failure> {
        let events = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        events.add_watch(directory, AddWatchFlags::IN_MOVED_TO)?;
        let mut first = Command::new(std::env::current_exe()?)
            .arg("--serve")
            .arg(directory)
            .args([load.listeners, load.megabytes, load.elders].map(|number| number.to_string()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        wait_for(&events, &mut |name| name == "settled-0")?;
        let text = std::fs::read_to_string(directory.join("settled-0"))?;
        let addresses = text.split(' ').map(str::parse).collect::<Result<Vec<SocketAddr>, _>>()?;
        let addresses = addresses.try_into().map_err(|_| "the server names other addresses")?;
        let server = Self {
            owner: owner(directory)?,
            directory: directory.to_owned(),
            events,
            addresses,
            load,
            idle: Vec::new(),
            words: first.stdout.take().ok_or("the server has no standard output")?,
            generation: 0,
            _first: first,
        };
        // The one answer of generation zero.
        answer(&mut server.client()?)?;
        Ok(server)
    }

    fn client(&self) -> Result<TcpStream, Failure> {
        let stream = TcpStream::connect(self.addresses[0])?;
        // Reset, so that thousands of connections leave nothing in TIME_WAIT.
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        Ok(stream)
    }

    /// One upgrade, until the predecessor has exited and the new generation has settled.
    pub(crate) fn upgrade(&mut self) -> Result<Round, Failure> {
        let elders = (0..self.load.elders).map(|_| self.leave()).collect::<Result<Vec<_>, _>>()?;
        let round = self.measured()?;
        for (client, elder) in elders {
            drop(client);
            orderly(elder)?;
        }
        Ok(round)
    }

    /// An upgrade after which the predecessor drains as long as its client stays.
    fn leave(&mut self) -> Result<(TcpStream, Pid), Failure> {
        let mut client = TcpStream::connect(self.addresses[2])?;
        answer(&mut client)?;
        let elder = self.owner;
        let settled = format!("settled-{}", self.generation + 1);
        let mut first = self.client()?;
        kill(elder, Signal::SIGHUP)?;
        answer(&mut first)?;
        wait_for(&self.events, &mut |name| name == settled)?;
        self.words.read_exact(&mut [0; 8])?;
        self.generation += 1;
        self.owner = owner(&self.directory)?;
        Ok((client, elder))
    }

    fn measured(&mut self) -> Result<Round, Failure> {
        // Those of the last round first: both together may be more than this process may open.
        self.idle.clear();
        self.idle = (0..self.load.connections)
            .map(|_| TcpStream::connect(self.addresses[1]))
            .collect::<Result<_, _>>()?;
        let predecessor = self.owner;
        let process = pidfd(predecessor)?;
        let settled = format!("settled-{}", self.generation + 1);
        let mut client = self.client()?;
        let events = &self.events;
        let (began, answered, seen) = std::thread::scope(|scope| {
            let watcher = scope.spawn(|| watch(events, &process, &settled));
            std::thread::sleep(REST);
            let began = now();
            kill(predecessor, Signal::SIGHUP)?;
            answer(&mut client)?;
            let answered = now();
            let seen = watcher.join().map_err(|_| "the watcher panicked")??;
            Ok::<_, Failure>((began, answered, seen))
        })?;
        orderly(predecessor)?;
        self.generation += 1;
        self.owner = owner(&self.directory)?;
        let mut closed = [0; 8];
        self.words.read_exact(&mut closed)?;
        let closed = Duration::from_nanos(u64::from_ne_bytes(closed));
        let since = |time: Duration| time.saturating_sub(began);
        Ok(Round {
            answer: since(answered),
            closed: since(closed),
            commit: since(seen.0),
            exit: since(seen.1),
        })
    }

    pub(crate) fn stop(self) -> Result<(), Failure> {
        kill(self.owner, Signal::SIGTERM)?;
        waitpid(self.owner, None)?;
        Ok(())
    }
}

/// Waits for the orderly end of a generation.
fn orderly(process: Pid) -> Result<(), Failure> {
    match waitpid(process, None) {
        Ok(WaitStatus::Exited(_, 0)) => Ok(()),
        // Its parent is a generation that still drains, and has waited for it.
        Err(Errno::ECHILD) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(status) => Err(format!("a generation ended with {status:?}").into()),
    }
}

/// Waits for the byte that a generation answers with.
fn answer(stream: &mut TcpStream) -> Result<(), Failure> {
    stream.set_read_timeout(Some(Duration::from_millis(PATIENCE_MS.into())))?;
    Ok(stream.read_exact(&mut [0])?)
}

/// When the PID file was renamed and when the process ended; returns after the new generation has
/// settled as well.
fn watch(
    events: &Inotify,
    process: &OwnedFd,
    settled: &str,
) -> Result<(Duration, Duration), Failure> {
    let (mut commit, mut exit, mut calm) = (None, None, false);
    loop {
        if let (Some(commit), Some(exit), true) = (commit, exit, calm) {
            return Ok((commit, exit));
        }
        let mut both = [
            PollFd::new(events.as_fd(), PollFlags::POLLIN),
            PollFd::new(process.as_fd(), PollFlags::POLLIN),
        ];
        let sources = if exit.is_none() { &mut both[..] } else { &mut both[..1] };
        if poll(sources, PollTimeout::from(PATIENCE_MS))? == 0 {
            return Err(format!("waited {PATIENCE_MS} ms for the end of an upgrade").into());
        }
        let now = now();
        let [files, ended] = both.map(|source| source.any() == Some(true));
        if ended {
            exit.get_or_insert(now);
        }
        if files {
            for name in names(events)? {
                if name == "pid" {
                    commit.get_or_insert(now);
                }
                calm |= name == settled;
            }
        }
    }
}

/// Waits for a file whose name is accepted.
fn wait_for(events: &Inotify, accept: &mut dyn FnMut(&str) -> bool) -> Result<(), Failure> {
    loop {
        let mut source = [PollFd::new(events.as_fd(), PollFlags::POLLIN)];
        if poll(&mut source, PollTimeout::from(PATIENCE_MS))? == 0 {
            return Err(format!("waited {PATIENCE_MS} ms for the server to start").into());
        }
        if names(events)?.iter().any(|name| accept(name)) {
            return Ok(());
        }
    }
}

/// The names of the files that were put into the directory since the last call.
fn names(events: &Inotify) -> Result<Vec<String>, Failure> {
    let names = events.read_events()?.into_iter().filter_map(|event| event.name);
    Ok(names.map(|name| name.to_string_lossy().into_owned()).collect())
}

/// The process that owns the service, by its PID file.
fn owner(directory: &Path) -> Result<Pid, Failure> {
    let text = std::fs::read_to_string(directory.join("pid"))?;
    Ok(Pid::from_raw(text.trim().parse()?))
}

fn pidfd(pid: Pid) -> Result<OwnedFd, Failure> {
    let pid = rustix::process::Pid::from_raw(pid.as_raw()).ok_or("no process has the pid 0")?;
    Ok(rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?)
}
