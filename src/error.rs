//! One error type for the crate: a kind to match on, and the object and the remedy in its message.

use std::error::Error as StdError;
use std::fmt;

/// A result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in one word to match on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting cannot be used as given.
    Config,
    /// The environment or an inherited descriptor is not what it says.
    Birth,
    /// A descriptor is not of the kind, family or address that its name stands for.
    Descriptor,
    /// A socket could not be created, bound or listened on.
    Bind,
    /// The successor's program could not be started.
    Spawn,
    /// The check of a new program before its start failed, or the program could not be run for it.
    Preflight,
    /// The other side of the link broke the protocol, or speaks no common version of it.
    Protocol,
    /// The other side is not a process that may have our descriptors.
    Credentials,
    /// The link broke or closed before its time.
    Link,
    /// A step did not finish within its deadline.
    Timeout,
    /// The successor failed or went away before it had proven itself.
    Successor,
    /// The predecessor refused, failed or went away before it gave everything.
    Predecessor,
    /// The handoff ended with the verdict 'rolled back'.
    RolledBack,
    /// The program has failed, and is not started again by itself yet.
    HeldOff,
    /// Another upgrade is running.
    Busy,
    /// As many clients of a control socket as may be are connected.
    Crowded,
    /// What was asked for does not fit the moment: there is no upgrade to commit, nothing to take
    /// back.
    NotNow,
    /// The service runs, but is not ready for new connections.
    NotReady,
    /// Nobody answers at a control socket.
    NobodyThere,
    /// The predecessor does not hand a state over: its version, its size, or the provider's error.
    StateRefused,
    /// The request was passed on to the generation that owns now.
    PassedOn,
    /// This generation is stopping or has stopped.
    Stopping,
    /// The operating system refused something else.
    Io,
}

/// An error of this crate.
///
/// Its message names the object (a listener, a file, a step) and, where there is one, the remedy.
/// The cause is chained as [`source`](StdError::source) and not repeated in the message.
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    pub(crate) fn with_source(
        mut self,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }

    pub(crate) fn of_kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// What went wrong, to match on.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The message and those of all its causes in one line, as a report carries it.
    #[must_use]
    pub fn chain(&self) -> String {
        chain(self)
    }
}

/// The messages of an error and its causes, joined by `: `.
pub(crate) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.chain())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_crosses_threads_and_tells_its_causes_once() {
        fn travels<T: Send + Sync + 'static>() {}
        travels::<Error>();
        let error = Error::new(ErrorKind::Bind, "listener \"http\": bind to [::]:80")
            .with_source(std::io::Error::from_raw_os_error(13));
        assert_eq!(
            error.chain(),
            "listener \"http\": bind to [::]:80: Permission denied (os error 13)"
        );
        assert_eq!(error.to_string(), "listener \"http\": bind to [::]:80");
    }
}
