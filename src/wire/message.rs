//! Every message of the link, its number, and its payload in JSON.
//!
//! A number is never used again for something else. A field that a later version adds has a
//! default, so the versions before and after it read each other's messages.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::body::{
    Asked, Asker, Expect, Expected, Failed, Figures, Hello, LastReport, Left, NewOwner, Nothing,
    Offer, Owner, Pong, Progress, Ready, Reason, Refuse, RollBack, Sequence, StopAsked, Taken,
    Welcome,
};
use super::frame::{FrameKind, HEADER, Header, WireError};
use super::limits::{
    MAX_CLAIMED, MAX_ITEMS, MAX_NOTES, MAX_OFFERED, MAX_PAYLOAD, MAX_REASON, MAX_SESSIONS,
    WHOLE_FRAME,
};
use super::moving::{Answer, Delta, Sessions, SessionsAnswered, Stated, Take};
use super::text::fit;
use crate::generation::Generation;

/// A message of the link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// Successor to predecessor: the first word.
    Hello(Hello),
    /// Predecessor to successor: the terms.
    Welcome(Welcome),
    /// Either: no handoff, nothing has moved.
    Refuse(Refuse),
    /// Predecessor to successor: a part of the inventory.
    Offer(Offer),
    /// Successor to predecessor: it holds every descriptor of the offer.
    Adopted,
    /// Successor to predecessor: it asks for the turn.
    Ready(Ready),
    /// Successor to predecessor: its application failed.
    Failed(Failed),
    /// Either: are you there?
    Ping {
        /// Comes back in the answer.
        sequence: u64,
    },
    /// Either: yes, and this is what it has served so far.
    Pong {
        /// Of the ping that is answered.
        sequence: u64,
        /// What the sender has served.
        figures: Figures,
    },
    /// Predecessor to successor: it has stopped accepting, the turn is the successor's.
    Yield,
    /// Successor to predecessor: it accepts.
    Serving,
    /// Predecessor to successor: the permission to commit.
    MayCommit,
    /// Successor to predecessor: the verdict is 'committed'.
    Committed,
    /// Predecessor to successor: the service manager knows, the successor owns.
    Owner(Owner),
    /// Predecessor to successor: the verdict is 'rolled back'.
    RollBack {
        /// Why, for people.
        reason: String,
        /// Whether the whole service stops, so that there is nothing to take up again.
        last: bool,
    },
    /// A rolled-back successor to its predecessor: what it accepted has been served.
    Left {
        /// Connections that it accepted.
        accepted: u64,
    },
    /// To the owner: an upgrade was asked for here.
    Asked {
        /// By whom, if that is known.
        by: Option<Asker>,
    },
    /// Owner to elder: drain faster.
    Hurry,
    /// Owner to elder: the service stops, do not take over again.
    Stopping,
    /// Owner to elder: who owns now.
    NewOwner {
        /// The owner's generation.
        generation: Generation,
        /// An upgrade was asked for meanwhile and is the new owner's to run.
        queued_upgrade: bool,
        /// Whether an operator has paused the service: whoever owns again keeps to that. Said again
        /// whenever it changes.
        paused: Option<bool>,
    },
    /// Elder to owner: how far its drain is.
    Progress(Progress),
    /// Elder to owner: how its drain ended.
    LastReport(LastReport),
    /// Successor to predecessor: it is not well; take the turn back.
    Unhealthy {
        /// Why, for people.
        reason: String,
    },
    /// Successor to predecessor: it starts, and this is what it still waits for.
    NotYet {
        /// What is missing, for people.
        reason: String,
    },
    /// Predecessor to successor: a health check is going to connect.
    Expect(Expect),
    /// Successor to predecessor: it knows of that health check and will recognise it.
    Expected(Expected),
    /// Successor to predecessor: it has accepted the connection of that health check.
    Taken(Taken),
    /// Successor to predecessor: its application wants a state.
    Take(Take),
    /// Predecessor to successor: the state, or why it is not handed over.
    Stated(Stated),
    /// Predecessor to successor, before 'yield': what has changed in a state since it was taken.
    Delta(Delta),
    /// Owner to elder, on the channel of sessions: it takes sessions from now on.
    SessionsOpen,
    /// Elder to owner, on the channel of sessions: they move, if the owner takes them.
    Sessions(Sessions),
    /// Owner to elder, on the channel of sessions: which ones it has taken.
    SessionsAnswered(SessionsAnswered),
    /// Owner to elder, its last word on the channel of sessions: what it has not taken stays.
    SessionsClosed,
    /// Elder to owner: a stop was asked for here that was meant for the service.
    StopAsked {
        /// Whether what is left shall be cut at once.
        hurry: bool,
    },
    /// A kind that this version does not know; to be skipped. Its descriptors are closed.
    Unknown(u16),
}

