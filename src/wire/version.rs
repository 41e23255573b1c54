//! Which versions of the protocol are spoken, and the choice between two ranges.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::frame::WireError;

/// The versions of the protocol that one side speaks, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Range {
    /// The oldest version.
    pub min: u32,
    /// The newest version.
    pub max: u32,
}

/// What this version of the crate speaks. A release speaks its own version and the one before.
pub(crate) const SPOKEN: Range = Range { min: 1, max: 1 };

impl Range {
    /// The newest version that both speak. A range with its ends swapped holds none.
    pub(crate) fn common(self, other: Self) -> Option<u32> {
        let newest = self.max.min(other.max);
        let oldest = self.min.max(other.min);
        (oldest <= newest).then_some(newest)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max {
            write!(f, "protocol {}", self.max)
        } else {
            write!(f, "protocols {} to {}", self.min, self.max)
        }
    }
}

/// The version to use between [`SPOKEN`] and the other side's range.
///
/// The error names both ranges and both application versions.
pub(crate) fn agree(our_app: &str, theirs: Range, their_app: &str) -> Result<u32, WireError> {
    SPOKEN.common(theirs).ok_or_else(|| WireError::NoCommonVersion {
        ours: SPOKEN,
        our_app: our_app.to_owned(),
        theirs,
        their_app: their_app.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_common_version_is_used() {
        let range = |min, max| Range { min, max };
        assert_eq!(range(1, 3).common(range(2, 5)), Some(3));
        assert_eq!(range(2, 5).common(range(1, 3)), Some(3));
        assert_eq!(range(1, 1).common(range(1, 1)), Some(1));
        assert_eq!(range(1, 2).common(range(3, 4)), None);
        assert_eq!(range(1, 9).common(range(5, 4)), None);
        assert_eq!(range(0, u32::MAX).common(range(u32::MAX, 0)), None);
    }

    #[test]
    fn a_mismatch_names_both_ranges_and_both_versions() {
        assert_eq!(agree("1.4.0", SPOKEN, "1.3.9").unwrap(), 1);
        let error = agree("1.4.0", Range { min: 7, max: 8 }, "9.0.0").unwrap_err().to_string();
        for part in ["\"1.4.0\"", "\"9.0.0\"", "speaks protocol 1,", "protocols 7 to 8"] {
            assert!(error.contains(part), "{part} in {error}");
        }
    }
}
