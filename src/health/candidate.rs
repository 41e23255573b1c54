//! The generation under check, and how it is reached.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr as UnixAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{TcpSocket, UnixStream};
use tokio::sync::{mpsc, oneshot};

use super::herald::{Announced, Announcement};
use super::saturation::{Cause, Failure, Reached};
use super::stream::{CheckStream, Inner};
use crate::generation::Generation;
use crate::inventory::Door;
use crate::listener::{Taken, address_of, sock_addr};
use crate::name::Name;
use crate::wire::{Address, Kind};

/// Who is checked, and where it can be reached.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) generation: Generation,
    pub(crate) pid: u32,
    /// Its listeners, by the names that the checks use.
    pub(crate) doors: Vec<Door>,
}

impl Subject {
    pub(super) fn door(&self, listener: &str) -> Option<&Door> {
        self.doors.iter().find(|door| door.name.as_str() == listener)
    }
}

/// The generation that a check is about: it serves now, and its predecessor wants to know how well.
#[derive(Clone)]
pub struct Candidate {
    subject: Arc<Subject>,
    announce: mpsc::Sender<Announcement>,
    log: Arc<Mutex<Log>>,
}

/// What became of the connections of one question.
#[derive(Default)]
struct Log {
    traces: Vec<Trace>,
    /// Why a connection could not be made, where that need not be the candidate's fault.
    excused: Option<Failure>,
}

/// A connection that could not be made: what that means for the check, and for a caller.
type NotReached = (Failure, io::ErrorKind);

/// One connection of a check.
pub(super) struct Trace {
    pub(super) listener: Name,
    /// The answer to its announcement, once it is there.
    pub(super) announced: Option<Announced>,
    pub(super) taken: oneshot::Receiver<Taken>,
    answered: Arc<AtomicBool>,
}

/// Where a listener can be reached.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CheckAddress {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix stream or sequential-packet socket.
    Unix(UnixAddr),
}

impl fmt::Display for CheckAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(address) => match (address.as_pathname(), address.as_abstract_name()) {
                (Some(path), _) => path.display().fmt(f),
                (None, Some(name)) => write!(f, "@{}", name.escape_ascii()),
                (None, None) => f.write_str("no address"),
            },
        }
    }
}

impl Candidate {
    pub(super) fn new(subject: &Arc<Subject>, announce: &mpsc::Sender<Announcement>) -> Self {
        let (subject, announce) = (Arc::clone(subject), announce.clone());
        Self { subject, announce, log: Arc::default() }
    }

    /// Its generation.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.subject.generation
    }

    /// Its process. For a look at what the kernel counts for it; do not signal it, a process id may
    /// be used anew.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.subject.pid
    }

    /// Its stream listeners by their names, and where a client on this machine reaches them: a
    /// wildcard address is given as the loopback address of its family.
    pub fn addresses(&self) -> impl Iterator<Item = (&Name, CheckAddress)> {
        let reached = |address: &Address| match address {
            Address::Inet(address) => targets(*address).first().copied().map(CheckAddress::Tcp),
            Address::Path(path) => UnixAddr::from_pathname(path).ok().map(CheckAddress::Unix),
            Address::Abstract(name) => {
                UnixAddr::from_abstract_name(name).ok().map(CheckAddress::Unix)
            }
            Address::None => None,
        };
        let doors = self.subject.doors.iter();
        doors.filter_map(move |door| Some((&door.name, reached(&door.address)?)))
    }

    /// Connects to one of its listeners, as a client on this machine.
    ///
    /// The candidate is told beforehand from which address the connection comes, so it knows it for
    /// a check, and the check fails unless it is the candidate that accepts it.
    ///
    /// # Cancel safety
    /// Cancel safe: the connection is closed.
    ///
    /// # Errors
    /// Those of `socket(2)`, `bind(2)` and `connect(2)`; [`io::ErrorKind::NotFound`] if the
    /// candidate serves no listener of that name. With the check's timeout the wait ends.
    pub async fn connect(&self, listener: &str) -> io::Result<CheckStream> {
        self.reach(listener).await.map_err(|(failure, kind)| {
            if failure.cause != Cause::Wrong {
                self.log().excused = Some(failure.clone());
            }
            io::Error::new(kind, failure.text)
        })
    }

    /// As [`connect`](Self::connect), with what a failure means for the check.
    pub(super) async fn reach(&self, listener: &str) -> Result<CheckStream, NotReached> {
        let generation = self.generation();
        let Some(door) = self.subject.door(listener) else {
            let text = format!("generation {generation} serves no listener {listener:?}");
            return Err((Failure::wrong(text), io::ErrorKind::NotFound));
        };
        let unbound = |error: io::Error| {
            let text = format!("a socket to reach {}: {error}", door.address);
            (Failure::not_asked(text), error.kind())
        };
        let (client, from) = Client::bind(door).map_err(unbound)?;
        let (ready, announced) = oneshot::channel();
        let (tell, taken) = oneshot::channel();
        let answered = Arc::new(AtomicBool::new(false));
        let trace = Trace {
            listener: door.name.clone(),
            announced: None,
            taken,
            answered: Arc::clone(&answered),
        };
        let index = {
            let traces = &mut self.log().traces;
            traces.push(trace);
            traces.len() - 1
        };
        let listener = door.name.clone();
        let announcement = Announcement { from, listener, ready, taken: tell };
        let gone = || {
            let text = format!("the link to generation {generation} has ended");
            (Failure::not_asked(text), io::ErrorKind::NotConnected)
        };
        self.announce.send(announcement).await.map_err(|_| gone())?;
        let announced = announced.await.map_err(|_| gone())?;
        if let Some(trace) = self.log().traces.get_mut(index) {
            trace.announced = Some(announced);
        }
        match client.connect(door).await {
            Ok(stream) => Ok(CheckStream::new(stream, answered)),
            Err(error) => {
                let (address, cause) = (&door.address, judge(&error));
                let text = match cause {
                    Cause::Silent(_) => format!("connect to {address}: its queue is full"),
                    _ => format!("connect to {address}: {error}"),
                };
                Err((Failure { cause, text }, error.kind()))
            }
        }
    }

    /// The connections made so far; they are the caller's now.
    pub(super) fn take_traces(&self) -> Vec<Trace> {
        std::mem::take(&mut self.log().traces)
    }

    /// Why a connection could not be made, where that need not be the candidate's fault: it
    /// counts more than what a closure makes of it.
    pub(super) fn excused(&self) -> Option<Failure> {
        self.log().excused.clone()
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Candidate")
            .field("generation", &self.generation())
            .field("pid", &self.pid())
            .finish_non_exhaustive()
    }
}

