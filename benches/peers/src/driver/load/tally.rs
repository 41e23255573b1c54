//! What came of the requests.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::fault::Fault;

/// The kinds of clients, each with counts of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    KeepAlive,
    Idle,
    Tls,
    Http2,
    WebSocket,
    Short,
    Paced,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::KeepAlive => "HTTP/1.1 keep-alive",
            Self::Idle => "HTTP/1.1 idle",
            Self::Tls => "HTTP/1.1 over TLS",
            Self::Http2 => "HTTP/2",
            Self::WebSocket => "WebSocket",
            Self::Short => "connect, ask, close",
            Self::Paced => "HTTP/1.1 at a fixed rate",
        }
    }
}

/// One request: when it should have begun, after the run's beginning, and how long it took.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) at: Duration,
    pub(crate) took: Duration,
}

/// A run under way: what all of its clients share.
pub(crate) struct Run {
    pub(crate) began: Instant,
    stop: AtomicBool,
    counts: Mutex<BTreeMap<Kind, Counts>>,
    samples: Mutex<Vec<Sample>>,
    /// Answers so far, for whoever wants to see the load at work.
    answered: AtomicU64,
    number: AtomicU64,
}

/// Counts of one kind of client.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) answered: u64,
    pub(crate) connections: u64,
    /// Connections that the server closed while no request was under way, without a word before.
    pub(crate) closed_idle: u64,
    /// Answers that said that the connection ends, or another way in which the protocol says so.
    pub(crate) told: u64,
    /// HTTP/2 requests that the server has said it has not looked at.
    pub(crate) unprocessed: u64,
    pub(crate) faults: BTreeMap<Fault, u64>,
}

impl Counts {
    pub(crate) fn failed(&self) -> u64 {
        self.faults.values().sum()
    }

    pub(crate) fn fault(&mut self, fault: Fault) {
        *self.faults.entry(fault).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.answered += other.answered;
        self.connections += other.connections;
        self.closed_idle += other.closed_idle;
        self.told += other.told;
        self.unprocessed += other.unprocessed;
        for (fault, count) in &other.faults {
            *self.faults.entry(*fault).or_default() += count;
        }
    }
}

impl Run {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            stop: AtomicBool::new(false),
            counts: Mutex::default(),
            samples: Mutex::default(),
            answered: AtomicU64::new(0),
            number: AtomicU64::new(0),
        })
    }

    /// A number that no other request has.
    pub(crate) fn number(&self) -> u64 {
        self.number.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(crate) fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    pub(crate) fn answer(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    /// A client has ended.
    pub(crate) fn ended(&self, kind: Kind, counts: &Counts, samples: Vec<Sample>) {
        self.counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(kind)
            .or_default()
            .add(counts);
        self.samples.lock().unwrap_or_else(PoisonError::into_inner).extend(samples);
    }

    /// What came of it, when all clients have ended.
    pub(crate) fn counts(&self) -> BTreeMap<Kind, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn samples(&self) -> Vec<Sample> {
        std::mem::take(&mut self.samples.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
