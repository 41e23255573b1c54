//! Which programs have failed, so that an automatic retry does not flap.
//!
//! It knows no clock: the time of day is handed in, since what is remembered outlives the process.
//! Nothing here stands in an operator's way: who asks for an upgrade does not ask
//! [`held_off`](Failures::held_off).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::wire::text::fit;
use crate::wire::{FailureRecord, Identity, MAX_CAUSE, MAX_FAILURES};

/// How long a program that failed is held off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HoldOff {
    /// After the first failure; each further one in a row doubles it. Default 30 s.
    pub(crate) first: Duration,
    /// It never grows beyond this. Default 1 h.
    pub(crate) longest: Duration,
}

impl Default for HoldOff {
    fn default() -> Self {
        Self { first: Duration::from_secs(30), longest: Duration::from_secs(3_600) }
    }
}

impl HoldOff {
    /// The length after so many failures in a row.
    fn after(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.first.saturating_mul(1 << doublings).min(self.longest)
    }
}

/// A program that is held off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeldOff {
    /// For how long yet.
    pub(crate) left: Duration,
    /// How often it has failed in a row.
    pub(crate) failures: u32,
    /// What its last failure was.
    pub(crate) cause: String,
}

/// The programs that have failed and not proven themselves since. Of more than 16 the one that
/// failed longest ago is forgotten.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Failures {
    /// In the order of their last failures.
    records: Vec<FailureRecord>,
}

impl Failures {
    /// What a predecessor has told; the newest of what is too much.
    pub(crate) fn remembered(mut records: Vec<FailureRecord>) -> Self {
        records.drain(..records.len().saturating_sub(MAX_FAILURES));
        Self { records }
    }

    /// What to tell a successor: at most 16, the last failure last.
    pub(crate) fn records(&self) -> &[FailureRecord] {
        &self.records
    }

    /// A program has failed: its hold-off begins anew and is twice as long as the last.
    pub(crate) fn failed(&mut self, identity: &Identity, cause: &str, now: SystemTime) {
        let before = self.take(identity);
        self.records.drain(..(self.records.len() + 1).saturating_sub(MAX_FAILURES));
        let failures = before.as_ref().map_or(0, |before| before.failures).saturating_add(1);
        let mut identity = identity.clone();
        // Known before and not looked at this time: the same program, so the same hash.
        identity.hash = identity.hash.or(before.and_then(|before| before.identity.hash));
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let at_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let cause = fit(cause, MAX_CAUSE);
        self.records.push(FailureRecord { identity, failures, at_ms, cause });
    }

    /// What a program holds became known after its failure: it is known again by that at any path.
    pub(crate) fn learn(&mut self, hashed: &Identity) {
        let same = |record: &&mut FailureRecord| record.identity.is_same_program(hashed);
        if let Some(record) = self.records.iter_mut().find(same) {
            record.identity.hash = record.identity.hash.or(hashed.hash);
        }
    }

    /// Whether it is known what a program that has failed holds; also if it is not listed any more.
    pub(crate) fn knows(&self, identity: &Identity) -> bool {
        let mut same =
            self.records.iter().filter(|record| record.identity.is_same_program(identity));
        same.next().is_none_or(|record| record.identity.hash.is_some())
    }

    /// A program was committed: whatever it did before is forgotten.
    pub(crate) fn proved(&mut self, identity: &Identity) {
        self.take(identity);
    }

    /// Whether an automatic retry must not start this program yet.
    ///
    /// A clock that was set forward ends a hold-off early. One that was set back makes it at most
    /// twice as long: a failure further ahead than its hold-off is long holds nothing off.
    pub(crate) fn held_off(
        &self,
        identity: &Identity,
        settings: &HoldOff,
        now: SystemTime,
    ) -> Option<HeldOff> {
        let record =
            self.records.iter().find(|record| record.identity.is_same_program(identity))?;
        let length = settings.after(record.failures);
        let at = UNIX_EPOCH.checked_add(Duration::from_millis(record.at_ms))?;
        let left = match now.duration_since(at) {
            Ok(since) => length.checked_sub(since)?,
            Err(ahead) if ahead.duration() > length => return None,
            Err(_) => length,
        };
        (!left.is_zero()).then(|| HeldOff {
            left,
            failures: record.failures,
            cause: record.cause.clone(),
        })
    }

