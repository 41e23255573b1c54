//! What each kind of message says.

use serde::{Deserialize, Deserializer, Serialize};

use super::executable::FailureRecord;
use super::limits::{
    MAX_APP_VERSION, MAX_CLAIMED, MAX_CUT, MAX_CUT_TEXT, MAX_FAILURES, MAX_ITEMS, MAX_NOTE,
    MAX_NOTES, MAX_REASON, MAX_TALLIES,
};
use super::record::{Address, Item};
use super::text::{self, Line, fit};
use super::version::Range;
use super::who::Who;
use crate::generation::Generation;
use crate::name::Name;

/// The successor's first word; the kernel adds its credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// The versions of the protocol that it speaks.
    pub protocol: Range,
    /// The application's version, for people.
    #[serde(deserialize_with = "text::bounded::<_, MAX_APP_VERSION>")]
    pub app_version: String,
    /// Its process number in its own namespace, for people.
    pub pid: i32,
}

/// The predecessor's answer: the terms of this handoff.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Welcome {
    /// The version of the protocol that is used from here on.
    pub protocol: u32,
    /// The application's version, for people.
    #[serde(deserialize_with = "text::bounded::<_, MAX_APP_VERSION>")]
    pub app_version: String,
    /// The service that is handed over.
    pub service: Name,
    /// The successor's generation.
    pub generation: Generation,
    /// The predecessor's generation.
    pub predecessor: Generation,
    /// Descriptors in the whole offer.
    pub descriptors: usize,
    /// How long the predecessor watches before it lets the successor commit, in milliseconds.
    pub probation_ms: u64,
    /// After this silence the other side counts as gone, in milliseconds.
    pub silence_ms: u64,
    /// Time between two pings, in milliseconds.
    pub ping_ms: u64,
    /// The deadline of the gap, in milliseconds.
    pub gap_ms: u64,
    /// Whether the predecessor may signal the successor, so that it can enforce a roll back.
    pub enforceable: bool,
    /// How many of its requests the successor may fail before it says that it is not well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// Programs that have failed and not proven themselves since.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[serde(deserialize_with = "text::list::<_, _, MAX_FAILURES>")]
    pub failures: Vec<FailureRecord>,
    /// Whether an operator wants nothing to be accepted, whoever owns.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
}

/// How many requests may fail while the predecessor watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Budget {
    /// The highest rate of failures that is borne, in millionths of all requests.
    pub rate_ppm: u32,
    /// With fewer requests than these nothing is said.
    pub minimum: u64,
}

/// What a generation has served since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Figures {
    /// Connections that are open.
    pub active: u64,
    /// Connections ever accepted.
    pub accepted: u64,
    /// Requests that the application called good.
    pub succeeded: u64,
    /// Requests that the application called failed.
    pub failed: u64,
}

/// A health check that is going to connect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Expect {
    /// Names it in the answers.
    pub number: u64,
    /// The listener that it goes to.
    pub listener: Name,
    /// The address that it comes from.
    pub from: Address,
    /// Earlier ones that have not been taken, and that nobody waits for any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[serde(deserialize_with = "text::list::<_, _, MAX_CLAIMED>")]
    pub given_up: Vec<u64>,
}

/// The answer to [`Expect`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Expected {
    /// Of the check.
    pub number: u64,
    /// Sockets that the listener has; none if there is no such listener.
    pub members: u32,
    /// Whether the connection will be seen when it is accepted: not by a framework that accepts
    /// by itself.
    pub observed: bool,
}

/// A health check was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Taken {
    /// Of the check.
    pub number: u64,
    /// The listener that accepted it.
    pub listener: Name,
    /// Which of its sockets, from zero.
    pub member: u32,
}

/// No handoff, and why. Nothing has moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refuse {
    /// Why, for people.
    #[serde(deserialize_with = "text::bounded::<_, MAX_REASON>")]
    pub reason: String,
}

/// A part of the inventory: one descriptor for each item, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Offer {
    /// What the descriptors of this frame are.
    #[serde(deserialize_with = "text::list::<_, _, MAX_ITEMS>")]
    pub items: Vec<Item>,
    /// Whether this is the offer's last part.
    pub last: bool,
}

