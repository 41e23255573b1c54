//! What the crate costs while nothing happens: guards, the accept gate, drains, and an idle
//! process, each beside something in the same run.
//!
//! ```text
//! cargo bench --bench steady
//! cargo bench --bench steady -- --json steady.json --only guard
//! ```
//!
//! Times are processor time of the thread that works (`CLOCK_THREAD_CPUTIME_ID`), so that what else
//! the machine does is left out as far as it can be; what is compared runs in turn, in short rounds,
//! and medians of rounds count. Instructions come from callgrind where it is installed: the same
//! operation a few times and many times, so that everything around it cancels out.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a program that reports to a terminal

mod accept;
mod allocations;
mod cost;
mod drain;
#[path = "../fit/exponent.rs"]
mod exponent;
mod guard;
mod idle;
mod instructions;
mod table;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use table::Table;

/// Any error, told in one line.
type Failure = Box<dyn Error + Send + Sync>;

/// One part of the bench.
type Part = fn(&Options, &mut Table) -> Result<(), Failure>;

const HELP: &str = "\
usage: cargo bench --bench steady -- [options]
  --rounds N       rounds of each comparison                                 [40]
  --idle N         seconds that an idle process is watched                   [10]
  --only PART      guard, accept, drain, idle or instructions                [all]
  --json FILE      writes the figures there as well
  --help           this text";

struct Options {
    rounds: usize,
    idle: u64,
    only: Option<String>,
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let told = match args.next().as_deref() {
        Some("--sit") => idle::sit(args.next().as_deref()),
        Some("--count") => instructions::count(args),
        first => measure(first.map(str::to_owned).into_iter().chain(args)),
    };
    match told {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("steady: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(args: impl Iterator<Item = String>) -> Result<(), Failure> {
    let Some(options) = options(args)? else {
        println!("{HELP}");
        return Ok(());
    };
    let mut table = Table::default();
    let parts: [(&str, Part); 5] = [
        ("guard", guard::measure),
        ("accept", accept::measure),
        ("drain", drain::measure),
        ("idle", idle::measure),
        ("instructions", instructions::measure),
    ];
    for (name, part) in parts {
        if options.only.as_deref().is_none_or(|only| only == name) {
            part(&options, &mut table)?;
        }
    }
    if let Some(path) = &options.json {
        std::fs::write(path, table.to_json()?)?;
    }
    Ok(())
}

fn options(args: impl Iterator<Item = String>) -> Result<Option<Options>, Failure> {
    let mut options = Options { rounds: 40, idle: 10, only: None, json: None };
    // cargo itself adds `--bench`.
    let mut args = args.filter(|arg| arg != "--bench");
    while let Some(flag) = args.next() {
        if flag == "--help" {
            return Ok(None);
        }
        let value = args.next().ok_or_else(|| format!("{flag} wants a value"))?;
        match flag.as_str() {
            "--rounds" => options.rounds = value.parse()?,
            "--idle" => options.idle = value.parse()?,
            "--only" => options.only = Some(value),
            "--json" => options.json = Some(value.into()),
            _ => return Err(format!("unknown option {flag}; --help lists them").into()),
        }
    }
    Ok(Some(options))
}

/// A service of this crate that answers no signal and no control socket, for what is measured.
async fn service() -> Result<heirloom::Starting, Failure> {
    let config = heirloom::Config::new("bench").upgrade_signal(None).stop_signals([]);
    Ok(config.start().await?)
}
