//! What moves.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::stream::SessionStream;
use crate::drain::Guard;
use crate::error::Result;
use crate::forward::writes_to;
use crate::name::Name;

/// A connection in the middle of its life, with what was read of it and not used, and what the
/// application knows about it.
///
/// It reads and writes like its stream; what was [put back](Self::unread) is read first. So one
/// function can serve a connection that was just accepted, one that comes from the predecessor, and
/// one that the successor [declined](NotMoved).
///
/// ```no_run
/// use heirloom::{DrainPhase, NotMoved, Running, Session};
/// use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
///
/// async fn serve(running: Running, session: Session) -> std::io::Result<()> {
///     let guard = session.guard().clone();
///     let mut count = session.state().first().copied().unwrap_or(0);
///     let mut stays = false;
///     let mut reader = BufReader::new(session);
///     loop {
///         let mut line = Vec::new();
///         tokio::select! {
///             read = reader.read_until(b'\n', &mut line) => if read? == 0 { return Ok(()) },
///             () = guard.reached(DrainPhase::LameDuck), if !stays => {
///                 line.extend_from_slice(reader.buffer());
///                 let mut session = reader.into_inner();
///                 session.unread(&line);
///                 session.set_state([count]);
///                 match running.hand_off(session).await {
///                     Ok(()) => return Ok(()), // the successor goes on with it
///                     Err(NotMoved::Declined { session, .. }) => {
///                         (reader, stays) = (BufReader::new(*session), true);
///                         continue;
///                     }
///                     Err(lost) => return Err(std::io::Error::other(lost)),
///                 }
///             }
///         }
///         count = count.wrapping_add(1);
///         reader.write_all(&line).await?;
///     }
/// }
/// ```
#[must_use = "dropping a session closes its connection"]
pub struct Session {
    // Closed before the guard says that it has ended.
    pub(super) stream: SessionStream,
    pub(super) about: About,
}

/// A session without its stream.
pub(crate) struct About {
    pub(super) kind: Name,
    pub(super) version: u32,
    pub(crate) state: Vec<u8>,
    /// Bytes that are read before those of the stream.
    pub(crate) ahead: Vec<u8>,
    /// How much of `ahead` has been read again.
    pub(super) used: usize,
    /// The peer's address, as the guard knows it.
    pub(super) peer: Option<String>,
    pub(super) guard: Guard,
}

impl Session {
    /// A session of this kind over a stream, with the guard of its connection. The kind and the
    /// version of its state are the application's own words; listener, peer and name are those of
    /// the guard.
    ///
    /// [`Conn::into_parts`](crate::Conn::into_parts) gives stream and guard of a connection. Other
    /// clones of the guard are fine: the connection counts as moved once the last is dropped.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if the kind is not a valid [`Name`].
    pub fn new(
        kind: &str,
        version: u32,
        stream: impl Into<SessionStream>,
        guard: Guard,
    ) -> Result<Self> {
        Ok(Self::of(kind.parse()?, version, stream.into(), guard))
    }

    pub(crate) fn of(kind: Name, version: u32, stream: SessionStream, guard: Guard) -> Self {
        Self { stream, about: About::new(kind, version, guard) }
    }

    /// What it is, in the application's word.
    #[must_use]
    pub fn kind(&self) -> &Name {
        &self.about.kind
    }

