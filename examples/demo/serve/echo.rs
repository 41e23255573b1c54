//! Lines, echoed, with a protocol that can say goodbye: `HELLO`, the lines, `BYE`.

use std::io;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};

use heirloom::{Conn, DrainPhase};

use super::Identity;

/// Holds one session until the client ends it: greets, gives every line back, and says `BYE` once
/// when the drain begins. What the client had already sent by then is still given back; it ends
/// the session when it has read the `BYE`. One that does not is dropped at the drain's deadline.
pub(crate) async fn session<S, A>(conn: Conn<S, A>, me: Identity) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (stream, guard) = conn.into_parts();
    guard.set_name("echo session");
    let mut stream = BufReader::new(stream);
    let hello = format!("HELLO {} {}\n", me.generation, me.pid);
    stream.get_mut().write_all(hello.as_bytes()).await?;
    let mut line = Vec::new();
    let mut told = false;
    loop {
        tokio::select! {
            read = stream.read_until(b'\n', &mut line) => {
                if read? == 0 {
                    return Ok(());
                }
                stream.get_mut().write_all(&line).await?;
                line.clear();
            }
            () = guard.reached(DrainPhase::LameDuck), if !told => {
                stream.get_mut().write_all(b"BYE\n").await?;
                guard.set_reason("said BYE, waits for the client to end");
                told = true;
            }
        }
    }
}
