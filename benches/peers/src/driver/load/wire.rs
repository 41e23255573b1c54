//! HTTP/1.1 on a raw stream: no more of it than these servers speak, and strict about that.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use futures_util::FutureExt;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::fault::Fault;

/// The longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Post,
}

/// Whether the connection may be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    Open,
    /// The answer said that it ends.
    Ends,
}

/// An answer: who gave it, and what becomes of the connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) pid: i32,
    pub(crate) after: After,
}

/// A connection.
pub(crate) struct Line<S> {
    stream: S,
    buffer: Vec<u8>,
}

/// Connects from an address of our own, so that ports do not run out.
pub(crate) async fn connect(to: SocketAddr, from: Option<Ipv4Addr>) -> Result<TcpStream, Fault> {
    let dial = async {
        let socket = TcpSocket::new_v4()?;
        if let Some(from) = from {
            setsockopt(&socket, IpBindAddressNoPort, &true)?;
            socket.bind((from, 0).into())?;
        }
        let stream = socket.connect(to).await?;
        stream.set_nodelay(true)?;
        Ok::<_, io::Error>(stream)
    };
    match tokio::time::timeout(PATIENCE, dial).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(Fault::from(&error)),
        Err(_) => Err(Fault::Late),
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Line<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, buffer: Vec::with_capacity(1024) }
    }

    /// Whether the server has closed the connection, or has said something unasked.
    pub(crate) fn is_over(&mut self) -> bool {
        if !self.buffer.is_empty() {
            return true;
        }
        // Without tokio's budget, which would make the connection look quiet once it is used up.
        let read = tokio::task::unconstrained(self.stream.read_buf(&mut self.buffer));
        read.now_or_never().is_some()
    }

    /// Asks once, and reads the whole answer.
    pub(crate) async fn ask(
        &mut self,
        method: Method,
        number: u64,
        after: After,
    ) -> Result<Answer, Fault> {
        match tokio::time::timeout(PATIENCE, self.exchange(method, number, after)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(Fault::from(&error)),
            Err(_) => Err(Fault::Late),
        }
    }

    async fn exchange(&mut self, method: Method, number: u64, after: After) -> io::Result<Answer> {
        let id = number.to_string();
        let close = if after == After::Ends { "connection: close\r\n" } else { "" };
        let request = match method {
            Method::Get => format!("GET / HTTP/1.1\r\nhost: peers\r\nx-id: {id}\r\n{close}\r\n"),
            Method::Post => format!(
                "POST /echo HTTP/1.1\r\nhost: peers\r\nx-id: {id}\r\ncontent-length: {}\r\n{close}\r\n{id}",
                id.len()
            ),
        };
        // A server that closes may still have answered what came before: so the answer is read
        // also when the request could not be sent.
        let sent = self.stream.write_all(request.as_bytes()).await;
        let head = loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break end + 4;
            }
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) => return Err(sent.err().unwrap_or(io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => {}
                Err(error) => return Err(error),
            }
        };
        let (length, answer) = parse(&self.buffer[..head])?;
        while self.buffer.len() < head + length {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        if self.buffer[head..head + length] != *id.as_bytes() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.buffer.drain(..head + length);
        Ok(answer)
    }

    /// Reads what is left; more than nothing is a second answer.
    pub(crate) async fn rest(mut self) -> Result<(), Fault> {
        let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.buffer)).await;
        match (self.buffer.len(), read) {
            (0, Ok(_)) => Ok(()),
            (0, Err(_)) => Err(Fault::Late),
            (_, _) => Err(Fault::Doubled),
        }
    }

    /// What the server has said unasked.
    pub(crate) fn unasked(&self) -> bool {
        !self.buffer.is_empty()
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// The length of the body and what else of the head matters.
fn parse(head: &[u8]) -> io::Result<(usize, Answer)> {
    let wrong = || io::Error::from(io::ErrorKind::InvalidData);
    let head = std::str::from_utf8(head).map_err(|_| wrong())?;
    let mut lines = head.split("\r\n");
    let status = lines.next().ok_or_else(wrong)?;
    if !status.starts_with("HTTP/1.1 200") {
        return Err(wrong());
    }
    let mut answer = Answer { pid: 0, after: After::Open };
    let mut length = None;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            length = value.parse().ok();
        } else if name.eq_ignore_ascii_case("connection") {
            if value.eq_ignore_ascii_case("close") {
                answer.after = After::Ends;
            }
        } else if name.eq_ignore_ascii_case("x-pid") {
            answer.pid = value.parse().map_err(|_| wrong())?;
        }
    }
    Ok((length.ok_or_else(wrong)?, answer))
}
