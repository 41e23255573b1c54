//! What does an operator see of a deployment, at a terminal?
//!
//! A server of one file that reads its release when it starts: the first line of the file `RELEASE`
//! in the working directory is the version, the second says how it goes with it: `well`, `fails`
//! (before it is ready) or `ill` (it answers 500 soon after it has its turn). With it all that the
//! command `heirloom` shows can be seen:
//!
//! ```text
//! printf '1.0\nwell\n' > RELEASE
//! cargo run --example operated
//! export HEIRLOOM_SOCKET=$PWD/operated.sock       # in a second terminal
//! heirloom status
//! printf '1.1\nill\n' > RELEASE; heirloom upgrade --wait
//! heirloom history
//! ```
//!
//! `docs/operating/session.sh` does that in tmux, and `docs/operating/session.txt` is what it saw.

use std::process::ExitCode;
use std::time::Duration;

use heirloom::{Config, Conn, ErrorBudget, HealthCheck, JournalFile, Outcome, Running};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

/// How long an ill release answers well.
const INCUBATION: Duration = Duration::from_millis(1_200);

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    tracing_subscriber::fmt().log_internal_errors(false).with_writer(std::io::stderr).init();
    let release = std::fs::read_to_string("RELEASE").unwrap_or_default();
    let mut lines = release.lines().map(str::to_owned);
    let version = lines.next().unwrap_or_else(|| String::from("unversioned"));
    let fate = lines.next().unwrap_or_default();
    let Ok(here) = std::env::current_dir() else { return ExitCode::FAILURE };
    let config = Config::new("operated")
        .version(version)
        .control_socket_at(here.join("operated.sock"))
        .journal_file(JournalFile::new(here.join("upgrades.jsonl")))
        .probation(Duration::from_secs(3))
        .health_check(HealthCheck::http("http", "/").interval(Duration::from_millis(200)))
        .error_budget(ErrorBudget::new(0.5))
        .drain_deadline(Duration::from_secs(4));
    heirloom::run(config, async move |start| -> Result<Outcome, Failure> {
        let listener = start.tcp("http", "127.0.0.1:8080").await?;
        if fate == "fails" {
            return Err("database: connection refused".into());
        }
        let running = start.ready().await?;
        let ill_from = (fate == "ill").then(|| tokio::time::Instant::now() + INCUBATION);
        let state = (running.clone(), ill_from);
        running.accept_loop_with(listener, state, async |(running, ill_from), connection| {
            answer(running, ill_from, connection).await
        });
        Ok(running.finished().await?)
    })
}

/// One request, one answer, as HTTP/1.0 had it. A path of `/hold` is answered when the drain is
/// over.
async fn answer<S, A>(
    running: Running,
    ill_from: Option<tokio::time::Instant>,
    connection: Conn<S, A>,
) -> std::io::Result<()>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    A: Unpin,
{
    let guard = connection.guard().clone();
    let mut connection = BufReader::new(connection);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if connection.read_until(b'\n', &mut head).await? == 0 {
            return Ok(());
        }
    }
    if head.starts_with(b"GET /hold ") {
        guard.set_name("HTTP/1.1 GET /hold");
        guard.set_reason("waits for the end");
        std::future::pending::<()>().await;
    }
    let ill = ill_from.is_some_and(|from| from <= tokio::time::Instant::now());
    let status = if ill { "500 Internal Server Error" } else { "200 OK" };
    if !guard.is_health_check() {
        let requests = running.requests();
        if ill { requests.failed() } else { requests.succeeded() }
    }
    let text = format!("HTTP/1.1 {status}\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n");
    connection.write_all(text.as_bytes()).await?;
    connection.shutdown().await
}
