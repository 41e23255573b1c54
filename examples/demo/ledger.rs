//! The book in which every client writes what it saw.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::trouble::{Class, Trouble};

/// The kinds of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A new connection for each request.
    Short,
    /// Many requests on one connection, with time to think between them.
    KeepAlive,
    /// Requests that take longer than a drain takes to begin.
    Slow,
    /// Numbered lines on a long TCP session.
    TcpEcho,
    /// Numbered lines on a long Unix session.
    UnixEcho,
    /// A new Unix connection for each line.
    UnixShort,
}

impl Kind {
    /// All of them, in the order of the table.
    pub(crate) const ALL: [Self; 6] =
        [Self::Short, Self::KeepAlive, Self::Slow, Self::TcpEcho, Self::UnixEcho, Self::UnixShort];

    /// The words for the table.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Short => "short connections",
            Self::KeepAlive => "keep-alive requests (POST)",
            Self::Slow => "slow requests (700 ms)",
            Self::TcpEcho => "TCP echo lines",
            Self::UnixEcho => "Unix echo lines",
            Self::UnixShort => "short Unix connections",
        }
    }
}

/// An answer: what was asked, when it was whole, who gave it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    /// Which kind of client.
    pub(crate) kind: Kind,
    /// When it was whole, since the demo began.
    pub(crate) at: Duration,
    /// From the connect or the first byte sent to the last byte received.
    pub(crate) latency: Duration,
    /// Who gave it.
    pub(crate) generation: u64,
}

/// A client that was let down.
#[derive(Clone, Debug)]
pub(crate) struct Miss {
    /// Which kind of client.
    pub(crate) kind: Kind,
    /// When it noticed, since the demo began.
    pub(crate) at: Duration,
    /// What it saw.
    pub(crate) trouble: Trouble,
}

/// The process behind a generation, as its answers name it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sighting {
    /// Its process.
    pub(crate) pid: i32,
    /// When its first answer was whole, since the demo began.
    pub(crate) at: Duration,
}

/// Events that are no answers and no failures.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Echo sessions that ended as the server's `BYE` asked.
    pub(crate) drained: AtomicU64,
    /// Echo sessions that ended in any other way.
    pub(crate) cut: AtomicU64,
    /// Keep-alive connections that ended with `Connection: close` on an answer.
    pub(crate) told: AtomicU64,
    /// Keep-alive connections that the server closed while nothing was asked: allowed, not nice.
    pub(crate) idle_closed: AtomicU64,
    /// The longest time, in microseconds, by which the demo's own clock was late: a machine that
    /// is busy with something else delays clients and server alike.
    stall: AtomicU64,
}

/// The book. Writing into it is a push under a lock that nobody holds for long.
#[derive(Debug)]
pub(crate) struct Ledger {
    start: Instant,
    answers: Mutex<Vec<Answer>>,
    misses: Mutex<Vec<Miss>>,
    seen: Mutex<BTreeMap<u64, Sighting>>,
    sighted: Notify,
    closing: OnceLock<Duration>,
    counts: Counts,
}

impl Ledger {
    /// An empty book; its clock starts now.
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            answers: Mutex::new(Vec::with_capacity(1 << 16)),
            misses: Mutex::default(),
            seen: Mutex::default(),
            sighted: Notify::new(),
            closing: OnceLock::new(),
            counts: Counts::default(),
        }
    }

    /// The time since the demo began.
    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// From now on nothing new is asked; what is under way is still written down.
    pub(crate) fn close(&self) {
        self.closing.get_or_init(|| self.now());
    }

    /// When the last question was asked, or now.
    pub(crate) fn closing(&self) -> Duration {
        self.closing.get().copied().unwrap_or_else(|| self.now())
    }

    /// An answer came from this generation and process.
    pub(crate) fn answer(&self, kind: Kind, latency: Duration, generation: u64, pid: i32) {
        let mut answers = locked(&self.answers);
        // Inside the lock, so that the book is in order of time.
        let at = self.now();
        answers.push(Answer { kind, at, latency, generation });
        drop(answers);
        let mut seen = locked(&self.seen);
        if let std::collections::btree_map::Entry::Vacant(place) = seen.entry(generation) {
            place.insert(Sighting { pid, at });
            self.sighted.notify_waiters();
        }
    }

    /// A client was let down.
    pub(crate) fn miss(&self, kind: Kind, trouble: Trouble) {
        locked(&self.misses).push(Miss { kind, at: self.now(), trouble });
    }

    /// What is counted beside answers and failures.
    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Waits for the first answer of any generation after this one, or of any at all.
    pub(crate) async fn newer_than(&self, generation: Option<u64>) -> (u64, Sighting) {
        let first = generation.map_or(0, |generation| generation + 1);
        loop {
            let mut sighted = std::pin::pin!(self.sighted.notified());
            sighted.as_mut().enable();
            if let Some((&newer, &sighting)) = locked(&self.seen).range(first..).next() {
                return (newer, sighting);
            }
            sighted.await;
        }
    }

    /// Every generation that has answered.
    pub(crate) fn seen(&self) -> BTreeMap<u64, Sighting> {
        locked(&self.seen).clone()
    }

    /// The number of answers so far, and those from this time on.
    pub(crate) fn answers_since(&self, from: Duration) -> (usize, Vec<Answer>) {
        let answers = locked(&self.answers);
        let first = answers.partition_point(|answer| answer.at < from);
        (answers.len(), answers.get(first..).unwrap_or_default().to_vec())
    }

    /// The failures so far.
    pub(crate) fn misses(&self) -> Vec<Miss> {
        locked(&self.misses).clone()
    }

    /// The number of failures so far.
    pub(crate) fn missed(&self) -> usize {
        locked(&self.misses).len()
    }
}

impl Counts {
    /// One more.
    pub(crate) fn add(count: &AtomicU64) {
        count.fetch_add(1, Relaxed);
    }

    /// The demo's own clock was late by this much.
    pub(crate) fn stalled(&self, late: Duration) {
        self.stall.fetch_max(u64::try_from(late.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    /// The most by which the demo's own clock was late.
    pub(crate) fn stall(&self) -> Duration {
        Duration::from_micros(self.stall.load(Relaxed))
    }

    /// How many so far.
    pub(crate) fn get(count: &AtomicU64) -> u64 {
        count.load(Relaxed)
    }
}

impl Miss {
    /// Which way.
    pub(crate) fn class(&self) -> Class {
        self.trouble.class
    }
}

/// A lock that outlives a panic of another task: the book is still worth reading.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
