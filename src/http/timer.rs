//! One timer of a connection, which costs nothing until it is first needed.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// What counts as never.
const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// A timer that is set anew at each look.
#[derive(Default)]
pub(super) struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    /// Whether `at` has come; if not, the task is woken when it does. With `None` it is not woken,
    /// or once for nothing.
    pub(super) fn poll(&mut self, at: Option<Instant>, cx: &mut Context<'_>) -> bool {
        let Some(at) = at else { return false };
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if sleep.deadline() != at {
            sleep.as_mut().reset(at);
        }
        sleep.as_mut().poll(cx).is_ready()
    }
}

/// A time after a start; one that the clock does not reach counts as never.
pub(super) fn after(start: Instant, wait: Duration) -> Instant {
    start + wait.min(NEVER)
}
