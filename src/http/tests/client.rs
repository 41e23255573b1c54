//! An HTTP/1.1 client that sees every byte.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// One answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// In lower case.
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn says_close(&self) -> bool {
        self.head.contains("\r\nconnection: close")
    }
}

impl Answer {
    pub(super) fn generation(&self) -> u64 {
        let after = self.head.split("x-generation: ").nth(1).unwrap();
        after.split("\r\n").next().unwrap().parse().unwrap()
    }
}

/// A connection of one client.
pub(super) struct Client<S = TcpStream> {
    pub(super) stream: S,
    read: Vec<u8>,
}

impl Client {
    pub(super) async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self::on(stream))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(super) fn on(stream: S) -> Self {
        Self { stream, read: Vec::new() }
    }

    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await
    }

    pub(super) async fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.send(get(path)).await?;
        self.answer().await
    }

    pub(super) async fn post(&mut self, path: &str, body: &[u8]) -> io::Result<Answer> {
        self.send(post(path, body)).await?;
        self.answer().await
    }

    /// Reads one answer with its body. An end before that is an error.
    pub(super) async fn answer(&mut self) -> io::Result<Answer> {
        let head = self.head().await?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| broken("no status"))?;
        let body = if status == 101 {
            Vec::new()
        } else if head.contains("transfer-encoding: chunked") {
            self.chunks().await?
        } else {
            let length = head
                .split("content-length: ")
                .nth(1)
                .and_then(|rest| rest.split("\r\n").next()?.parse().ok());
            self.take(length.ok_or_else(|| broken("no length"))?).await?
        };
        Ok(Answer { status, head, body })
    }

    /// Reads the head of an answer.
    pub(super) async fn head(&mut self) -> io::Result<String> {
        let end = loop {
            if let Some(end) = self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            self.more().await?;
        };
        let head: Vec<u8> = self.read.drain(..end).collect();
        Ok(String::from_utf8_lossy(&head).to_lowercase())
    }

    async fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let end = loop {
                if let Some(end) = self.read.windows(2).position(|window| window == b"\r\n") {
                    break end;
                }
                self.more().await?;
            };
            let line: Vec<u8> = self.read.drain(..end + 2).collect();
            let length = usize::from_str_radix(std::str::from_utf8(&line[..end]).unwrap(), 16);
            let length = length.map_err(|_| broken("not a chunk"))?;
            let chunk = self.take(length + 2).await?;
            if length == 0 {
                return Ok(body);
            }
            body.extend_from_slice(&chunk[..length]);
        }
    }

    pub(super) async fn take(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.read.len() < length {
            self.more().await?;
        }
        Ok(self.read.drain(..length).collect())
    }

    async fn more(&mut self) -> io::Result<()> {
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                self.read.extend_from_slice(&chunk[..read]);
                Ok(())
            }
        }
    }

    /// Waits for the server's close; an error if it is a reset, or if anything comes before it.
    pub(super) async fn closed(&mut self) -> io::Result<()> {
        match self.more().await {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            Err(error) => Err(error),
            Ok(()) => Err(broken("an answer that nobody asked for")),
        }
    }
}

fn broken(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

pub(super) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n")
}

pub(super) fn post(path: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("POST {path} HTTP/1.1\r\nhost: test\r\ncontent-length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}
