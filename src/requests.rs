//! Requests that the application calls good or failed, and how many of them may fail.
//!
//! **Contract:** counting one costs one atomic addition that other threads do not meet; the budget
//! is looked at only when a request has failed or the predecessor pings, and only while it watches.

mod looks;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use self::looks::Looks;
use crate::report::Window;
use crate::wire::Budget;

/// As many as a server has processors, or so: two threads seldom share one.
const SHARDS: usize = 16;

/// How many requests of a new release may fail before it is taken back.
///
/// The application, or the HTTP wing with each 5xx, [records](Requests) how requests end. Once at
/// least [`minimum`](Self::minimum) have ended, a rate of failures above [`rate`](Self::new) spends
/// the budget: the successor says so at its next failure or its predecessor's next ping, whichever
/// comes first, and the predecessor takes the turn back. It counts
/// from the successor's first request and matters until the verdict.
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use = "hand it to Config::error_budget"]
pub struct ErrorBudget {
    rate: f64,
    minimum: u64,
}

impl ErrorBudget {
    /// The highest rate of failed requests that is borne: 0.05 is one in twenty. Values outside of
    /// 0 to 1 are taken for the nearer of the two.
    pub fn new(rate: f64) -> Self {
        Self { rate: rate.clamp(0.0, 1.0), minimum: 20 }
    }

    /// Fewer requests than these prove nothing. Default 20, at least 1.
    pub fn minimum(mut self, requests: u64) -> Self {
        self.minimum = requests.max(1);
        self
    }

    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the rate is between 0 and 1"
    )]
    pub(crate) fn to_wire(self) -> Budget {
        Budget { rate_ppm: (self.rate * 1e6).round() as u32, minimum: self.minimum }
    }
}

/// Counts how requests end, for error budgets and reports. Clones are the same counts.
#[derive(Clone)]
pub struct Requests {
    inner: Arc<Inner>,
}

struct Inner {
    shards: [Shard; SHARDS],
    watched: AtomicBool,
    budget: Mutex<Option<Budget>>,
    spent: Notify,
    looks: Looks,
}

/// On cache lines of its own: 128 bytes, since processors fetch pairs of lines.
#[derive(Default)]
#[repr(align(128))]
struct Shard {
    succeeded: AtomicU64,
    failed: AtomicU64,
}

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (succeeded, failed) = self.totals();
        f.debug_struct("Requests").field("succeeded", &succeeded).field("failed", &failed).finish()
    }
}

impl Requests {
    pub(crate) fn new() -> Self {
        let inner = Inner {
            shards: std::array::from_fn(|_| Shard::default()),
            watched: AtomicBool::new(false),
            budget: Mutex::new(None),
            spent: Notify::new(),
            looks: Looks::new(Instant::now()),
        };
        Self { inner: Arc::new(inner) }
    }

    /// A request ended well.
    pub fn succeeded(&self) {
        self.here().succeeded.fetch_add(1, Ordering::Relaxed);
    }

    /// A request failed, by this server's fault.
    pub fn failed(&self) {
        self.inner.looks.fails(Instant::now(), || self.totals());
        self.here().failed.fetch_add(1, Ordering::Relaxed);
        self.look();
    }

    /// Requests that ended well, and those that failed, since this process started.
    #[must_use]
    pub fn totals(&self) -> (u64, u64) {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        self.inner.shards.iter().fold((0, 0), |(succeeded, failed), shard| {
            (succeeded + load(&shard.succeeded), failed + load(&shard.failed))
        })
    }

    /// Writes down the counts of this moment, for [`before`](Self::before).
    pub(crate) fn remember(&self) {
        self.inner.looks.look(Instant::now(), || self.totals());
    }

    /// How requests ended in the time of this length that was over at `end`.
    pub(crate) fn before(&self, end: Instant, length: Duration) -> Option<Window> {
        self.inner.looks.before(end, length)
    }

    /// From now on a predecessor wants to know when this budget is spent.
    pub(crate) fn watch(&self, budget: Budget) {
        *self.inner.budget.lock().unwrap_or_else(PoisonError::into_inner) = Some(budget);
        self.inner.watched.store(true, Ordering::Relaxed);
        self.look();
    }

