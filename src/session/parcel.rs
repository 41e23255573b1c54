//! Sessions as they travel: a record and a descriptor each, and the bytes of all of them in one
//! memory file.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::session::About;
use crate::error::{Error, ErrorKind, Result};
use crate::state::{StateWriter, verify};
use crate::wire::{Message, SessionRecord, Sessions};

/// The longest state and read-ahead of one session together, in bytes.
pub(super) const LONGEST: usize = 16 << 20;

/// The sessions of one frame bring at most this many bytes, unless a single one has more.
pub(super) const GATHERED: usize = 4 << 20;

/// One frame for these sessions, numbered from `first` on, and whether others wait behind them.
///
/// # Errors
///
/// No memory file can be had for their bytes.
pub(super) fn pack<'a>(
    first: u64,
    sessions: impl Iterator<Item = (&'a About, &'a Arc<OwnedFd>)>,
    more: bool,
) -> Result<(Message, Vec<Arc<OwnedFd>>)> {
    let (mut items, mut descriptors) = (Vec::new(), Vec::new());
    let mut bytes: Option<StateWriter> = None;
    for (about, stream) in sessions {
        items.push(record(about));
        descriptors.push(Arc::clone(stream));
        for part in [&about.state[..], about.read_ahead()] {
            if part.is_empty() {
                continue;
            }
            let writer = match &mut bytes {
                Some(writer) => writer,
                None => bytes.insert(StateWriter::new(0, u64::MAX, Arc::default())?),
            };
            writer.write_all(part).map_err(|error| {
                Error::new(ErrorKind::Io, "the bytes of sessions").with_source(error)
            })?;
        }
    }
    let bytes = match bytes {
        Some(writer) => {
            let (file, contents) = writer.finish()?;
            descriptors.push(Arc::new(file));
            Some(contents)
        }
        None => None,
    };
    Ok((Message::Sessions(Sessions { first, items, bytes, more }), descriptors))
}

fn record(about: &About) -> SessionRecord {
    SessionRecord {
        kind: about.kind.clone(),
        version: about.version,
        listener: about.guard.listener().clone(),
        peer: about.peer.clone(),
        name: about.guard.name(),
        state: about.state.len() as u64,
        read_ahead: about.read_ahead().len() as u64,
    }
}

/// A session that has arrived and is nobody's yet.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) number: u64,
    pub(super) record: SessionRecord,
    pub(super) state: Vec<u8>,
    pub(super) ahead: Vec<u8>,
    pub(super) stream: OwnedFd,
}

/// The sessions of one frame.
///
/// # Errors
///
/// [`ErrorKind::Protocol`] if the bytes are not what the records say.
pub(super) fn unpack(sessions: Sessions, descriptors: Vec<OwnedFd>) -> Result<Vec<Arrived>> {
    let wrong = |text: &str| Error::new(ErrorKind::Protocol, format!("sessions: {text}"));
    let Sessions { first, items, bytes, more: _ } = sessions;
    let mut descriptors = descriptors.into_iter();
    let streams: Vec<OwnedFd> = descriptors.by_ref().take(items.len()).collect();
    let bytes = match (bytes, descriptors.next()) {
        (Some(contents), Some(file)) => {
            if contents.length > (LONGEST + GATHERED) as u64 {
                return Err(wrong("they bring more bytes than is allowed"));
            }
            Some(verify("sessions".parse()?, 0, contents, &file)?)
        }
        _ => None,
    };
    let mut rest: &[u8] = bytes.as_deref().unwrap_or_default();
    let mut portion = |length: u64| {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let (portion, after) = rest.split_at_checked(length)?;
        rest = after;
        Some(portion.to_vec())
    };
    let mut arrived = Vec::with_capacity(items.len());
    for (number, (record, stream)) in (first..).zip(items.into_iter().zip(streams)) {
        let (Some(state), Some(ahead)) = (portion(record.state), portion(record.read_ahead)) else {
            return Err(wrong("their bytes end too early"));
        };
        arrived.push(Arrived { number, record, state, ahead, stream });
    }
    if !rest.is_empty() {
        return Err(wrong("they bring bytes that nobody speaks of"));
    }
    Ok(arrived)
}
