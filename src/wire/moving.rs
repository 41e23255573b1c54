//! What moves besides sockets: states and sessions.

use serde::{Deserialize, Serialize};

use super::limits::{MAX_CUT_TEXT, MAX_ITEMS, MAX_PEER, MAX_REASON, MAX_SESSIONS};
use super::text::{self, fit};
use super::version::Range;
use crate::name::Name;

/// What a sealed memory file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Contents {
    /// Its length in bytes.
    pub length: u64,
    /// CRC-32 (IEEE 802.3) of all of it.
    pub checksum: u32,
}

/// A successor's application wants a state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Take {
    /// Names it in the answer.
    pub number: u64,
    /// The state.
    pub name: Name,
    /// The versions that it reads.
    pub versions: Range,
}

/// The answer to [`Take`]. A state that is there comes with one descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stated {
    /// Of the question.
    pub number: u64,
    /// What came of it.
    pub answer: Answer,
}

/// What came of the wish for a state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Word", into = "Word")]
pub(crate) enum Answer {
    /// The frame's descriptor holds it.
    Here {
        /// The version that it is written in.
        version: u32,
        /// What the descriptor holds.
        contents: Contents,
    },
    /// Nobody provides a state of this name.
    Unknown,
    /// It is not handed over.
    Refused {
        /// Why, for people.
        reason: String,
    },
}

/// An [`Answer`] in a payload: what all of them say, side by side.
#[derive(Serialize, Deserialize)]
struct Word {
    is: Is,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    contents: Option<Contents>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(deserialize_with = "text::maybe::<_, MAX_REASON>")]
    reason: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Is {
    Here,
    Unknown,
    Refused,
}

impl From<Answer> for Word {
    fn from(answer: Answer) -> Self {
        let (is, version, contents, reason) = match answer {
            Answer::Here { version, contents } => (Is::Here, Some(version), Some(contents), None),
            Answer::Unknown => (Is::Unknown, None, None, None),
            Answer::Refused { reason } => (Is::Refused, None, None, Some(reason)),
        };
        Self { is, version, contents, reason }
    }
}

impl TryFrom<Word> for Answer {
    type Error = &'static str;

    fn try_from(word: Word) -> Result<Self, Self::Error> {
        Ok(match word.is {
            Is::Here => Self::Here {
                version: word.version.ok_or("missing field `version`")?,
                contents: word.contents.ok_or("missing field `contents`")?,
            },
            Is::Unknown => Self::Unknown,
            Is::Refused => Self::Refused { reason: word.reason.ok_or("missing field `reason`")? },
        })
    }
}

/// What has changed in a state since it was taken. Comes with one descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Delta {
    /// The state.
    pub name: Name,
    /// The version in which the state was taken.
    pub version: u32,
    /// What the descriptor holds.
    pub contents: Contents,
}

/// Sessions that move, numbered from `first` on: one descriptor for each, in order, and one more
/// if any of them has bytes to bring. Without any it only says whether others may come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sessions {
    /// The number of the first one.
    pub first: u64,
    /// What the streams are.
    #[serde(deserialize_with = "text::list::<_, _, MAX_SESSIONS>")]
    pub items: Vec<SessionRecord>,
    /// What the last descriptor holds: state and read-ahead of each session, in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Contents>,
    /// Whether others wait behind them, or may come from an older generation.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

/// All that is said of a session that moves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SessionRecord {
    /// What it is, in the application's word.
    pub kind: Name,
    /// The version of its state.
    pub version: u32,
    /// The listener that accepted it.
    pub listener: Name,
    /// The peer's address, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(deserialize_with = "text::maybe::<_, MAX_PEER>")]
    pub peer: Option<String>,
    /// What the application calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(deserialize_with = "text::maybe::<_, MAX_CUT_TEXT>")]
    pub name: Option<String>,
    /// The length of its state, in bytes.
    pub state: u64,
    /// How much had been read of the stream and not been used, in bytes.
    pub read_ahead: u64,
}

/// What became of sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SessionsAnswered {
    /// The numbers of those that are the receiver's from now on.
    #[serde(deserialize_with = "text::list::<_, _, MAX_ITEMS>")]
    pub taken: Vec<u64>,
    /// Those that stay the sender's.
    #[serde(deserialize_with = "text::list::<_, _, MAX_ITEMS>")]
    pub declined: Vec<DeclinedItem>,
}

/// A session that its receiver does not take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeclinedItem {
    /// Of the session.
    pub number: u64,
    /// Why, for people.
    #[serde(deserialize_with = "text::bounded::<_, MAX_CUT_TEXT>")]
    pub reason: String,
    /// Whether others of its kind, version and listener would be declined as well.
    pub lasting: bool,
}

impl Stated {
    pub(super) fn fitted(&self) -> Self {
        let answer = match &self.answer {
            Answer::Refused { reason } => Answer::Refused { reason: fit(reason, MAX_REASON) },
            other => other.clone(),
        };
        Self { number: self.number, answer }
    }
}

impl Sessions {
    pub(super) fn fitted(&self) -> Self {
        let fitted = |text: &Option<String>, limit| text.as_deref().map(|text| fit(text, limit));
        let record = |record: &SessionRecord| SessionRecord {
            peer: fitted(&record.peer, MAX_PEER),
            name: fitted(&record.name, MAX_CUT_TEXT),
            ..record.clone()
        };
        Self { items: self.items.iter().map(record).collect(), ..self.clone() }
    }
}

impl SessionsAnswered {
    pub(super) fn fitted(&self) -> Self {
        let item = |item: &DeclinedItem| DeclinedItem {
            reason: fit(&item.reason, MAX_CUT_TEXT),
            ..item.clone()
        };
        Self { taken: self.taken.clone(), declined: self.declined.iter().map(item).collect() }
    }
}
