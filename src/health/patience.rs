//! How long an answer is waited for.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// In so many parts the time passes: more than a process is likely to be stopped in one check.
const PARTS: u32 = 16;

/// The time for an answer, in which this process has to be awake.
///
/// One that is stopped and goes on finds its timers expired before it is told what came meanwhile,
/// and what it was about to send has not been sent. So a part of the time that took longer than it
/// should counts once, and the other parts are still to come.
pub(super) struct Patience {
    part: Duration,
    left: u32,
    /// The end of the part that runs; none beyond what the clock can count.
    next: Option<Instant>,
}

impl Patience {
    /// It begins now.
    pub(super) fn new(length: Duration) -> Self {
        let part = length / PARTS;
        Self { part, left: PARTS, next: Instant::now().checked_add(part) }
    }

    /// Resolves at its end, and again whenever it is asked after that. Cancel safe.
    pub(super) async fn ends(&mut self) {
        while self.left > 0 {
            match self.next {
                Some(next) => sleep_until(next).await,
                None => std::future::pending().await,
            }
            self.left -= 1;
            self.next = Instant::now().checked_add(self.part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_ends_after_its_length_and_has_ended_then() {
        let (began, length) = (Instant::now(), Duration::from_millis(400));
        let mut patience = Patience::new(length);
        let early = tokio::time::timeout(Duration::from_millis(390), patience.ends()).await;
        assert!(early.is_err(), "it goes on where it was left");
        patience.ends().await;
        assert_eq!(began.elapsed(), length);
        patience.ends().await;
        assert_eq!(began.elapsed(), length);
    }

    #[tokio::test(start_paused = true)]
    async fn time_that_passed_at_once_counts_once() {
        let mut patience = Patience::new(Duration::from_millis(400));
        tokio::time::advance(Duration::from_secs(3600)).await;
        let awake = Instant::now();
        patience.ends().await;
        assert_eq!(awake.elapsed(), Duration::from_millis(375));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_stopped_again_and_again_still_has_time_left() {
        let mut patience = Patience::new(Duration::from_millis(400));
        for stop in 0..8 {
            tokio::time::advance(Duration::from_millis(500)).await;
            let awake = tokio::time::timeout(Duration::from_millis(1), patience.ends()).await;
            assert!(awake.is_err(), "it ended with stop {stop}");
        }
        let awake = Instant::now();
        patience.ends().await;
        assert!(awake.elapsed() >= Duration::from_millis(150));
    }
}
