//! State: what a generation knows, for the next one.
//!
//! A generation [provides](crate::Running::provide) states by name and version; its successor
//! [takes](crate::Starting::take) them before it is ready. Nothing is written down unless the
//! successor asks. It travels as a memory file that is sealed, so its length hardly matters: the
//! successor reads it where it lies, after length and checksum have been compared.
//!
//! ```no_run
//! use std::io::Write;
//! use std::sync::{Arc, Mutex};
//!
//! # fn main() -> std::process::ExitCode {
//! heirloom::run(heirloom::Config::new("shop"), async |start| {
//!     let mut carts = Vec::new();
//!     // `?`: if the carts cannot be had, the old generation goes on serving.
//!     if let Some(state) = start.take_versions("carts", 2..=3).await? {
//!         carts = state.to_vec(); // version() is 2 or 3
//!     }
//!     let carts = Arc::new(Mutex::new(carts));
//!     let provided = carts.clone();
//!     start.provide("carts", 3, move |writer| {
//!         let copy = provided.lock().unwrap().clone();
//!         writer.write_all(&copy)
//!     })?;
//!     let running = start.ready().await?;
//!     // ...
//!     running.finished().await
//! })
//! # }
//! ```
//!
//! # Versions
//!
//! The newest version is used that both sides know. A provider that can also write
//! [older ones](crate::State::oldest_version) lets you go back to an older release with its state.
//! If there is none in common, nothing is serialised, and `take` returns
//! [`ErrorKind::StateRefused`](crate::ErrorKind::StateRefused) with the versions of both sides: pass
//! it on by `?`, and the upgrade fails with that in its report; match on it, and start cold.
//! `Ok(None)` means that there is nothing to take: this is the first generation, its predecessor is
//! gone, or knows no such state.
//!
//! # What happens in between
//!
//! While the successor loads a state, the predecessor serves on, so the state grows old. Three ways
//! to live with that, the simplest first:
//!
//! - **It may be old.** A cache, a list of peers: nothing more to do.
//! - **The rest follows.** [`State::delta`](crate::State::delta) writes down what has changed since
//!   the snapshot, when the turn changes hands; the successor takes it in
//!   ([`Starting::on_delta`](crate::Starting::on_delta)) before it accepts its first connection. New
//!   connections wait meanwhile, within [`Config::gap_deadline`](crate::Config::gap_deadline): so a
//!   delta should be small.
//! - **Nobody writes.** Connections of the predecessor go on, in probation and in its drain, and what
//!   they write after the delta is in no state. A hook of
//!   [`on_yield`](crate::Running::on_yield) stops the writers before the delta is written; they go
//!   on at [`on_roll_back`](crate::Running::on_roll_back), or send their clients to the successor at
//!   [`on_commit`](crate::Running::on_commit).
//!
//! The example `state` does all of it.
//!
//! # Roll back hands nothing back
//!
//! A successor may be taken back until the commit, and no state comes back from it. So a snapshot
//! copies and takes nothing away, a delta may be written more than once, and what must not be lost
//! is not written by a successor on probation: it waits for
//! [`Event::Owns`](crate::Event::Owns). A successor that takes over because its predecessor died
//! has the snapshot, and the delta only if it was on its way already.
//!
//! # Limits
//!
//! [`Config::state_limit`](crate::Config::state_limit) bytes (1 GiB) for each state,
//! [`Config::state_deadline`](crate::Config::state_deadline) (10 s) for its provider. A state lies
//! in memory, in that of both processes' control group, until the successor drops it. The
//! [ready deadline](crate::Config::ready_deadline) runs while states are loaded.
