//! A client of the web server: one HTTP/1.1 connection.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use socket2::{Domain, SockAddr, Socket, Type};

use super::Server;
use super::client::{Address, Failure};
use super::wait::PATIENCE;
use super::web;

/// Clients from one loopback address: the kernel has some 28 000 ports for each, and is slow to find
/// the last of them.
const PER_ADDRESS: usize = 5_000;

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub generation: u64,
    /// Whether it was the 500 that was asked for.
    pub failed: bool,
    pub says_close: bool,
    pub body: String,
}

/// One connection, kept.
pub(crate) struct Visitor {
    socket: Socket,
    read: Vec<u8>,
}

impl Visitor {
    pub(crate) fn connect(address: &Address) -> Self {
        Self::connect_as(address, 0)
    }

    /// The one with this number: so many do not fit behind one address.
    pub(crate) fn connect_as(address: &Address, number: usize) -> Self {
        let socket = match address {
            Address::Inet(to) => {
                let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
                let host = u8::try_from(1 + number / PER_ADDRESS).unwrap();
                let from = SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0));
                // A port that is free to this server, not to all (ip(7)): others test beside this.
                setsockopt(&socket, IpBindAddressNoPort, &true).unwrap();
                socket.bind(&from.into()).unwrap();
                socket.connect(&SockAddr::from(*to)).unwrap();
                socket.set_tcp_nodelay(true).unwrap();
                socket
            }
            Address::Path(path) => {
                let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
                socket.connect(&SockAddr::unix(path).unwrap()).unwrap();
                socket
            }
            Address::Abstract(name) => panic!("{name:?} is not served"),
        };
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, read: Vec::new() }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> Result<(), Failure> {
        Ok(self.socket.write_all(bytes.as_ref())?)
    }

    /// Reads one answer; an end before that is a failure.
    pub(crate) fn answer(&mut self) -> Result<Answer, Failure> {
        let head = self.head()?;
        let header = |name: &str| {
            let value = head.lines().find_map(|line| line.strip_prefix(name));
            value.and_then(|value| value.trim().parse::<u64>().ok())
        };
        let failed = head.starts_with("http/1.1 500");
        assert!(failed || head.starts_with("http/1.1 200"), "{head}");
        let length = usize::try_from(header("content-length:").unwrap()).unwrap();
        while self.read.len() < length {
            self.more()?;
        }
        let body = self.read.drain(..length).collect();
        Ok(Answer {
            generation: header("x-generation:").unwrap(),
            failed,
            says_close: head.contains("\r\nconnection: close"),
            body: String::from_utf8(body).unwrap(),
        })
    }

    /// Reads the head of an answer, in lower case.
    pub(crate) fn head(&mut self) -> Result<String, Failure> {
        loop {
            if let Some(end) = self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                let head: Vec<u8> = self.read.drain(..end + 4).collect();
                return Ok(String::from_utf8(head).unwrap().to_lowercase());
            }
            self.more()?;
        }
    }

    fn more(&mut self) -> Result<(), Failure> {
        let mut chunk = [0; 4096];
        match self.socket.read(&mut chunk)? {
            0 => Err(Failure::Closed),
            read => {
                self.read.extend_from_slice(&chunk[..read]);
                Ok(())
            }
        }
    }

    pub(crate) fn get(&mut self, target: &str) -> Result<Answer, Failure> {
        self.send(get(target))?;
        self.answer()
    }

    /// Says something that was never said before, in two parts, and hears it.
    pub(crate) fn post(&mut self, unique: &str, cut: usize) -> Result<Answer, Failure> {
        let order = post(unique);
        let (early, late) = order.split_at(cut % order.len());
        self.send(early)?;
        self.send(late)?;
        let answer = self.answer()?;
        assert_eq!(answer.body, unique, "an answer to another question");
        Ok(answer)
    }

    /// Something has come, whatever it is.
    pub(crate) fn some(&mut self) {
        self.more().unwrap();
        self.read.clear();
    }

    /// Whether the server has closed its side by now.
    pub(crate) fn has_been_closed(&self) -> bool {
        let mut socket = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        poll(&mut socket, PollTimeout::ZERO).unwrap() > 0
    }

    /// Whether the server has closed the connection, without a word.
    pub(crate) fn is_closed(&mut self) -> bool {
        match self.more() {
            Err(Failure::Closed | Failure::Reset) => true,
            Err(failure) => panic!("{failure}"),
            Ok(()) => panic!("an answer that nobody asked for"),
        }
    }
}

pub(crate) fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nhost: test\r\n\r\n")
}

pub(crate) fn post(body: &str) -> String {
    let length = body.len();
    format!("POST /post HTTP/1.1\r\nhost: test\r\ncontent-length: {length}\r\n\r\n{body}")
}

/// What an HTTP/2 client says first, with its first request (RFC 9113; RFC 7541, appendix A).
pub(crate) fn http2_request(path: &str) -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    // SETTINGS, empty.
    bytes.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    // HEADERS with the end of both, stream 1: GET, http, authority, path.
    let mut headers = vec![0x82, 0x86, 0x41, 4];
    headers.extend(b"test");
    headers.extend([0x44, u8::try_from(path.len()).unwrap()]);
    headers.extend(path.as_bytes());
    bytes.extend([0, 0, u8::try_from(headers.len()).unwrap(), 1, 5, 0, 0, 0, 1]);
    bytes.extend(headers);
    bytes
}

/// The servers have seen each of these once, and nothing else.
pub(crate) fn assert_seen_once(server: &Server, said: impl IntoIterator<Item = String>) {
    let seen = web::posts(server);
    let once: BTreeSet<&String> = seen.iter().collect();
    assert_eq!(once.len(), seen.len(), "a request was served twice");
    let said: BTreeSet<String> = said.into_iter().collect();
    assert_eq!(said.len(), seen.len());
    assert!(said.iter().all(|unique| once.contains(unique)), "a request was not served");
}
