//! What a report is made of besides its times.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Plain, Time};
use crate::drain::{CutCause, CutCounts, DrainReport, Held};
use crate::name::Name;
use crate::wire::{Asker, Who};

/// What an [`AskedBy`] is called that is no [`Asker`].
const PASSED_ON: &str = "passed_on";
/// A drain's cut connections are told in at most this many groups.
const GROUPS: usize = 16;
/// The longest name of a protocol, in characters.
const PROTOCOL: usize = 32;

/// Who asked for an upgrade.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Who", into = "Who")]
#[non_exhaustive]
pub enum AskedBy {
    /// Whoever sent the upgrade signal.
    Signal,
    /// The application, by [`Running::upgrade`](crate::Running::upgrade) or one like it.
    Application,
    /// Something that retries by itself, by
    /// [`Running::upgrade_unattended`](crate::Running::upgrade_unattended).
    Unattended,
    /// Somebody who asked another generation, which passed it on without saying who it was.
    PassedOn,
    /// An operator, over the control socket, as the kernel said who that is (`SO_PEERCRED` of
    /// unix(7)).
    #[non_exhaustive]
    Operator {
        /// The user's number.
        uid: u32,
        /// The process; 0 if it is in another PID namespace.
        pid: i32,
    },
    /// Somebody whom an earlier version did not write down, or a later one calls by a name that
    /// this one does not know.
    #[default]
    Unknown,
}

impl From<AskedBy> for Who {
    fn from(by: AskedBy) -> Self {
        match by {
            AskedBy::PassedOn => Self::called(PASSED_ON),
            by => by.asker().unwrap_or(Asker::Unknown).into(),
        }
    }
}

impl TryFrom<Who> for AskedBy {
    type Error = &'static str;

    fn try_from(who: Who) -> Result<Self, Self::Error> {
        if who.word() == PASSED_ON {
            return Ok(Self::PassedOn);
        }
        Ok(match who.try_into()? {
            Asker::Unknown => Self::Unknown,
            asker => Self::from(Some(asker)),
        })
    }
}

impl From<Option<Asker>> for AskedBy {
    /// Whoever asked another generation, as that one says.
    fn from(asker: Option<Asker>) -> Self {
        match asker {
            Some(Asker::Signal) => Self::Signal,
            Some(Asker::Application) => Self::Application,
            Some(Asker::Unattended) => Self::Unattended,
            Some(Asker::Operator { uid, pid }) => Self::Operator { uid, pid },
            Some(Asker::Unknown) | None => Self::PassedOn,
        }
    }
}

impl AskedBy {
    /// For another generation.
    pub(crate) fn asker(self) -> Option<Asker> {
        match self {
            Self::Signal => Some(Asker::Signal),
            Self::Application => Some(Asker::Application),
            Self::Unattended => Some(Asker::Unattended),
            Self::Operator { uid, pid } => Some(Asker::Operator { uid, pid }),
            Self::PassedOn | Self::Unknown => None,
        }
    }
}

impl fmt::Display for AskedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("nobody who is known"),
            Self::Signal => f.write_str("a signal"),
            Self::Application => f.write_str("the application"),
            Self::PassedOn => f.write_str("somebody, of another generation"),
            Self::Unattended => f.write_str("the application, unattended"),
            Self::Operator { uid, pid } => write!(f, "user {uid}, pid {pid}"),
        }
    }
}

/// What an upgrade was for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Purpose {
    /// The release that stands at the service's path.
    #[default]
    Release,
    /// A program that was named.
    Program,
    /// Back to the program that ran before.
    RollBack,
    /// A process that somebody else had started.
    TakeOver,
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Release => "release",
            Self::Program => "program",
            Self::RollBack => "roll back",
            Self::TakeOver => "takeover",
        })
    }
}

