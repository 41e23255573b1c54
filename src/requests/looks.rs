//! How requests ended in a span of time that is over.
//!
//! **Contract:** it costs no timer and nothing while requests end well. The counts are written down
//! when somebody looks at them anyway, and before a failure, at most once a second: so failures are
//! known to the second, and between two looks all else is taken to have come evenly.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::report::Window;

/// So many looks are kept: more than two minutes of failures.
const LOOKS: usize = 128;
/// Failures look no more often than this.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Clone, Copy)]
struct Look {
    at: Instant,
    succeeded: u64,
    failed: u64,
}

/// The counts as they were.
pub(super) struct Looks(Mutex<VecDeque<Look>>);

impl Looks {
    /// Nothing has been counted yet.
    pub(super) fn new(now: Instant) -> Self {
        Self(Mutex::new(VecDeque::from([Look { at: now, succeeded: 0, failed: 0 }])))
    }

    /// Writes down the counts as they are now.
    pub(super) fn look(&self, now: Instant, totals: impl FnOnce() -> (u64, u64)) {
        let mut looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        push(&mut looks, now, totals());
    }

    /// The same, before a failure is counted; not if there was a look a moment ago.
    pub(super) fn fails(&self, now: Instant, totals: impl FnOnce() -> (u64, u64)) {
        // Somebody else is looking in this very moment.
        let Ok(mut looks) = self.0.try_lock() else { return };
        let last = looks.back().map(|look| look.at);
        if last.is_none_or(|last| now.saturating_duration_since(last) >= PAUSE) {
            push(&mut looks, now, totals());
        }
    }

    /// The `length` before `end`, or what of it is known.
    pub(super) fn before(&self, end: Instant, length: Duration) -> Option<Window> {
        let looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = end.checked_sub(length).unwrap_or(end).max(looks.front()?.at);
        let (first, last) = (at(&looks, begin)?, at(&looks, end)?);
        let failed = difference(last.1, first.1);
        Some(Window {
            length: end.saturating_duration_since(begin),
            requests: difference(last.0, first.0).saturating_add(failed),
            failed,
        })
    }
}

fn push(looks: &mut VecDeque<Look>, at: Instant, (succeeded, failed): (u64, u64)) {
    if looks.len() >= LOOKS {
        looks.pop_front();
    }
    looks.push_back(Look { at, succeeded, failed });
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count between two others"
)]
fn difference(later: f64, earlier: f64) -> u64 {
    (later - earlier).max(0.0).round() as u64
}

/// The counts at a moment: those of the looks around it, in proportion.
#[allow(clippy::cast_precision_loss, reason = "counts below 2^53")]
fn at(looks: &VecDeque<Look>, moment: Instant) -> Option<(f64, f64)> {
    let later = looks.iter().find(|look| look.at >= moment).or(looks.back())?;
    let earlier = looks.iter().rev().find(|look| look.at <= moment).or(looks.front())?;
    let span = later.at.saturating_duration_since(earlier.at).as_secs_f64();
    let part = moment.saturating_duration_since(earlier.at).as_secs_f64();
    let share = if span > 0.0 { (part / span).min(1.0) } else { 1.0 };
    let between = |from: u64, to: u64| from as f64 + (to as f64 - from as f64) * share;
    Some((between(earlier.succeeded, later.succeeded), between(earlier.failed, later.failed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_span_is_made_of_the_looks_around_it() {
        let start = Instant::now();
        let looks = Looks::new(start);
        looks.look(start + 100 * SECOND, || (1_000, 0));
        looks.look(start + 110 * SECOND, || (2_000, 10));
        let window = looks.before(start + 110 * SECOND, 5 * SECOND).unwrap();
        assert_eq!((window.length, window.requests, window.failed), (5 * SECOND, 505, 5));
        let window = looks.before(start + 100 * SECOND, 10 * SECOND).unwrap();
        assert_eq!((window.requests, window.failed), (100, 0));
    }

    #[test]
    fn a_failure_is_known_to_the_second() {
        let start = Instant::now();
        let looks = Looks::new(start);
        looks.fails(start + 60 * SECOND, || (600, 0));
        looks.fails(start + 60 * SECOND + SECOND / 2, || panic!("too soon"));
        looks.look(start + 61 * SECOND, || (600, 2));
        let window = looks.before(start + 60 * SECOND, 30 * SECOND).unwrap();
        assert_eq!((window.requests, window.failed), (300, 0));
        let window = looks.before(start + 61 * SECOND, SECOND).unwrap();
        assert_eq!((window.requests, window.failed), (2, 2));
    }

    #[test]
    fn a_young_generation_has_no_more_than_its_life() {
        let start = Instant::now();
        let looks = Looks::new(start);
        looks.look(start + 2 * SECOND, || (20, 0));
        let window = looks.before(start + 2 * SECOND, 60 * SECOND).unwrap();
        assert_eq!((window.length, window.requests), (2 * SECOND, 20));
        (0..1_000).for_each(|at| looks.look(start + (2 + at) * SECOND, || (20, 0)));
        assert_eq!(looks.0.lock().unwrap().len(), LOOKS);
    }
}
