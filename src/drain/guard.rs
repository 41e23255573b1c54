//! The guard that keeps a connection's entry.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::task::{Context, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use tokio::time::Instant;

use super::entry::Entry;
use super::{DrainPhase, Purpose, stock};
use crate::name::Name;

/// Keeps a drain from ending while a connection, or whatever it stands for, is in use.
///
/// A guard comes with each accepted connection. Clones stand for the same connection: give one to
/// each task that works for it; the connection counts as ended when the last is dropped. When a
/// stream leaves the hands of its framework (an HTTP upgrade, say), let a guard go with it.
///
/// Taking, cloning and dropping one needs no runtime, and in steady state no lock and no counter
/// that connections share.
#[must_use = "the connection counts as ended when its guard is dropped"]
pub struct Guard {
    /// Taken out when the guard is dropped, and never before.
    entry: Option<Arc<Entry>>,
}

impl Guard {
    /// The guard that [`Entry::begin`] has counted.
    #[inline]
    pub(super) fn first(entry: Arc<Entry>) -> Self {
        Self { entry: Some(entry) }
    }

    #[inline]
    fn entry(&self) -> &Arc<Entry> {
        match &self.entry {
            Some(entry) => entry,
            None => unreachable!("a guard is asked after it was dropped"),
        }
    }

    /// Says what this connection is, for progress and reports. The last name given holds.
    pub fn set_name(&self, name: impl Into<String>) {
        let name = Some(name.into());
        self.entry().label(|labels| labels.name = name);
    }

    /// Says what this connection is busy with, so that a report can tell why it was still there at
    /// the deadline. The last reason given holds.
    pub fn set_reason(&self, reason: impl Into<String>) {
        let reason = Some(reason.into());
        self.entry().label(|labels| labels.reason = reason);
    }

    /// What [`set_name`](Self::set_name) said last.
    pub(crate) fn name(&self) -> Option<String> {
        self.entry().name()
    }

    /// The peer's address, as far as it was known at accept.
    pub(crate) fn peer(&self) -> Option<String> {
        self.entry().peer()
    }

    /// The peer's address, which is no internet address.
    pub(super) fn set_peer(&self, peer: String) {
        self.entry().label(|labels| labels.peer = Some(peer));
    }

    /// A newer generation has the connection: it counts as moved once its guards are gone.
    pub(crate) fn leaves(&self) {
        self.entry().leave();
    }

    /// The connection was closed on its way to a newer generation: a drain's report names it among
    /// those that were cut, and says why.
    pub(crate) fn lost(&self, why: &str) {
        self.set_reason(format!("lost on its way to the successor: {why}"));
        self.entry().lose();
    }

    /// Resolves when the connection's task has to be dropped: it was told that it is cut, and had
    /// this long to say goodbye.
    pub(crate) async fn cut(self, farewell: Duration) {
        self.reached(DrainPhase::Force).await;
        tokio::time::sleep(farewell).await;
    }

    /// The phase that this connection is in.
    ///
    /// When a drain is spread over a window, connections change phase one after another; and a
    /// connection keeps its phase when its generation owns again.
    #[must_use]
    #[inline]
    pub fn phase(&self) -> DrainPhase {
        self.entry().phase()
    }

    /// Resolves when this connection is in `phase` or in a later one; at once if it is.
    ///
    /// It costs one place in a list of this connection's own waiters: connections do not meet.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it holds nothing but its place in that list. A phase that is reached while
    /// nobody waits is seen by the next call.
    pub async fn reached(&self, phase: DrainPhase) {
        while self.phase() < phase {
            let mut moved = pin!(self.entry().moved.notified());
            // In the list before the second look, so that no move falls between the two; nor a phase
            // that is told without this connection in sight.
            moved.as_mut().enable();
            fence(Ordering::SeqCst);
            if self.phase() < phase {
                moved.await;
            }
        }
    }

    /// As [`reached`](Self::reached), for a plain thread, which waits at most `timeout`. Says
    /// whether the phase was reached.
    #[must_use]
    pub fn reached_within(&self, phase: DrainPhase, timeout: Duration) -> bool {
        let deadline = Instant::now().checked_add(timeout);
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut reached = pin!(self.reached(phase));
        loop {
            if reached.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                return true;
            }
            match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => return false,
                Some(left) => thread::park_timeout(left),
                None => thread::park(),
            }
        }
    }

    /// The name of the listener that accepted the connection.
    #[must_use]
    pub fn listener(&self) -> &Name {
        self.entry().hub.names.get(self.entry().listener())
    }

    /// Whether this connection is a health check of the generation that watches this one
    /// ([`HealthCheck`](crate::HealthCheck)), and no client's.
    ///
    /// Health checks are counted nowhere in this crate and no drain waits for them. Leave them out
    /// of your own figures too.
    #[must_use]
    pub fn is_health_check(&self) -> bool {
        self.entry().purpose() == Purpose::HealthCheck
    }

    /// The time since the connection was accepted, to the kernel's last tick: late by 10 ms at most.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.entry().age()
    }
}

impl Clone for Guard {
    fn clone(&self) -> Self {
        self.entry().keep();
        Self { entry: Some(Arc::clone(self.entry())) }
    }
}

impl Drop for Guard {
    #[inline]
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take()
            && entry.let_go()
        {
            stock::give_back(entry);
        }
    }
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard")
            .field("listener", self.listener())
            .field("peer", &self.peer())
            .field("phase", &self.phase())
            .finish_non_exhaustive()
    }
}

/// Wakes a thread that is parked.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
