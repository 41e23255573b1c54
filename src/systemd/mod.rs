//! What a service manager is told: the sender's side of `sd_notify(3)`.
//!
//! The protocol is a datagram of `NAME=value` lines, with descriptors beside it (`SCM_RIGHTS`). The
//! manager knows the sender by the credentials that the kernel attaches, so a message counts only
//! while its sender lives: [`Notifier::barrier`] waits until all are read. Nothing here blocks the
//! runtime, and everything is bounded: what the manager does not take is given up with a line in
//! the log, since a server has to serve whether or not anybody listens.
//!
//! systemd, the `run` command of this crate, and every other supervisor that sets `NOTIFY_SOCKET`
//! are the same to this room.

mod address;
mod message;
mod notify;
#[cfg(test)]
mod tests;

pub(crate) use self::address::Address;
pub(crate) use self::message::Message;
pub(crate) use self::notify::Notifier;
