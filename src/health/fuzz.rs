//! Any bytes as the answer to a health check: however they are cut, they say the same.

use super::http::{Head, MAX_HEAD};
use crate::fuzz::script::Script;

/// The longest error: it goes into logs and reports.
const LONGEST_ERROR: usize = 300;

/// How many pieces, the length of each, then the answer.
pub fn answer(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let pieces: Vec<usize> = (0..script.byte() % 16).map(|_| usize::from(script.byte())).collect();
    let answer = script.take(MAX_HEAD - 1);
    let expected = expected(answer);
    assert_eq!(read([answer]), expected, "at once");
    assert_eq!(read(answer.chunks(1)), expected, "byte by byte");
    let mut rest = answer;
    let cut = pieces.into_iter().map(|length| {
        let (piece, after) = rest.split_at(length.min(rest.len()));
        rest = after;
        piece
    });
    let cut: Vec<&[u8]> = cut.collect();
    assert_eq!(read(cut.into_iter().chain([rest])), expected, "in pieces");
}

fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Option<u16>, ()> {
    let mut head = Head::default();
    for piece in pieces {
        match head.feed(piece) {
            Ok(None) => {}
            Ok(status) => return Ok(status),
            Err(why) => {
                assert!(why.len() <= LONGEST_ERROR && !why.contains(char::is_control), "{why:?}");
                return Err(());
            }
        }
    }
    Ok(None)
}

/// RFC 9112, sections 2 and 4, told once more: the status of the first head that is final, `None`
/// while it is not there, an error as soon as a line cannot become a status line.
fn expected(mut answer: &[u8]) -> Result<Option<u16>, ()> {
    loop {
        let line = answer.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let whole = line.len() < answer.len();
        let begins = b"HTTP/1.".iter().zip(line).all(|(wanted, byte)| wanted == byte);
        let status = status(line);
        if !begins || whole && status.is_none() {
            return Err(());
        }
        let Some(end) = (0..answer.len()).find(|at| answer[*at..].starts_with(b"\r\n\r\n")) else {
            return Ok(None);
        };
        match status {
            Some(100 | 102..=199) => answer = &answer[end + 4..],
            status => return Ok(status),
        }
    }
}

fn status(line: &[u8]) -> Option<u16> {
    let line = line.strip_suffix(b"\r")?.strip_prefix(b"HTTP/1.")?;
    let (minor, rest) = line.split_first()?;
    let code = rest.strip_prefix(b" ")?.first_chunk::<3>()?;
    let reason = &rest[4..];
    let fits = minor.is_ascii_digit()
        && code.iter().all(u8::is_ascii_digit)
        && (reason.is_empty() || reason.starts_with(b" "));
    let code = std::str::from_utf8(code).ok()?.parse().ok()?;
    (fits && (100..600).contains(&code)).then_some(code)
}
