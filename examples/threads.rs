//! Can a server of plain threads and blocking sockets be upgraded?
//!
//! ```text
//! cargo run --example threads          # or -- --listen 127.0.0.1:7001
//! nc 127.0.0.1 7000                    # type; it comes back IN CAPITALS
//! kill -HUP PID                        # the one that the greeting names
//! ```
//!
//! Yes: `accept_blocking` pauses and goes on by itself like its asynchronous sister, and needs no
//! runtime. Here each session is a thread that looks at its guard's phase between two lines. After
//! SIGHUP a new `nc` is greeted by the next generation; three seconds later the old one's sessions
//! are told goodbye, and it exits when the last has ended.
#![allow(clippy::print_stderr)] // an example that talks to a terminal

use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use heirloom::{BlockingConn, Config, DrainPhase, TcpListener};

/// How long a thread waits for a line before it looks at the drain's phase.
const GLANCE: Duration = Duration::from_millis(250);

/// The longest line.
const MAX_LINE: u64 = 64 * 1024;

fn main() -> ExitCode {
    let listen = std::env::args().skip_while(|arg| arg != "--listen").nth(1);
    let listen = listen.unwrap_or_else(|| "127.0.0.1:7000".to_owned());
    let config = Config::new("threads").probation(Duration::from_secs(3));
    // The closure is all that is asynchronous. Threads are started in it, not before: a thread
    // keeps the signal mask that it was born with.
    heirloom::run(config, async move |start| {
        let listener = start.tcp("lines", &listen).await?;
        let me = format!("generation {}, process {}", start.generation(), std::process::id());
        let running = start.ready().await?;
        eprintln!("{me} is ready");
        thread::spawn(move || accept(&listener, &me));
        running.finished().await
    })
}

/// Accepts until there is nothing to accept any more: a thread for each session.
fn accept(listener: &TcpListener, me: &str) {
    loop {
        match listener.accept_blocking() {
            Ok(Some(conn)) => {
                let me = me.to_owned();
                thread::spawn(move || session(conn, &me));
            }
            Ok(None) => return,
            Err(error) => return eprintln!("{me} cannot accept any more: {}", error.chain()),
        }
    }
}

/// One session. Its guard, in `conn`, keeps the drain waiting until this function returns.
fn session(conn: BlockingConn<std::net::TcpStream>, me: &str) -> io::Result<()> {
    conn.set_read_timeout(Some(GLANCE))?;
    let mut stream = BufReader::new(conn);
    writeln!(stream.get_mut(), "{me} greets you")?;
    let mut line = Vec::new();
    loop {
        // A read that times out leaves what came of the line in place.
        let room = MAX_LINE.saturating_sub(line.len() as u64);
        match stream.by_ref().take(room).read_until(b'\n', &mut line) {
            Ok(0) => return Ok(()),
            Ok(_) => {
                line.make_ascii_uppercase();
                stream.get_mut().write_all(&line)?;
                line.clear();
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
        // Between two lines nothing is in flight, so it may end.
        if line.is_empty() && stream.get_ref().guard().phase() >= DrainPhase::LameDuck {
            return writeln!(stream.get_mut(), "goodbye");
        }
    }
}
