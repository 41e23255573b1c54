//! Faults at exactly one step of a handoff.
//!
//! The library logs each step before it is done, with target `heirloom::handoff` and the field
//! `step`. This layer is called at that place, in the very thread that drives the handoff, and does
//! there what the armed fault says. The library needs no hooks for it.

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;

use nix::sys::signal::{Signal, raise};
use nix::sys::socket::{Shutdown, shutdown};
use serde_json::json;
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer};

use super::fixture::Fixture;
use super::process;
use super::release::{Action, Fault, Side};
use super::wait::pause;

/// The number that the link has in a successor.
const LINK: i32 = 3;

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
            act(fault.action);
        }
    }
}

fn act(action: Action) {
    match action {
        // To this very thread: it does not go one instruction further.
        Action::Kill => raise(Signal::SIGKILL).unwrap(),
        Action::Stop => raise(Signal::SIGSTOP).unwrap(),
        #[allow(clippy::exit, reason = "that is the fault")]
        Action::Exit(status) => std::process::exit(status),
        Action::Block(time) => pause(time),
        Action::CutLink => shutdown(LINK, Shutdown::Both).unwrap(),
        Action::HangUpChildren(times) => {
            for child in process::children_of(std::process::id().cast_signed()) {
                (0..times).for_each(|_| process::signal(child, Signal::SIGHUP));
            }
        }
    }
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
