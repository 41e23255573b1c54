//! What the drivers of all protocols watch: the drain's phase.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;

use tokio::time::Instant;

use super::label::Label;
use super::ledger::Ledger;
use super::timer::Timer;
use crate::drain::DrainPhase;

/// One connection's view of the drain, and its timer.
pub(super) struct Watch {
    pub(super) ledger: Arc<Ledger>,
    pub(super) timer: Timer,
    pub(super) label: Label,
    /// When this process began with the connection.
    pub(super) born: Instant,
    /// When the connection was first seen in the graceful phase.
    pub(super) graceful_since: Option<Instant>,
    phase: DrainPhase,
    /// Resolves at the phase after that one. It is polled once, since the task is always the same.
    next: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Watch {
    pub(super) fn new(ledger: Arc<Ledger>) -> Self {
        Self {
            ledger,
            timer: Timer::default(),
            label: Label::default(),
            born: Instant::now(),
            graceful_since: None,
            phase: DrainPhase::Serving,
            next: None,
        }
    }

    /// The phase. The task is woken when it changes.
    pub(super) fn phase(&mut self, cx: &mut Context<'_>) -> DrainPhase {
        loop {
            let phase = self.ledger.phase();
            if phase == DrainPhase::Force || (phase == self.phase && self.next.is_some()) {
                return phase;
            }
            if phase == DrainPhase::Graceful {
                self.graceful_since.get_or_insert_with(Instant::now);
            }
            self.phase = phase;
            let guard = self.ledger.guard.clone();
            let mut next = Box::pin(async move { guard.reached(after(phase)).await });
            if next.as_mut().poll(cx).is_pending() {
                self.next = Some(next);
                return phase;
            }
        }
    }
}

/// The phase that follows.
fn after(phase: DrainPhase) -> DrainPhase {
    match phase {
        DrainPhase::Serving => DrainPhase::LameDuck,
        DrainPhase::LameDuck => DrainPhase::Graceful,
        DrainPhase::Graceful | DrainPhase::Force => DrainPhase::Force,
    }
}
