//! One session of the server: a line in, a line out.
//!
//! In a lame duck's time the client is told 'bye' once and goes when it suits it; the server closes
//! only when it is forced to.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use heirloom::{Conn, DrainPhase, Guard};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};

use super::app::{App, End};
use super::release::Habit;
use super::{own, process, wait};

/// What a session does after its answer.
enum Then {
    GoOn,
    /// Nothing is said until the client says more: a request is in flight.
    Hold,
    End,
}

pub(crate) async fn session<S, A>(conn: Conn<S, A>, app: Arc<App>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Unpin + Send + 'static,
{
    app.accepted.fetch_add(1, Ordering::Relaxed);
    let guard = conn.guard().clone();
    let (read, mut write) = tokio::io::split(conn);
    let mut lines = BufReader::new(read).lines();
    let (mut told, mut held) = (false, false);
    loop {
        let line = tokio::select! {
            biased;
            line = lines.next_line() => line,
            () = guard.reached(DrainPhase::Force) => return,
            () = guard.reached(DrainPhase::LameDuck), if !told && !held => {
                told = true;
                if write.write_all(b"bye\n").await.is_err() {
                    return;
                }
                continue;
            }
        };
        let Ok(Some(line)) = line else { return };
        let (answer, then) = answer(&app, &guard, &line).await;
        held = matches!(then, Then::Hold);
        let sent = write.write_all(format!("{answer}\n").as_bytes()).await;
        if sent.is_err() || matches!(then, Then::End) {
            return;
        }
    }
}

async fn answer(app: &Arc<App>, guard: &Guard, line: &str) -> (String, Then) {
    let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
    let fixture = &app.fixture;
    let habits = &fixture.release.habits;
    if habits.contains(&Habit::NeverAnswers) {
        return (std::future::pending().await, Then::End);
    }
    if habits.contains(&Habit::AnswersWrong) {
        return (String::from("something else"), Then::GoOn);
    }
    let generation = fixture.generation.get().copied().unwrap_or(0);
    let text = match command {
        "who" => format!("{generation} {} {}", std::process::id(), fixture.release.version),
        "echo" => rest.to_owned(),
        "slow" => {
            let millis = rest.parse().unwrap_or(0);
            tokio::time::sleep(Duration::from_millis(millis)).await;
            format!("slow {generation}")
        }
        "hold" => {
            guard.set_reason("held");
            return (format!("held {generation}"), Then::Hold);
        }
        "release" => return (format!("released {generation}"), Then::End),
        "accepted" => app.accepted.load(Ordering::Relaxed).to_string(),
        "ready" => json!(app.running.is_ready()).to_string(),
        "status" => json!(app.running.status()).to_string(),
        "upgrade" => told(app.running.upgrade().await),
        "unattended" => told(app.running.upgrade_unattended().await),
        "roll-back" if rest.is_empty() => told(app.running.roll_back().await),
        "roll-back" => {
            let of = heirloom::Generation::new(rest.parse().unwrap());
            told(app.running.roll_back_of(of).await)
        }
        "commit" => told(app.running.commit().await),
        "abort-upgrade" => told(app.running.abort(rest).await),
        "unhealthy" => match app.running.unhealthy(rest).await {
            Ok(()) => String::from("said"),
            Err(error) => format!("{:?}", error.kind()),
        },
        "stop" => {
            app.running.stop().await;
            String::from("stopping")
        }
        _ => return (look_or_break(app, command, rest), Then::GoOn),
    };
    (text, Then::GoOn)
}

/// What came of an upgrade.
fn told(result: heirloom::Result<heirloom::Report>) -> String {
    let value = match result {
        Ok(report) => json!({ "report": report }),
        Err(error) => json!({ "error": error.chain(), "kind": format!("{:?}", error.kind()) }),
    };
    value.to_string()
}

/// So many requests of each kind have ended.
fn count(app: &App, good: &str, failed: &str) {
    let requests = app.running.requests();
    (0..good.parse().unwrap_or(0)).for_each(|_: u64| requests.succeeded());
    (0..failed.parse().unwrap_or(0)).for_each(|_: u64| requests.failed());
}

/// Looks at the process, or does something to it.
fn look_or_break(app: &App, command: &str, rest: &str) -> String {
    let value = match command {
        "counts" => json!(process::counts()),
        "requests" => {
            let (good, failed) = rest.split_once(' ').unwrap_or((rest, "0"));
            count(app, good, failed);
            json!("counted")
        }
        "label" => json!(own::label()),
        "owns" => json!(app.running.is_owner()),
        "masks" => json!(process::blocked_signals()),
        "descriptors" => json!(process::descriptors(std::process::id().cast_signed())),
        "helper" => json!(process::descriptors_of_a_helper()),
        "non-blocking" => json!(own::non_blocking_listeners()),
        "block-listeners" => {
            own::make_listeners_blocking();
            Value::Null
        }
        "directory" => json!(std::env::current_dir().ok()),
        "grandchild" => json!(own::start_again(rest.as_ref())),
        "stuck" => {
            // A blocking task that never ends.
            tokio::task::spawn_blocking(|| {
                loop {
                    wait::pause(wait::PATIENCE);
                }
            });
            Value::Null
        }
        "fail" => json!(app.end.send(Some(End::Fail)).is_ok()),
        "panic" => json!(app.end.send(Some(End::Panic)).is_ok()),
        "abort" => std::process::abort(),
        #[allow(clippy::exit, reason = "that is the command")]
        "exit" => std::process::exit(rest.parse().unwrap_or(1)),
        _ => json!(format!("unknown command {command:?} to {}", app.fixture.release.version)),
    };
    value.to_string()
}
