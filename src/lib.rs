//! *Sockets that outlive the process.*
//!
//! A running server starts its next version, hands it every listening socket over a Unix socket,
//! serves on until the new version has proven itself, drains, and exits. No connection is refused,
//! what was accepted is finished, and a bad release never becomes an outage.
//!
//! ```no_run
//! use std::process::ExitCode;
//! use tokio::io::AsyncWriteExt;
//!
//! fn main() -> ExitCode {
//!     let config = heirloom::Config::new("hello").version(env!("CARGO_PKG_VERSION"));
//!     heirloom::run(config, async |start| {
//!         let listener = start.tcp("hello", "[::]:8080").await?; // inherited, activated or bound
//!         let running = start.ready().await?; // returns when it is our turn
//!         running.accept_loop(listener, async |mut connection| {
//!             connection.write_all(b"hello\n").await
//!         });
//!         running.finished().await
//!     })
//! }
//! ```
//!
//! Replace the program's file and send the process `SIGHUP`. [`Config`] holds every setting and its
//! default, [`Starting`] what a generation claims and binds, [`Running`] what it can be asked, and
//! [`guide`] walks through one upgrade.

pub mod control;
pub mod guide;

mod birth;
mod config;
mod drain;
mod error;
mod executable;
mod forward;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod generation;
mod handoff;
mod health;
mod hooks;
#[cfg(feature = "http")]
pub mod http;
mod inventory;
mod link;
mod listener;
mod log;
mod name;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod parent;
mod pid_file;
mod readiness;
mod report;
mod requests;
mod run;
mod running;
mod service;
mod session;
mod sockets;
mod spawn;
mod starting;
mod state;
mod status;
mod sys;
mod systemd;
mod task;
mod verdict;
mod wire;

#[cfg(feature = "http")]
pub use self::http::http;
#[cfg(feature = "tonic")]
pub use self::http::tonic;
#[cfg(feature = "axum")]
pub use self::http::{axum, readiness_route};
pub use config::{Config, TakeOver};
pub use drain::{
    CutCause, CutCounts, DrainOutcome, DrainPhase, DrainReport, Guard, Guards, Held, Progress,
};
pub use error::{Error, ErrorKind, Result};
pub use executable::Preflight;
pub use generation::Generation;
pub use health::{Candidate, CheckAddress, CheckStream, HealthCheck};
pub use listener::{
    BlockingConn, Conn, Incoming, ListenOptions, Listener, Pause, Seqpacket, SeqpacketListener,
    SeqpacketStream, Tcp, TcpConn, TcpListener, Transport, UdpSocket, Unix, UnixConn, UnixDatagram,
    UnixListener,
};
pub use name::Name;
pub use report::{
    AskedBy, CauseKind, CutGroup, Drained, JournalFile, Purpose, Report, Summary, UpgradeOutcome,
    UpgradePhase, Window,
};
pub use requests::{ErrorBudget, Requests};
pub use run::run;
pub use running::{Readiness, Running};
pub use session::{NotMoved, Session, SessionStream};
pub use sockets::Sockets;
pub use starting::Starting;
pub use state::{Blob, State, StateWriter};
pub use status::{Event, Outcome, Previous, Role, Status};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
