//! One question on one connection.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use super::candidate::{Candidate, CheckAddress};
use super::check::{HealthCheck, What};
use super::http::{Head, MAX_HEAD, Question, shown};
use super::saturation::Failure;
use super::stream::CheckStream;
use crate::error::chain;

/// So much is read at once, in bytes.
const CHUNK: usize = 4_096;

/// Asks once. A connection whose answer was good but may go on is given back, to be read to its
/// end: closing it with bytes unread would reset it under the server's hands.
pub(super) async fn ask(
    check: &HealthCheck,
    candidate: Candidate,
) -> Result<Option<CheckStream>, Failure> {
    match &check.what {
        What::Http { listener, question } => {
            let mut stream = reach(&candidate, listener).await?;
            http(question, &address(&candidate, listener), &mut stream).await?;
            Ok(Some(stream))
        }
        What::Tcp { listener, send, expect } => {
            let mut stream = reach(&candidate, listener).await?;
            tcp(send, expect, &mut stream).await?;
            Ok(Some(stream))
        }
        What::Custom(check) => {
            // In a task of its own, so that a panic is a failure; it ends with this future.
            let mut task = JoinSet::new();
            crate::task::spawn_in(&mut task, check(candidate.clone()));
            match task.join_next().await {
                Some(Ok(Ok(()))) => Ok(None),
                Some(Ok(Err(error))) => {
                    Err(candidate.excused().unwrap_or_else(|| Failure::wrong(chain(&*error))))
                }
                Some(Err(_)) | None => Err(Failure::wrong("the check itself panicked")),
            }
        }
    }
}

/// Reads on until the server closes or has sent as much as the longest head.
pub(super) async fn read_to_end(stream: CheckStream) {
    let mut rest = stream.take(MAX_HEAD as u64);
    // Whatever comes of it: the answer was there.
    let _ = tokio::io::copy(&mut rest, &mut tokio::io::sink()).await;
}

async fn reach(candidate: &Candidate, listener: &str) -> Result<CheckStream, Failure> {
    candidate.reach(listener).await.map_err(|(failure, _)| failure)
}

/// `Host` of a request: an address for TCP, and something that servers take for a Unix socket.
fn address(candidate: &Candidate, listener: &str) -> String {
    let mut all = candidate.addresses().filter(|(name, _)| name.as_str() == listener);
    match all.next() {
        // Without the scope of a link-local address: it means nothing to the other side.
        Some((_, CheckAddress::Tcp(address))) => {
            SocketAddr::new(address.ip(), address.port()).to_string()
        }
        _ => "localhost".to_owned(),
    }
}

async fn http(question: &Question, host: &str, stream: &mut CheckStream) -> Result<(), Failure> {
    let sent = stream.write_all(&question.request(host)).await;
    let mut head = Head::default();
    let mut buffer = [0; CHUNK];
    loop {
        // A server may answer and close before it has read the request, so an answer counts more
        // than an error of sending.
        let bytes = match (read(stream, &mut buffer).await, &sent) {
            (Err(_), Err(error)) => return Err(Failure::wrong(format!("sending: {error}"))),
            (read, _) => read?,
        };
        if bytes.is_empty() {
            let what = if head.is_empty() { "without an answer" } else { "in its answer's head" };
            return Err(Failure::wrong(format!("the server closed the connection {what}")));
        }
        if let Some(status) = head.feed(bytes).map_err(Failure::wrong)? {
            return question.accepts(status).map_err(Failure::wrong);
        }
    }
}

async fn tcp(send: &[u8], expect: &[u8], stream: &mut CheckStream) -> Result<(), Failure> {
    // Nothing to send is not sent: on a sequential-packet socket it would be an empty record.
    let sent = if send.is_empty() { Ok(()) } else { stream.write_all(send).await };
    let mut answer = Vec::new();
    let mut buffer = [0; CHUNK];
    loop {
        let bytes = match (read(stream, &mut buffer).await, &sent) {
            (Err(_), Err(error)) => return Err(Failure::wrong(format!("sending: {error}"))),
            (read, _) => read?,
        };
        if bytes.is_empty() {
            let after = answer.len();
            let text = format!("the server closed the connection after {after} bytes");
            return Err(Failure::wrong(text));
        }
        answer.extend_from_slice(bytes);
        if !answer.iter().zip(expect).all(|(byte, wanted)| byte == wanted) {
            let (got, wanted) = (shown(&answer), shown(expect));
            return Err(Failure::wrong(format!(
                "the answer begins with {got} instead of {wanted}"
            )));
        }
        if answer.len() >= expect.len() {
            return Ok(());
        }
    }
}

async fn read<'a>(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &'a mut [u8],
) -> Result<&'a [u8], Failure> {
    match stream.read(buffer).await {
        Ok(length) => Ok(buffer.get(..length).unwrap_or_default()),
        Err(error) => Err(Failure::wrong(format!("reading the answer: {error}"))),
    }
}
