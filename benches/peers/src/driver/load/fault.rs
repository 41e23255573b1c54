//! What can go wrong with a request.

use std::io;

use serde::Serialize;

/// Kinds of faults. Nothing of this is repeated by a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fault {
    /// The connection was refused.
    Refused,
    /// The connection was reset before the answer was complete.
    Reset,
    /// The connection was closed after the request was sent and before the answer was complete.
    /// For keep-alive connections that is also the race of RFC 9112, section 9.5.
    Unanswered,
    /// The answer is another's, or no answer at all.
    Wrong,
    /// More than one answer came.
    Doubled,
    /// No answer within ten seconds.
    Late,
    /// HTTP/2: the stream was refused or reset.
    Stream,
}

impl Fault {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Unanswered => "closed without an answer",
            Self::Wrong => "wrong answer",
            Self::Doubled => "doubled answer",
            Self::Late => "no answer in 10 s",
            Self::Stream => "HTTP/2 stream lost",
        }
    }
}

impl From<&io::Error> for Fault {
    fn from(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::UnexpectedEof => Self::Unanswered,
            io::ErrorKind::TimedOut => Self::Late,
            io::ErrorKind::InvalidData => Self::Wrong,
            _ => Self::Reset,
        }
    }
}
