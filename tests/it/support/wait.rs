//! Waiting for something that can only be looked at.

use std::time::{Duration, Instant};

/// How long a test waits for what must come; far more than it ever takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

const PAUSE: Duration = Duration::from_millis(3);

/// Looks until there is something to return.
///
/// # Panics
///
/// After [`PATIENCE`], with what it waited for.
pub(crate) fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    until_within(PATIENCE, what, look)
}

/// The same with a patience of its own, for what takes its time.
pub(crate) fn until_within<T>(
    patience: Duration,
    what: &str,
    mut look: impl FnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        pause(PAUSE);
    }
}

/// Lets `time` pass, where the passing of time is what is tested, or to look again.
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}
