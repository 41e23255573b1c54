//! Whoever asks for the turn at a control socket and then does not do what a successor does.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

use super::wait::{PATIENCE, pause};

/// Asks for the turn as the service `fixture`, and then, as this says, is silent, talks garbage, says
/// half a frame, or goes.
pub(crate) fn misbehave(how: &str) -> ExitCode {
    let mut stream = UnixStream::connect(Path::new("control.sock")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    if how == "go early" {
        stream.write_all(&request("fixture")).unwrap();
        return ExitCode::SUCCESS;
    }
    let service = if how == "mistaken" { "other" } else { "fixture" };
    stream.write_all(&request(service)).unwrap();
    let answer = frame(&mut stream);
    if !answer.contains("\"turn\"") {
        let _ = writeln!(std::io::stderr(), "{answer}");
        return ExitCode::FAILURE;
    }
    match how {
        "garbage" => stream.write_all(&[0xff; 4_096]).unwrap(),
        "half" => stream.write_all(b"HLRM\xff\x00\x00\x00\x01\x00\x00\x00{\"proto").unwrap(),
        "go" => return ExitCode::SUCCESS,
        _ => {}
    }
    // The other side ends us, or closes.
    let _ = stream.read(&mut [0]);
    pause(PATIENCE);
    ExitCode::SUCCESS
}

/// A frame of the control socket that asks for the turn.
fn request(service: &str) -> Vec<u8> {
    let body = format!(
        "{{\"protocol\":{{\"min\":1,\"max\":1}},\"command\":\"take-over\",\"service\":\"{service}\"}}"
    );
    let length = u32::try_from(body.len()).unwrap();
    let mut frame = b"HLRM".to_vec();
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&64_u16.to_le_bytes());
    frame.extend_from_slice(&[0, 0]);
    frame.extend_from_slice(body.as_bytes());
    frame
}

/// What the next frame holds; nothing if there is none.
fn frame(stream: &mut UnixStream) -> String {
    let mut header = [0; 12];
    if stream.read_exact(&mut header).is_err() {
        return String::new();
    }
    let length = u32::from_le_bytes(header[4..8].try_into().unwrap());
    let mut body = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut body).unwrap();
    String::from_utf8(body).unwrap()
}

/// What a fake owner answers to the wish for a turn.
pub(crate) fn turn() -> Vec<u8> {
    let body = br#"{"ok":{"answer":"turn"}}"#;
    let mut frame = b"HLRM".to_vec();
    frame.extend_from_slice(&u32::try_from(body.len()).unwrap().to_le_bytes());
    frame.extend_from_slice(&66_u16.to_le_bytes());
    frame.extend_from_slice(&[0, 0]);
    frame.extend_from_slice(body);
    frame
}
