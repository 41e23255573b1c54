//! The server that is upgraded: HTTP/1.1, and lines echoed over TCP and a Unix socket.
//!
//! This is all that an application has to do for graceful restarts: name its sockets, say when it
//! is ready, and let each connection ask its guard whether it is time to go.

mod echo;
pub(crate) mod files;
mod http;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Failure;
use crate::options::Options;

/// Who answers: every answer names it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    /// Which generation.
    generation: u64,
    /// Which process.
    pid: u32,
}

/// The server's `main`.
pub(crate) fn main(dir: PathBuf, options: &Options) -> ExitCode {
    tracing_subscriber::fmt()
        .log_internal_errors(false)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .with_max_level(tracing::Level::INFO)
        .init();
    let config = heirloom::Config::new("demo")
        .version(env!("CARGO_PKG_VERSION"))
        .probation(options.probation)
        .lame_duck(options.lame_duck)
        .drain_deadline(options.drain)
        // The demo upgrades faster than slow requests end, and none of them is to be cut for it.
        .max_draining(64)
        .pid_file(files::pid(&dir));
    heirloom::run(config, async move |start| serve(start, &dir).await)
}

/// From the first breath of a generation to its last.
async fn serve(start: heirloom::Starting, dir: &Path) -> Result<heirloom::Outcome, Failure> {
    end_with_the_demo();
    let http = start.tcp("http", "127.0.0.1:0").await?;
    let echo = start.tcp("echo", "127.0.0.1:0").await?;
    let unix = start.unix("echo-unix", files::socket(dir)).await?;
    let me = Identity { generation: start.generation().get(), pid: std::process::id() };
    files::write_addresses(dir, http.local_addr()?, echo.local_addr()?)?;

    let running = start.ready().await?;
    running.accept_loop(http, move |conn| http::connection(conn, me));
    running.accept_loop(echo, move |conn| echo::session(conn, me));
    running.accept_loop(unix, move |conn| echo::session(conn, me));
    Ok(running.finished().await?)
}

/// Every generation has the demo's pipe as its standard input: when the demo is gone, however it
/// went, the pipe ends and so does the server. A plain thread, since reading a pipe may block.
fn end_with_the_demo() {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        let _ = kill(Pid::this(), Signal::SIGTERM);
    });
}
