//! What becomes of a bad release?
//!
//! This starts a small HTTP server (this same program with `--serve`), puts it under load, and
//! upgrades it to releases that go wrong half a second after they said they were ready: one
//! crashes, one answers 500, one accepts and never answers, one says that it is not well. Each is
//! done twice: with a probation, and as everybody else does it, where 'ready' is the end.
//!
//! ```text
//! cargo run --release --example probation
//! cargo run --release --example probation -- --rounds 20
//! ```
//!
//! You will see a table: how many requests went wrong, and how long it took from the moment
//! the release began to misbehave until the old one answered again. The exit status is 0 only if
//! every bad release was taken back.
//!
//! What an application writes for this is in [`serve`], in `config`: a health check, an error
//! budget, and one line that counts how requests end.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a program that reports to a terminal

mod clients;
mod serve;
mod table;
mod trial;

use std::error::Error;
use std::process::ExitCode;

use crate::serve::Fault;
use crate::trial::{Handoff, Trial};

/// Any error of the example itself, told in one line.
type Failure = Box<dyn Error + Send + Sync>;

const HELP: &str =
    "usage: probation [--rounds N]\n\n  --rounds N   so many trials of each kind, 1 by default";

fn main() -> ExitCode {
    if let Some(directory) = std::env::var_os(serve::VARIABLE) {
        return serve::main(directory.into());
    }
    let mut rounds = 1;
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        match (flag.as_str(), args.next().map(|value| value.parse::<u32>())) {
            ("--rounds", Some(Ok(number @ 1..))) => rounds = number,
            _ => {
                eprintln!("{HELP}");
                return ExitCode::from(2);
            }
        }
    }
    match perform(rounds) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("probation: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Every fault with and without probation; whether each was taken back with it.
fn perform(rounds: u32) -> Result<bool, Failure> {
    // Generations whose parent has gone become our children, and are ended and reaped here.
    nix::sys::prctl::set_child_subreaper(true)?;
    println!("{}", table::HEAD);
    let mut all_taken_back = true;
    for fault in Fault::ALL {
        for handoff in [Handoff::Probation, Handoff::ReadyIsTheEnd] {
            let trials: Vec<Trial> =
                (0..rounds).map(|_| Trial::perform(fault, handoff)).collect::<Result<_, _>>()?;
            println!("{}", table::row(fault, handoff, &trials));
            if handoff == Handoff::Probation {
                all_taken_back &= trials.iter().all(Trial::taken_back);
            }
        }
    }
    println!("{}", table::LEGEND);
    Ok(all_taken_back)
}
