//! From the results of single checks to one word about the whole: pure, told the time.

use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::Instant;

use super::Finding;

/// The result of one round of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The answers were as they should be.
    Passed,
    /// They were not, or none came.
    Failed(String),
    /// It says nothing: neither passed nor failed.
    Undecided(String),
    /// It cannot be checked, and counts as healthy.
    NotChecked(String),
}

/// When a check counts as healthy, and when not.
#[derive(Clone, Debug)]
pub(super) struct Thresholds {
    /// The check's name, for people.
    pub(super) name: String,
    /// Passes in a row that make it healthy.
    pub(super) healthy: NonZeroU32,
    /// Failures in a row that make it unhealthy.
    pub(super) unhealthy: NonZeroU32,
}

/// Where one check stands.
struct Streak {
    thresholds: Thresholds,
    passes: u32,
    failures: u32,
    undecided: bool,
    noted: bool,
    healthy: bool,
    /// Why it is not, as far as rounds have said.
    why: Option<String>,
}

/// Where all checks of one generation stand.
pub(super) struct Vitals {
    checks: Vec<Streak>,
    min_healthy_time: Duration,
    /// Since when every check is healthy, without a failure.
    since: Option<Instant>,
    /// Whether that has been said.
    said: bool,
}

impl Vitals {
    /// Nothing is known yet; without any check all is well from `now` on.
    pub(super) fn new(checks: Vec<Thresholds>, min_healthy_time: Duration, now: Instant) -> Self {
        let since = checks.is_empty().then_some(now);
        let checks = checks.into_iter().map(Streak::new).collect();
        Self { checks, min_healthy_time, since, said: false }
    }

    /// When the whole is healthy if nothing fails until then.
    pub(super) fn due(&self) -> Option<Instant> {
        let since = self.since.filter(|_| !self.said)?;
        since.checked_add(self.min_healthy_time)
    }

    /// What is missing until all is well, for people, with the check of this number first; nothing
    /// when all is well, or when only time is missing and nothing is checked.
    pub(super) fn missing(&self, first: usize) -> Option<String> {
        if self.said || self.checks.is_empty() {
            return None;
        }
        let checks = self.checks.get(first).into_iter().chain(&self.checks);
        let missing = checks.into_iter().find_map(Streak::missing);
        Some(missing.unwrap_or_else(|| {
            let time = self.min_healthy_time;
            format!("every health check passes, and has not done so for {time:?} yet")
        }))
    }

    /// It is `now`: all is well if it has been so for long enough.
    pub(super) fn at(&mut self, now: Instant) -> Option<Finding> {
        if self.due()? > now {
            return None;
        }
        self.said = true;
        Some(Finding::Healthy)
    }

    /// One round of one check is over.
    pub(super) fn on(&mut self, check: usize, step: Step, now: Instant) -> Vec<Finding> {
        let mut findings = Vec::new();
        let Some(streak) = self.checks.get_mut(check) else {
            return findings;
        };
        let name = &streak.thresholds.name;
        match step {
            Step::Passed => streak.pass(),
            Step::NotChecked(why) => {
                if !std::mem::replace(&mut streak.noted, true) {
                    findings.push(Finding::Note(format!("health check {name}: {why}")));
                }
                streak.healthy = true;
            }
            Step::Undecided(why) => {
                let text = format!("health check {name}: {why}");
                if !std::mem::replace(&mut streak.undecided, true) {
                    findings.push(Finding::Note(text.clone()));
                }
                streak.why = Some(text);
            }
            Step::Failed(why) => {
                self.since = None;
                self.said = false;
                findings.extend(streak.fail(&why));
                if !findings.is_empty() {
                    return findings;
                }
            }
        }
        if self.checks.iter().all(|streak| streak.healthy) {
            self.since.get_or_insert(now);
        }
        findings.extend(self.at(now));
        findings.extend(self.missing(check).map(Finding::Ailing));
        findings
    }
}

impl Streak {
    fn new(thresholds: Thresholds) -> Self {
        Self {
            thresholds,
            passes: 0,
            failures: 0,
            undecided: false,
            noted: false,
            healthy: false,
            why: None,
        }
    }

    fn missing(&self) -> Option<String> {
        let unknown = || format!("health check {}: no round is over yet", self.thresholds.name);
        (!self.healthy).then(|| self.why.clone().unwrap_or_else(unknown))
    }

    fn pass(&mut self) {
        self.undecided = false;
        self.failures = 0;
        self.passes = self.passes.saturating_add(1);
        let Thresholds { name, healthy, .. } = &self.thresholds;
        self.healthy |= self.passes >= healthy.get();
        self.why =
            Some(format!("health check {name} has passed {} of {healthy} times", self.passes));
    }

