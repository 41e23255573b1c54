//! A client for HTTP/1.1, by hand: one request, one answer, every failure told apart, no retry.

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::FromServer;
use crate::trouble::{Class, Trouble};

/// The longest head of an answer.
const MAX_HEAD: usize = 8 * 1024;

/// An answer.
#[derive(Debug)]
pub(crate) struct Response {
    /// `x-generation`.
    generation: u64,
    /// `x-pid`.
    pid: i32,
    /// Whether the server will close the connection.
    pub(crate) close: bool,
}

impl FromServer for Response {
    fn generation(&self) -> u64 {
        self.generation
    }
    fn pid(&self) -> i32 {
        self.pid
    }
}

/// Sends a request and reads its answer, whose body must be `expected`.
pub(crate) async fn exchange<S>(
    stream: &mut S,
    request: &[u8],
    expected: &str,
) -> Result<Response, Trouble>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(request).await?;
    let mut bytes = Vec::with_capacity(512);
    let head_end = loop {
        if let Some(at) = find(&bytes, b"\r\n\r\n") {
            break at;
        }
        if bytes.len() > MAX_HEAD {
            return Err(bad("a head without an end"));
        }
        more(stream, &mut bytes).await?;
    };
    let head = Head::parse(bytes.get(..head_end).unwrap_or_default())?;
    let total = head_end + 4 + head.length;
    while bytes.len() < total {
        more(stream, &mut bytes).await?;
    }
    let body = bytes.get(head_end + 4..).unwrap_or_default();
    if head.status != 200 || body != expected.as_bytes() {
        let body = String::from_utf8_lossy(body);
        return Err(bad(format!("status {} and {body:?}, not {expected:?}", head.status)));
    }
    Ok(Response { generation: head.generation, pid: head.pid, close: head.close })
}

/// Reads some more, at least one byte.
async fn more<S: AsyncRead + Unpin>(stream: &mut S, bytes: &mut Vec<u8>) -> Result<(), Trouble> {
    let had = bytes.len();
    match stream.read_buf(bytes).await? {
        0 => Err(Trouble::new(Class::Closed, format!("after {had} bytes of the answer"))),
        _ => Ok(()),
    }
}

/// What the head of an answer says.
#[derive(Debug, Default)]
struct Head {
    status: u16,
    length: usize,
    close: bool,
    generation: u64,
    pid: i32,
}

impl Head {
    /// Reads the status line and the headers that we know.
    fn parse(head: &[u8]) -> Result<Self, Trouble> {
        let text = std::str::from_utf8(head).map_err(|_| bad("a head that is not text"))?;
        let mut lines = text.split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 "));
        let status = status.and_then(|rest| rest.get(..3)).ok_or_else(|| bad("no status line"))?;
        let mut parsed = Self { status: number("status", status)?, ..Self::default() };
        for line in lines {
            let (name, value) = line.split_once(':').ok_or_else(|| bad("a header without ':'"))?;
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => parsed.length = number(name, value)?,
                "connection" => parsed.close = value.eq_ignore_ascii_case("close"),
                "x-generation" => parsed.generation = number(name, value)?,
                "x-pid" => parsed.pid = number(name, value)?,
                _ => {}
            }
        }
        Ok(parsed)
    }
}

/// A number in an answer.
fn number<N: std::str::FromStr>(name: &str, value: &str) -> Result<N, Trouble> {
    value.parse().map_err(|_| bad(format!("{name}: {value:?} is not a number")))
}

/// An answer that is none.
fn bad(detail: impl Into<String>) -> Trouble {
    Trouble::new(Class::BadAnswer, detail)
}

/// Where `needle` begins.
fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}