    /// The version of its state.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.about.version
    }

    /// The name of the listener that accepted it, in whichever generation.
    #[must_use]
    pub fn listener(&self) -> &Name {
        self.about.guard.listener()
    }

    /// The peer's address as it was known when the connection was accepted. It moves along, so it
    /// outlives a relay's word about it.
    #[must_use]
    pub fn peer(&self) -> Option<&str> {
        self.about.peer.as_deref()
    }

    /// The guard of its connection: phase of the drain, name and reason for the report. The name
    /// moves along; the phase is this generation's.
    pub fn guard(&self) -> &Guard {
        &self.about.guard
    }

    /// What the application knows about it, as it was [set](Self::set_state).
    #[must_use]
    pub fn state(&self) -> &[u8] {
        &self.about.state
    }

    /// Sets what the next generation has to know about it. Default: nothing.
    pub fn set_state(&mut self, state: impl Into<Vec<u8>>) {
        self.about.state = state.into();
    }

    /// Puts bytes back that were read and not used: they are read next, here or in the next
    /// generation.
    pub fn unread(&mut self, bytes: &[u8]) {
        let about = &mut self.about;
        about.ahead.splice(..about.used, bytes.iter().copied());
        about.used = 0;
    }

    /// What was put back and has not been read again.
    #[must_use]
    pub fn read_ahead(&self) -> &[u8] {
        self.about.read_ahead()
    }

    /// The stream, the guard to be kept as long as it lives, and what has to be read before the
    /// stream's own bytes: for a framework that wants the stream itself.
    pub fn into_parts(self) -> (SessionStream, Guard, Vec<u8>) {
        let About { mut ahead, used, guard, .. } = self.about;
        ahead.drain(..used.min(ahead.len()));
        (self.stream, guard, ahead)
    }
}

impl About {
    pub(crate) fn new(kind: Name, version: u32, guard: Guard) -> Self {
        let (state, ahead, peer) = (Vec::new(), Vec::new(), guard.peer());
        Self { kind, version, state, ahead, used: 0, peer, guard }
    }

    pub(super) fn read_ahead(&self) -> &[u8] {
        self.ahead.get(self.used..).unwrap_or_default()
    }

    /// The length of all that has to move along.
    pub(super) fn length(&self) -> usize {
        self.state.len() + self.read_ahead().len()
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("about", &self.about).finish_non_exhaustive()
    }
}

impl fmt::Debug for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("About")
            .field("kind", &self.kind)
            .field("version", &self.version)
            .field("listener", self.guard.listener())
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

impl AsyncRead for Session {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let about = &mut self.about;
        let ahead = about.ahead.get(about.used..).unwrap_or_default();
        if ahead.is_empty() {
            about.ahead = Vec::new();
            about.used = 0;
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let length = ahead.len().min(buf.remaining());
        buf.put_slice(ahead.get(..length).unwrap_or_default());
        about.used += length;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Session {
    writes_to!(Self { stream, .. } => stream);
}

/// Why a session is not the successor's.
#[derive(Debug)]
#[non_exhaustive]
pub enum NotMoved {
    /// The successor does not take it, or there is none. Here it is, as it was: go on with it.
    Declined {
        /// All that was handed over.
        session: Box<Session>,
        /// Why, for people.
        reason: String,
    },
    /// The successor has not answered in time, and may have it: this side has closed its copy and
    /// must not go on with it.
    Lost {
        /// Why, for people.
        reason: String,
    },
}

impl NotMoved {
    pub(super) fn declined(session: Session, reason: impl Into<String>) -> Self {
        Self::Declined { session: Box::new(session), reason: reason.into() }
    }

    /// It stays here, if it can be read here again.
    pub(super) fn back(about: About, stream: OwnedFd, reason: &str) -> Self {
        match SessionStream::adopt(stream) {
            Ok(stream) => Self::declined(Session { stream, about }, reason),
            Err(error) => Self::unreadable(about, &error),
        }
    }

    /// It does not move, and nobody can go on with it here.
    pub(super) fn unreadable(about: About, error: &io::Error) -> Self {
        let reason = format!("it cannot be read here any more: {error}");
        about.guard.lost(&reason);
        Self::lost(reason)
    }

    pub(super) fn lost(reason: impl Into<String>) -> Self {
        Self::Lost { reason: reason.into() }
    }
}

impl fmt::Display for NotMoved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Declined { reason, .. } => write!(f, "the session stays here: {reason}"),
            Self::Lost { reason } => write!(f, "the session was closed: {reason}"),
        }
    }
}

impl std::error::Error for NotMoved {}
