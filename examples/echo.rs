//! How do long sessions live through an upgrade, and who tells them to go?
//!
//! ```text
//! cargo run --example echo             # or -- --listen 127.0.0.1:7001 --unix other.sock
//! nc 127.0.0.1 7000                    # and in another terminal: nc -U echo.sock
//! kill -HUP PID                        # the one that the greeting names
//! ```
//!
//! Every line that you type comes back. After SIGHUP a new `nc` is greeted by the next generation,
//! while your old session goes on with the old one. Three seconds later the new generation owns:
//! the old one tells its sessions to come back elsewhere, and five seconds after that it ends those
//! that are between two lines. A session that has begun a line and not ended it (`printf half; cat`
//! into `nc`) is waited for until the drain's deadline, then cut, and named in what the old
//! generation says before it exits. `kill PID` of the new one ends the service the same way.
#![allow(clippy::print_stderr)] // an example that talks to a terminal

use std::fmt::Debug;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use heirloom::{Config, Conn, DrainPhase, Outcome, Starting};
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};

/// The longest line.
const MAX_LINE: u64 = 64 * 1024;

fn main() -> ExitCode {
    let config = Config::new("echo")
        .probation(Duration::from_secs(3))
        .lame_duck(Duration::from_secs(5))
        .drain_deadline(Duration::from_secs(15));
    heirloom::run(config, serve)
}

/// From the first breath of a generation to its last.
async fn serve(start: Starting) -> heirloom::Result<Outcome> {
    let tcp = start.tcp("tcp", &flag("--listen", "127.0.0.1:7000")).await?;
    let unix = start.unix("unix", flag("--unix", "echo.sock")).await?;
    let me = format!("generation {}, process {}", start.generation(), std::process::id());
    let running = start.ready().await?;
    eprintln!("{me} is ready");
    running.accept_loop_with(tcp, me.clone(), session);
    running.accept_loop_with(unix, me.clone(), session);
    let outcome = running.finished().await?;
    if let Outcome::HandedOver(report) | Outcome::Stopped(report) = &outcome {
        eprintln!("{me} is done: {} sessions drained, {} cut", report.drained, report.cut.len());
        for held in &report.cut {
            eprintln!("  cut: {held:?}");
        }
    }
    Ok(outcome)
}

/// The value that follows a flag, or the default.
fn flag(name: &str, default: &str) -> String {
    std::env::args().skip_while(|arg| arg != name).nth(1).unwrap_or_else(|| default.to_owned())
}

/// One session: greets, gives every line back, says goodbye when the drain begins, and ends
/// between two lines when the drain closes what is idle.
///
/// The guard in `conn` keeps the drain waiting until the session is dropped; its name and reason
/// are what the drain's report says of a session that had to be cut.
async fn session<S, A: Debug>(me: String, conn: Conn<S, A>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let peer = format!("{:?}", conn.peer_addr());
    let (stream, guard) = conn.into_parts();
    guard.name(format!("session of {peer}"));
    let mut stream = BufReader::new(stream);
    stream.get_mut().write_all(format!("{me} greets you\n").as_bytes()).await?;
    let mut line = Vec::new();
    let mut told = false;
    loop {
        guard.reason("waits for a line");
        tokio::select! {
            // Nothing is in flight here, so it may end.
            () = guard.reached(DrainPhase::Graceful) => {
                return stream.get_mut().write_all(b"goodbye\n").await;
            }
            () = guard.reached(DrainPhase::LameDuck), if !told => {
                told = true;
                stream.get_mut().write_all(b"please come back on a new connection\n").await?;
                continue;
            }
            begun = stream.fill_buf() => if begun?.is_empty() { return Ok(()) },
        }
        guard.reason("has begun a line");
        line.clear();
        (&mut stream).take(MAX_LINE).read_until(b'\n', &mut line).await?;
        stream.get_mut().write_all(&line).await?;
    }
}