impl Trace {
    /// What it means that this connection, the last one of a check, has no whole answer after
    /// `limit`.
    pub(super) fn too_late(&mut self, limit: Duration) -> Failure {
        if self.answered.load(Ordering::Relaxed) {
            return Failure::wrong(format!("the answer is not complete after {limit:?}"));
        }
        let observed = self.announced.is_none_or(|announced| announced.observed);
        Failure::silent(
            match self.taken.try_recv() {
                Ok(_) => Reached::Server,
                Err(_) if observed => Reached::Queue,
                Err(_) => Reached::Unknown,
            },
            limit,
        )
    }
}

/// What an error of `connect(2)` says about the candidate.
fn judge(error: &io::Error) -> Cause {
    match error.raw_os_error() {
        // A full queue: TCP tries again until the kernel gives up, a Unix socket says so at once.
        // That is a connection that waits in vain, and no refusal.
        Some(libc::EAGAIN | libc::ETIMEDOUT) => Cause::Silent(Reached::Queue),
        // Ours, not the candidate's.
        Some(libc::EADDRINUSE | libc::EADDRNOTAVAIL | libc::ENOBUFS | libc::ENOMEM) => {
            Cause::NotAsked
        }
        _ => Cause::Wrong,
    }
}

/// A client's socket that has an address and no connection yet.
enum Client {
    Tcp { socket: TcpSocket, to: SocketAddr },
    Unix(Socket),
}

impl Client {
    /// A socket that can reach it, and the address that it comes from.
    fn bind(door: &Door) -> io::Result<(Self, Address)> {
        match &door.address {
            Address::Inet(address) => Self::bind_tcp(*address),
            Address::Path(_) | Address::Abstract(_) => {
                let kind = match door.kind {
                    Kind::UnixSeqpacket => Type::SEQPACKET,
                    _ => Type::STREAM,
                };
                let socket = Socket::new(Domain::UNIX, kind, None)?;
                socket.set_nonblocking(true)?;
                // Bound to no name it gets a free abstract one ('Autobind feature' of unix(7)).
                socket.bind(&SockAddr::unix("")?)?;
                let from = address_of(&socket.local_addr()?);
                Ok((Self::Unix(socket), from))
            }
            Address::None => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// Binds to the address that is connected to, with a free port: it is one of this machine's.
    fn bind_tcp(address: SocketAddr) -> io::Result<(Self, Address)> {
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for to in targets(address) {
            let bound = || {
                let mut here = to;
                here.set_port(0);
                let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
                socket.set_nonblocking(true)?;
                socket.bind(&here.into())?;
                let from = address_of(&socket.local_addr()?);
                let socket = TcpSocket::from_std_stream(socket.into());
                Ok((Self::Tcp { socket, to }, from))
            };
            match bound() {
                Ok(client) => return Ok(client),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn connect(self, door: &Door) -> io::Result<Inner> {
        match self {
            Self::Tcp { socket, to } => Ok(Inner::Tcp(socket.connect(to).await?)),
            Self::Unix(socket) => {
                socket.connect(&sock_addr(&door.address)?)?;
                Ok(Inner::Unix(UnixStream::from_std(socket.into())?))
            }
        }
    }
}

/// Where a client on this machine reaches a listener bound to `address`. A wildcard is reached by
/// the loopback address; where IPv6 is switched off, `[::]` is there for IPv4 only.
fn targets(address: SocketAddr) -> Vec<SocketAddr> {
    let at = |ip: IpAddr| SocketAddr::new(ip, address.port());
    let (v4, v6) = (at(Ipv4Addr::LOCALHOST.into()), at(Ipv6Addr::LOCALHOST.into()));
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => vec![v4],
        IpAddr::V6(ip) if ip.is_unspecified() => vec![v6, v4],
        _ => vec![address],
    }
}
