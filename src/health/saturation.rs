//! Saturated or sick: what it means that no answer came.
//!
//! A check through the front door waits behind the clients. At a limit of connections it may wait
//! in vain although the generation does all that it can, and to take the turn back then would help
//! nobody. So no answer is weighed with the figures of the predecessor, from before it yielded. A
//! wrong answer is never weighed.

use std::time::Duration;

use super::load::{Load, Trend};

/// Why one round of a check did not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) cause: Cause,
    /// For people.
    pub(super) text: String,
}

/// What kind of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Refused, closed, reset, or not what was expected.
    Wrong,
    /// Nothing at all came in time.
    Silent(Reached),
    /// All answers were good, and some sockets of a group gave none.
    Unreached,
    /// The question never left: the checker itself wants for descriptors, ports or memory.
    NotAsked,
}

/// How far a connection came that got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    /// It waits to be accepted.
    Queue,
    /// It was accepted.
    Server,
    /// Accepts on that listener are not observed.
    Unknown,
}

/// What the predecessor's check of itself gave, before it yielded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Past {
    /// It was not made, or its answer did not say anything.
    #[default]
    Unknown,
    /// It passed.
    Passed,
    /// It got no answer in time.
    Silent,
    /// It did not reach every socket of its group either.
    Unreached,
    /// It failed likewise, with this.
    Failed(String),
}

/// What a failure comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// The generation is sick.
    Sick(String),
    /// It may do what it can, or nobody could ask: neither passed nor failed.
    Undecided(String),
    /// As good as it can be told from here: passed.
    Passed(String),
}

impl Failure {
    pub(super) fn wrong(text: impl Into<String>) -> Self {
        Self { cause: Cause::Wrong, text: text.into() }
    }

    pub(super) fn not_asked(text: impl Into<String>) -> Self {
        Self { cause: Cause::NotAsked, text: text.into() }
    }

    /// No answer within `limit`.
    pub(super) fn silent(reached: Reached, limit: Duration) -> Self {
        let how = match reached {
            Reached::Queue => " (the connection was not accepted)",
            Reached::Server => " (the connection was accepted)",
            Reached::Unknown => "",
        };
        Self { cause: Cause::Silent(reached), text: format!("no answer within {limit:?}{how}") }
    }

