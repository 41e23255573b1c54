//! Tasks of this crate.
//!
//! **Contract:** a task's future is on the heap behind one type for each output.
//!
//! tokio compiles its harness anew for each type of future that is spawned, and for each of its
//! schedulers: some ten kilobytes a task. What is spawned here shares it, for an allocation more; only
//! what serves a single connection is spawned as it is. The same goes for threads, and for a future
//! that is awaited in many places.

use std::io;
use std::pin::Pin;
use std::thread;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

/// What a task does, whatever it is. What is awaited in many places is one, too: as it is, each of
/// them would hold it.
pub(crate) type Work<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Spawns a task in the runtime that this code runs in.
pub(crate) fn spawn<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    let work: Work<'static, T> = Box::pin(work);
    tokio::spawn(work)
}

/// Spawns a task in `runtime`.
pub(crate) fn spawn_on<T: Send + 'static>(
    runtime: &Handle,
    work: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    let work: Work<'static, T> = Box::pin(work);
    runtime.spawn(work)
}

/// Spawns a task that ends with `tasks` at the latest.
pub(crate) fn spawn_in<T: Send + 'static>(
    tasks: &mut JoinSet<T>,
    work: impl Future<Output = T> + Send + 'static,
) {
    let work: Work<'static, T> = Box::pin(work);
    tasks.spawn(work);
}

/// Does this beside the tasks, and brings what came of it: whatever may wait, for a disk or for
/// somebody who is asked before a file is opened or executed (`fanotify(7)`). On a worker it would
/// keep clients and deadlines waiting, and `spawn_blocking` panics when no thread can be had.
///
/// The work runs in a short-lived thread of its own, in the caller's runtime, and can ask whether
/// anybody still wants what comes of it.
///
/// # Errors
///
/// No thread could be had, or the work panicked.
///
/// # Cancel safety
///
/// Cancelled, the work goes on, and its thread drops what comes of it.
pub(crate) async fn beside<T: Send + 'static>(
    name: &str,
    work: impl FnOnce(&dyn Fn() -> bool) -> T + Send + 'static,
) -> io::Result<T> {
    let runtime = Handle::current();
    let (tell, done) = oneshot::channel();
    in_a_thread(name, move || {
        let _in = runtime.enter();
        let came = work(&|| !tell.is_closed());
        // If nobody waits any more it is dropped here.
        let _ = tell.send(came);
    })?;
    done.await.map_err(|_| io::Error::other("it panicked"))
}

/// Does this in a short-lived thread of its own.
///
/// # Errors
///
/// No thread could be had.
pub(crate) fn in_a_thread(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let work: Box<dyn FnOnce() + Send> = Box::new(work);
    thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
}