    fn take(&mut self, identity: &Identity) -> Option<FailureRecord> {
        let same = |record: &FailureRecord| record.identity.is_same_program(identity);
        let index = self.records.iter().position(same)?;
        Some(self.records.remove(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Hash;

    const SETTINGS: HoldOff =
        HoldOff { first: Duration::from_secs(30), longest: Duration::from_secs(3_600) };

    fn program(number: u64) -> Identity {
        Identity { size: 1, mtime: (1, 1), dev: 1, ino: number, hash: None }
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
    }

    fn left(failures: &Failures, number: u64, now: SystemTime) -> Option<u64> {
        failures.held_off(&program(number), &SETTINGS, now).map(|held| held.left.as_secs())
    }

    #[test]
    fn a_program_whose_contents_are_learnt_later_is_known_at_any_path() {
        let mut failures = Failures::default();
        failures.failed(&program(1), "no database", at(100));
        let hash = Some(Hash([7; 16]));
        let elsewhere = Identity { hash, ..program(2) };
        assert_eq!(failures.held_off(&elsewhere, &SETTINGS, at(101)), None);
        failures.learn(&Identity { hash, ..program(1) });
        assert!(failures.held_off(&elsewhere, &SETTINGS, at(101)).is_some());
    }

    #[test]
    fn each_failure_in_a_row_doubles_the_hold_off_up_to_the_longest() {
        let mut failures = Failures::default();
        assert_eq!(left(&failures, 1, at(0)), None);
        let mut expected = 30;
        for number in 1..=100 {
            failures.failed(&program(1), &format!("failure {number}"), at(0));
            assert_eq!(left(&failures, 1, at(0)), Some(expected), "{number}");
            assert_eq!(left(&failures, 1, at(expected - 1)), Some(1));
            assert_eq!(left(&failures, 1, at(expected)), None);
            expected = (2 * expected).min(3_600);
        }
        let held = failures.held_off(&program(1), &SETTINGS, at(0)).unwrap();
        assert_eq!((held.failures, held.cause.as_str()), (100, "failure 100"));
        assert_eq!(left(&failures, 2, at(0)), None);
    }

    #[test]
    fn what_has_proven_itself_begins_anew() {
        let mut failures = Failures::default();
        failures.failed(&program(1), "", at(0));
        failures.failed(&program(1), "", at(0));
        failures.proved(&program(2));
        assert_eq!(left(&failures, 1, at(0)), Some(60));
        failures.proved(&program(1));
        assert_eq!(left(&failures, 1, at(0)), None);
        failures.failed(&program(1), "", at(0));
        assert_eq!(left(&failures, 1, at(0)), Some(30));
    }

    #[test]
    fn sixteen_are_remembered_and_the_oldest_failure_is_forgotten() {
        let mut failures = Failures::default();
        for number in 0..16 {
            failures.failed(&program(number), "", at(number));
        }
        // Failed again: no longer the oldest.
        failures.failed(&program(0), "", at(16));
        failures.failed(&program(16), "", at(17));
        assert_eq!(failures.records().len(), 16);
        assert_eq!(left(&failures, 1, at(17)), None);
        assert_eq!(left(&failures, 0, at(17)), Some(59));
        assert_eq!(left(&failures, 16, at(17)), Some(30));
        let told = [failures.records(), failures.records()].concat();
        assert_eq!(Failures::remembered(told), failures);
    }

    #[test]
    fn no_clock_holds_anything_off_for_ever() {
        let mut failures = Failures::default();
        failures.failed(&program(1), "", at(10_000));
        // A little back: it is not shortened, and not longer than it ever was.
        assert_eq!(left(&failures, 1, at(9_990)), Some(30));
        assert_eq!(left(&failures, 1, at(9_970)), Some(30));
        assert_eq!(left(&failures, 1, at(9_969)), None);
        assert_eq!(left(&failures, 1, UNIX_EPOCH), None);
        assert_eq!(left(&failures, 1, at(1 << 40)), None);
        // Before the epoch, and what a peer could claim.
        failures.failed(&program(2), "", UNIX_EPOCH - Duration::from_secs(1));
        assert_eq!(left(&failures, 2, at(0)), None);
        let mut records = failures.records().to_vec();
        records[0].at_ms = u64::MAX;
        records[0].failures = u32::MAX;
        assert_eq!(left(&Failures::remembered(records), 1, at(0)), None);
    }

    #[test]
    fn a_program_is_known_again_by_its_hash_once_that_is_known() {
        let hash = Some(Hash([9; 16]));
        let mut failures = Failures::default();
        failures.failed(&program(1), "", at(0));
        failures.failed(&Identity { hash, ..program(1) }, "", at(0));
        assert_eq!(failures.records().len(), 1);
        // A second copy of it; and the first, seen without its hash.
        let copy = Identity { hash, mtime: (7, 7), ..program(7) };
        failures.failed(&program(1), "", at(0));
        let held = failures.held_off(&copy, &SETTINGS, at(0)).unwrap();
        assert_eq!((held.failures, held.left.as_secs()), (3, 120));
    }

    #[test]
    fn settings_of_zero_hold_nothing_off() {
        let mut failures = Failures::default();
        failures.failed(&program(1), "", at(0));
        let none = HoldOff { first: Duration::ZERO, longest: Duration::ZERO };
        assert_eq!(failures.held_off(&program(1), &none, at(0)), None);
        assert_eq!(
            failures.held_off(&program(1), &HoldOff { first: Duration::MAX, ..none }, at(0)),
            None
        );
    }

    #[test]
    fn the_memory_travels_and_its_texts_are_bounded() {
        let mut failures = Failures::default();
        failures.failed(&program(1), &"\u{1b}x".repeat(1_000), at(0));
        failures.failed(&program(2), "plain", at(1));
        let json = serde_json::to_string(failures.records()).unwrap();
        assert!(json.len() < 2_000 && !json.contains("u001b"), "{json}");
        let back: Vec<FailureRecord> = serde_json::from_str(&json).unwrap();
        assert_eq!(Failures::remembered(back), failures);
    }
}
