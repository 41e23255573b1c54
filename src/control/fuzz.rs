//! Any bytes on the control socket, as a service and as a client read them.

#![allow(clippy::panic, reason = "a panic is how a target says what is wrong")]

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::frame::{self, ANSWER, NEWS, REQUEST};
use super::message::{Last, News};
use super::request::Request;
use crate::error::{Error, Result};
use crate::fuzz::script::Script;
use crate::wire::HEADER;
use crate::wire::limits::MAX_PAYLOAD;

/// The longest error: it goes into logs, and the other side has a say in it.
const LONGEST_ERROR: usize = 600;

/// First which kind: 0 to 2 and a payload, else a stream of frames of any kind.
pub fn control(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let kind = script.byte();
    let rest = script.take(usize::MAX);
    match kind {
        0 => read(REQUEST, rest),
        1 => read(NEWS, rest),
        2 => read(ANSWER, rest),
        _ => stream(rest),
    }
}

/// Whole frames come out of it, nothing is read twice, and it ends.
fn stream(mut bytes: &[u8]) {
    loop {
        let before = bytes;
        match at_once(frame::receive(&mut bytes)) {
            Ok(Some((kind, payload))) => {
                assert!(payload.len() <= MAX_PAYLOAD);
                assert_eq!(before.len() - bytes.len(), HEADER + payload.len());
                assert!(before.starts_with(b"HLRM"), "a frame without its mark");
                read(kind, &payload);
            }
            Ok(None) => return assert!(before.is_empty(), "an end in the middle"),
            Err(error) => return refused(&error),
        }
    }
}

/// A payload is refused in few words, or says the same when it is written and read again.
fn read(kind: u16, payload: &[u8]) {
    match kind {
        REQUEST => again::<Request>(kind, payload),
        NEWS => again::<News>(kind, payload),
        ANSWER => again::<Last>(kind, payload),
        _ => {}
    }
}

fn again<T: Serialize + DeserializeOwned>(kind: u16, payload: &[u8]) {
    let said: T = match frame::parse(kind, payload) {
        Ok(said) => said,
        Err(error) => return refused(&error),
    };
    let Ok(written) = serde_json::to_vec(&said) else { return };
    let back: T = frame::parse(kind, &written)
        .unwrap_or_else(|error| panic!("{}: {}", error.chain(), written.escape_ascii()));
    let twice = serde_json::to_vec(&back).unwrap_or_default();
    assert!(written == twice, "{} became {}", written.escape_ascii(), twice.escape_ascii());
}

fn refused(error: &Error) {
    let text = error.chain().to_string();
    assert!(text.len() <= LONGEST_ERROR, "{} bytes: {text}", text.len());
    assert!(!text.contains(|char: char| char.is_control() && char != '\n'), "{text:?}");
}

/// Bytes that are there are never waited for.
fn at_once<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("it waits for bytes that are there"),
    }
}
