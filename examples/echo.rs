//! How do sessions that last for hours go along with upgrades?
//!
//! They stay with the generation that accepted them, which tells them when it is time to go, while
//! the next one takes the new sessions. Here are sessions over TCP and over a Unix socket; give
//! your name, then type lines, and they come back:
//!
//! ```text
//! cargo run --example echo
//! nc 127.0.0.1 7000                    # in a second terminal
//! nc -U /tmp/heirloom-echo.sock        # in a third
//! kill -HUP $(cat /tmp/heirloom-echo.pid)
//! ```
//!
//! Nothing happens to the sessions for 5 s: the new generation is on probation, and the old one may
//! have to go on (`kill -9` the new one and see). Then the old one drains. Its sessions are asked
//! to come back, and go on to work; call again, and the new generation greets you. A session that
//! is still there 20 s later is cut, and the old generation's last words say whose it was and why
//! it was there. If all have left, it exits at once. SIGTERM drains in the same way.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use heirloom::{Config, Conn, DrainPhase, Generation, Outcome};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};

fn main() -> ExitCode {
    tracing_subscriber::fmt().log_internal_errors(false).with_writer(std::io::stderr).init();
    let mut listen = String::from("127.0.0.1:7000");
    let mut socket = std::env::temp_dir().join("heirloom-echo.sock");
    let mut pid_file = std::env::temp_dir().join("heirloom-echo.pid");
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        match (flag.as_str(), args.next()) {
            ("--listen", Some(address)) => listen = address,
            ("--socket", Some(path)) => socket = path.into(),
            ("--pid-file", Some(path)) => pid_file = path.into(),
            _ => {
                tracing::error!("usage: echo [--listen ADDR] [--socket PATH] [--pid-file PATH]");
                return ExitCode::from(2);
            }
        }
    }
    let config = Config::new("echo").pid_file(pid_file).drain_deadline(Duration::from_secs(20));
    heirloom::run(config, async move |start| -> heirloom::Result<Outcome> {
        let tcp = start.tcp("echo", listen).await?;
        let unix = start.unix("echo-unix", socket).await?;
        let running = start.ready().await?;
        tracing::info!(generation = %running.generation(), pid = std::process::id(), "serving");
        // One handler for both. In the force phase the loop drops what it is still doing, even if
        // it is stuck in a write to a client that does not read.
        running.accept_loop_with(tcp, running.generation(), session);
        running.accept_loop_with(unix, running.generation(), session);
        let outcome = running.finished().await?;
        if let Outcome::HandedOver(drain) | Outcome::Stopped(drain) = &outcome {
            for session in &drain.cut {
                tracing::warn!("cut at the deadline: {session}");
            }
        }
        Ok(outcome)
    })
}

/// One session, until the client ends it or the drain's deadline does.
async fn session<S, A>(generation: Generation, conn: Conn<S, A>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite,
{
    // As long as a guard lives, the drain waits for this session.
    let (stream, guard) = conn.into_parts();
    let (read, mut write) = tokio::io::split(stream);
    let mut lines = BufReader::new(read).lines();

    let greeting = format!("generation {generation}, pid {}. Your name?\n", std::process::id());
    write.write_all(greeting.as_bytes()).await?;
    guard.set_reason("has not said its name");
    let mut named = false;
    let mut told = false;
    loop {
        tokio::select! {
            line = lines.next_line() => {
                let Some(line) = line? else { return Ok(()) };
                if named {
                    write.write_all(format!("{line}\n").as_bytes()).await?;
                } else {
                    // What the drain's report says of a session that had to be cut.
                    guard.set_name(line);
                    guard.set_reason("waits for a line");
                    named = true;
                }
            }
            // Lame duck is the time to ask. What the client has sent, or still wants to, is served.
            () = guard.reached(DrainPhase::LameDuck), if !told => {
                write.write_all(b"* please come back soon: this server is leaving\n").await?;
                guard.set_reason("was asked to leave, and stayed");
                told = true;
            }
        }
    }
}
