//! What a release does with state: it takes a history, adds itself to it, and provides it.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use heirloom::{Blob, ErrorKind, Starting, State};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::app::Failure;
use super::fixture::Fixture;
use super::journal::{self, Journal};
use super::wait;

/// The name of the state.
const NAME: &str = "history";

/// State as a release knows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Stateful {
    /// The versions that it can write, and reads.
    pub oldest: u32,
    pub newest: u32,
    /// The length that its state is filled up to, in bytes.
    pub length: usize,
    /// How long its provider takes.
    pub pace: Duration,
    /// Why its provider fails.
    pub refuses: Option<String>,
    /// `Config::state_limit` and `Config::state_deadline`.
    pub limit: u64,
    pub deadline: Duration,
    /// Starts cold when the state is refused.
    pub or_cold: bool,
    pub asking: Asking,
    pub sends: Sends,
    pub takes_in: TakesIn,
}

/// What happens to a successor that has asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Asking {
    Waits,
    Dies,
    /// The whole process.
    Hangs,
}

/// The provider's delta.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Sends {
    Nothing,
    Delta,
    Failure,
}

/// What a successor does with a delta.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum TakesIn {
    Nothing,
    Well,
    Fails,
    Panics,
    Hangs,
}

impl Default for Stateful {
    fn default() -> Self {
        Self {
            oldest: 1,
            newest: 1,
            length: 0,
            pace: Duration::ZERO,
            refuses: None,
            limit: 1 << 30,
            deadline: Duration::from_secs(20),
            or_cold: false,
            asking: Asking::Waits,
            sends: Sends::Nothing,
            takes_in: TakesIn::Well,
        }
    }
}

impl Stateful {
    pub(crate) fn configure(&self, config: heirloom::Config) -> heirloom::Config {
        config.state_limit(self.limit).state_deadline(self.deadline)
    }
}

/// Takes the state of the predecessor, and provides the next one.
pub(crate) async fn carry(fixture: &Arc<Fixture>, starting: &Starting) -> Result<(), Failure> {
    let Some(stateful) = fixture.release.state.clone() else { return Ok(()) };
    take_in(fixture, starting, stateful.takes_in)?;
    let began = journal::now_us();
    let taken = match stateful.asking {
        Asking::Waits => starting.take_versions(NAME, stateful.oldest..=stateful.newest).await,
        other => {
            let before = writings(&fixture.directory);
            tokio::select! {
                _ = starting.take(NAME) => {}
                () = being_written(fixture, before) => {}
            }
            meet(other)
        }
    };
    let history = match taken {
        Ok(taken) => read(fixture, taken, began),
        Err(error) => {
            fixture.write("refused", json!(error.chain()));
            if !(stateful.or_cold && error.kind() == ErrorKind::StateRefused) {
                return Err(error.into());
            }
            String::new()
        }
    };
    starting.provide_with(NAME, provided(fixture, stateful, history))?;
    Ok(())
}

/// How often a provider has begun to write.
fn writings(directory: &Path) -> usize {
    Journal::read(directory).iter().filter(|entry| entry.event == "writes").count()
}

/// The predecessor has the question, and its provider is at work.
async fn being_written(fixture: &Fixture, before: usize) {
    let directory = fixture.directory.clone();
    let begun = move || (writings(&directory) > before).then_some(());
    let watch = move || wait::until("the provider to be at work", begun);
    tokio::task::spawn_blocking(watch).await.unwrap();
}

fn meet(asking: Asking) -> ! {
    let signal = match asking {
        Asking::Dies => nix::sys::signal::Signal::SIGKILL,
        _ => nix::sys::signal::Signal::SIGSTOP,
    };
    super::process::signal(std::process::id().cast_signed(), signal);
    loop {
        wait::pause(wait::PATIENCE);
    }
}

/// The history in it, after a look at the rest.
fn read(fixture: &Fixture, taken: Option<Blob>, began: u64) -> String {
    let took_us = journal::now_us() - began;
    let Some(blob) = taken else {
        fixture.write("state", serde_json::Value::Null);
        return String::new();
    };
    let end = blob.iter().position(|byte| *byte == b'\n').unwrap();
    let history = String::from_utf8(blob[..end].to_vec()).unwrap();
    let block = block();
    let filled = blob[end + 1..].chunks(block.len());
    let damaged = filled.filter(|chunk| !block.starts_with(chunk)).count();
    fixture.write(
        "state",
        json!({
            "history": history,
            "version": blob.version(),
            "length": blob.len(),
            "damaged": damaged,
            "took_us": took_us,
        }),
    );
    history
}

/// What a state is filled with, again and again.
fn block() -> Vec<u8> {
    (0..251 * 4_000).map(|at| (at % 251) as u8).collect()
}

fn provided(fixture: &Arc<Fixture>, stateful: Stateful, history: String) -> State {
    let own = fixture.generation.get().copied().unwrap_or(0);
    let history = format!("{history}{own} ");
    let (fixture, sends) = (Arc::clone(fixture), stateful.sends);
    let oldest = stateful.oldest;
    let state = State::new(stateful.newest, move |writer| {
        fixture.write("writes", json!({ "version": writer.version() }));
        wait::pause(stateful.pace);
        if let Some(why) = &stateful.refuses {
            return Err(Failure::from(why.as_str()));
        }
        writeln!(writer, "{history}")?;
        let rest = stateful.length.saturating_sub(history.len() + 1);
        let block = block();
        let mut left = rest;
        while left > 0 {
            let portion = left.min(block.len());
            writer.write_all(&block[..portion])?;
            left -= portion;
        }
        Ok(())
    })
    .oldest_version(oldest);
    match sends {
        Sends::Nothing => state,
        Sends::Delta => state.delta(move |writer| write!(writer, "delta of {own}")),
        Sends::Failure => state.delta(|_| Err("the log is torn")),
    }
}

fn take_in(fixture: &Arc<Fixture>, starting: &Starting, takes_in: TakesIn) -> Result<(), Failure> {
    if takes_in == TakesIn::Nothing {
        return Ok(());
    }
    let fixture = Arc::clone(fixture);
    starting.on_delta(NAME, move |delta| {
        let text = String::from_utf8_lossy(&delta).into_owned();
        fixture.write("delta", json!({ "text": text, "version": delta.version() }));
        async move {
            match takes_in {
                TakesIn::Fails => Err("the delta does not fit"),
                TakesIn::Panics => panic!("on purpose"),
                TakesIn::Hangs => std::future::pending().await,
                TakesIn::Well | TakesIn::Nothing => Ok(()),
            }
        }
    })?;
    Ok(())
}
