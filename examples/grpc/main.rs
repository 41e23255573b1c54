//! How do gRPC calls live through an upgrade, those that never end among them?
//!
//! Calls that are under way finish, and the GOAWAY of HTTP/2 makes a client connect again. (A call
//! that it is about to send in that moment is seen by nobody, and has to be made again: with tonic
//! by its caller, see `client.rs`.) A stream that would never end is ended by its handler when the drain comes to its
//! connection, with the status OK; the client asks for the rest, and gets it from the next
//! generation.
//!
//! ```text
//! cargo run --features tonic --example grpc
//! cargo run --features tonic --example grpc -- client http://127.0.0.1:50051
//! kill -HUP $(cat /tmp/heirloom-grpc.pid)
//! cargo run --features tonic --example grpc -- check    # does all of this by itself
//! ```
//!
//! Flags: `--listen ADDR`, `--pid-file PATH`.

mod check;
#[path = "../checking/mod.rs"]
mod checking;
mod client;
mod service;

use std::process::ExitCode;
use std::time::Duration;

use checking::Failure;
use heirloom::{Config, Outcome};
use service::Counter;
use tonic::service::Routes;

fn main() -> ExitCode {
    tracing_subscriber::fmt().log_internal_errors(false).with_writer(std::io::stderr).init();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        ["check"] => run(check::check()),
        ["client", url] => run(client::follow(url.to_owned())),
        _ => server(&words),
    }
}

fn run(work: impl Future<Output = Result<(), Failure>>) -> ExitCode {
    let done = tokio::runtime::Runtime::new()
        .map_err(Failure::from)
        .and_then(|runtime| runtime.block_on(work));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error, "failed");
            ExitCode::FAILURE
        }
    }
}

fn server(words: &[&str]) -> ExitCode {
    let mut listen = String::from("127.0.0.1:50051");
    let mut pid_file = std::env::temp_dir().join("heirloom-grpc.pid");
    for pair in words.chunks(2) {
        match pair {
            ["--listen", address] => listen = (*address).to_owned(),
            ["--pid-file", path] => pid_file = path.into(),
            _ => {
                tracing::error!("usage: grpc [check | client URL | --listen ADDR --pid-file PATH]");
                return ExitCode::from(2);
            }
        }
    }
    let config = Config::new("grpc").pid_file(pid_file).probation(Duration::from_millis(500));
    heirloom::run(config, async move |start| -> Result<Outcome, Failure> {
        let listener = start.tcp("grpc", listen).await?;
        let running = start.ready().await?;
        let counter = Counter::new(running.generation());
        running.serve(listener, heirloom::tonic(Routes::new(counter)));
        Ok(running.finished().await?)
    })
}