/// Why an upgrade did not commit, in one word; [`Report::cause`](super::Report::cause) has the
/// sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CauseKind {
    /// The program failed when it was tried.
    Preflight,
    /// It could not be started.
    Spawn,
    /// The two sides do not fit: credentials, versions, a refused offer.
    Refused,
    /// The successor's application failed.
    Failed,
    /// Its process ended.
    Died,
    /// It broke the protocol or closed the link.
    Protocol,
    /// It took longer than a deadline allows, or fell silent.
    Late,
    /// A health check was not content.
    Health,
    /// It said of itself that it is not well: so does a spent error budget.
    Unwell,
    /// An operator or the application did not want it.
    Operator,
    /// The predecessor could not hand over: it lacked a descriptor, a thread or memory, a listener
    /// could not be parked, or its application would not yield.
    Predecessor,
    /// The service was asked to stop.
    Stop,
    /// A later version has more.
    #[serde(other)]
    Other,
}

impl CauseKind {
    /// The word, as metrics have it in the label `cause`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Preflight => "preflight",
            Self::Spawn => "spawn",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Died => "died",
            Self::Protocol => "protocol",
            Self::Late => "late",
            Self::Health => "health",
            Self::Unwell => "unwell",
            Self::Operator => "operator",
            Self::Predecessor => "predecessor",
            Self::Stop => "stop",
            Self::Other => "other",
        }
    }

    /// Whether it says something about the successor's program, and not about the predecessor or
    /// its operator's other wishes.
    pub(crate) const fn is_of_the_program(self) -> bool {
        !matches!(self, Self::Predecessor | Self::Stop)
    }
}

/// How requests ended in a span of time, as [`Requests`](crate::Requests) has counted them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Window {
    /// How long it was.
    pub length: Duration,
    /// Requests that ended well or badly.
    pub requests: u64,
    /// Those that failed.
    pub failed: u64,
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} requests failed in {}", self.failed, self.requests, Time(self.length))
    }
}

/// What became of the connections that the predecessor served when it handed over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Drained {
    /// Connections that ended by themselves.
    pub drained: u64,
    /// Connections that a newer generation has taken over.
    pub moved: u64,
    /// Connections that were cut.
    pub cut: u64,
    /// The same by cause.
    #[serde(default, skip_serializing_if = "CutCounts::is_empty")]
    pub cuts: CutCounts,
    /// Those of them that are known by name, by listener, protocol and cause: the greatest groups
    /// first, at most 16.
    pub cut_by: Vec<CutGroup>,
    /// From the hand-over to the end of the drain.
    pub elapsed: Duration,
}

/// Connections of one kind that a drain has cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CutGroup {
    /// The listener that accepted them.
    pub listener: Name,
    /// What they spoke: the first word of the connections' names, like `HTTP/1.1`; none if the
    /// application gave no names.
    pub protocol: Option<String>,
    /// How many.
    pub count: u64,
    /// The age of the oldest when it was cut.
    pub oldest: Duration,
    /// The age of the youngest.
    pub youngest: Duration,
    /// Why they were cut. None if an earlier version has written this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<CutCause>,
}

impl Drained {
    pub(crate) fn new(report: &DrainReport) -> Self {
        let mut groups: Vec<CutGroup> = Vec::new();
        for held in &report.cut {
            let protocol = protocol(held);
            let same = |group: &CutGroup| {
                group.listener == held.listener
                    && group.protocol == protocol
                    && group.cause == held.cut
            };
            let known = groups.iter().position(same).and_then(|at| groups.get_mut(at));
            match known {
                Some(group) => {
                    group.count += 1;
                    group.oldest = group.oldest.max(held.age);
                    group.youngest = group.youngest.min(held.age);
                }
                None => groups.push(CutGroup {
                    listener: held.listener.clone(),
                    protocol,
                    count: 1,
                    oldest: held.age,
                    youngest: held.age,
                    cause: held.cut,
                }),
            }
        }
        groups.sort_by_key(|group| std::cmp::Reverse(group.count));
        groups.truncate(GROUPS);
        Self {
            drained: report.drained,
            moved: report.moved,
            cut: report.cut_count,
            cuts: report.cuts,
            cut_by: groups,
            elapsed: report.elapsed,
        }
    }
}

