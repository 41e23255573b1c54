//! What can go wrong for a client: one class for each way, so that nothing hides in 'error'.

use std::fmt;
use std::io;

/// The ways in which a client can be let down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// Nobody listens: ECONNREFUSED, or no socket at the path.
    Refused,
    /// The connection was reset (ECONNRESET, EPIPE).
    Reset,
    /// The connection ended in order, but before the answer was whole.
    Closed,
    /// No answer within the client's deadline.
    Timeout,
    /// A Unix connect found the backlog full (EAGAIN).
    Again,
    /// An answer to something else, or not an answer at all.
    BadAnswer,
    /// A line of an echo session never came back.
    Lost,
    /// A line of an echo session came back twice.
    Twice,
    /// Something on the client's own side, such as a lack of ports.
    Other,
}

impl Class {
    /// All of them, in the order of the table.
    pub(crate) const ALL: [Self; 9] = [
        Self::Refused,
        Self::Reset,
        Self::Closed,
        Self::Timeout,
        Self::Again,
        Self::BadAnswer,
        Self::Lost,
        Self::Twice,
        Self::Other,
    ];

    /// The words for the table.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Closed => "closed too early",
            Self::Timeout => "timed out",
            Self::Again => "backlog full (EAGAIN)",
            Self::BadAnswer => "bad answer",
            Self::Lost => "echo lost",
            Self::Twice => "echo twice",
            Self::Other => "other",
        }
    }
}

/// One thing that went wrong: its class, and the words of whoever noticed.
#[derive(Clone, Debug)]
pub(crate) struct Trouble {
    /// Which way.
    pub(crate) class: Class,
    /// What exactly.
    pub(crate) detail: String,
}

impl Trouble {
    /// Trouble of this class.
    pub(crate) fn new(class: Class, detail: impl Into<String>) -> Self {
        Self { class, detail: detail.into() }
    }

    /// The same trouble, where every way to lose the connection means a lost line.
    pub(crate) fn with_line_outstanding(self) -> Self {
        match self.class {
            Class::Reset | Class::Closed => Self { class: Class::Lost, ..self },
            _ => self,
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind as Kind;
        let class = match error.kind() {
            Kind::ConnectionRefused | Kind::NotFound => Class::Refused,
            Kind::ConnectionReset | Kind::BrokenPipe | Kind::ConnectionAborted => Class::Reset,
            Kind::UnexpectedEof => Class::Closed,
            Kind::TimedOut => Class::Timeout,
            Kind::WouldBlock => Class::Again,
            Kind::InvalidData => Class::BadAnswer,
            _ => Class::Other,
        };
        Self::new(class, error.to_string())
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class.label(), self.detail)
    }
}