/// The successor is ready: what it takes and what it adds. Comes in parts, like the offer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ready {
    /// Places in the offer, over all its parts, of what the successor has claimed.
    #[serde(deserialize_with = "text::list::<_, _, MAX_CLAIMED>")]
    pub claimed: Vec<u32>,
    /// What it bound itself: one descriptor for each item, in order.
    #[serde(deserialize_with = "text::list::<_, _, MAX_ITEMS>")]
    pub bound: Vec<Item>,
    /// Whether this is the last part.
    pub last: bool,
    /// Options of inherited sockets that differ from what was asked for.
    #[serde(deserialize_with = "notes")]
    pub notes: Vec<String>,
}

/// The successor's application failed before it was ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failed {
    /// Its error and all causes, for people.
    #[serde(deserialize_with = "text::bounded::<_, MAX_REASON>")]
    pub error: String,
}

/// The successor owns from here on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    /// An upgrade was asked for meanwhile and is the new owner's to run.
    pub queued_upgrade: bool,
    /// Whose wish that is, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued_by: Option<Asker>,
}

/// Whose wish an upgrade is that another generation runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Who", into = "Who")]
pub(crate) enum Asker {
    Signal,
    Application,
    Unattended,
    /// As the kernel said it to the generation that was asked.
    Operator {
        uid: u32,
        pid: i32,
    },
    /// One of a later version.
    Unknown,
}

impl From<Asker> for Who {
    fn from(asker: Asker) -> Self {
        match asker {
            Asker::Signal => Self::called("signal"),
            Asker::Application => Self::called("application"),
            Asker::Unattended => Self::called("unattended"),
            Asker::Operator { uid, pid } => Self::operator(uid, pid),
            Asker::Unknown => Self::called("unknown"),
        }
    }
}

impl TryFrom<Who> for Asker {
    type Error = &'static str;

    fn try_from(who: Who) -> Result<Self, Self::Error> {
        Ok(match who.word() {
            "signal" => Self::Signal,
            "application" => Self::Application,
            "unattended" => Self::Unattended,
            Who::OPERATOR => {
                let (uid, pid) = who.numbers()?;
                Self::Operator { uid, pid }
            }
            _ => Self::Unknown,
        })
    }
}

/// How far an elder's drain is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Connections that it still serves.
    pub active: u64,
    /// Age of the oldest one, in milliseconds.
    pub oldest_ms: u64,
    /// Connections that were cut so far.
    pub cut: u64,
    /// The application's version, for people.
    #[serde(
        default,
        skip_serializing_if = "String::is_empty",
        deserialize_with = "text::bounded::<_, MAX_APP_VERSION>"
    )]
    pub app_version: String,
    /// Connections of each listener that has some, as many listeners as fit a frame that travels
    /// whole.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "text::list::<_, _, MAX_TALLIES>"
    )]
    pub by_listener: Vec<(Name, u64)>,
}

/// How an elder's drain ended. It is the elder's last message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LastReport {
    /// Connections that ended by themselves.
    pub drained: u64,
    /// Connections that the owner has taken over.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub moved: u64,
    /// Connections that were cut, as many as fit a frame that travels whole.
    #[serde(deserialize_with = "text::list::<_, _, MAX_CUT>")]
    pub cut: Vec<CutItem>,
    /// Connections that were cut and are not in the list.
    pub unlisted: u64,
    /// How many were cut for which cause. An older elder does not say.
    #[serde(default, skip_serializing_if = "Causes::is_none")]
    pub causes: Causes,
    /// Whether the drain ended before all of them were closed.
    pub forced: bool,
    /// How long the drain took, in milliseconds.
    pub elapsed_ms: u64,
}

/// A connection that a drain has cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CutItem {
    /// The listener that accepted it.
    pub listener: Name,
    /// What it was, for people.
    #[serde(deserialize_with = "text::bounded::<_, MAX_CUT_TEXT>")]
    pub name: String,
    /// Why it was still there, for people; empty if nobody said.
    #[serde(deserialize_with = "text::bounded::<_, MAX_CUT_TEXT>")]
    pub reason: String,
    /// Its age when it was cut, in milliseconds.
    pub age_ms: u64,
}

/// The payload of `Ping`.
#[derive(Serialize, Deserialize)]
pub(super) struct Sequence {
    pub(super) sequence: u64,
}

/// The payload of `Pong`.
#[derive(Serialize, Deserialize)]
pub(super) struct Pong {
    pub(super) sequence: u64,
    #[serde(default)]
    pub(super) figures: Figures,
}

