//! What is the smallest HTTP server that can be upgraded without losing a request?
//!
//! Start it, ask it, put it under load if you like (`wrk -d 30 http://127.0.0.1:8080/`), and
//! upgrade it as often as you want:
//!
//! ```text
//! cargo run --example hello
//! curl -i http://127.0.0.1:8080/
//! kill -HUP $(cat /tmp/heirloom-hello.pid)
//! kill $(cat /tmp/heirloom-hello.pid)
//! ```
//!
//! Each answer names the generation and its pid. At SIGHUP the number changes within a moment, and
//! the log follows the upgrade. For 5 s the new process is on probation: `kill -9` it, and the old
//! one answers again. Only after that does the PID file change and the old process drain: first it
//! answers with `Connection: close`, half a second later it closes what is idle, then it exits.
//! SIGTERM stops the server, also after a drain.

use std::convert::Infallible;
use std::pin::pin;
use std::process::ExitCode;

use heirloom::{Config, Conn, DrainPhase, Generation};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::{Response, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;

fn main() -> ExitCode {
    tracing_subscriber::fmt().log_internal_errors(false).with_writer(std::io::stderr).init();
    let mut listen = String::from("127.0.0.1:8080");
    let mut pid_file = std::env::temp_dir().join("heirloom-hello.pid");
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        match (flag.as_str(), args.next()) {
            ("--listen", Some(address)) => listen = address,
            ("--pid-file", Some(path)) => pid_file = path.into(),
            _ => {
                tracing::error!("usage: hello [--listen ADDR] [--pid-file PATH]");
                return ExitCode::from(2);
            }
        }
    }
    heirloom::run(Config::new("hello").pid_file(pid_file), async move |start| {
        let http = start.tcp("http", listen).await?;
        let running = start.ready().await?;
        tracing::info!(generation = %running.generation(), pid = std::process::id(), "serving");
        running.accept_loop_with(http, running.generation(), serve);
        running.finished().await
    })
}

/// Serves one connection. At the drain's deadline the accept loop drops it.
async fn serve(generation: Generation, conn: Conn<TcpStream>) {
    let (stream, guard) = conn.into_parts();
    let answer = service_fn(async |_request| {
        let pid = std::process::id();
        let mut response =
            Response::new(format!("hello from generation {generation}, pid {pid}\n"));
        // Lame duck: whoever asks now is told to come back on a new connection.
        if guard.phase() >= DrainPhase::LameDuck {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok::<_, Infallible>(response)
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(stream), answer)
    );
    tokio::select! {
        _ = connection.as_mut() => return,
        // Graceful, and not before: on what looks idle, the next request may be under way.
        () = guard.reached(DrainPhase::Graceful) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
