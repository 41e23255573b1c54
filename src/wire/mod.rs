//! What is said over a link, byte by byte: no runtime, no descriptors, no clock.
//!
//! A frame is a header with hard limits ([`frame`]) and a message in JSON ([`message`]): it
//! describes itself, skips what it does not know, and an older version reads a newer one's. Nothing
//! that a peer sends can panic here, and nothing is allocated beyond [`limits`] on its word.

pub(crate) mod body;
pub(crate) mod executable;
pub(crate) mod frame;
pub(crate) mod limits;
pub(crate) mod message;
pub(crate) mod moving;
pub(crate) mod record;
pub(crate) mod text;
pub(crate) mod version;
mod who;

#[cfg(test)]
mod tests;

pub(crate) use body::{
    Asker, Budget, Causes, CutItem, Expect, Expected, Failed, Figures, Hello, LastReport, Offer,
    Owner, Progress, Ready, Refuse, Taken, Welcome,
};
pub(crate) use executable::{ExecutableRecord, FailureRecord, Hash, Identity, Which};
pub(crate) use frame::{FrameKind, HEADER, Header, WireError};
pub(crate) use limits::{MAX_CAUSE, MAX_CUT, MAX_FAILURES, MAX_ITEMS, MAX_OFFERED};
pub(crate) use message::Message;
pub(crate) use moving::{
    Answer, Contents, DeclinedItem, Delta, SessionRecord, Sessions, SessionsAnswered, Stated, Take,
};
pub(crate) use record::{Address, Item, Kind, Member, Role, SocketRecord};
pub(crate) use version::{Range, SPOKEN, agree};
pub(crate) use who::Who;
