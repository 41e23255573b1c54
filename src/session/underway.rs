//! The sender's account of what was sent and has not been answered. No I/O.
//!
//! **Contract:** each session is settled once: taken, declined, taken back, or lost.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::session::{About, NotMoved};
use super::turns::Key;

/// Where the outcome of one move goes.
pub(super) type Reply = oneshot::Sender<Result<(), NotMoved>>;

/// A session whose stream nobody reads now.
pub(super) struct Suspended {
    pub(super) about: About,
    /// This side's copy.
    pub(super) stream: Arc<OwnedFd>,
    pub(super) reply: Reply,
}

/// What is in doubt, by number, and since when.
#[derive(Default)]
pub(super) struct Underway {
    next: u64,
    /// When the one that had been due longest was last answered: the next one's turn has come then.
    answered: Option<Instant>,
    waiting: BTreeMap<u64, (Instant, Suspended)>,
}

impl Underway {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The number of the next session that is sent.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// It is about to be sent.
    pub(super) fn add(&mut self, suspended: Suspended, now: Instant) {
        self.waiting.insert(self.next, (now, suspended));
        self.next += 1;
    }

    /// Those from this number on, for their frame.
    pub(super) fn from(&self, first: u64) -> impl Iterator<Item = (&About, &Arc<OwnedFd>)> {
        let later = self.waiting.range(first..);
        later.map(|(_, (_, suspended))| (&suspended.about, &suspended.stream))
    }

    /// Since when the receiver has been silent about the oldest: since that was sent, or since it
    /// answered the one before.
    pub(super) fn silent_since(&self) -> Option<Instant> {
        let (_, (sent, _)) = self.waiting.first_key_value()?;
        Some(self.answered.map_or(*sent, |answered| answered.max(*sent)))
    }

    /// Takes one out that was answered. It was given up before if it is not there.
    fn settle(&mut self, number: u64) -> Option<Suspended> {
        let oldest = self.waiting.first_key_value().is_some_and(|(first, _)| *first == number);
        let (_, suspended) = self.waiting.remove(&number)?;
        if oldest {
            self.answered = Some(Instant::now());
        }
        Some(suspended)
    }

    /// The receiver has it.
    pub(super) fn taken(&mut self, number: u64) {
        let Some(Suspended { about, stream, reply }) = self.settle(number) else { return };
        about.guard.leaves();
        drop((about, stream));
        // Nobody need wait for it.
        let _ = reply.send(Ok(()));
    }

    /// The receiver does not take it; returns what it was.
    pub(super) fn declined(&mut self, number: u64, reason: &str) -> Option<Key> {
        let suspended = self.settle(number)?;
        let key = Key::of(&suspended.about);
        suspended.back(reason);
        Some(key)
    }

    /// The receiver cannot take any of them any more.
    pub(super) fn take_back(&mut self, reason: &str) {
        for (_, (_, suspended)) in std::mem::take(&mut self.waiting) {
            suspended.back(reason);
        }
    }

    /// Gives up those that have waited since then or longer; how many.
    pub(super) fn give_up(&mut self, since: Instant, reason: &str) -> usize {
        let mut lost = 0;
        while let Some(first) = self.waiting.first_entry() {
            if first.get().0 > since {
                break;
            }
            let (_, Suspended { about, stream, reply }) = first.remove();
            about.guard.lost(reason);
            drop((about, stream));
            let _ = reply.send(Err(NotMoved::lost(reason)));
            lost += 1;
        }
        lost
    }
}

impl Suspended {
    /// It stays here: whoever gave it away gets it back.
    pub(super) fn back(self, reason: &str) {
        let Self { about, stream, reply } = self;
        // A frame that was never sent may hold it still.
        let stream = Arc::try_unwrap(stream).or_else(|shared| shared.try_clone());
        let result = match stream {
            Ok(stream) => NotMoved::back(about, stream, reason),
            Err(error) => NotMoved::unreadable(about, &error),
        };
        // Without anybody who waits for it, its connection closes here.
        let _ = reply.send(Err(result));
    }
}
