//! Real processes, real sockets: each test starts a server, does to it what a release, an operator
//! or the kernel may do, and looks at it from outside.
//!
//! The test binary is its own server: with `HEIRLOOM_FIXTURE` in its environment it runs
//! [`support::fixture`], without it the tests. The server's behaviour is a file in the test's directory
//! that each generation reads anew, so a test changes the release by writing that file.
//!
//! A test's name is the promise it checks; the number of the promise stands in its comment.
//! `HEIRLOOM_MATRIX=1` runs and prints the whole fault matrix, `HEIRLOOM_SOAK=N` runs the soak with N upgrades,
//! `HEIRLOOM_CHAOS=N` the chaos, `HEIRLOOM_CHAT=N` the chat with N clients.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that meets the unexpected ends there"
)]

/// The tests of a module: each is a function, and its name is the trial's.
macro_rules! trials {
    ($($name:ident),+ $(,)?) => {
        pub(crate) fn trials() -> Vec<libtest_mimic::Trial> {
            let room = module_path!().rsplit("::").next().unwrap_or_default();
            vec![$(libtest_mimic::Trial::test(format!("{room}::{}", stringify!($name)), || {
                $name();
                Ok(())
            })),+]
        }
    };
}

mod support;

mod activation;
mod chaos;
mod chat;
#[cfg(feature = "cli")]
mod cli;
mod control;
#[cfg(feature = "http")]
mod drains;
#[cfg(all(feature = "axum", feature = "tonic"))]
mod examples;
mod failures;
mod groups;
mod haproxy;
mod health;
mod history;
mod idle;
mod judgement;
mod listeners;
mod main_job;
mod matrix;
mod metrics;
#[cfg(feature = "http")]
mod moves;
mod notify;
mod parent;
mod probation;
mod releases;
mod scale;
mod scanner;
mod sessions;
mod signals;
mod soak;
mod spawn;
mod states;
mod stop;
mod succession;
mod systemd;
mod takeover;
mod tidy;

use std::process::ExitCode;

use support::fixture;

fn main() -> ExitCode {
    if let Some(how) = std::env::var_os(fixture::TAKER) {
        return support::taker::misbehave(how.to_str().unwrap_or_default());
    }
    if let Some(directory) = std::env::var_os(fixture::VARIABLE) {
        return fixture::main(directory.into());
    }
    support::close_strays();
    support::adopt_orphans();
    let arguments = libtest_mimic::Arguments::from_args();
    let trials = [
        main_job::trials(),
        listeners::trials(),
        groups::trials(),
        activation::trials(),
        notify::trials(),
        parent::trials(),
        systemd::trials(),
        failures::trials(),
        probation::trials(),
        judgement::trials(),
        control::trials(),
        control::crowds::trials(),
        control::holds::trials(),
        control::moments::trials(),
        control::paths::trials(),
        history::trials(),
        idle::trials(),
        metrics::trials(),
        #[cfg(feature = "http")]
        metrics::requests::trials(),
        #[cfg(feature = "cli")]
        cli::trials(),
        haproxy::trials(),
        health::trials(),
        releases::trials(),
        spawn::trials(),
        states::trials(),
        sessions::trials(),
        chat::trials(),
        #[cfg(feature = "http")]
        moves::trials(),
        #[cfg(feature = "http")]
        drains::trials(),
        signals::trials(),
        matrix::trials(),
        scale::trials(),
        scanner::trials(),
        stop::trials(),
        succession::trials(),
        takeover::trials(),
        takeover::takers::trials(),
        takeover::containers::trials(),
        soak::trials(),
        chaos::trials(),
        #[cfg(all(feature = "axum", feature = "tonic"))]
        examples::trials(),
        tidy::trials(),
    ];
    libtest_mimic::run(&arguments, trials.into_iter().flatten().collect()).exit_code()
}
