//! How do WebSockets come back after an upgrade, and not all at once?
//!
//! A WebSocket cannot move to another process, for nobody knows what its library has read ahead. So
//! each is closed with the code 1012, 'service restart', and its client connects again, to the next
//! generation. The drain tells them one after the other, spread over a window, so that their return
//! is no stampede.
//!
//! ```text
//! cargo run --example websocket
//! wscat -c ws://127.0.0.1:7300         # or `-- client 127.0.0.1:7300`, which comes back
//! kill -HUP $(cat /tmp/heirloom-websocket.pid)
//! cargo run --example websocket -- check    # does all of this by itself
//! ```
//!
//! Flags: `--listen ADDR`, `--spread MS` (2 s by default), `--pid-file PATH`. The library is
//! tokio-tungstenite, on a listener without HTTP; beside HTTP routes, see the example `axum`.

mod check;
#[path = "../checking/mod.rs"]
mod checking;
mod client;

use std::process::ExitCode;
use std::time::Duration;

use checking::Failure;
use futures_util::{SinkExt, StreamExt};
use heirloom::{Config, DrainPhase, Outcome, TcpConn};
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

fn main() -> ExitCode {
    tracing_subscriber::fmt().log_internal_errors(false).with_writer(std::io::stderr).init();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        ["check"] => run(check::check()),
        ["client", address] => run(client::stay(address)),
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
    let mut listen = String::from("127.0.0.1:7300");
    let mut pid_file = std::env::temp_dir().join("heirloom-websocket.pid");
    let mut spread = Some(2_000);
    for pair in words.chunks(2) {
        match pair {
            ["--listen", address] => listen = (*address).to_owned(),
            ["--pid-file", path] => pid_file = path.into(),
            ["--spread", millis] => spread = millis.parse().ok(),
            _ => spread = None,
        }
    }
    let Some(spread) = spread.map(Duration::from_millis) else {
        tracing::error!(
            "usage: websocket [check | client ADDR | --listen ADDR --spread MS --pid-file PATH]"
        );
        return ExitCode::from(2);
    };
    let config = Config::new("websocket")
        .pid_file(pid_file)
        .probation(Duration::from_millis(500))
        .drain_spread(spread);
    heirloom::run(config, async move |start| -> Result<Outcome, Failure> {
        let listener = start.tcp("websocket", listen).await?;
        let running = start.ready().await?;
        let generation = running.generation().get();
        running.accept_loop(listener, move |conn| serve(conn, generation));
        Ok(running.finished().await?)
    })
}

/// Answers each message with the generation and what was said, until the client goes, or is told to.
async fn serve(conn: TcpConn, generation: u64) -> Result<(), Failure> {
    let guard = conn.guard().clone();
    let mut socket = accept_async(conn).await?;
    loop {
        tokio::select! {
            () = guard.reached(DrainPhase::Graceful) => break,
            message = socket.next() => match message.transpose()? {
                Some(Message::Text(text)) => {
                    socket.send(Message::text(format!("{generation} {text}"))).await?;
                }
                Some(_) => {}
                None => return Ok(()),
            }
        }
    }
    let reason = "the service restarts".into();
    let frame = CloseFrame { code: CloseCode::Restart, reason };
    socket.send(Message::Close(Some(frame))).await?;
    // To the end of the closing handshake. What the client has said meanwhile it says again
    // elsewhere: it was not answered.
    while let Some(Ok(_)) = socket.next().await {}
    Ok(())
}
