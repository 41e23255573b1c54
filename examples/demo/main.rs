//! Does an upgrade lose anything?
//!
//! The demo starts a real server process (this same program with `--serve`), drives it over
//! loopback with six kinds of clients that never retry, sends it SIGHUP again and again, and
//! counts what every client saw:
//!
//! ```text
//! cargo run --release --example demo
//! cargo run --release --example demo -- --upgrades 100 --rate 3000 --svg upgrades.svg
//! ```
//!
//! You will see one line that follows the run, then a table, a timeline, and where the same story
//! was drawn as SVG. The exit status is 0 only when every upgrade was committed, every generation
//! exited in order, and not one request, line or connection was lost.
//!
//! The server is in [`serve`]: that part is what an application writes. The rest are the clients
//! ([`load`]), the upgrades ([`upgrades`]) and the bookkeeping.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a program that reports to a terminal

mod fleet;
mod ledger;
mod load;
mod options;
mod serve;
mod show;
mod trouble;
mod upgrades;

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::fleet::Fleet;
use crate::ledger::Ledger;
use crate::load::Load;
use crate::options::{Mode, Options};
use crate::show::summary::Summary;
use crate::upgrades::Upgrade;

/// Any error of the demo itself, told in one line.
type Failure = Box<dyn Error + Send + Sync>;

/// How long the load runs before the first upgrade and after the last.
const CALM: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    match Options::parse(std::env::args().skip(1)) {
        Ok(Mode::Help) => {
            println!("{}", options::HELP);
            ExitCode::SUCCESS
        }
        Ok(Mode::Serve(dir, options)) => serve::main(dir, &options),
        Ok(Mode::Drive(options)) => drive(&options).unwrap_or_else(|error| {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }),
        Err(wrong) => {
            eprintln!("demo: {wrong}\n\n{}", options::HELP);
            ExitCode::from(2)
        }
    }
}

/// The whole demo: server up, load, upgrades, load and server down, the report.
fn drive(options: &Options) -> Result<ExitCode, Failure> {
    // Generations whose parent has exited become our children: each can be waited for, its exit
    // status is known, and its pid cannot be used again before we have seen it end.
    nix::sys::prctl::set_child_subreaper(true)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let ledger = Arc::new(Ledger::new());
        let fleet = Fleet::start(options, &ledger).await?;
        let told = perform(options, &ledger, &fleet).await;
        fleet.stop(options.drain + Duration::from_secs(5)).await;
        let (upgrades, interrupted) = told?;
        let summary = Summary::new(options, &ledger, &fleet, upgrades, interrupted);
        report(options, &summary, &fleet)?;
        Ok(match summary.flawless() {
            _ if interrupted => ExitCode::from(130),
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    })
}

/// Load and upgrades, until they are done or somebody interrupts; then the load ends in order.
async fn perform(
    options: &Options,
    ledger: &Arc<Ledger>,
    fleet: &Fleet,
) -> Result<(Vec<Upgrade>, bool), Failure> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let load = Load::start(options, ledger, fleet.addresses());
    let mut upgrades = Vec::new();
    let story = async {
        tokio::time::sleep(CALM).await;
        upgrades::run(options, ledger, fleet, &mut upgrades).await;
        tokio::time::sleep(CALM).await;
    };
    let interrupted = tokio::select! {
        () = story => false,
        () = show::progress::follow(options, ledger, fleet) => false,
        _ = interrupt.recv() => true,
        _ = terminate.recv() => true,
    };
    show::progress::end();
    load.stop().await;
    Ok((upgrades, interrupted))
}

/// The table and the timeline to the terminal, the drawing to its file.
fn report(options: &Options, summary: &Summary, fleet: &Fleet) -> Result<(), Failure> {
    println!("{}", show::table::table(summary));
    println!("{}", show::timeline::timeline(summary));
    std::fs::write(&options.svg, show::chart::draw(summary))
        .map_err(|error| format!("cannot write {}: {error}", options.svg.display()))?;
    println!("drawn in {}", options.svg.display());
    if !summary.flawless() && !summary.interrupted {
        println!("\nthe last lines of the server's log:\n{}", fleet.last_words(20));
    }
    Ok(())
}
