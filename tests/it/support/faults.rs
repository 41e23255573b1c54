//! Faults at exactly one step of a handoff.
//!
//! The library logs each step before it is done, with target `heirloom::handoff` and the field
//! `step`. This layer is called at that place, in the very thread that drives the handoff, and does
//! there what the armed fault says. The library needs no hooks for it.

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, raise};
use serde_json::json;
use tokio::runtime::Handle;
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer};

use super::fixture::{Fixture, WORKERS};
use super::release::{Action, Fault, Side};
use super::wait::pause;
use super::{disk, link, process, shortage};

pub(crate) struct Faults {
    pub fixture: Arc<Fixture>,
}

impl<S: tracing::Subscriber> Layer<S> for Faults {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() != "heirloom::handoff" {
            return;
        }
        let mut step = Step::default();
        event.record(&mut step);
        let Some(name) = step.name else { return };
        let side = match step.side.as_deref() {
            Some("successor") => Side::Successor,
            _ => Side::Predecessor,
        };
        self.fixture.write("step", json!({ "step": name, "side": side }));
        let directory: &PathBuf = &self.fixture.directory;
        if let Some(fault) = Fault::take(directory, side, &name) {
            self.fixture.write("fault", json!(fault));
            act(&self.fixture, side, fault.action);
        }
    }
}

fn act(fixture: &Fixture, side: Side, action: Action) {
    let own = std::process::id().cast_signed();
    match action {
        // To this very thread: it does not go one instruction further.
        Action::Kill => raise(Signal::SIGKILL).unwrap(),
        Action::Stop => raise(Signal::SIGSTOP).unwrap(),
        Action::StopBoth => {
            let others = match side {
                Side::Predecessor => process::children_of(own),
                Side::Successor => vec![nix::unistd::getppid().as_raw()],
            };
            others.into_iter().for_each(|pid| process::signal(pid, Signal::SIGSTOP));
            raise(Signal::SIGSTOP).unwrap();
        }
        #[allow(clippy::exit, reason = "that is the fault")]
        Action::Exit(status) => std::process::exit(status),
        Action::Block(time) => pause(time),
        Action::BlockWorkers(time) => block_workers(time),
        Action::CutLink => link::cut(side),
        Action::Garbage(bytes) => link::write_garbage(side, bytes),
        Action::NoDescriptors => shortage::of_descriptors(),
        Action::NoMemory => shortage::of_memory(),
        Action::NoRoom => shortage::of_room(),
        Action::FewProcesses(more, time) => shortage::of_processes(more, time),
        Action::FullDisk => disk::fill(&fixture.directory),
        Action::HangUpChildren(times) => {
            for child in process::children_of(own) {
                (0..times).for_each(|_| process::signal(child, Signal::SIGHUP));
            }
        }
    }
}

/// This thread and all others on which the runtime could run a task.
pub(crate) fn block_workers(time: Duration) {
    let end = Instant::now() + time;
    let rest = move || pause(end.saturating_duration_since(Instant::now()));
    // Before there is a runtime there is only this thread.
    if let Ok(runtime) = Handle::try_current() {
        (0..WORKERS).for_each(|_| drop(runtime.spawn(async move { rest() })));
    }
    rest();
}

#[derive(Default)]
struct Step {
    name: Option<String>,
    side: Option<String>,
}

impl Visit for Step {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "step" => self.name = Some(value.to_owned()),
            "side" => self.side = Some(value.to_owned()),
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
}
