//! What does an upgrade cost, beside what starting a program costs?
//!
//! ```text
//! cargo bench --bench upgrade
//! cargo bench --bench upgrade -- --listeners 1,100,1000 --resident 16,1024,4096 \
//!     --connections 0,10000 --elders 0,1,2,4 --json docs/benchmarks/upgrade.json
//! ```
//!
//! A real server (this program with `--serve`) is upgraded again and again, with probation zero.
//! Four times are taken for each upgrade, from SIGHUP:
//!
//! - to the first answer of the new generation: a client has connected before, and waits in the
//!   queue of a listener from which each generation accepts one connection, its first. So nobody
//!   has to ask again and again, and nothing but the upgrade runs while it is measured;
//! - to the moment from which the old generation accepts nothing any more, as it tells by itself
//!   in its `on_yield`;
//! - to the commit, which is when the PID file changes hands (`inotify(7)`);
//! - to the predecessor's exit (`pidfd_open(2)`).
//!
//! The floor is measured in the same run, turn by turn with the upgrades, so that what disturbs
//! the one disturbs the other: this program again, started by a bare `posix_spawn(3)` with a
//! listener as its standard input, which it answers from a runtime with as many workers as the
//! server has. The same without a runtime has a line of its own. What is above the floor is what a
//! handoff adds: the dialogue, the verdict, the predecessor's part. The machine rests for 5 ms
//! before each measurement, as it does before an upgrade in earnest.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a program that reports to a terminal

#[path = "../fit/exponent.rs"]
mod exponent;
mod figures;
mod floor;
mod owner;
mod server;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::time::{ClockId, clock_gettime};

use figures::{Result as Measured, Series, Times};
use owner::{Round, Server};

/// Any error, told in one line.
type Failure = Box<dyn Error + Send + Sync>;

/// The machine's rest before each measurement, so that floor and upgrade start from the same
/// caches: programs that are started one right after the other start in two thirds of the time.
const REST: Duration = Duration::from_millis(5);

const HELP: &str = "\
usage: cargo bench --bench upgrade -- [options]
  --upgrades N           upgrades of each kind, beside as many floors        [100]
  --listeners N,...      measure with so many listeners, beside one
  --resident MB,...      measure with so much memory in use by the predecessor
  --connections N,...    measure with so many idle connections
  --elders N,...         measure with so many older generations that still drain
  --json FILE            write the figures there, too
  --help                 this text";

/// What a server is measured with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Load {
    listeners: usize,
    megabytes: usize,
    connections: usize,
    elders: usize,
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let told = match args.next().as_deref() {
        Some("--floor") => floor::bare(),
        Some("--runtime-floor") => floor::with_a_runtime(),
        Some("--serve") => return server::serve(args),
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

/// What is to be measured.
struct Plan {
    upgrades: usize,
    listeners: Vec<usize>,
    resident: Vec<usize>,
    connections: Vec<usize>,
    elders: Vec<usize>,
    json: Option<PathBuf>,
}

impl Plan {
    /// `None`: the help text is wanted.
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Self>, Failure> {
        let mut plan = Self {
            upgrades: 100,
            listeners: Vec::new(),
            resident: Vec::new(),
            connections: Vec::new(),
            elders: Vec::new(),
            json: None,
        };
        while let Some(flag) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{flag} needs a value"));
            match flag.as_str() {
                // What cargo says to every benchmark.
                "--bench" => {}
                "--upgrades" => plan.upgrades = value()?.parse::<usize>()?.max(1),
                "--listeners" => plan.listeners = numbers(&value()?)?,
                "--resident" => plan.resident = numbers(&value()?)?,
                "--connections" => plan.connections = numbers(&value()?)?,
                "--elders" => plan.elders = numbers(&value()?)?,
                "--json" => plan.json = Some(value()?.into()),
                "--help" | "-h" => return Ok(None),
                _ => return Err(format!("unknown option {flag}\n\n{HELP}").into()),
            }
        }
        Ok(Some(plan))
    }

    /// The series to measure: what grows, and the loads.
    fn series(&self) -> Vec<(&'static str, Vec<(usize, Load)>)> {
        let one = Load { listeners: 1, megabytes: 0, connections: 0, elders: 0 };
        let mut series = vec![("upgrade", vec![(1, one)])];
        let mut add = |what, sizes: &[usize], load: &dyn Fn(usize) -> Load| {
            if !sizes.is_empty() {
                series.push((what, sizes.iter().map(|&size| (size, load(size))).collect()));
            }
        };
        add("listeners", &self.listeners, &|size| Load { listeners: size.max(1), ..one });
        add("megabytes in use", &self.resident, &|megabytes| Load { megabytes, ..one });
        add("idle connections", &self.connections, &|connections| Load { connections, ..one });
        add("older generations", &self.elders, &|elders| Load { elders, ..one });
        series
    }
}

fn numbers(text: &str) -> Result<Vec<usize>, Failure> {
    let parsed = text.split(',').map(|number| number.trim().parse::<usize>());
    Ok(parsed.collect::<Result<_, _>>().map_err(|_| format!("{text}: not numbers"))?)
}

fn measure(args: impl Iterator<Item = String>) -> Result<(), Failure> {
    let Some(plan) = Plan::parse(args)? else {
        println!("{HELP}");
        return Ok(());
    };
    // Generations whose parent has exited become our children, and can be waited for.
    nix::sys::prctl::set_child_subreaper(true)?;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    println!("{} of each; times in milliseconds, ratios to the floor of the run", plan.upgrades);
    let series = plan.series();
    let measured: Vec<Series> = series
        .into_iter()
        .map(|(what, loads)| one_series(plan.upgrades, what, &loads))
        .collect::<Result<_, Failure>>()?;
    if let Some(path) = &plan.json {
        figures::write(path, &measured)?;
    }
    Ok(())
}

/// Floors and the servers of one series, turn by turn.
fn one_series(
    upgrades: usize,
    what: &'static str,
    loads: &[(usize, Load)],
) -> Result<Series, Failure> {
    let (bare, runtime) = (floor::Floor::new(c"--floor")?, floor::Floor::new(c"--runtime-floor")?);
    let directories: Vec<_> =
        loads.iter().map(|_| tempfile::tempdir()).collect::<Result<_, _>>()?;
    let mut servers: Vec<Server> = directories
        .iter()
        .zip(loads)
        .map(|(directory, (_, load))| Server::start(directory.path(), *load))
        .collect::<Result<_, _>>()?;
    let mut rounds: Vec<Vec<Round>> = loads.iter().map(|_| Vec::new()).collect();
    let (mut bares, mut runtimes) = (Vec::new(), Vec::new());
    for _ in 0..upgrades {
        bares.push(bare.start()?);
        for (server, rounds) in servers.iter_mut().zip(&mut rounds) {
            runtimes.push(runtime.start()?);
            rounds.push(server.upgrade()?);
        }
    }
    servers.into_iter().try_for_each(Server::stop)?;
    let results = loads.iter().zip(&rounds).map(|((size, _), rounds)| Measured {
        size: *size,
        answer: Times::of(rounds, |round| round.answer),
        closed: Times::of(rounds, |round| round.closed),
        commit: Times::of(rounds, |round| round.commit),
        exit: Times::of(rounds, |round| round.exit),
        after: Times::of(rounds, |round| round.exit.saturating_sub(round.commit)),
    });
    let results = results.collect();
    let series = Series { what, bare: Times::new(bares), floor: Times::new(runtimes), results };
    series.print();
    Ok(series)
}

/// The time of a clock that all processes share.
fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from)
}
