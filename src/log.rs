//! Lines of the log.
//!
//! **Contract:** whoever reads, writes or loses the log, what is logged goes on.
//!
//! A subscriber is the application's, and one that cannot write may panic: that of
//! `tracing_subscriber` tells of a failed write on standard error, and to print there panics when
//! that is what failed, a pipe whose reader has gone, say. In a task that decides, such a panic would
//! end the service. So every line of this crate is one of these, which keep it to themselves.

use std::panic::{AssertUnwindSafe, catch_unwind};

macro_rules! error_line {
    ($($line:tt)+) => { $crate::log::unharmed(|| ::tracing::error!($($line)+)) };
}
macro_rules! warn_line {
    ($($line:tt)+) => { $crate::log::unharmed(|| ::tracing::warn!($($line)+)) };
}
macro_rules! info_line {
    ($($line:tt)+) => { $crate::log::unharmed(|| ::tracing::info!($($line)+)) };
}
macro_rules! debug_line {
    ($($line:tt)+) => { $crate::log::unharmed(|| ::tracing::debug!($($line)+)) };
}

pub(crate) use {debug_line as debug, error_line as error, info_line as info, warn_line as warn};

/// Logs, or does not.
#[inline]
pub(crate) fn unharmed(line: impl FnOnce()) {
    // Where it could be told is where it has failed.
    let _ = catch_unwind(AssertUnwindSafe(line));
}

#[cfg(test)]
mod tests {
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber};

    struct Broken;

    impl Subscriber for Broken {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, event: &Event<'_>) {
            assert!(event.metadata().target() != "heirloom::test", "on purpose");
        }

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }

    #[test]
    fn a_subscriber_that_panics_harms_nobody() {
        tracing::subscriber::with_default(Broken, || {
            crate::log::error!(target: "heirloom::test", number = 1, "one");
            crate::log::warn!(target: "heirloom::test", error = %"two", "two");
            crate::log::info!(target: "heirloom::test", "three");
            crate::log::debug!(target: "heirloom::test", "four");
        });
    }
}
