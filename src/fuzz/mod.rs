//! What the fuzzer calls, and what the tests replay: one function for each target.
//!
//! Each takes bytes from anywhere and panics if something is not as it must be. Bytes are read by
//! a [`script`]: every sequence of bytes means something, and a prefix of it means a prefix of
//! that. `fuzz/` holds the fuzzer's side and the corpus; the tests here replay that corpus.
//!
//! Compiled for tests and for the fuzzer only. It is no part of the API.

#![allow(clippy::panic, reason = "a panic is how a target says what is wrong")]

mod kernel;
mod message;
mod pair;
mod predecessor;
pub(crate) mod script;
mod successor;
#[cfg(test)]
mod tests;

pub use crate::birth::fuzz::environment;
pub use crate::control::fuzz::control;
pub use crate::health::fuzz::answer;
pub use crate::link::fuzz::frame;
pub use kernel::kernel;
pub use message::message;
pub use pair::handoff;
pub use predecessor::predecessor;
pub use successor::successor;

/// A target: bytes in, a panic if something is not as it must be.
pub type Target = fn(&[u8]);

/// Every target, by the name that its corpus has.
pub const TARGETS: [(&str, Target); 9] = [
    ("answer", answer),
    ("control", control),
    ("environment", environment),
    ("frame", frame),
    ("handoff", handoff),
    ("kernel", kernel),
    ("message", message),
    ("predecessor", predecessor),
    ("successor", successor),
];
