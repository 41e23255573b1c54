//! The application: an ordinary axum router, in which what does not end by itself looks at its
//! connection's guard.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Query;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::http::HeaderValue;
use axum::middleware::map_response;
use axum::response::Response;
use axum::response::sse::{Event, Sse};
use axum::routing::{get, post};
use axum::{Extension, Router};
use futures_core::Stream;
use futures_util::stream::unfold;
use heirloom::{DrainPhase, Guard, Running};

/// The longest that `/slow` sleeps, in milliseconds.
const LONGEST: u64 = 600_000;

/// What `/stream` sends at once.
const CHUNK: usize = 16 * 1024;

pub(crate) fn app(running: &Running) -> Router {
    let generation = HeaderValue::from(running.generation().get());
    let pid = HeaderValue::from(std::process::id());
    Router::new()
        .route("/", get(async || "hello\n"))
        .route("/slow", get(slow))
        .route("/echo", post(async |body: Bytes| body))
        .route("/sse", get(events))
        .route("/ws", get(socket))
        .route("/readyz", heirloom::readiness_route(running))
        .route("/stream", get(stream))
        .layer(map_response(move |mut response: Response| {
            let headers = response.headers_mut();
            headers.insert("x-generation", generation.clone());
            headers.insert("x-pid", pid.clone());
            async { response }
        }))
}

#[derive(serde::Deserialize)]
struct Slow {
    #[serde(default)]
    ms: u64,
}

/// Answers after so many milliseconds.
async fn slow(Query(Slow { ms }): Query<Slow>) -> String {
    let ms = ms.min(LONGEST);
    tokio::time::sleep(Duration::from_millis(ms)).await;
    format!("slept {ms} ms\n")
}

/// One event a second, until the connection is told to go: the client's browser comes back by
/// itself, to the next generation.
async fn events(
    Extension(guard): Extension<Guard>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    Sse::new(unfold((guard, 0_u64), async |(guard, number)| {
        tokio::select! {
            () = guard.reached(DrainPhase::Graceful) => None,
            () = tokio::time::sleep(Duration::from_secs(u64::from(number > 0))) => {
                let event = Event::default().id(number.to_string()).data(format!("event {number}"));
                Some((Ok(event), (guard, number + 1)))
            }
        }
    }))
}

/// A WebSocket that echoes.
async fn socket(upgrade: WebSocketUpgrade, Extension(guard): Extension<Guard>) -> Response {
    upgrade.on_upgrade(async move |socket| echo(socket, guard).await)
}

/// Echoes until the client goes, or is told to: 1012 is 'service restart'.
async fn echo(mut socket: WebSocket, guard: Guard) {
    loop {
        let message = tokio::select! {
            () = guard.reached(DrainPhase::Graceful) => {
                let reason = "the service restarts".into();
                let frame = CloseFrame { code: close_code::RESTART, reason };
                if socket.send(Message::Close(Some(frame))).await.is_ok() {
                    // Until the client has closed as well.
                    while let Some(Ok(_)) = socket.recv().await {}
                }
                return;
            }
            message = socket.recv() => message,
        };
        let answered = match message {
            Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                socket.send(message).await
            }
            Some(Ok(_)) => Ok(()),
            Some(Err(_)) | None => return,
        };
        if answered.is_err() {
            return;
        }
    }
}

#[derive(serde::Deserialize)]
struct Bytewise {
    #[serde(default)]
    bytes: usize,
}

/// So many bytes, in chunks.
async fn stream(Query(Bytewise { bytes }): Query<Bytewise>) -> Body {
    Body::from_stream(unfold(bytes, async |left| {
        let count = left.min(CHUNK);
        let chunk = Bytes::from_static(&[b'.'; CHUNK]).slice(..count);
        (count > 0).then(|| (Ok::<_, Infallible>(chunk), left - count))
    }))
}
