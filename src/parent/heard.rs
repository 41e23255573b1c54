//! The notify socket of the parent: what a server says, and who says it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::{Error, ErrorKind, Result};
use crate::name::Name;
use crate::sys::{origin::decimal, scm};

/// No message is as long as this; the protocol's lines are short.
const LONGEST: usize = 8192;
/// So many abstract names are tried.
const TRIES: u32 = 16;

/// One message, as far as a parent cares.
#[derive(Debug, Default)]
pub(super) struct Message {
    /// The process that sent it; 0 if it is not visible here.
    pub(super) sender: i32,
    pub(super) ready: bool,
    pub(super) stopping: bool,
    pub(super) main: Option<i32>,
    pub(super) extend: Option<Duration>,
    /// What is to be kept, and the name.
    pub(super) keep: Vec<OwnedFd>,
    pub(super) remove: bool,
    pub(super) name: Option<Name>,
}

/// An abstract name: it needs no directory that can be written, and goes with the process.
#[derive(Debug)]
pub(super) struct NotifySocket {
    socket: UnixDatagram,
    /// The value of `NOTIFY_SOCKET`.
    pub(super) address: String,
}

impl NotifySocket {
    pub(super) fn open() -> Result<Self> {
        let wrong = |error: io::Error| {
            Error::new(ErrorKind::Io, "the notify socket cannot be opened").with_source(error)
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let mut last = io::Error::from(io::ErrorKind::AddrInUse);
        for number in 0..TRIES {
            let name = format!("heirloom-run/{}/{now}/{number}", std::process::id());
            let address = SocketAddr::from_abstract_name(name.as_bytes()).map_err(wrong)?;
            match UnixDatagram::bind_addr(&address) {
                Ok(socket) => {
                    socket.set_nonblocking(true).map_err(wrong)?;
                    scm::pass_credentials(socket.as_fd()).map_err(wrong)?;
                    return Ok(Self { socket, address: format!("@{name}") });
                }
                Err(error) => last = error,
            }
        }
        Err(wrong(last))
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The next message that has come; one that cannot be read has no sender. Descriptors that
    /// nobody asked us to keep are closed: that is how a barrier is answered.
    pub(super) fn next(&self) -> Option<Message> {
        let (mut bytes, mut descriptors) = ([0; LONGEST], VecDeque::new());
        match scm::recv(self.socket.as_fd(), &mut bytes, &mut descriptors) {
            // So long a message has lost its end, which may have been half of a number.
            Ok(got) if got.bytes == LONGEST => Some(Message::default()),
            Ok(got) => {
                let text = bytes.get(..got.bytes).unwrap_or_default();
                let sender = got.credentials.map_or(0, |credentials| credentials.pid);
                Some(read(text, sender, descriptors.into()))
            }
            // One that lost descriptors on its way is no message.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Some(Message::default()),
            Err(_) => None,
        }
    }
}

/// Lines that mean nothing here are skipped.
pub(super) fn read(text: &[u8], sender: i32, descriptors: Vec<OwnedFd>) -> Message {
    let mut message = Message { sender, ..Message::default() };
    let mut keeps = false;
    for line in String::from_utf8_lossy(text).lines() {
        let Some((name, value)) = line.split_once('=') else { continue };
        match name {
            "READY" => message.ready = value == "1",
            "STOPPING" => message.stopping = value == "1",
            "MAINPID" => {
                message.main = decimal(value).and_then(|pid| i32::try_from(pid).ok());
            }
            "EXTEND_TIMEOUT_USEC" => message.extend = decimal(value).map(Duration::from_micros),
            "FDSTORE" => keeps = value == "1",
            "FDSTOREREMOVE" => message.remove = value == "1",
            "FDNAME" => message.name = value.parse().ok(),
            _ => {}
        }
    }
    if keeps {
        message.keep = descriptors;
    }
    message
}
