//! What does an upgrade cost, beside what starting a program costs?
//!
//! ```text
//! cargo bench --bench upgrade
//! cargo bench --bench upgrade -- --upgrades 1000 --listeners 1000 --resident 1024
//! ```
//!
//! A real server (this program with `--serve`) is upgraded again and again, with probation zero
//! and nothing to drain. Four times are taken for each upgrade:
//!
//! - from SIGHUP to the first answer that the new generation gives to a client, which connects
//!   again and again with a pause of 50 µs, so that it does not take the processors from those
//!   that it measures (the floor's client waits in its one connect);
//! - from SIGHUP to the commit, which is when the PID file changes hands (`inotify(7)`);
//! - from SIGHUP to the predecessor's exit (`pidfd_open(2)`);
//! - from the commit to that exit.
//!
//! The floor is measured in the same run: this program again, started by a bare `posix_spawn(3)`
//! with a listener as its standard input, which it answers at once and without a runtime. What is
//! above the floor is what a handoff adds: a runtime on both sides, the dialogue, the verdict. How
//! much of that the new program's runtime alone costs is a line of its own. The machine rests for
//! 5 ms before each measurement, as it does before an upgrade in earnest.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a program that reports to a terminal

use std::error::Error;
use std::ffi::{CStr, CString, OsStr};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use heirloom::{Config, Role};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, posix_spawn};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use tokio::io::AsyncWriteExt;

/// Any error, told in one line.
type Failure = Box<dyn Error + Send + Sync>;

/// No single wait of the benchmark is longer, in milliseconds.
const PATIENCE_MS: u16 = 60_000;

/// The machine's rest before each measurement, so that floor and upgrade start from the same
/// caches: programs that are started one right after the other start in two thirds of the time.
const REST: Duration = Duration::from_millis(5);

/// The client's pause between two connects: the resolution of the first answer.
const PACE: Duration = Duration::from_micros(50);

