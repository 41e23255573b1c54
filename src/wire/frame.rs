//! The header in front of every message, and what can be wrong with a frame.
//!
//! ```text
//!  0       4                8        10            12
//!  | HLRM  | payload length | kind   | descriptors | payload (JSON) ...
//!  | magic | u32            | u16    | u16         |           all little-endian
//! ```

use std::fmt;

use super::limits::{MAX_FDS, MAX_PAYLOAD};
use super::message;
use super::version::Range;
use crate::error::{Error, ErrorKind};

/// The length of a header, in bytes.
pub(crate) const HEADER: usize = 12;

/// The first bytes of every frame of every version.
pub(crate) const MAGIC: [u8; 4] = *b"HLRM";

/// What a header says about its frame, within the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Bytes of the payload, at most [`MAX_PAYLOAD`].
    pub length: usize,
    /// The number of the message's kind.
    pub kind: u16,
    /// Descriptors that come with the frame's first byte, at most [`MAX_FDS`].
    pub descriptors: usize,
}

impl Header {
    /// Reads a header and holds it to the limits, before anything is allocated for its frame.
    pub(crate) fn parse(bytes: &[u8; HEADER]) -> Result<Self, WireError> {
        let [m0, m1, m2, m3, l0, l1, l2, l3, k0, k1, d0, d1] = *bytes;
        let magic = [m0, m1, m2, m3];
        if magic != MAGIC {
            return Err(WireError::Magic(magic));
        }
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        let kind = u16::from_le_bytes([k0, k1]);
        let descriptors = u16::from_le_bytes([d0, d1]);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        Self { length, kind, descriptors: usize::from(descriptors) }.within_limits()
    }

    /// The header as it is sent; an error if the frame exceeds a limit.
    pub(crate) fn write(&self) -> Result<[u8; HEADER], WireError> {
        let header = self.within_limits()?;
        let mut bytes = [0; HEADER];
        let (magic, rest) = bytes.split_at_mut(MAGIC.len());
        magic.copy_from_slice(&MAGIC);
        // Both numbers are far below what their fields hold: the limits were just checked.
        rest[..4].copy_from_slice(&(header.length as u32).to_le_bytes());
        rest[4..6].copy_from_slice(&header.kind.to_le_bytes());
        rest[6..].copy_from_slice(&(header.descriptors as u16).to_le_bytes());
        Ok(bytes)
    }

    /// The length of the whole frame, in bytes.
    pub(crate) fn frame(&self) -> usize {
        HEADER + self.length
    }

    fn within_limits(self) -> Result<Self, WireError> {
        let kind = FrameKind(self.kind);
        if self.length > MAX_PAYLOAD {
            return Err(WireError::TooLong { kind, length: self.length });
        }
        if self.descriptors > MAX_FDS {
            return Err(WireError::TooManyDescriptors { kind, count: self.descriptors });
        }
        Ok(self)
    }
}

/// The number of a message's kind, shown with its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameKind(pub u16);

impl fmt::Display for FrameKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match message::name_of(self.0) {
            Some(name) => write!(f, "frame {name:?} (kind {})", self.0),
            None => write!(f, "frame of unknown kind {}", self.0),
        }
    }
}

/// What is wrong with a frame, ours or the other side's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    /// The bytes at a frame's place are no frame.
    #[error(
        "the other side does not speak heirloom's protocol: a frame begins with {:?}, this with {:?}",
        MAGIC.escape_ascii().to_string(), .0.escape_ascii().to_string()
    )]
    Magic([u8; 4]),
    /// The payload is longer than any message.
    #[error("{kind}: a payload of {length} bytes is over the limit of {MAX_PAYLOAD}")]
    TooLong {
        /// The frame.
        kind: FrameKind,
        /// What the header says, in bytes.
        length: usize,
    },
    /// More descriptors than one message of the kernel carries.
    #[error("{kind}: {count} descriptors are over the limit of {MAX_FDS}")]
    TooManyDescriptors {
        /// The frame.
        kind: FrameKind,
        /// What the header says.
        count: usize,
    },
    /// The descriptors that came or are to be sent are not those that the message speaks of.
    #[error("{kind}: it speaks of {expected} descriptors and carries {carried}")]
    Descriptors {
        /// The frame.
        kind: FrameKind,
        /// What the header or the message's list of items says.
        expected: usize,
        /// What is there.
        carried: usize,
    },
    /// A list of ours is longer than the other side would accept.
    #[error("{kind}: {count} {what} are over the limit of {limit} in one frame; split them")]
    TooMany {
        /// The frame.
        kind: FrameKind,
        /// What the list holds.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// The payload is not the JSON of its kind, or breaks a limit.
    #[error("{kind}: {why}")]
    Malformed {
        /// The frame.
        kind: FrameKind,
        /// What the parser says, clipped: the other side's text may be in it.
        why: String,
    },
    /// Nothing can be said in a kind that this version does not know.
    #[error("{0}: only known kinds can be sent")]
    Unsendable(FrameKind),
    /// The two programs have no version of the protocol in common.
    #[error(
        "no common protocol version: application version {our_app:?} here speaks {ours}, \
         application version {their_app:?} on the other side speaks {theirs}; \
         go through a release that speaks both, or restart"
    )]
    NoCommonVersion {
        /// What we speak.
        ours: Range,
        /// Our application's version.
        our_app: String,
        /// What the other side speaks.
        theirs: Range,
        /// The other side's application version.
        their_app: String,
    },
}

impl From<WireError> for Error {
    fn from(error: WireError) -> Self {
        Self::new(ErrorKind::Protocol, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_as_it_was_written() {
        let header = Header { length: 0x01_02_03, kind: 0x0405, descriptors: 253 };
        let bytes = header.write().unwrap();
        assert_eq!(&bytes, b"HLRM\x03\x02\x01\x00\x05\x04\xfd\x00");
        assert_eq!(Header::parse(&bytes).unwrap(), header);
        assert_eq!(header.frame(), 12 + 0x01_02_03);
    }

    #[test]
    fn a_header_beyond_a_limit_is_refused_both_ways_and_named() {
        let long = Header { length: MAX_PAYLOAD + 1, kind: 4, descriptors: 0 };
        let text = long.write().unwrap_err().to_string();
        assert_eq!(
            text,
            "frame \"offer\" (kind 4): a payload of 524289 bytes is over the limit of 524288"
        );
        let mut bytes = *b"HLRM\xff\xff\xff\xff\x04\x00\x00\x00";
        assert!(matches!(Header::parse(&bytes), Err(WireError::TooLong { .. })));
        bytes = *b"HLRM\x00\x00\x00\x00\x63\x00\xfe\x00";
        let error = Header::parse(&bytes).unwrap_err();
        assert_eq!(
            error.to_string(),
            "frame of unknown kind 99: 254 descriptors are over the limit of 253"
        );
        bytes = *b"GET / HTTP/1";
        let error = Error::from(Header::parse(&bytes).unwrap_err());
        assert_eq!(error.kind(), ErrorKind::Protocol);
        assert!(error.to_string().contains("\"GET \""), "{error}");
    }
}
