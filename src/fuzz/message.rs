//! Any bytes as the payload of a message.

use super::script::Script;
use crate::wire::limits::{MAX_PAYLOAD, WHOLE_FRAME};
use crate::wire::{HEADER, Header, Message, WireError};

/// The longest text of an error: it goes into logs and reports, and the other side has a say in it.
const LONGEST_ERROR: usize = 600;

/// The first kind of the control socket.
const CONTROL: u16 = 64;

/// A kind (two bytes) and a payload: it is refused in few words, or it is a message that can be
/// sent on and reads as it was written, also for a version that finds fields that it does not know.
pub fn message(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let kind = script.number();
    let payload = script.take(usize::MAX);
    match Message::decode(kind, payload) {
        Err(error) => refused(&error),
        Ok(message) if matches!(message, Message::Unknown(_)) => {
            assert_eq!(message, Message::Unknown(kind));
            // The control socket's kinds have names, and mean nothing on a link.
            let known = message.name() != "unknown" && kind < CONTROL;
            assert!(!known, "a known kind was not decoded: {}", message.name());
            assert!(message.encode().is_err(), "nothing can be said in an unknown kind");
        }
        Ok(message) => {
            assert_eq!(message.kind(), kind);
            written_and_read(&message);
            read_by_another_version(kind, payload, &message);
        }
    }
}

fn refused(error: &WireError) {
    let text = error.to_string();
    assert!(text.starts_with("frame "), "{text}");
    assert!(text.len() <= LONGEST_ERROR, "{} bytes: {text}", text.len());
    let steers = |char: char| char.is_control() && char != '\n' && char != '\t';
    assert!(!text.contains(steers), "{text:?}");
}

/// What was accepted is within the limits, so it can be sent; and it says the same again.
fn written_and_read(message: &Message) {
    let carried = message.items().unwrap_or(0);
    let frame = match message.frame(carried) {
        Ok(frame) => frame,
        // Bytes that are not readable are longer as we write them. No offer of ours holds so many.
        Err(WireError::TooLong { .. }) if message.items().is_some() => return,
        Err(error) => panic!("{error}: {message:?}"),
    };
    let (header, payload) = frame.split_first_chunk::<HEADER>().unwrap_or_else(|| panic!("short"));
    let header = Header::parse(header).unwrap_or_else(|error| panic!("{error}: {message:?}"));
    assert_eq!(
        header,
        Header { length: payload.len(), kind: message.kind(), descriptors: carried }
    );
    let back = Message::decode(header.kind, payload)
        .unwrap_or_else(|error| panic!("{error}: {message:?}"));
    match (message, &back) {
        // The one message that is shortened so that it travels whole; it says by how much.
        (Message::LastReport(was), Message::LastReport(is)) => {
            assert_eq!(was.cut.get(..is.cut.len()), Some(&is.cut[..]));
            let all = |report: &crate::wire::LastReport| {
                report.unlisted.saturating_add(report.cut.len() as u64)
            };
            assert_eq!(all(was), all(is));
        }
        _ => assert_eq!(message, &back),
    }
    assert_eq!(back.frame(carried).ok(), Some(frame.clone()), "it is written in one way");
    assert!(message.items().is_none() || message.carries(carried + 1).is_err());
    let of_an_elder = matches!(
        message,
        Message::Asked { .. }
            | Message::StopAsked { .. }
            | Message::Pong { .. }
            | Message::Progress(_)
            | Message::LastReport(_)
    );
    assert!(!of_an_elder || frame.len() <= WHOLE_FRAME, "{} bytes", frame.len());
}

/// A later version adds a field; this one reads the same message.
fn read_by_another_version(kind: u16, payload: &[u8], message: &Message) {
    let Some(open) = payload.iter().position(|byte| !byte.is_ascii_whitespace()) else { return };
    if payload[open] != b'{' {
        return;
    }
    let rest = &payload[open + 1..];
    let empty = rest.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'}');
    let added: &[u8] = br#"{"a later field":[{"deep":[null,-1.5e300,"\ud83d\ude00"]}]"#;
    let comma: &[u8] = if empty { b"" } else { b"," };
    let later = [added, comma, rest].concat();
    if later.len() <= MAX_PAYLOAD {
        let read = Message::decode(kind, &later);
        assert_eq!(read.ok().as_ref(), Some(message), "a field that is not known is skipped");
    }
}
