//! What does handing a large state over cost, beside copying it in memory?
//!
//! ```text
//! cargo bench --bench state
//! cargo bench --bench state -- --megabytes 1,16,256,1024,4096 --upgrades 10
//! ```
//!
//! A real server (this program with `--serve`) is upgraded again and again. Its state is one
//! buffer, which the provider writes down and the successor takes: the time is that of
//! `Starting::take`, from the request until the state lies in the successor's memory with its
//! length and checksum compared. The copy that it is compared with is of the same length, from one
//! buffer into another that is new: in the same run, in this program, with no upgrade under way.
//! Of several lengths it says by which power each of the two grows.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a program that reports to a terminal

#[path = "fit/exponent.rs"]
mod exponent;

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdout, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use heirloom::{Config, Role};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use exponent::exponent;

/// Any error, told in one line.
type Failure = Box<dyn Error + Send + Sync>;

const STATE: &str = "bulk";

const HELP: &str = "\
usage: cargo bench --bench state -- [options]
  --megabytes N,...    lengths of the state, in MiB    [1024]
  --upgrades N         how often each is handed over   [5]
  --help               this text";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() == Some("--serve") {
        return serve(args.next().and_then(|text| text.parse().ok()).unwrap_or(0));
    }
    match measure(std::env::args().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("state: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(mut args: impl Iterator<Item = String>) -> Result<(), Failure> {
    let (mut lengths, mut upgrades) = (vec![1_024_usize], 5_usize);
    while let Some(flag) = args.next() {
        let mut numbers = || -> Result<Vec<usize>, Failure> {
            let value = args.next().ok_or_else(|| format!("{flag} needs a number"))?;
            let numbers = value.split(',').map(|number| number.trim().parse::<usize>());
            let numbers: Result<Vec<_>, _> = numbers.collect();
            Ok(numbers.map_err(|_| format!("{flag} {value}: not a number"))?)
        };
        match flag.as_str() {
            // What cargo says to every benchmark.
            "--bench" => {}
            "--megabytes" => lengths = numbers()?,
            "--upgrades" => match numbers()?[..] {
                [number] => upgrades = number,
                _ => return Err(format!("--upgrades takes one number\n\n{HELP}").into()),
            },
            "--help" | "-h" => {
                println!("{HELP}");
                return Ok(());
            }
            _ => return Err(format!("unknown option {flag}\n\n{HELP}").into()),
        }
    }
    lengths.sort_unstable();
    lengths.dedup();
    if lengths.first() == Some(&0) || upgrades == 0 {
        return Err("numbers are greater than 0".into());
    }
    nix::sys::prctl::set_child_subreaper(true)?;
    println!("{upgrades} times each, medians in milliseconds");
    println!("{:>8} {:>22} {:>22} {:>8}", "MiB", "copied to new memory", "handed over", "ratio");
    let (mut copies, mut takes) = (Vec::new(), Vec::new());
    for megabytes in lengths {
        let (copied, taken) = both(megabytes, upgrades)?;
        let ratio = taken / copied;
        println!("{megabytes:>8} {copied:>22.2} {taken:>22.2} {ratio:>8.2}");
        copies.push((megabytes as f64, copied));
        takes.push((megabytes as f64, taken));
    }
    if takes.len() > 1 {
        let (copied, taken) = (exponent(&copies), exponent(&takes));
        println!("{:>8} {copied:>22.2} {taken:>22.2}", "power");
    }
    Ok(())
}

/// Medians of a copy and of a hand-over, in milliseconds.
fn both(megabytes: usize, upgrades: usize) -> Result<(f64, f64), Failure> {
    let copies: Vec<Duration> = (0..upgrades).map(|_| copy(megabytes << 20)).collect();
    let mut server = Server::start(megabytes)?;
    let taken = (0..upgrades).map(|_| server.upgrade()).collect::<Result<Vec<_>, _>>();
    server.stop()?;
    Ok((median(copies).as_secs_f64() * 1e3, median(taken?).as_secs_f64() * 1e3))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// The time to copy so many bytes into new memory.
fn copy(length: usize) -> Duration {
    let source = filled(length);
    let began = Instant::now();
    let copy = std::hint::black_box(source.clone());
    let time = began.elapsed();
    drop(copy);
    time
}

/// Bytes that are all in memory, and not all the same.
fn filled(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index >> 12).to_le_bytes()[0] | 1).collect()
}

/// The server's program: what it has to say goes to the standard output that all generations share.
fn serve(megabytes: usize) -> ExitCode {
    let minute = Duration::from_secs(60);
    let config = Config::new("bench")
        .probation(Duration::ZERO)
        .state_limit((megabytes as u64) << 20)
        .state_deadline(minute);
    heirloom::run(config, async move |start| -> Result<_, Failure> {
        let began = Instant::now();
        let taken = start.take(STATE).await?;
        let time = began.elapsed();
        let state = match taken {
            // Whoever goes on with it has it in memory of its own.
            Some(state) => Arc::new(state.as_bytes().to_vec()),
            None => Arc::new(filled(megabytes << 20)),
        };
        if state.len() != megabytes << 20 {
            return Err("the state is not whole".into());
        }
        start.provide(STATE, 1, move |writer| writer.write_all(&state))?;
        let running = start.ready().await?;
        // Only when the predecessor has gone: the machine has nothing else to do then.
        let mut status = running.watch_status();
        status.wait_for(|status| status.role == Role::Owner && status.elders.is_empty()).await?;
        println!("{} {}", std::process::id(), time.as_micros());
        Ok(running.finished().await?)
    })
}

/// The server at work.
struct Server {
    says: BufReader<ChildStdout>,
    owner: Pid,
}

impl Server {
    fn start(megabytes: usize) -> Result<Self, Failure> {
        let mut first = Command::new(std::env::current_exe()?)
            .args(["--serve", &megabytes.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let says = BufReader::new(first.stdout.take().ok_or("no standard output")?);
        let mut server = Self { says, owner: Pid::this() };
        server.settled()?;
        Ok(server)
    }

    /// The time that the new generation took for the state.
    fn upgrade(&mut self) -> Result<Duration, Failure> {
        kill(self.owner, Signal::SIGHUP)?;
        self.settled()
    }

    /// Waits until it has ended, or it would still give memory back while the next is measured.
    fn stop(self) -> Result<(), Failure> {
        kill(self.owner, Signal::SIGTERM)?;
        // The generations are this process's: it is their subreaper.
        while nix::sys::wait::wait().is_ok() {}
        Ok(())
    }

    fn settled(&mut self) -> Result<Duration, Failure> {
        let mut line = String::new();
        self.says.read_line(&mut line)?;
        let (pid, micros) = line.trim().split_once(' ').ok_or("the server has ended")?;
        self.owner = Pid::from_raw(pid.parse()?);
        Ok(Duration::from_micros(micros.parse()?))
    }
}