/// The payload of `Unhealthy` and `NotYet`.
#[derive(Serialize, Deserialize)]
pub(super) struct Reason {
    #[serde(deserialize_with = "text::bounded::<_, MAX_REASON>")]
    pub(super) reason: String,
}

/// The payload of `RollBack`.
#[derive(Serialize, Deserialize)]
pub(super) struct RollBack {
    #[serde(deserialize_with = "text::bounded::<_, MAX_REASON>")]
    pub(super) reason: String,
    pub(super) last: bool,
}

/// The payload of `Left`.
#[derive(Serialize, Deserialize)]
pub(super) struct Left {
    pub(super) accepted: u64,
}

/// The payload of `NewOwner`.
#[derive(Serialize, Deserialize)]
pub(super) struct NewOwner {
    pub(super) generation: Generation,
    pub(super) queued_upgrade: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) paused: Option<bool>,
}

/// The payload of `Asked`.
#[derive(Serialize, Deserialize)]
pub(super) struct Asked {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) by: Option<Asker>,
}

/// The payload of `StopAsked`.
#[derive(Serialize, Deserialize)]
pub(super) struct StopAsked {
    pub(super) hurry: bool,
}

/// The payload of a kind that says nothing beyond itself.
#[derive(Serialize, Deserialize)]
pub(super) struct Nothing {}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

fn notes<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let lines: Vec<Line<MAX_NOTE>> = text::list::<D, _, MAX_NOTES>(from)?;
    Ok(lines.into_iter().map(|line| line.0).collect())
}

impl Hello {
    pub(super) fn fitted(&self) -> Self {
        Self { app_version: fit(&self.app_version, MAX_APP_VERSION), ..self.clone() }
    }
}

impl Welcome {
    pub(super) fn fitted(&self) -> Self {
        Self { app_version: fit(&self.app_version, MAX_APP_VERSION), ..self.clone() }
    }
}

impl Progress {
    /// The same with a list of at most `room` bytes of JSON; the version counts towards it.
    pub(super) fn fitted(&self, room: usize) -> Self {
        let app_version = fit(&self.app_version, MAX_APP_VERSION);
        let length = |json: Result<Vec<u8>, _>| json.map_or(usize::MAX, |json| json.len() + 1);
        let mut left = room.saturating_sub(length(serde_json::to_vec(&app_version)));
        let mut by_listener = Vec::new();
        for tally in self.by_listener.iter().take(MAX_TALLIES) {
            let Some(rest) = left.checked_sub(length(serde_json::to_vec(tally))) else { break };
            left = rest;
            by_listener.push(tally.clone());
        }
        Self { app_version, by_listener, ..self.clone() }
    }
}

impl Ready {
    pub(super) fn fitted(&self) -> Self {
        let notes = self.notes.iter().map(|note| fit(note, MAX_NOTE)).collect();
        Self { notes, ..self.clone() }
    }
}

/// Connections that were cut, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Causes {
    /// At the drain's deadline.
    #[serde(skip_serializing_if = "is_zero")]
    pub deadline: u64,
    /// As too many generations drained.
    #[serde(skip_serializing_if = "is_zero")]
    pub room: u64,
    /// By a forced stop.
    #[serde(skip_serializing_if = "is_zero")]
    pub forced: u64,
    /// On the way to the owner.
    #[serde(skip_serializing_if = "is_zero")]
    pub lost: u64,
}

impl Causes {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl LastReport {
    /// The same report with a list of at most `room` bytes of JSON; the rest is only counted.
    pub(super) fn fitted(&self, room: usize) -> Self {
        let mut left = room;
        let mut cut = Vec::new();
        for item in self.cut.iter().take(MAX_CUT) {
            let item = item.fitted();
            // The comma between two items is counted with each.
            let length = serde_json::to_vec(&item).map_or(usize::MAX, |json| json.len() + 1);
            let Some(rest) = left.checked_sub(length) else {
                break;
            };
            left = rest;
            cut.push(item);
        }
        let dropped = (self.cut.len() - cut.len()) as u64;
        Self { cut, unlisted: self.unlisted.saturating_add(dropped), ..self.clone() }
    }
}

impl CutItem {
    fn fitted(&self) -> Self {
        Self {
            name: fit(&self.name, MAX_CUT_TEXT),
            reason: fit(&self.reason, MAX_CUT_TEXT),
            ..self.clone()
        }
    }
}
