//! One frame at a time over a Unix stream, never a byte beyond it.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::error::{Error, ErrorKind, Result};
use crate::wire::text::fit;
use crate::wire::{FrameKind, HEADER, Header};

/// A client's request.
pub(super) const REQUEST: u16 = 64;
/// What happens while a request is worked on.
pub(super) const NEWS: u16 = 65;
/// The last word about a request.
pub(super) const ANSWER: u16 = 66;

/// The longest word about a payload that cannot be read, in bytes.
const MAX_WHY: usize = 300;

/// Sends a message.
///
/// # Errors
///
/// [`ErrorKind::Link`] if the other side has gone or does not read within `deadline`;
/// [`ErrorKind::Protocol`] if the message is longer than any frame.
pub(super) async fn send(
    stream: &mut (impl AsyncWrite + Unpin),
    kind: u16,
    body: &impl Serialize,
    deadline: Duration,
) -> Result<()> {
    let frame = frame(kind, body)?;
    match timeout(deadline, stream.write_all(&frame)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => {
            Err(Error::new(ErrorKind::Link, "control socket: send").with_source(error))
        }
        Err(_) => Err(Error::new(
            ErrorKind::Link,
            format!("control socket: the other side did not read for {deadline:?}"),
        )),
    }
}

/// Sends a short message if the socket takes it now: the last word to somebody who is not waited
/// for.
pub(super) fn send_at_once(stream: &UnixStream, kind: u16, body: &impl Serialize) {
    if let Ok(frame) = frame(kind, body) {
        let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
        // Whoever does not get it sees the end of the connection.
        let _ = SockRef::from(stream).send_with_flags(&frame, flags);
    }
}

fn frame(kind: u16, body: &impl Serialize) -> Result<Vec<u8>> {
    let payload = serde_json::to_vec(body).map_err(|error| {
        let text = format!("control socket: {} cannot be written", FrameKind(kind));
        Error::new(ErrorKind::Protocol, text).with_source(error)
    })?;
    let header = Header { length: payload.len(), kind, descriptors: 0 }.write()?;
    let mut frame = Vec::with_capacity(HEADER + payload.len());
    frame.extend_from_slice(&header);
    frame.extend_from_slice(&payload);
    Ok(frame)
}

/// The next frame: its kind and its payload. `None`: the other side has closed between two frames.
///
/// # Errors
///
/// [`ErrorKind::Protocol`] if what comes is no frame or beyond a limit, [`ErrorKind::Link`] if it
/// ends in the middle.
///
/// # Cancel safety
///
/// Not cancel safe: what has been read of a frame is lost.
pub(super) async fn receive(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<Option<(u16, Vec<u8>)>> {
    let mut bytes = [0; HEADER];
    let torn = |error: std::io::Error| {
        Error::new(
            ErrorKind::Link,
            "control socket: the other side closed in the middle of a frame",
        )
        .with_source(error)
    };
    // Its first byte alone: only before it is an end in order.
    match stream.read(&mut bytes[..1]).await {
        Ok(0) => return Ok(None),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Ok(None),
        Err(error) => return Err(torn(error)),
    }
    stream.read_exact(&mut bytes[1..]).await.map_err(torn)?;
    let header = Header::parse(&bytes)?;
    let mut payload = vec![0; header.length];
    stream.read_exact(&mut payload).await.map_err(torn)?;
    Ok(Some((header.kind, payload)))
}

/// Reads the payload of a frame of this kind.
pub(super) fn parse<T: DeserializeOwned>(kind: u16, payload: &[u8]) -> Result<T> {
    serde_json::from_slice(payload).map_err(|error| {
        // The parser repeats what it does not know, which may be anything.
        let why = fit(&error.to_string(), MAX_WHY);
        Error::new(ErrorKind::Protocol, format!("control socket: {}: {why}", FrameKind(kind)))
    })
}
