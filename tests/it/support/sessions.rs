//! Sessions that move: each counts its lines, and takes count and half a line along.

use std::sync::Arc;

use heirloom::{Conn, DrainPhase, NotMoved, Session, SessionStream, Starting};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::sync::watch;

use super::app::{App, Failure};

/// Their kind.
const KIND: &str = "lines";

/// How the sessions of a release move.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Moving {
    /// It hands its sessions to its successor in this version.
    pub hands_off: Option<u32>,
    /// It takes its predecessor's sessions in these versions.
    pub takes: Option<(u32, u32)>,
    /// The length of each session's state, in bytes: 8 for the count, the rest for its weight.
    pub state: usize,
}

impl Default for Moving {
    fn default() -> Self {
        Self { hands_off: Some(1), takes: Some((1, 1)), state: 100 }
    }
}

/// Takes what the predecessor hands over, as soon as there is an application.
pub(crate) fn take(
    starting: &Starting,
    moving: Option<&Moving>,
) -> Result<watch::Sender<Option<Arc<App>>>, Failure> {
    let (tell, told) = watch::channel::<Option<Arc<App>>>(None);
    if let Some((oldest, newest)) = moving.and_then(|moving| moving.takes) {
        starting.on_session(KIND, oldest..=newest, move |session| {
            let mut told = told.clone();
            async move {
                let Ok(app) = told.wait_for(Option::is_some).await.map(|app| app.clone()) else {
                    return;
                };
                if let Some(app) = app {
                    serve(app, session).await;
                }
            }
        })?;
    }
    Ok(tell)
}

/// A connection that was accepted, as a session.
pub(crate) async fn accepted<S: Into<SessionStream>, A>(app: Arc<App>, conn: Conn<S, A>) {
    let (stream, guard) = conn.into_parts();
    let version = app.fixture.release.moving.as_ref().and_then(|moving| moving.hands_off);
    let session = Session::new(KIND, version.unwrap_or(1), stream, guard).unwrap();
    serve(app, session).await;
}

async fn serve(app: Arc<App>, session: Session) {
    let guard = session.guard().clone();
    let mut count = session.state().first_chunk().map_or(0, |count| u64::from_le_bytes(*count));
    let moving = app.fixture.release.moving.clone().unwrap_or_default();
    let mut moves = moving.hands_off.is_some();
    let mut reader = BufReader::new(session);
    let mut line = Vec::new();
    loop {
        tokio::select! {
            biased;
            () = guard.reached(DrainPhase::LameDuck), if moves => {
                line.extend_from_slice(reader.buffer());
                let mut session = reader.into_inner();
                session.unread(&std::mem::take(&mut line));
                let mut state = vec![7; moving.state];
                state[..8].copy_from_slice(&count.to_le_bytes());
                session.set_state(state);
                match app.running.hand_off(session).await {
                    Ok(()) => return,
                    Err(NotMoved::Declined { session, reason }) => {
                        app.fixture.write("declined", json!({ "reason": reason }));
                        (reader, moves) = (BufReader::new(*session), false);
                    }
                    Err(lost) => return app.fixture.write("lost", json!(lost.to_string())),
                }
                continue;
            }
            read = reader.read_until(b'\n', &mut line) => match read {
                Ok(1..) if line.ends_with(b"\n") => {}
                _ => return,
            },
        }
        count += 1;
        let text = String::from_utf8_lossy(&line);
        let generation = app.fixture.generation.get().copied().unwrap_or(0);
        let answer = format!("{count} {generation} {} {text}", std::process::id());
        if reader.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
        line.clear();
    }
}
