//! The number of one run of the server.

use serde::{Deserialize, Serialize};

/// One run of the server: 0 is started by hand, each upgrade adds one.
///
/// Whoever holds the higher one was born later, and no two successors of one service ever get the
/// same number, even if the first of them failed. As a fencing token it orders the acts of
/// generations that were handed the service one after the other; a generation that owns again,
/// because every newer one died, acts with its own, lower number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(u64);

impl Generation {
    /// The generation that no other has started.
    pub const FIRST: Self = Self(0);

    /// By a number that was written down, or typed.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The generation after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The bare number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl std::fmt::Display for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}
