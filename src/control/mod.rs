//! Steering a running service: the control socket, and the client that talks to it.
//!
//! A service whose [`Config`](crate::Config) has a [control socket](crate::Config::control_socket)
//! is asked over it what it does and told what to do. The socket is handed from generation to
//! generation like any listener, so its path never disappears; its owner alone answers: the
//! predecessor until the verdict of an upgrade, the successor from then on.
//!
//! [`Client`] has a method for each command. The binary `heirloom` (feature `cli`) is the same for
//! people and scripts.
//!
//! # Who may
//!
//! The socket has mode 0600, and the kernel says who connects (`SO_PEERCRED` of unix(7)): the
//! service's own user, root, and the users of
//! [`Config::control_users`](crate::Config::control_users). The overflow user of
//! `/proc/sys/kernel/overflowuid`, who stands for any user of another namespace, is nobody's
//! friend.
//!
//! # What is said
//!
//! The frames are those of the link between two generations: `HLRM`, the payload's length (u32),
//! the kind (u16) and a number of descriptors (u16, zero here), little-endian, then JSON. A client
//! sends one request (kind 64) per connection; news (kind 65) may come back, then one answer
//! (kind 66), and the server closes. Fields and commands that one side does not know are skipped
//! or refused by name. A client that goes away takes nothing back.
//!
//! One request is no command: a process that somebody else has started asks for the turn
//! ([takeover](crate::guide::takeover)). Once that is answered its connection is the link, and what
//! follows are the frames of a handoff.

mod access;
mod client;
mod frame;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod message;
mod path;
mod request;
mod server;
mod taker;
#[cfg(test)]
mod tests;
mod view;

pub(crate) use self::access::Access;
pub(crate) use self::access::Peer;
pub(crate) use self::client::{Asking, ask_for_turn, is_answered};
pub use self::client::{Client, Stop, Upgrade, Watch, When};
pub(crate) use self::message::{Answer, Command};
pub use self::message::{News, Started};
pub(crate) use self::path::{checked, default_path};
pub(crate) use self::server::{Answering, Clients, Desk, Reply, Teller};
pub(crate) use self::taker::Taker;
pub use self::view::{Accepting, GenerationView, Overview, UpgradeView};
