//! The timers of one side of one handoff.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::Timer;

/// Which timers are armed, and until when.
#[derive(Debug)]
pub(crate) struct Clock {
    lengths: Lengths,
    armed: BTreeMap<Timer, Instant>,
}

/// How long each timer runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lengths {
    pub preflight: Duration,
    pub hello: Duration,
    pub adopt: Duration,
    pub ready: Duration,
    pub gap: Duration,
    pub probation: Duration,
    pub progress: Duration,
    pub silence: Duration,
    pub ping: Duration,
    pub commit: Duration,
}

impl Lengths {
    fn of(&self, timer: Timer) -> Duration {
        match timer {
            Timer::Preflight => self.preflight,
            Timer::Spawn | Timer::Hello => self.hello,
            Timer::Adopt => self.adopt,
            Timer::Ready => self.ready,
            Timer::Gap => self.gap,
            Timer::Probation => self.probation,
            Timer::Progress => self.progress,
            Timer::Silence | Timer::Lease => self.silence,
            Timer::Ping => self.ping,
            Timer::Commit | Timer::Handover => self.commit,
        }
    }
}

impl Clock {
    pub(crate) fn new(lengths: Lengths) -> Self {
        Self { lengths, armed: BTreeMap::new() }
    }

    /// From now on the timers that are armed run so long.
    pub(crate) fn set_lengths(&mut self, lengths: Lengths) {
        self.lengths = lengths;
    }

    pub(crate) fn lengths(&self) -> Lengths {
        self.lengths
    }

    /// Starts the timer anew.
    pub(crate) fn arm(&mut self, timer: Timer) {
        self.arm_for(timer, self.lengths.of(timer));
    }

    /// Starts the timer anew, with a length of its own.
    pub(crate) fn arm_for(&mut self, timer: Timer, length: Duration) {
        // A length beyond what the clock can count is no deadline at all.
        match Instant::now().checked_add(length) {
            Some(at) => self.armed.insert(timer, at),
            None => self.armed.remove(&timer),
        };
    }

    pub(crate) fn disarm(&mut self, timer: Timer) {
        self.armed.remove(&timer);
    }

    pub(crate) fn disarm_all(&mut self) {
        self.armed.clear();
    }

    /// The next timer that runs out; it is disarmed then. Pends while none is armed. Cancel safe.
    pub(crate) async fn next(&mut self) -> Timer {
        let earliest =
            self.armed.iter().min_by_key(|(_, at)| **at).map(|(timer, at)| (*timer, *at));
        let Some((timer, at)) = earliest else {
            return std::future::pending().await;
        };
        tokio::time::sleep_until(at).await;
        self.armed.remove(&timer);
        timer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths() -> Lengths {
        let short = Duration::from_millis(10);
        Lengths {
            preflight: short,
            hello: short,
            adopt: short,
            ready: Duration::from_secs(60),
            gap: short * 5,
            probation: short,
            progress: short,
            silence: short,
            ping: short * 2,
            commit: short,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_earliest_timer_runs_out_first_and_once() {
        let mut clock = Clock::new(lengths());
        clock.arm(Timer::Gap);
        clock.arm(Timer::Ready);
        clock.arm(Timer::Ping);
        assert_eq!(clock.next().await, Timer::Ping);
        assert_eq!(clock.next().await, Timer::Gap);
        clock.disarm(Timer::Ready);
        assert!(clock.armed.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_that_is_armed_again_starts_anew() {
        let mut clock = Clock::new(lengths());
        clock.arm(Timer::Gap);
        tokio::time::advance(Duration::from_millis(30)).await;
        clock.arm(Timer::Gap);
        let before = Instant::now();
        assert_eq!(clock.next().await, Timer::Gap);
        assert_eq!(before.elapsed(), Duration::from_millis(50));
    }
}
