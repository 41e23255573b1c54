//! How does an axum application live through upgrades?
//!
//! ```text
//! cargo run --features axum --example axum
//! curl -i http://127.0.0.1:8080/
//! curl -N http://127.0.0.1:8080/sse
//! kill -HUP $(cat /tmp/heirloom-axum.pid)
//! ```
//!
//! Each answer says in `x-generation` and `x-pid` who gave it. Start a slow request
//! (`/slow?ms=20000`), upgrade, and it ends where it began; the stream of events and the WebSocket
//! (`/ws`) are told to come back, and the next generation answers them.
//!
//! Flags: `--listen ADDR`, `--tls` (with a certificate made at each start), `--drain MS`,
//! `--probation MS`, `--pid-file PATH`.

mod options;
mod routes;
mod tls;

use std::process::ExitCode;

use heirloom::Config;
use options::Options;

fn main() -> ExitCode {
    tracing_subscriber::fmt().log_internal_errors(false).with_writer(std::io::stderr).init();
    let Some(options) = Options::parse(std::env::args().skip(1)) else {
        tracing::error!("usage: axum {}", options::USAGE);
        return ExitCode::from(2);
    };
    let config = Config::new("axum")
        .version(env!("CARGO_PKG_VERSION"))
        .probation(options.probation)
        .drain_deadline(options.drain)
        .pid_file(&options.pid_file);
    heirloom::run(config, async move |start| {
        let listener = start.tcp("http", options.listen.as_str()).await?;
        let tls = if options.tls { Some(tls::acceptor()?) } else { None };
        let running = start.ready().await?;
        tracing::info!(generation = %running.generation(), pid = std::process::id(), "serving");
        let server = heirloom::axum(routes::app(&running));
        match tls {
            Some(tls) => running.serve(listener, server.tls(move |stream| tls.accept(stream))),
            None => running.serve(listener, server),
        }
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(running.finished().await?)
    })
}
