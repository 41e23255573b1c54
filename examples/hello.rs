//! What is the smallest HTTP server that can be upgraded?
//!
//! ```text
//! cargo run --example hello            # or -- --listen 127.0.0.1:9000
//! curl -i http://127.0.0.1:8080/       # hello from generation 0, process 4711
//! kill -HUP 4711
//! curl -i http://127.0.0.1:8080/       # hello from generation 1, process 4712
//! kill 4712                            # the end
//! ```
//!
//! You will see the next generation answer at once. Five seconds later, when its probation is
//! over, generation 0 drains and exits: your prompt comes back, the service stays. A connection
//! that is still open then gets `Connection: close` on its next answer, so no client is cut off.
#![allow(clippy::print_stderr)] // an example that talks to a terminal

use std::convert::Infallible;
use std::pin::pin;
use std::process::ExitCode;

use heirloom::{Config, Conn, DrainPhase, Guard};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;

fn main() -> ExitCode {
    let listen = std::env::args().skip_while(|arg| arg != "--listen").nth(1);
    let listen = listen.unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    heirloom::run(Config::new("hello"), async move |start| {
        let http = start.tcp("http", &listen).await?;
        let (generation, process) = (start.generation(), std::process::id());
        let greeting =
            Bytes::from(format!("hello from generation {generation}, process {process}\n"));
        let running = start.ready().await?;
        eprintln!("generation {generation}, process {process}, serves http://{listen}");
        running.accept_loop_with(http, greeting, |greeting, conn| connection(conn, greeting));
        running.finished().await
    })
}

/// Serves one connection. At the drain's deadline `accept_loop` drops it.
async fn connection(conn: Conn<TcpStream>, greeting: Bytes) {
    let (stream, guard) = conn.into_parts();
    let service = service_fn(|request| answer(request, &guard, greeting.clone()));
    let mut http = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(stream), service)
    );
    tokio::select! {
        _ = http.as_mut() => return,
        // Only after the lame duck: what hyper takes for idle may have a request on its way.
        () = guard.reached(DrainPhase::Graceful) => http.as_mut().graceful_shutdown(),
    }
    let _ = http.await;
}

/// Answers, and asks the client to come back on a new connection once the drain has begun.
async fn answer(
    _request: Request<Incoming>,
    guard: &Guard,
    greeting: Bytes,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::new(greeting));
    if guard.phase() >= DrainPhase::LameDuck {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}