/// Names of the kinds, from number 1 on.
const NAMES: [&str; 35] = [
    "hello",
    "welcome",
    "refuse",
    "offer",
    "adopted",
    "ready",
    "failed",
    "ping",
    "pong",
    "yield",
    "serving",
    "may-commit",
    "committed",
    "owner",
    "roll-back",
    "left",
    "asked",
    "hurry",
    "stopping",
    "new-owner",
    "progress",
    "last-report",
    "unhealthy",
    "not-yet",
    "expect",
    "expected",
    "taken",
    "take",
    "stated",
    "delta",
    "sessions-open",
    "sessions",
    "sessions-answered",
    "sessions-closed",
    "stop-asked",
];

/// Names of the kinds of the control socket, from number 64 on.
const CONTROL: [&str; 3] = ["request", "news", "answer"];

/// The name of a kind, if this version knows it.
pub(super) fn name_of(kind: u16) -> Option<&'static str> {
    if let Some(index) = usize::from(kind).checked_sub(64) {
        return CONTROL.get(index).copied();
    }
    let index = usize::from(kind).checked_sub(1)?;
    NAMES.get(index).copied()
}

impl Message {
    /// The number of its kind in a frame's header.
    pub(crate) fn kind(&self) -> u16 {
        match self {
            Self::Hello(_) => 1,
            Self::Welcome(_) => 2,
            Self::Refuse(_) => 3,
            Self::Offer(_) => 4,
            Self::Adopted => 5,
            Self::Ready(_) => 6,
            Self::Failed(_) => 7,
            Self::Ping { .. } => 8,
            Self::Pong { .. } => 9,
            Self::Yield => 10,
            Self::Serving => 11,
            Self::MayCommit => 12,
            Self::Committed => 13,
            Self::Owner(_) => 14,
            Self::RollBack { .. } => 15,
            Self::Left { .. } => 16,
            Self::Asked { .. } => 17,
            Self::Hurry => 18,
            Self::Stopping => 19,
            Self::NewOwner { .. } => 20,
            Self::Progress(_) => 21,
            Self::LastReport(_) => 22,
            Self::Unhealthy { .. } => 23,
            Self::NotYet { .. } => 24,
            Self::Expect(_) => 25,
            Self::Expected(_) => 26,
            Self::Taken(_) => 27,
            Self::Take(_) => 28,
            Self::Stated(_) => 29,
            Self::Delta(_) => 30,
            Self::SessionsOpen => 31,
            Self::Sessions(_) => 32,
            Self::SessionsAnswered(_) => 33,
            Self::SessionsClosed => 34,
            Self::StopAsked { .. } => 35,
            Self::Unknown(kind) => *kind,
        }
    }

