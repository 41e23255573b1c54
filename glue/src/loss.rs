//! What upgrades lose, framework by framework.

use std::env::current_exe;
use std::process::ExitCode;
use std::sync::Arc;

use crate::load::{Load, Tally};
use crate::server::Server;
use crate::{Failure, NAMES, protocol};

/// Upgrades of each framework.
const UPGRADES: u32 = 10;

/// Answers between two upgrades.
const BETWEEN: u64 = 2_000;

/// Prints a line for each of these frameworks, for all if there are none.
#[must_use]
pub fn main(names: &[&str]) -> ExitCode {
    let names = if names.is_empty() { &NAMES[..] } else { names };
    println!("{UPGRADES} upgrades each, under 40 clients that keep their connections");
    println!("framework     answered refused idle-end  fresh-end  broken  closed unseen");
    let mut failed = false;
    for name in names {
        match measure(name) {
            Ok(tally) => println!("{name:<12} {tally}"),
            Err(error) => {
                failed = true;
                println!("{name:<12} {error}");
            }
        }
    }
    ExitCode::from(u8::from(failed))
}

fn measure(name: &str) -> Result<Arc<Tally>, Failure> {
    upgrade_under_load(&current_exe()?, name, UPGRADES, BETWEEN)
}

/// Upgrades a framework's server so often, with so many answers before each and after the last.
///
/// # Errors
///
/// If the server does not start or an upgrade does not succeed.
pub fn upgrade_under_load(
    program: &std::path::Path,
    name: &str,
    upgrades: u32,
    between: u64,
) -> Result<Arc<Tally>, Failure> {
    let server = Server::start(program, name)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let load = runtime.block_on(async { Load::start(server.address(), protocol(name)) });
    for _ in 0..upgrades {
        runtime.block_on(load.answers(between))?;
        server.upgrade().map_err(|error| format!("{error}\n{}", server.log()))?;
    }
    runtime.block_on(load.answers(between))?;
    runtime.block_on(load.finish())
}
