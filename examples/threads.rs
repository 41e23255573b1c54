//! How does a server of plain threads, without async code, get graceful restarts?
//!
//! A thread accepts with `accept_blocking`, and each connection has a thread with an ordinary
//! `std::net::TcpStream`. The only `async` is the closure that `run` calls; it takes the listener,
//! says ready, and waits for the end. Type lines, and they come back in capitals:
//!
//! ```text
//! cargo run --example threads
//! nc 127.0.0.1 7001                    # in a second terminal
//! kill -HUP $(cat /tmp/heirloom-threads.pid)
//! ```
//!
//! A new `nc` is greeted by the new generation at once. The first one goes on with the old
//! generation until that drains, 5 s later, after the new one's probation; then it reads `goodbye`.
//! `kill -9` the new generation within the 5 s, and the old one's thread accepts again: it was
//! merely waiting in `accept_blocking`. SIGTERM says goodbye to everyone and stops.

use std::io::{self, BufRead as _, BufReader, ErrorKind, Write as _};
use std::net::TcpStream;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use heirloom::{BlockingConn, Config, DrainPhase, Generation, TcpListener};

/// How often a thread that waits for its client looks whether it is time to go.
const LOOK_UP: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    tracing_subscriber::fmt().log_internal_errors(false).with_writer(std::io::stderr).init();
    let mut listen = String::from("127.0.0.1:7001");
    let mut pid_file = std::env::temp_dir().join("heirloom-threads.pid");
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        match (flag.as_str(), args.next()) {
            ("--listen", Some(address)) => listen = address,
            ("--pid-file", Some(path)) => pid_file = path.into(),
            _ => {
                tracing::error!("usage: threads [--listen ADDR] [--pid-file PATH]");
                return ExitCode::from(2);
            }
        }
    }
    heirloom::run(Config::new("threads").pid_file(pid_file), async move |start| {
        let lines = start.tcp("lines", listen).await?;
        let running = start.ready().await?;
        tracing::info!(generation = %running.generation(), pid = std::process::id(), "serving");
        let generation = running.generation();
        // Started in here: threads that are older than `run` have another signal mask.
        thread::spawn(move || accept(&lines, generation));
        // It waits for the guards, which the connections hold; so no thread needs to be joined.
        running.finished().await
    })
}

/// Accepts until nothing comes any more. A pause, when it is another generation's turn, is only a
/// longer wait.
fn accept(listener: &TcpListener, generation: Generation) {
    loop {
        match listener.accept_blocking() {
            Ok(Some(conn)) => {
                // Clients come and go as they like: how a connection ended is no news.
                thread::spawn(move || serve(conn, generation));
            }
            Ok(None) => return,
            Err(error) => return tracing::error!(error = error.chain(), "cannot accept any more"),
        }
    }
}

/// Serves one connection until the client has had enough, or the drain.
fn serve(conn: BlockingConn<TcpStream>, generation: Generation) -> io::Result<()> {
    let guard = conn.guard().clone();
    conn.set_read_timeout(Some(LOOK_UP))?;
    conn.set_write_timeout(Some(Duration::from_secs(5)))?;
    let mut conn = BufReader::new(conn);
    writeln!(conn.get_mut(), "generation {generation}, pid {}", std::process::id())?;
    let mut line = Vec::new();
    loop {
        match conn.read_until(b'\n', &mut line) {
            Ok(0) => return Ok(()),
            Ok(_) => {
                line.make_ascii_uppercase();
                conn.get_mut().write_all(&line)?;
                line.clear();
            }
            // What has been read of a line so far stays in `line`.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
        match guard.phase() {
            DrainPhase::Serving | DrainPhase::LameDuck => {}
            // A line that has begun is waited for; the deadline is in the next phase.
            DrainPhase::Graceful if !line.is_empty() => guard.set_reason("in the middle of a line"),
            _ => return conn.get_mut().write_all(b"goodbye\n"),
        }
    }
}