    /// The name of its kind, for logs, errors and reports.
    pub(crate) fn name(&self) -> &'static str {
        name_of(self.kind()).unwrap_or("unknown")
    }

    /// How many descriptors its list of items speaks of; `None` for a kind without such a list.
    pub(crate) fn items(&self) -> Option<usize> {
        match self {
            Self::Offer(offer) => Some(offer.items.len()),
            Self::Ready(ready) => Some(ready.bound.len()),
            Self::Stated(stated) => Some(matches!(stated.answer, Answer::Here { .. }).into()),
            Self::Delta(_) => Some(1),
            Self::Sessions(sessions) => {
                Some(sessions.items.len() + usize::from(sessions.bytes.is_some()))
            }
            _ => None,
        }
    }

    /// The number of the kind and the payload.
    ///
    /// Text beyond its limit is cut, and so is the list of a last report: what is worth saying is
    /// worth arriving. A list of descriptors beyond its limit is an error.
    pub(crate) fn encode(&self) -> Result<(u16, Vec<u8>), WireError> {
        let kind = FrameKind(self.kind());
        self.check(kind)?;
        let payload = match self {
            Self::Hello(body) => json(kind, &body.fitted()),
            Self::Welcome(body) => json(kind, &body.fitted()),
            Self::Refuse(body) => json(kind, &Refuse { reason: fit(&body.reason, MAX_REASON) }),
            Self::Offer(body) => json(kind, body),
            Self::Ready(body) => json(kind, &body.fitted()),
            Self::Failed(body) => json(kind, &Failed { error: fit(&body.error, MAX_REASON) }),
            Self::Ping { sequence } => json(kind, &Sequence { sequence: *sequence }),
            Self::Pong { sequence, figures } => {
                json(kind, &Pong { sequence: *sequence, figures: *figures })
            }
            Self::Unhealthy { reason } | Self::NotYet { reason } => {
                json(kind, &Reason { reason: fit(reason, MAX_REASON) })
            }
            Self::Expect(body) => json(kind, body),
            Self::Expected(body) => json(kind, body),
            Self::Taken(body) => json(kind, body),
            Self::Take(body) => json(kind, body),
            Self::Stated(body) => json(kind, &body.fitted()),
            Self::Delta(body) => json(kind, body),
            Self::Sessions(body) => json(kind, &body.fitted()),
            Self::SessionsAnswered(body) => json(kind, &body.fitted()),
            Self::Owner(body) => json(kind, body),
            Self::RollBack { reason, last } => {
                json(kind, &RollBack { reason: fit(reason, MAX_REASON), last: *last })
            }
            Self::Left { accepted } => json(kind, &Left { accepted: *accepted }),
            Self::Asked { by } => json(kind, &Asked { by: *by }),
            Self::StopAsked { hurry } => json(kind, &StopAsked { hurry: *hurry }),
            &Self::NewOwner { generation, queued_upgrade, paused } => {
                json(kind, &NewOwner { generation, queued_upgrade, paused })
            }
            Self::Progress(body) => json(kind, &body.fitted(WHOLE_FRAME - PROGRESS_FRAME)),
            Self::LastReport(body) => json(kind, &body.fitted(WHOLE_FRAME - REPORT_FRAME)),
            Self::Adopted
            | Self::Yield
            | Self::Serving
            | Self::MayCommit
            | Self::Committed
            | Self::Hurry
            | Self::Stopping
            | Self::SessionsOpen
            | Self::SessionsClosed => json(kind, &Nothing {}),
            Self::Unknown(_) => Err(WireError::Unsendable(kind)),
        }?;
        if payload.len() > MAX_PAYLOAD {
            return Err(WireError::TooLong { kind, length: payload.len() });
        }
        Ok((kind.0, payload))
    }

    /// The whole frame for `descriptors` descriptors: header, then payload.
    pub(crate) fn frame(&self, descriptors: usize) -> Result<Vec<u8>, WireError> {
        self.carries(descriptors)?;
        let (kind, payload) = self.encode()?;
        let header = Header { length: payload.len(), kind, descriptors };
        let mut frame = Vec::with_capacity(header.frame());
        frame.extend_from_slice(&header.write()?);
        frame.extend_from_slice(&payload);
        Ok(frame)
    }

    /// Reads the payload of a frame of this kind.
    ///
    /// Fields that this version does not know are skipped. A payload beyond a limit, or that is not
    /// what its kind says, is an error that names the kind.
    pub(crate) fn decode(kind: u16, payload: &[u8]) -> Result<Self, WireError> {
        let number = FrameKind(kind);
        if payload.len() > MAX_PAYLOAD {
            return Err(WireError::TooLong { kind: number, length: payload.len() });
        }
        let message = match kind {
            1 => Self::Hello(body(number, payload)?),
            2 => Self::Welcome(body(number, payload)?),
            3 => Self::Refuse(body(number, payload)?),
            4 => Self::Offer(body(number, payload)?),
            6 => Self::Ready(body(number, payload)?),
            7 => Self::Failed(body(number, payload)?),
            8 => {
                let Sequence { sequence } = body(number, payload)?;
                Self::Ping { sequence }
            }
            9 => {
                let Pong { sequence, figures } = body(number, payload)?;
                Self::Pong { sequence, figures }
            }
            14 => Self::Owner(body(number, payload)?),
            15 => {
                let RollBack { reason, last } = body(number, payload)?;
                Self::RollBack { reason, last }
            }
            16 => {
                let Left { accepted } = body(number, payload)?;
                Self::Left { accepted }
            }
            17 => Self::Asked { by: body::<Asked>(number, payload)?.by },
            20 => {
                let NewOwner { generation, queued_upgrade, paused } = body(number, payload)?;
                Self::NewOwner { generation, queued_upgrade, paused }
            }
            21 => Self::Progress(body(number, payload)?),
            22 => Self::LastReport(body(number, payload)?),
            23 | 24 => {
                let Reason { reason } = body(number, payload)?;
                if kind == 23 { Self::Unhealthy { reason } } else { Self::NotYet { reason } }
            }
            25 => Self::Expect(body(number, payload)?),
            26 => Self::Expected(body(number, payload)?),
            27 => Self::Taken(body(number, payload)?),
            28 => Self::Take(body(number, payload)?),
            29 => Self::Stated(body(number, payload)?),
            30 => Self::Delta(body(number, payload)?),
            32 => Self::Sessions(body(number, payload)?),
            33 => Self::SessionsAnswered(body(number, payload)?),
            35 => Self::StopAsked { hurry: body::<StopAsked>(number, payload)?.hurry },
            5 | 10..=13 | 18 | 19 | 31 | 34 => {
                let Nothing {} = body(number, payload)?;
                Self::bare(kind)
            }
            _ => Self::Unknown(kind),
        };
        message.check(number)?;
        Ok(message)
    }

    /// An error unless `carried` descriptors are what its items speak of.
    pub(crate) fn carries(&self, carried: usize) -> Result<(), WireError> {
        match self.items() {
            Some(expected) if expected != carried => {
                Err(WireError::Descriptors { kind: FrameKind(self.kind()), expected, carried })
            }
            _ => Ok(()),
        }
    }

    /// The message of a kind that says nothing beyond itself.
    fn bare(kind: u16) -> Self {
        match kind {
            5 => Self::Adopted,
            10 => Self::Yield,
            11 => Self::Serving,
            12 => Self::MayCommit,
            13 => Self::Committed,
            18 => Self::Hurry,
            19 => Self::Stopping,
            31 => Self::SessionsOpen,
            34 => Self::SessionsClosed,
            _ => Self::Unknown(kind),
        }
    }

    /// The limits that concern more than one value.
    fn check(&self, kind: FrameKind) -> Result<(), WireError> {
        let within = |what, count, limit| {
            if count <= limit {
                Ok(())
            } else {
                Err(WireError::TooMany { kind, what, count, limit })
            }
        };
        match self {
            Self::Welcome(welcome) => within("descriptors", welcome.descriptors, MAX_OFFERED),
            Self::Offer(offer) => within("items", offer.items.len(), MAX_ITEMS),
            Self::Sessions(sessions) => within("sessions", sessions.items.len(), MAX_SESSIONS),
            Self::SessionsAnswered(answered) => {
                within("taken sessions", answered.taken.len(), MAX_ITEMS)?;
                within("declined sessions", answered.declined.len(), MAX_ITEMS)
            }
            Self::Ready(ready) => {
                within("claims", ready.claimed.len(), MAX_CLAIMED)?;
                within("items", ready.bound.len(), MAX_ITEMS)?;
                within("notes", ready.notes.len(), MAX_NOTES)
            }
            _ => Ok(()),
        }
    }
}

/// Room for the header and for all of a last report but its list: names, numbers and causes.
const REPORT_FRAME: usize = HEADER + 320;

/// The same for how far an elder's drain is: five names and three numbers.
const PROGRESS_FRAME: usize = HEADER + 148;

fn json<T: Serialize>(kind: FrameKind, body: &T) -> Result<Vec<u8>, WireError> {
    serde_json::to_vec(body).map_err(|error| malformed(kind, &error))
}

fn body<T: DeserializeOwned>(kind: FrameKind, payload: &[u8]) -> Result<T, WireError> {
    serde_json::from_slice(payload).map_err(|error| malformed(kind, &error))
}

fn malformed(kind: FrameKind, error: &serde_json::Error) -> WireError {
    WireError::Malformed { kind, why: fit(&error.to_string(), 400) }
}
