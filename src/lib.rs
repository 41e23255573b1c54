//! Sockets that outlive the process.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod birth;
mod drain;
mod error;
mod generation;
mod handoff;
mod inventory;
mod link;
mod listener;
mod name;
mod pid_file;
mod report;
mod spawn;
mod sys;
mod verdict;
mod wire;

pub use drain::{DrainOutcome, DrainPhase, DrainReport, DrainSettings, Guard, Held, Progress};
pub use error::{Error, ErrorKind, Result};
pub use generation::Generation;
pub use listener::{
    BlockingConn, Conn, Incoming, ListenOptions, Listener, Pause, Seqpacket, SeqpacketListener,
    SeqpacketStream, Tcp, TcpListener, Transport, UdpSocket, Unix, UnixDatagram, UnixListener,
};
pub use name::Name;
pub use report::{Report, UpgradeOutcome, UpgradePhase};
