//! A client of the server's line protocol.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use socket2::{Domain, SockAddr, Type};

use super::wait::PATIENCE;

/// Where a socket of the server is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Address {
    Inet(SocketAddr),
    Path(PathBuf),
    Abstract(String),
}

impl Address {
    pub(crate) fn inet(&self) -> SocketAddr {
        match self {
            Self::Inet(address) => *address,
            other => panic!("{other:?} is no internet address"),
        }
    }
}

/// What went wrong with a connection, as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Failure {
    Refused,
    Reset,
    /// The other side closed before its answer was whole.
    Closed,
    Timeout,
    /// A Unix backlog was full.
    Again,
    /// There is no socket at the path.
    Missing,
    Other(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind as Kind;
        match error.kind() {
            Kind::ConnectionRefused => Self::Refused,
            Kind::ConnectionReset | Kind::BrokenPipe => Self::Reset,
            Kind::UnexpectedEof => Self::Closed,
            Kind::NotFound => Self::Missing,
            Kind::TimedOut => Self::Timeout,
            Kind::WouldBlock => Self::Again,
            _ => Self::Other(error.to_string()),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Which generation answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Answerer {
    pub generation: u64,
    pub pid: i32,
}

/// One connection.
pub(crate) struct Client {
    stream: BufReader<Stream>,
    /// The server has asked us to go when it suits us.
    pub told_to_go: bool,
}

impl Client {
    /// Connects once; there is no second attempt.
    pub(crate) fn connect(address: &Address) -> Result<Self, Failure> {
        let stream = match address {
            Address::Inet(address) => Stream::Tcp(TcpStream::connect_timeout(address, PATIENCE)?),
            Address::Path(path) => Stream::Unix(unix(&SockAddr::unix(path)?)?),
            Address::Abstract(name) => Stream::Unix(unix(&SockAddr::unix(format!("\0{name}"))?)?),
        };
        stream.patience(PATIENCE)?;
        Ok(Self { stream: BufReader::new(stream), told_to_go: false })
    }

    pub(crate) fn send(&mut self, command: &str) -> Result<(), Failure> {
        let line = format!("{command}\n");
        Ok(self.stream.get_mut().write_all(line.as_bytes())?)
    }

    /// The next line that is an answer.
    pub(crate) fn receive(&mut self) -> Result<String, Failure> {
        loop {
            let line = self.line()?;
            if line != "bye" {
                return Ok(line);
            }
            self.told_to_go = true;
        }
    }

    /// The same, or nothing within this time.
    pub(crate) fn receive_within(&mut self, time: Duration) -> Option<String> {
        self.stream.get_ref().patience(time).unwrap();
        let line = self.receive().ok();
        self.stream.get_ref().patience(PATIENCE).unwrap();
        line
    }

    pub(crate) fn try_ask(&mut self, command: &str) -> Result<String, Failure> {
        self.send(command)?;
        self.receive()
    }

    /// Asks where the answer is certain to come.
    pub(crate) fn ask(&mut self, command: &str) -> String {
        self.try_ask(command).unwrap_or_else(|failure| panic!("{command}: {failure}"))
    }

    pub(crate) fn who(&mut self) -> Result<Answerer, Failure> {
        let answer = self.try_ask("who")?;
        let mut words = answer.split(' ').map(str::parse::<i64>);
        let (Some(Ok(generation)), Some(Ok(pid))) = (words.next(), words.next()) else {
            return Err(Failure::Other(format!("answer {answer:?}")));
        };
        Ok(Answerer { generation: generation.cast_unsigned(), pid: i32::try_from(pid).unwrap() })
    }

    fn line(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        let read = self.stream.read_line(&mut line).map_err(|error| {
            // That is how a socket's timeout looks.
            match Failure::from(error) {
                Failure::Again => Failure::Timeout,
                other => other,
            }
        })?;
        if read == 0 || !line.ends_with('\n') {
            return Err(Failure::Closed);
        }
        line.pop();
        Ok(line)
    }
}

/// A non-blocking connect: with a full backlog it fails at once, where a blocking one waits.
fn unix(address: &SockAddr) -> io::Result<UnixStream> {
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(address).map_err(|error| match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EAGAIN) => io::ErrorKind::WouldBlock.into(),
        _ => error,
    })?;
    socket.set_nonblocking(false)?;
    Ok(socket.into())
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn patience(&self, time: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(Some(time)),
            Self::Unix(stream) => stream.set_read_timeout(Some(time)),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
