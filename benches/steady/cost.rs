//! Processor time of short operations, in rounds that take turns.

use std::sync::{Barrier, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::Failure;

/// Does something this many times.
pub(crate) type Op<'a> = &'a (dyn Fn(usize) + Sync);

/// The processor time that this thread has used.
pub(crate) fn spent() -> Result<Duration, Failure> {
    Ok(Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?))
}

/// Nanoseconds of each operation: the median of the rounds. In each round every operation runs on
/// `threads` threads at once, one operation after the other.
pub(crate) fn compare(
    threads: usize,
    rounds: usize,
    times: usize,
    ops: &[Op<'_>],
) -> Result<Vec<f64>, Failure> {
    let barrier = Barrier::new(threads);
    let all: Mutex<Vec<Vec<f64>>> = Mutex::new(vec![Vec::new(); ops.len()]);
    let work = || -> Result<(), Failure> {
        for round in 0..=rounds {
            for (index, op) in ops.iter().enumerate() {
                barrier.wait();
                let before = spent()?;
                op(times);
                let nanos = (spent()? - before).as_nanos() as f64 / times as f64;
                // The first round warms up.
                if round > 0 {
                    all.lock().unwrap_or_else(PoisonError::into_inner)[index].push(nanos);
                }
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().map_err(|_| Failure::from("a thread panicked"))?)
    })?;
    let mut all = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(all.iter_mut().map(|times| median(times)).collect())
}

pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
