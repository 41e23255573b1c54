//! heirloom beside other ways to restart a server: one load, one run, one report.
#![allow(clippy::print_stdout)] // a program that reports to a terminal

mod load;
mod measure;
mod options;
mod peer;
mod report;

use std::process::ExitCode;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::runtime::Builder;

use self::measure::disturbance::disturbance;
use self::measure::latency::{answer_once, floor, latency};
use self::measure::loss::loss;
use self::measure::steady::steady;
use self::options::{Options, Suite};
use self::peer::{Peer, Setup};
use self::report::store::Store;

pub(crate) use heirloom_peers::Failure;

pub(crate) fn say(line: &str) {
    println!("{line}");
}

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("--floor") {
        return told(answer_once());
    }
    match Options::parse(std::env::args().skip(1)) {
        Ok(Some(options)) => told(run(&options)),
        Ok(None) => {
            say(options::HELP);
            ExitCode::SUCCESS
        }
        Err(error) => told(Err(error)),
    }
}

fn told(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("peers: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Failure> {
    // Generations whose parent has exited become our children, and can be waited for.
    nix::sys::prctl::set_child_subreaper(true)?;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let store = Store::new(&options.out)?;
    let mut peers = Vec::new();
    for peer in &options.peers {
        match peer.program() {
            Ok(_) => peers.push(*peer),
            Err(why) => say(&format!("skipped: {}: {why}", peer.title())),
        }
    }
    for suite in &options.suites {
        match suite {
            Suite::Loss => each(&peers, |peer| {
                let count = fewer(peer, options.upgrades.unwrap_or(100));
                store.add("loss", &runtime.block_on(loss(peer, count, None))?)
            }),
            Suite::Short => each(&peers, |peer| {
                let count = fewer(peer, options.upgrades.unwrap_or(40));
                store.add("short", &runtime.block_on(loss(peer, count, Some(64)))?)
            }),
            Suite::Disturbance => each(&peers, |peer| {
                let count = fewer(peer, options.upgrades.unwrap_or(40));
                store.add("disturbance", &runtime.block_on(disturbance(peer, count, 20))?)
            }),
            Suite::Steady => {
                for peer in runtime.block_on(steady(&peers, options.upgrades.unwrap_or(20)))? {
                    store.add("steady", &peer)?;
                }
            }
            Suite::Latency => {
                store.add("floor", &floor(options.upgrades.unwrap_or(50))?)?;
                for (setup, connections, part) in setups() {
                    // nginx and HAProxy take no memory into use because we ask them to.
                    let rust = |peer: &&Peer| setup.resident == 0 || peer.is_ours_to_build();
                    let peers: Vec<Peer> = peers.iter().filter(rust).copied().collect();
                    each(&peers, |peer| {
                        let count = fewer(peer, options.upgrades.unwrap_or(50)).div_ceil(part);
                        let measured = latency(peer, count, setup, connections);
                        store.add("latency", &runtime.block_on(measured)?)
                    });
                }
            }
        }
    }
    report::write(&options.out)
}

/// pingora waits for five seconds in each upgrade.
fn fewer(peer: Peer, count: usize) -> usize {
    if peer == Peer::Pingora { count.div_ceil(10) } else { count }
}

/// One failure does not keep the others from being measured.
fn each(peers: &[Peer], mut measure: impl FnMut(Peer) -> Result<(), Failure>) {
    for peer in peers {
        if let Err(error) = measure(*peer) {
            say(&format!("failed: {}: {error}", peer.title()));
        }
    }
}

/// Servers whose upgrades are timed: their setup, their idle connections, and by how much fewer
/// upgrades there are.
fn setups() -> [(Setup, usize, usize); 6] {
    let plain = Setup::default();
    [
        (plain, 0, 1),
        (Setup { resident: 16, ..plain }, 0, 2),
        (Setup { resident: 1024, ..plain }, 0, 5),
        (Setup { more: 99, ..plain }, 0, 2),
        (Setup { more: 999, ..plain }, 0, 5),
        // HAProxy needs two descriptors for each connection.
        (plain, 9_000, 10),
    ]
}