const HELP: &str = "\
usage: cargo bench --bench upgrade -- [options]
  --upgrades N     upgrades of each kind                                     [200]
  --listeners N    measure also with N listeners more
  --resident MB    measure also with so much memory in use by the predecessor,
                   beside 16 MB
  --help           this text";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let told = match args.next().as_deref() {
        Some("--floor") => floor(),
        Some("--runtime-floor") => runtime_floor(),
        Some("--serve") => return serve(args),
        first => measure(first.map(str::to_owned).into_iter().chain(args)),
    };
    match told {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("upgrade: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(args: impl Iterator<Item = String>) -> Result<(), Failure> {
    match Plan::parse(args)? {
        Some(plan) => drive(&plan),
        None => {
            println!("{HELP}");
            Ok(())
        }
    }
}

/// What is to be measured.
#[derive(Default)]
struct Plan {
    upgrades: usize,
    listeners: Option<usize>,
    resident: Option<usize>,
}

impl Plan {
    /// `None`: the help text is wanted.
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Self>, Failure> {
        let mut plan = Self { upgrades: 200, ..Self::default() };
        while let Some(flag) = args.next() {
            let mut number = || -> Result<usize, Failure> {
                let value = args.next().ok_or_else(|| format!("{flag} needs a number"))?;
                Ok(value.parse().map_err(|_| format!("{flag} {value}: not a number"))?)
            };
            match flag.as_str() {
                // What cargo says to every benchmark.
                "--bench" => {}
                "--upgrades" => plan.upgrades = number()?.max(1),
                "--listeners" => plan.listeners = Some(number()?),
                "--resident" => plan.resident = Some(number()?),
                "--help" | "-h" => return Ok(None),
                _ => return Err(format!("unknown option {flag}\n\n{HELP}").into()),
            }
        }
        Ok(Some(plan))
    }

    /// The servers to measure: a title, listeners besides the first, megabytes in use.
    fn servers(&self) -> Vec<(String, usize, usize)> {
        let mut servers = vec![(String::from("one listener"), 0, 0)];
        if let Some(more) = self.listeners {
            servers.push((format!("{} listeners", more + 1), more, 0));
        }
        if let Some(resident) = self.resident {
            servers.push((String::from("one listener, 16 MB in use"), 0, 16));
            servers.push((format!("one listener, {resident} MB in use"), 0, resident));
        }
        servers
    }
}

/// Measures the floor and every server, and prints what came of it.
fn drive(plan: &Plan) -> Result<(), Failure> {
    // Generations whose parent has exited become our children, and can be waited for.
    nix::sys::prctl::set_child_subreaper(true)?;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let floor = Times::new(floors(plan.upgrades, c"--floor")?);
    let runtime = Times::new(floors(plan.upgrades, c"--runtime-floor")?);
    println!("{} of each; times in milliseconds, ratios to the floor's median", plan.upgrades);
    println!("{:<44}{:>9}{:>9}{:>8}{:>8}", "", "p50", "p99", "ratio", "p99");
    floor.print("floor: posix_spawn to first answer", &floor);
    runtime.print("the same, but answering from a runtime", &floor);
    for (title, listeners, resident) in plan.servers() {
        let directory = tempfile::tempdir()?;
        let mut server = Server::start(directory.path(), listeners, resident)?;
        let rounds = (0..plan.upgrades).map(|_| server.upgrade()).collect::<Result<Vec<_>, _>>();
        server.stop()?;
        let rounds = rounds?;
        let times = |of: fn(&Round) -> Duration| Times::new(rounds.iter().map(of).collect());
        println!("{title}");
        times(|round| round.answer).print("  SIGHUP to first answer", &floor);
        times(|round| round.commit).print("  SIGHUP to commit", &floor);
        times(|round| round.exit).print("  SIGHUP to the predecessor's exit", &floor);
        times(|round| round.exit.saturating_sub(round.commit))
            .print("  commit to that exit", &floor);
    }
    Ok(())
}

/// Many times of one kind, in order.
struct Times(Vec<Duration>);

impl Times {
    fn new(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// The time that so many percent do not exceed, in milliseconds.
    fn percentile(&self, percent: usize) -> f64 {
        let index = (self.0.len() * percent).div_ceil(100).saturating_sub(1);
        self.0.get(index).map_or(0.0, |time| time.as_secs_f64() * 1e3)
    }

    fn print(&self, title: &str, floor: &Self) {
        let (p50, p99, base) = (self.percentile(50), self.percentile(99), floor.percentile(50));
        println!("{title:<44}{p50:>9.3}{p99:>9.3}{:>8.2}{:>8.2}", p50 / base, p99 / base);
    }
}

/// The floor, so many times.
fn floors(count: usize, mode: &CStr) -> Result<Vec<Duration>, Failure> {
    let program = std::env::current_exe()?;
    let arguments = [CString::new(program.as_os_str().as_bytes())?, mode.to_owned()];
    let environment = std::env::vars_os()
        .map(|(name, value)| {
            CString::new([name.as_bytes(), value.as_bytes()].join(OsStr::new("=").as_bytes()))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    let mut actions = PosixSpawnFileActions::init()?;
    actions.add_dup2(listener.as_raw_fd(), 0)?;
    let attributes = PosixSpawnAttr::init()?;
    (0..count)
        .map(|_| {
            std::thread::sleep(REST);
            let began = Instant::now();
            let child = posix_spawn(&program, &actions, &attributes, &arguments, &environment)?;
            ask(address)?;
            let time = began.elapsed();
            match waitpid(child, None)? {
                WaitStatus::Exited(_, 0) => Ok(time),
                status => Err(format!("the floor's program ended with {status:?}").into()),
            }
        })
        .collect()
}

/// The floor's program: answers one connection on its standard input.
fn floor() -> Result<(), Failure> {
    let listener = TcpListener::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let (mut stream, _) = listener.accept()?;
    stream.write_all(&[0])?;
    Ok(())
}

/// The same with a runtime, as every successor has one.
fn runtime_floor() -> Result<(), Failure> {
    let listener = TcpListener::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let (mut stream, _) = listener.accept().await?;
        tokio::spawn(async move { stream.write_all(&[0]).await }).await??;
        Ok(())
    })
}

/// Connects, and returns the byte that the server answers with: its generation.
fn ask(address: SocketAddr) -> Result<u8, Failure> {
    let mut answer = [0];
    let mut stream = TcpStream::connect(address)?;
    stream.read_exact(&mut answer)?;
    // Reset, so that thousands of connections leave nothing in TIME_WAIT.
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    Ok(answer[0])
}

/// The server's program: `DIRECTORY LISTENERS MEGABYTES`.
fn serve(mut args: impl Iterator<Item = String>) -> ExitCode {
    let directory = PathBuf::from(args.next().unwrap_or_default());
    let mut number = || args.next().and_then(|text| text.parse().ok()).unwrap_or(0);
    let (listeners, megabytes): (usize, usize) = (number(), number());
    let config = Config::new("bench").probation(Duration::ZERO).pid_file(directory.join("pid"));
    heirloom::run(config, async move |start| -> Result<_, Failure> {
        let main = start.tcp("main", "127.0.0.1:0").await?;
        let address = main.local_addr()?;
        let mut others = Vec::new();
        for number in 0..listeners {
            others.push(start.tcp(&format!("other-{number}"), "127.0.0.1:0").await?);
        }
        let running = start.ready().await?;
        let generation = running.generation();
        let answer = generation.get().to_le_bytes()[0];
        for listener in std::iter::once(main).chain(others) {
            // A client that has gone is no concern of a benchmark: the result is dropped.
            running.accept_loop(listener, move |mut connection| async move {
                connection.write_all(&[answer]).await
            });
        }
        // Only when the predecessor has gone: its memory is measured, not ours.
        let mut status = running.watch_status();
        status.wait_for(|status| status.role == Role::Owner && status.elders.is_empty()).await?;
        let memory = vec![1_u8; megabytes << 20];
        let settled = directory.join(format!("settled-{generation}"));
        std::fs::write(directory.join("settled"), address.to_string())?;
        std::fs::rename(directory.join("settled"), settled)?;
        let outcome = running.finished().await?;
        drop(memory);
        Ok(outcome)
    })
}

/// The times of one upgrade, all from its signal.
struct Round {
    answer: Duration,
    commit: Duration,
    exit: Duration,
}

/// The server at work, as its clients and its files show it.
struct Server {
    directory: PathBuf,
    events: Inotify,
    address: SocketAddr,
    owner: Pid,
    generation: u64,
    /// Generation zero, which is waited for like all others.
    _first: Child,
}

impl Server {
    fn start(directory: &Path, listeners: usize, resident: usize) -> Result<Self, Failure> {
        let events = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        events.add_watch(directory, AddWatchFlags::IN_MOVED_TO)?;
        let first = Command::new(std::env::current_exe()?)
            .arg("--serve")
            .arg(directory)
            .args([listeners.to_string(), resident.to_string()])
            .stdin(Stdio::null())
            .spawn()?;
        wait_for(&events, &mut |name| name == "settled-0")?;
        let address = std::fs::read_to_string(directory.join("settled-0"))?.parse()?;
        Ok(Self {
            owner: owner(directory)?,
            directory: directory.to_owned(),
            events,
            address,
            generation: 0,
            _first: first,
        })
    }

    /// One upgrade, until the predecessor has exited and the new generation has settled.
    fn upgrade(&mut self) -> Result<Round, Failure> {
        let predecessor = self.owner;
        let process = pidfd(predecessor)?;
        let settled = format!("settled-{}", self.generation + 1);
        let new = (self.generation + 1).to_le_bytes()[0];
        let (events, address) = (&self.events, self.address);
        let (began, answered, seen) = std::thread::scope(|scope| {
            std::thread::sleep(REST);
            let watcher = scope.spawn(|| watch(events, &process, &settled));
            let began = Instant::now();
            kill(predecessor, Signal::SIGHUP)?;
            while ask(address)? != new {
                if began.elapsed() > Duration::from_millis(PATIENCE_MS.into()) {
                    return Err("no answer of a new generation: the upgrade failed".into());
                }
                std::thread::sleep(PACE);
            }
            let answered = Instant::now();
            let seen = watcher.join().map_err(|_| "the watcher panicked")??;
            Ok::<_, Failure>((began, answered, seen))
        })?;
        match waitpid(predecessor, None)? {
            WaitStatus::Exited(_, 0) => {}
            status => {
                return Err(format!("generation {} ended with {status:?}", self.generation).into());
            }
        }
        self.generation += 1;
        self.owner = owner(&self.directory)?;
        Ok(Round {
            answer: answered.duration_since(began),
            commit: seen.0.duration_since(began),
            exit: seen.1.duration_since(began),
        })
    }

    fn stop(self) -> Result<(), Failure> {
        kill(self.owner, Signal::SIGTERM)?;
        waitpid(self.owner, None)?;
        Ok(())
    }
}

/// When the PID file was renamed and when the process ended; returns after the new generation has
/// settled as well.
fn watch(
    events: &Inotify,
    process: &OwnedFd,
    settled: &str,
) -> Result<(Instant, Instant), Failure> {
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
        let now = Instant::now();
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
