//! The states of a listener.

/// What may be done with the sockets of one listener.
///
/// ```text
///            open                park
///  Waiting ───────▶ Open ◀──────────────▶ Parked
///                    │        resume        │ end
///              close │                      ▼
///                    └──▶ Closing ───────▶ Ended
///                          queue empty
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It is not our turn yet: the predecessor accepts.
    Waiting,
    /// We accept.
    Open,
    /// The successor accepts. Every descriptor stays open, none is in epoll.
    Parked,
    /// What is queued is still served, then the sockets are closed.
    Closing,
    /// Nothing comes any more.
    Ended,
}