    /// Looks at the budget, if a predecessor watches.
    ///
    /// Also to be called now and then: requests that end well may be what the minimum wanted.
    pub(crate) fn look(&self) {
        // Of two that fail at once, or one that fails while the watch begins, the later one sees
        // the other.
        fence(Ordering::SeqCst);
        if self.inner.watched.load(Ordering::Relaxed) && self.overdrawn().is_some() {
            self.inner.spent.notify_one();
        }
    }

    /// Nobody wants to know any more.
    pub(crate) fn unwatch(&self) {
        self.inner.watched.store(false, Ordering::Relaxed);
    }

    /// Resolves when the budget is spent, with the figures for people.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a budget that is spent stays spent, and each further look tells it again.
    pub(crate) async fn spent(&self) -> String {
        loop {
            self.inner.spent.notified().await;
            if let Some(why) = self.overdrawn() {
                return why;
            }
        }
    }

    fn overdrawn(&self) -> Option<String> {
        let budget = (*self.inner.budget.lock().unwrap_or_else(PoisonError::into_inner))?;
        let (succeeded, failed) = self.totals();
        let total = succeeded + failed;
        let borne = u128::from(total) * u128::from(budget.rate_ppm);
        let over = total >= budget.minimum && u128::from(failed) * 1_000_000 > borne;
        over.then(|| {
            let percent = f64::from(budget.rate_ppm) / 10_000.0;
            format!("{failed} of {total} requests failed, {percent} % are borne")
        })
    }

    fn here(&self) -> &Shard {
        &self.inner.shards[shard_of_this_thread() % SHARDS]
    }
}

/// A number of the calling thread: always the same one, and rarely that of another thread in the
/// low bits that choose a shard.
///
/// The address of a thread-local byte tells threads apart without a counter or a registry of
/// them; Fibonacci hashing spreads addresses that differ by whole stacks.
fn shard_of_this_thread() -> usize {
    thread_local!(static HERE: u8 = const { 0 });
    let address = HERE.with(|here| std::ptr::from_ref(here).addr()) as u64;
    (address.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_budget_is_spent_by_the_first_failure_beyond_its_rate() {
        let requests = Requests::new();
        requests.watch(ErrorBudget::new(0.25).minimum(8).to_wire());
        (0..6).for_each(|_| requests.succeeded());
        (0..2).for_each(|_| requests.failed());
        assert_eq!(requests.overdrawn(), None, "a quarter is borne");
        requests.failed();
        let why = requests.spent().await;
        assert_eq!(why, "3 of 9 requests failed, 25 % are borne");
    }

    #[test]
    fn few_requests_prove_nothing() {
        let requests = Requests::new();
        requests.watch(ErrorBudget::new(0.0).minimum(3).to_wire());
        requests.failed();
        requests.failed();
        assert_eq!(requests.overdrawn(), None);
        requests.succeeded();
        assert!(requests.overdrawn().is_some(), "now they are enough");
    }

    #[tokio::test]
    async fn what_is_overdrawn_without_a_further_failure_is_seen_at_the_next_look() {
        let requests = Requests::new();
        requests.watch(ErrorBudget::new(0.5).minimum(3).to_wire());
        (0..2).for_each(|_| requests.failed());
        requests.succeeded();
        requests.look();
        assert!(requests.spent().await.starts_with("2 of 3"));
        requests.unwatch();
        requests.failed();
        let again = tokio::time::timeout(std::time::Duration::ZERO, requests.spent()).await;
        assert!(again.is_err(), "nobody watches any more");
    }

    #[tokio::test]
    async fn failures_before_the_watch_count() {
        let requests = Requests::new();
        (0..3).for_each(|_| requests.failed());
        requests.watch(ErrorBudget::new(0.5).minimum(3).to_wire());
        assert!(requests.spent().await.starts_with("3 of 3"));
        requests.unwatch();
        assert_eq!(requests.totals(), (0, 3));
    }

    #[test]
    fn counts_of_several_threads_add_up() {
        let requests = Requests::new();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1_000).for_each(|_| requests.succeeded()));
            }
        });
        assert_eq!(requests.totals(), (4_000, 0));
    }

    #[test]
    fn threads_meet_in_different_shards_and_each_stays_in_its_own() {
        let barrier = std::sync::Barrier::new(16);
        let shards: std::collections::BTreeSet<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..16)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        let shard = shard_of_this_thread() % 64;
                        assert_eq!(shard, shard_of_this_thread() % 64);
                        // All 16 live at once, so no two have the same stack.
                        barrier.wait();
                        shard
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(shards.len() >= 8, "{shards:?}");
    }
}
