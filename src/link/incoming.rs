//! One frame on its way in: no runtime, only the socket.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use super::Envelope;
use crate::error::{Error, ErrorKind};
use crate::sys::scm::{self, Credentials};
use crate::wire::limits::{MAX_FDS, WHOLE_FRAME};
use crate::wire::{FrameKind, HEADER, Header, Message, WireError};

/// Whether bytes may follow those that are in the kernel.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum More {
    MayCome,
    Never,
}

/// The frame that is being received. It is empty between two frames.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    header: Option<Header>,
    bytes: Vec<u8>,
    /// How much of `bytes` has come.
    filled: usize,
    descriptors: VecDeque<OwnedFd>,
    credentials: Option<Credentials>,
}

impl Incoming {
    /// Goes on with the frame: to its end, to the end of the link (`None`), or until there is
    /// nothing to read, which is the error `WouldBlock`.
    pub(super) fn step(
        &mut self,
        socket: BorrowedFd<'_>,
        more: More,
    ) -> Result<Option<Envelope>, Fault> {
        if self.bytes.is_empty() && !self.begin(socket, more)? {
            return Ok(None);
        }
        while self.filled < self.bytes.len() {
            let rest = self.bytes.get_mut(self.filled..).unwrap_or_default();
            let received = match scm::recv(socket, rest, &mut self.descriptors) {
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => None,
                received => Some(received?).filter(|received| received.bytes > 0),
            };
            let Some(received) = received else {
                return Err(Fault::Torn { header: self.header, got: self.filled });
            };
            if self.filled == 0 {
                self.credentials = received.credentials;
            }
            self.filled += received.bytes;
            self.read_header()?;
            self.not_too_many()?;
        }
        self.finish().map(Some)
    }

    /// Looks at the header without taking it. `false`: the other side has closed.
    fn begin(&mut self, socket: BorrowedFd<'_>, more: More) -> Result<bool, Fault> {
        let mut bytes = [0; HEADER];
        let seen = match scm::peek(socket, &mut bytes) {
            // It closed with something of ours unread: the end, like any other.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => 0,
            seen => seen?,
        };
        if seen == 0 {
            return Ok(false);
        }
        let header = if seen == HEADER { Some(Header::parse(&bytes)?) } else { None };
        let frame = header.map_or(HEADER, |header| header.frame());
        if frame <= WHOLE_FRAME {
            // A look ends where other descriptors or credentials begin, this count does not. So
            // a header that can be counted but not seen is read piece by piece.
            let queued = scm::queued(socket)?;
            if queued < frame {
                return Err(match more {
                    More::Never => Fault::Torn { header, got: queued },
                    More::MayCome => io::Error::from(io::ErrorKind::WouldBlock).into(),
                });
            }
        }
        self.header = header;
        self.bytes = vec![0; frame];
        Ok(true)
    }

    /// Takes the header from what was read, if it could not be seen before.
    fn read_header(&mut self) -> Result<(), WireError> {
        if self.header.is_none()
            && let Some(bytes) = self.bytes.get(..self.filled).and_then(|read| read.first_chunk())
        {
            let header = Header::parse(bytes)?;
            self.bytes.resize(header.frame(), 0);
            self.header = Some(header);
        }
        Ok(())
    }

    /// Holds what came along to the header's count, before more is accepted.
    fn not_too_many(&self) -> Result<(), WireError> {
        let expected = self.header.map_or(MAX_FDS, |header| header.descriptors);
        let carried = self.descriptors.len();
        if carried > expected {
            return Err(WireError::Descriptors { kind: self.kind(), expected, carried });
        }
        Ok(())
    }

    /// The message of a complete frame.
    fn finish(&mut self) -> Result<Envelope, Fault> {
        let Self { header, bytes, descriptors, credentials, .. } = std::mem::take(self);
        let header = header.ok_or(Fault::Torn { header, got: bytes.len() })?;
        let kind = FrameKind(header.kind);
        let (expected, carried) = (header.descriptors, descriptors.len());
        if expected != carried {
            return Err(WireError::Descriptors { kind, expected, carried }.into());
        }
        let payload = bytes.get(HEADER..).unwrap_or_default();
        let message = Message::decode(header.kind, payload)?;
        message.carries(carried)?;
        let descriptors = match message {
            Message::Unknown(_) => Vec::new(),
            _ => descriptors.into(),
        };
        Ok(Envelope { message, descriptors, credentials })
    }

    fn kind(&self) -> FrameKind {
        FrameKind(self.header.map_or(0, |header| header.kind))
    }
}

/// Why nothing can be received any more.
pub(super) enum Fault {
    Io(io::Error),
    Wire(WireError),
    Torn { header: Option<Header>, got: usize },
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<WireError> for Fault {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        let closed = "link: the other side closed in the middle of a";
        match fault {
            Fault::Io(error) => Self::new(ErrorKind::Link, "link: receive").with_source(error),
            Fault::Wire(error) => error.into(),
            Fault::Torn { header: None, got } => Self::new(
                ErrorKind::Link,
                format!("{closed} header, after {got} of {HEADER} bytes"),
            ),
            Fault::Torn { header: Some(header), got } => {
                let (kind, all) = (FrameKind(header.kind), header.frame());
                Self::new(ErrorKind::Link, format!("{closed} {kind}, after {got} of {all} bytes"))
            }
        }
    }
}
