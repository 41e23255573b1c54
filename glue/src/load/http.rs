//! HTTP/1.1 on connections that are kept, half of the requests POST, none asked twice.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Client, one};

const BODY: &[u8] = b"what is said here is heard there, whichever process it is";

enum Answer {
    Whole {
        closes: bool,
    },
    /// The connection has ended without a byte of it.
    Nothing,
    Broken,
}

pub(super) async fn run(client: Client) {
    while client.goes_on() {
        match TcpStream::connect(client.address).await {
            Ok(stream) => talk(&client, stream).await,
            Err(_) => {
                one(&client.tally.refused);
                client.calm_down().await;
            }
        }
    }
}

/// Asks until the connection ends.
async fn talk(client: &Client, mut stream: TcpStream) {
    let mut answered = 0_u64;
    while client.goes_on() {
        match ask(&mut stream, answered + client.number).await {
            Answer::Whole { closes } => {
                answered += 1;
                one(&client.tally.answered);
                if closes {
                    return one(&client.tally.closed);
                }
            }
            Answer::Nothing if answered > 0 => return one(&client.tally.lost_kept),
            Answer::Nothing => return one(&client.tally.lost_fresh),
            Answer::Broken => return one(&client.tally.broken),
        }
        // As every client does that keeps connections: one that was closed meanwhile is not used.
        let thought = tokio::time::sleep(client.thought());
        tokio::select! {
            () = thought => {}
            _ = stream.readable() => {
                return one(&client.tally.closed);
            }
        }
    }
}

async fn ask(stream: &mut TcpStream, number: u64) -> Answer {
    let (request, expected): (Vec<u8>, &[u8]) = if number.is_multiple_of(2) {
        (b"GET / HTTP/1.1\r\nhost: glue\r\n\r\n".to_vec(), b"hello\n")
    } else {
        let length = BODY.len();
        let head = format!("POST /echo HTTP/1.1\r\nhost: glue\r\ncontent-length: {length}\r\n\r\n");
        ([head.as_bytes(), BODY].concat(), BODY)
    };
    if stream.write_all(&request).await.is_err() {
        return Answer::Nothing;
    }
    let mut answer = Vec::new();
    loop {
        match stream.read_buf(&mut answer).await {
            Ok(0) | Err(_) if answer.is_empty() => return Answer::Nothing,
            Ok(0) | Err(_) => return Answer::Broken,
            Ok(_) => {}
        }
        match whole(&answer, expected) {
            Ok(Some(closes)) => return Answer::Whole { closes },
            Ok(None) => {}
            Err(_) => return Answer::Broken,
        }
    }
}

/// Whether the answer is there, is the expected one, and says that the connection closes.
fn whole(answer: &[u8], expected: &[u8]) -> io::Result<Option<bool>> {
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let body = &answer[end + 4..];
    if !head.starts_with("http/1.1 200") || !expected.starts_with(body) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok((body.len() == expected.len()).then(|| head.contains("\r\nconnection: close")))
}
