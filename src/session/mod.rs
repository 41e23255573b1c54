//! Sessions that go on in the next generation: an elder hands a connection over in the middle of
//! its life, with what it has read and what it knows.
//!
//! **Contract:** a session is served by one side at a time. The receiver reads its first byte only
//! after the acknowledgement is in the kernel, or could not be sent because the sender is gone; the
//! sender goes on with it only if it was declined, or if the receiver can no longer have taken it:
//! it said so, or it is dead, and the channel has been read to its end. What is in doubt for longer
//! than a deadline is closed by the sender and never taken back, and the sender's end of the channel
//! lives until nothing is in doubt.
//!
//! ```text
//!  elder (sender)                                     owner (receiver)
//!  ──────────────                                     ────────────────
//!                          the channel was in the offer
//!  ◀──────────────────────────────────────── sessions-open    at its commit
//!  sessions 0..n + streams ────────────────▶         looks for handlers
//!  ◀──────────────────────────── sessions-answered            taken, declined
//!  drops its copies, goes on with declined ones      runs the handlers
//!  ◀──────────────────────────────────────── sessions-open    one has come that declined ones fit
//!      ⋮
//!  ◀────────────────────────────────────── sessions-closed    it hands over itself, or stops
//!  goes on with all that was not answered
//! ```
//!
//! [`session`] is what moves; [`sender`] and [`receiver`] are the two ends, [`parcel`] what is
//! said between them, [`underway`] the sender's account of what is in doubt, [`turns`] who may leave
//! next, and [`handlers`] who takes what.

mod handlers;
mod hub;
mod parcel;
mod receiver;
mod sender;
#[allow(clippy::module_inception, reason = "the noun of this room is one of its files")]
mod session;
mod stream;
#[cfg(test)]
mod tests;
mod turns;
mod underway;

pub(crate) use handlers::handler;
#[cfg(feature = "http")]
pub(crate) use hub::Registered;
pub(crate) use hub::{Sessions, Settings};
#[cfg(feature = "http")]
pub(crate) use session::About;
pub use session::{NotMoved, Session};
pub use stream::SessionStream;
#[cfg(feature = "http")]
pub(crate) use turns::{Key, Turn};
