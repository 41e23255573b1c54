//! Named, versioned bytes that a successor takes from its predecessor before it is ready.
//!
//! **Contract:** nothing is serialised unless the successor asks for it; what it gets is whole and
//! unchangeable, or it gets nothing; and neither side waits for the other beyond its deadline.
//!
//! A provider writes into a memory file ([`writer`]), which is sealed and handed over as one
//! descriptor. The taker maps it and compares seals, length and checksum before the application
//! sees a byte ([`blob`]). [`book`] is what a generation provides, and what it does with deltas.

mod blob;
mod book;
mod provide;
#[cfg(test)]
mod tests;
mod work;
mod writer;

pub use blob::Blob;
pub(crate) use blob::{verified, verify};
pub(crate) use book::{Limits, States};
pub use provide::State;
pub(crate) use provide::{Answered, Provided};
pub use writer::StateWriter;

use std::error::Error as StdError;

/// What an application's closure may fail with.
pub(crate) type Failure = Box<dyn StdError + Send + Sync>;
