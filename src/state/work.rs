//! Work that may take long and never waits: a thread of its own, as long as it lasts.

use tokio::sync::oneshot;

use crate::error::{Error, ErrorKind, Result};

/// Runs this in a short-lived thread. tokio's `spawn_blocking` panics where no thread can be had,
/// and a closure of the application that never returns would keep the runtime from ending.
///
/// # Cancel safety
///
/// Dropped, the work goes on, and what it yields is dropped.
pub(super) async fn in_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    let (done, ended) = oneshot::channel();
    let thread = crate::task::in_a_thread("heirloom-state", move || {
        // Whoever asked may have stopped waiting.
        let _ = done.send(work());
    });
    thread.map_err(|error| {
        Error::new(ErrorKind::Io, "no thread could be had for a state").with_source(error)
    })?;
    ended.await.map_err(|_| Error::new(ErrorKind::StateRefused, "its provider panicked"))
}