    /// Gives a finding if that was once too often.
    fn fail(&mut self, why: &str) -> Option<Finding> {
        self.undecided = false;
        self.passes = 0;
        self.healthy = false;
        self.failures = self.failures.saturating_add(1);
        let Thresholds { name, unhealthy, .. } = &self.thresholds;
        let failures = self.failures;
        if failures < unhealthy.get() {
            self.why =
                Some(format!("health check {name} failed {failures} of {unhealthy} times: {why}"));
            return None;
        }
        let often = match failures {
            1 => "failed".to_owned(),
            _ => format!("failed {failures} times in a row, at last"),
        };
        Some(Finding::Unhealthy(format!("health check {name} {often}: {why}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(count: u32) -> NonZeroU32 {
        NonZeroU32::new(count).unwrap()
    }

    fn checks(names: &[&str], healthy: u32, unhealthy: u32) -> Vec<Thresholds> {
        let (healthy, unhealthy) = (count(healthy), count(unhealthy));
        names
            .iter()
            .map(|name| Thresholds { name: (*name).to_owned(), healthy, unhealthy })
            .collect()
    }

    fn failed() -> Step {
        Step::Failed("status 500".into())
    }

    fn full() -> Step {
        Step::Undecided("saturated: no answer".into())
    }

    fn ailing(text: &str) -> Finding {
        Finding::Ailing(text.into())
    }

    fn note(text: &str) -> Finding {
        Finding::Note(text.into())
    }

    /// Steps of one check, a second apart, and what is found at each.
    fn table(vitals: &mut Vitals, start: Instant, rows: &[(Step, &[Finding])]) {
        for (second, (step, expected)) in (0_u64..).zip(rows) {
            let now = start + Duration::from_secs(second);
            assert_eq!(vitals.on(0, step.clone(), now), *expected, "at {second} s: {step:?}");
        }
    }

    #[test]
    fn passes_in_a_row_make_healthy_and_failures_in_a_row_unhealthy() {
        let now = Instant::now();
        let mut vitals = Vitals::new(checks(&["a"], 2, 3), Duration::ZERO, now);
        let once = ailing("health check a has passed 1 of 2 times");
        let first = ailing("health check a failed 1 of 3 times: status 500");
        let second = ailing("health check a failed 2 of 3 times: status 500");
        let last = "health check a failed 3 times in a row, at last: status 500";
        table(
            &mut vitals,
            now,
            &[
                (Step::Passed, std::slice::from_ref(&once)),
                (failed(), std::slice::from_ref(&first)),
                (Step::Passed, std::slice::from_ref(&once)),
                (Step::Passed, &[Finding::Healthy]),
                (Step::Passed, &[]),
                (failed(), std::slice::from_ref(&first)),
                (failed(), &[second]),
                (Step::Passed, std::slice::from_ref(&once)),
                (Step::Passed, &[Finding::Healthy]),
                (failed(), std::slice::from_ref(&first)),
                (failed(), &[ailing("health check a failed 2 of 3 times: status 500")]),
                (failed(), &[Finding::Unhealthy(last.into())]),
            ],
        );
    }

    #[test]
    fn one_failure_is_enough_if_it_is_said_so() {
        let now = Instant::now();
        let mut vitals = Vitals::new(checks(&["a"], 1, 1), Duration::ZERO, now);
        let unhealthy = Finding::Unhealthy("health check a failed: status 500".into());
        table(&mut vitals, now, &[(Step::Passed, &[Finding::Healthy]), (failed(), &[unhealthy])]);
    }

    #[test]
    fn saturation_counts_neither_way_and_is_noted_once() {
        let now = Instant::now();
        let mut vitals = Vitals::new(checks(&["a"], 1, 2), Duration::ZERO, now);
        let text = "health check a: saturated: no answer";
        let first = ailing("health check a failed 1 of 2 times: status 500");
        let last = Finding::Unhealthy(
            "health check a failed 2 times in a row, at last: status 500".into(),
        );
        table(
            &mut vitals,
            now,
            &[
                (full(), &[note(text), ailing(text)]),
                (full(), &[ailing(text)]),
                (Step::Passed, &[Finding::Healthy]),
                (full(), &[note(text)]),
                (full(), &[]),
                (failed(), &[first]),
                (full(), &[note(text), ailing(text)]),
                (failed(), &[last]),
            ],
        );
    }

    #[test]
    fn healthy_is_said_after_its_time_and_a_failure_starts_it_anew() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut vitals = Vitals::new(checks(&["a"], 1, 3), Duration::from_secs(5), start);
        assert_eq!(vitals.due(), None);
        let waits = [ailing("every health check passes, and has not done so for 5s yet")];
        assert_eq!(vitals.on(0, Step::Passed, at(0)), waits);
        assert_eq!(vitals.due(), Some(at(5)));
        assert_eq!(vitals.on(0, failed(), at(4)).len(), 1);
        assert_eq!(vitals.due(), None);
        assert_eq!(vitals.on(0, Step::Passed, at(6)), waits);
        assert_eq!(vitals.on(0, Step::Passed, at(10)), waits);
        assert_eq!((vitals.due(), vitals.at(at(10))), (Some(at(11)), None));
        assert_eq!(vitals.at(at(11)), Some(Finding::Healthy));
        assert_eq!((vitals.due(), vitals.at(at(12))), (None, None), "it is said once");
    }

    #[test]
    fn every_check_has_a_say() {
        let now = Instant::now();
        let mut vitals = Vitals::new(checks(&["a", "b"], 1, 2), Duration::ZERO, now);
        assert_eq!(vitals.missing(1).unwrap(), "health check b: no round is over yet");
        let waits = [ailing("health check b: no round is over yet")];
        assert_eq!(vitals.on(0, Step::Passed, now), waits);
        assert_eq!(vitals.missing(0).as_deref(), Some("health check b: no round is over yet"));
        let why = Step::NotChecked("both generations accept".into());
        let noted = note("health check b: both generations accept");
        assert_eq!(vitals.on(1, why.clone(), now), [noted, Finding::Healthy]);
        assert!(vitals.on(1, why, now).is_empty());
        assert!(vitals.on(7, failed(), now).is_empty(), "there is no such check");
    }

    #[test]
    fn without_checks_only_time_has_a_say() {
        let now = Instant::now();
        let mut vitals = Vitals::new(Vec::new(), Duration::from_secs(1), now);
        assert_eq!(vitals.at(now), None);
        assert_eq!(vitals.at(now + Duration::from_secs(1)), Some(Finding::Healthy));
        let mut never = Vitals::new(Vec::new(), Duration::MAX, now);
        assert_eq!((never.due(), never.at(now)), (None, None));
    }
}