    /// What this comes to, given what the predecessor saw of itself (`past`), what it served when
    /// it yielded (`before`), and what the generation under check serves.
    ///
    /// A generation that is as saturated as its predecessor was and serves one client after the other
    /// is as good. One that is saturated where its predecessor was not has until the progress
    /// deadline to prove itself.
    ///
    /// A connection that was accepted and gets no answer is not held up by a limit of connections,
    /// so there only a predecessor that did not answer either makes it saturation; likewise where
    /// it cannot be told whether it was accepted.
    pub(super) fn read(self, past: &Past, before: Load, trend: Trend) -> Reading {
        let text = self.text;
        match (self.cause, past) {
            // Clients wait as long as they did, and are served: as well as before.
            (Cause::Silent(Reached::Queue), Past::Silent) if trend.progresses() => {
                Reading::Passed(format!("{text}; nor had the predecessor before it yielded"))
            }
            (Cause::Silent(_), Past::Silent) => {
                let text = format!("saturated: {text}; nor had the predecessor before it yielded");
                Reading::Undecided(text)
            }
            (Cause::Silent(Reached::Queue), _)
                if trend.current.active >= before.active.max(1) && trend.progresses() =>
            {
                let (now, then) = (trend.current.active, before.active);
                Reading::Undecided(format!(
                    "saturated: {text}; {now} connections are being served, {then} when the predecessor \
                     yielded"
                ))
            }
            (Cause::NotAsked, _) => Reading::Undecided(format!("could not be asked: {text}")),
            (Cause::Unreached, Past::Unreached) => {
                Reading::Passed(format!("{text}; as before the predecessor yielded"))
            }
            (_, Past::Failed(past)) => Reading::Sick(format!(
                "{text}; the predecessor's own check had failed before it yielded: {past}"
            )),
            _ => Reading::Sick(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(1);

    fn load(active: u64, accepted: u64, ended: u64) -> Load {
        Load { active, accepted, ended }
    }

    fn silent(reached: Reached) -> Failure {
        Failure::silent(reached, LIMIT)
    }

    /// At the limit of 100 connections, and busy.
    fn full() -> Trend {
        Trend { previous: load(100, 140, 40), current: load(100, 150, 50) }
    }

    #[test]
    fn at_its_limit_a_generation_is_saturated_and_not_sick() {
        let before = load(100, 5_000, 4_900);
        let reading = silent(Reached::Queue).read(&Past::Passed, before, full());
        let Reading::Undecided(text) = reading else { panic!("{reading:?}") };
        assert_eq!(
            text,
            "saturated: no answer within 1s (the connection was not accepted); 100 connections are being \
             served, 100 when the predecessor yielded"
        );
    }

    #[test]
    fn no_answer_is_sickness_unless_all_speaks_for_saturation() {
        let before = load(100, 5_000, 4_900);
        let idle = Trend { previous: load(100, 150, 50), current: load(100, 150, 50) };
        let fewer = Trend { previous: load(90, 100, 10), current: load(99, 120, 21) };
        let nothing = Trend::default();
        let table = [
            (Reached::Queue, before, idle, "it does nothing"),
            (Reached::Queue, before, fewer, "it serves fewer than the predecessor did"),
            (Reached::Queue, before, nothing, "it accepts nothing"),
            (Reached::Queue, load(0, 0, 0), nothing, "nor is that enough on an idle service"),
            (Reached::Server, before, full(), "it accepts and does not answer"),
            (Reached::Unknown, before, full(), "nobody knows whether it was accepted"),
        ];
        for (reached, before, trend, why) in table {
            let reading = silent(reached).read(&Past::Passed, before, trend);
            assert!(matches!(reading, Reading::Sick(_)), "{why}: {reading:?}");
            let as_before = trend.progresses() && reached == Reached::Queue;
            match silent(reached).read(&Past::Silent, before, trend) {
                Reading::Passed(_) if as_before => {}
                Reading::Undecided(_) if !as_before => {}
                reading => panic!("{why}, like the predecessor: {reading:?}"),
            }
        }
    }

    #[test]
    fn a_wrong_answer_is_never_saturation() {
        for past in [Past::Unknown, Past::Passed, Past::Silent, Past::Unreached] {
            let reading = Failure::wrong("status 500").read(&past, load(1, 1, 0), full());
            assert_eq!(reading, Reading::Sick("status 500".into()), "{past:?}");
        }
        let past = Past::Failed("status 503".into());
        let reading = Failure::wrong("status 500").read(&past, load(1, 1, 0), full());
        let Reading::Sick(text) = reading else { panic!("{reading:?}") };
        assert!(text.ends_with("before it yielded: status 503"), "{text}");
    }

    #[test]
    fn a_question_that_never_left_says_nothing() {
        for past in [Past::Unknown, Past::Passed, Past::Failed("status 500".into())] {
            let failure = Failure::not_asked("too many open files");
            let reading = failure.read(&past, Load::default(), Trend::default());
            let text = "could not be asked: too many open files";
            assert_eq!(reading, Reading::Undecided(text.into()));
        }
    }

    #[test]
    fn what_could_not_be_reached_before_need_not_be_reached_now() {
        let failure = || Failure { cause: Cause::Unreached, text: "1 of 2 sockets".into() };
        let (before, trend) = (Load::default(), Trend::default());
        assert!(matches!(failure().read(&Past::Unreached, before, trend), Reading::Passed(_)));
        assert!(matches!(failure().read(&Past::Passed, before, trend), Reading::Sick(_)));
    }
}
