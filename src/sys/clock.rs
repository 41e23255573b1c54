//! The clock that is read for each connection, and the one that a signal handler may read.

#![allow(unsafe_code)]

use std::mem::MaybeUninit;

/// The time since some start that never changes, in nanoseconds, as of the kernel's last tick
/// (`CLOCK_MONOTONIC_COARSE`, `clock_gettime(2)`): late by 10 ms at most, for a tenth of the price
/// of the exact time. nix copies the answer twice, which alone costs three times the call.
#[inline]
pub(crate) fn coarse_now() -> u64 {
    read(libc::CLOCK_MONOTONIC_COARSE)
}

/// The time since the epoch in nanoseconds (`CLOCK_REALTIME`). Async-signal-safe
/// (`signal-safety(7)`).
pub(crate) fn wall_now() -> u64 {
    read(libc::CLOCK_REALTIME)
}

#[inline]
fn read(clock: libc::clockid_t) -> u64 {
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: the pointer is valid for one `timespec`, which the call writes.
    let failed = unsafe { libc::clock_gettime(clock, time.as_mut_ptr()) };
    if failed != 0 {
        // Linux has had these clocks since 2.6.32.
        return 0;
    }
    // SAFETY: the call succeeded, so both fields are written.
    let time = unsafe { time.assume_init() };
    // Neither is negative: one starts at boot, the other in 1970.
    (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn the_clock_goes_on_and_is_late_by_little() {
        let (before, began) = (coarse_now(), Instant::now());
        assert!(before > 0);
        while coarse_now() == before {
            assert!(began.elapsed() < Duration::from_secs(60), "it stands still");
            std::hint::spin_loop();
        }
        let went = Duration::from_nanos(coarse_now() - before);
        // It was late by one tick at the start.
        assert!(went <= began.elapsed() + Duration::from_millis(20), "{went:?}");
    }
}
