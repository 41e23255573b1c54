//! Sockets that outlive the process.

mod birth;
mod config;
mod drain;
mod error;
mod generation;
pub mod guide;
mod handoff;
mod inventory;
mod link;
mod listener;
mod name;
mod pid_file;
mod report;
mod run;
mod running;
mod service;
mod sockets;
mod spawn;
mod starting;
mod sys;
mod verdict;
mod wire;

pub use config::Config;
pub use drain::{DrainOutcome, DrainPhase, DrainReport, DrainSettings, Guard, Held, Progress};
pub use error::{Error, ErrorKind, Result};
pub use generation::Generation;
pub use listener::{
    BlockingConn, Conn, Incoming, ListenOptions, Listener, Pause, Seqpacket, SeqpacketListener,
    SeqpacketStream, Tcp, TcpListener, Transport, UdpSocket, Unix, UnixDatagram, UnixListener,
};
pub use name::Name;
pub use report::{Report, UpgradeOutcome, UpgradePhase};
pub use run::run;
pub use running::Running;
pub use service::{Event, Outcome, Role, Status};
pub use sockets::Sockets;
pub use starting::Starting;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