pub(super) fn protocol(held: &Held) -> Option<String> {
    let word = held.name.as_deref()?.split_whitespace().next()?;
    Some(word.chars().take(PROTOCOL).collect())
}

impl fmt::Display for Drained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { drained, moved, cut, cut_by, elapsed, cuts: _ } = self;
        write!(f, "{drained} drained, {moved} moved, {cut} cut in {}", Time(*elapsed))?;
        for group in cut_by {
            let protocol = group.protocol.as_deref().unwrap_or("connections");
            let (count, listener) = (group.count, &group.listener);
            write!(f, "; cut: {count} {} of {listener}", Plain(protocol))?;
            write!(f, ", {} to {} old", Time(group.youngest), Time(group.oldest))?;
            if let Some(cause) = group.cause {
                write!(f, ", {cause}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::drain::DrainOutcome;

    pub(in crate::report) fn held(listener: &str, name: Option<&str>, seconds: u64) -> Held {
        Held {
            listener: listener.parse().unwrap(),
            name: name.map(str::to_owned),
            reason: None,
            peer: None,
            age: Duration::from_secs(seconds),
            cut: Some(CutCause::Deadline),
        }
    }

    pub(in crate::report) fn report(cut: Vec<Held>) -> DrainReport {
        DrainReport {
            outcome: DrainOutcome::Cut,
            drained: 4,
            moved: 2,
            cut_count: cut.len() as u64,
            cuts: CutCounts::of(CutCause::Deadline, cut.len() as u64),
            cut,
            left: 0,
            hurried: false,
            elapsed: Duration::from_secs(30),
        }
    }

    #[test]
    fn cut_connections_are_told_by_listener_protocol_and_age() {
        let drained = Drained::new(&report(vec![
            held("feed", None, 7_000),
            held("http", Some("HTTP/1.1 GET /slow"), 40),
            held("http", Some("HTTP/1.1 GET /other"), 31),
            held("http", Some("HTTP/2 GET /"), 90),
        ]));
        assert_eq!(
            drained.to_string(),
            "4 drained, 2 moved, 4 cut in 30.0 s; \
             cut: 2 HTTP/1.1 of http, 31.0 s to 40.0 s old, at the deadline; \
             cut: 1 connections of feed, 7000.0 s to 7000.0 s old, at the deadline; \
             cut: 1 HTTP/2 of http, 90.0 s to 90.0 s old, at the deadline"
        );
    }

    #[test]
    fn names_of_connections_cannot_make_a_report_long() {
        let many = (0..1_000).map(|at| held("http", Some(&format!("{at} {}", "x".repeat(99))), 1));
        let drained = Drained::new(&report(many.collect()));
        assert_eq!((drained.cut_by.len(), drained.cut), (GROUPS, 1_000));
    }

    #[test]
    fn whoever_asked_is_known_after_a_journey() {
        for by in [
            AskedBy::Unknown,
            AskedBy::Signal,
            AskedBy::Application,
            AskedBy::Unattended,
            AskedBy::PassedOn,
            AskedBy::Operator { uid: 1000, pid: 4711 },
        ] {
            let text = serde_json::to_string(&by).unwrap();
            assert_eq!(serde_json::from_str::<AskedBy>(&text).unwrap(), by, "{text}");
            let told = AskedBy::from(by.asker());
            assert!(told == by || by == AskedBy::Unknown && told == AskedBy::PassedOn);
        }
        assert_eq!(
            serde_json::from_str::<AskedBy>(r#"{"who":"oracle","eye":3}"#).unwrap(),
            AskedBy::Unknown
        );
        assert_eq!(serde_json::from_str::<CauseKind>("\"flood\"").unwrap(), CauseKind::Other);
    }
}
