//! HTTP/1.1 with hyper, drained in two steps.
//!
//! In lame duck every answer carries `Connection: close`, so a client that asks now comes back to
//! the next generation and knows it. Only then, in the graceful phase, are connections closed
//! that have been silent all along. The other order loses requests: hyper closes a connection as
//! idle even when a request is already on its way (RFC 9112, section 9.5).

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::watch;

use heirloom::{Conn, DrainPhase, Guard};

use super::Identity;

/// How long a connection may take to send its first request once the drain is graceful: it was
/// accepted, so it is work in flight until it has been answered.
const FIRST_REQUEST: Duration = Duration::from_secs(2);

/// The longest body that is echoed.
const MAX_BODY: usize = 64 * 1024;

/// Serves one connection until it ends. At the drain's deadline `accept_loop` drops it.
pub(crate) async fn connection(conn: Conn<TcpStream>, me: Identity) {
    let (stream, guard) = conn.into_parts();
    let (begun, first_request) = watch::channel(false);
    let service = service_fn(|request| {
        begun.send_replace(true);
        answer(request, me, &guard)
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(stream), service)
    );
    tokio::select! {
        _ = connection.as_mut() => return,
        () = time_to_go(&guard, first_request) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// Waits for the graceful phase, and then for the connection's first request if none came yet.
async fn time_to_go(guard: &Guard, mut first_request: watch::Receiver<bool>) {
    guard.reached(DrainPhase::Graceful).await;
    let _ = tokio::time::timeout(FIRST_REQUEST, first_request.wait_for(|begun| *begun)).await;
}

/// Answers one request, and says who did.
async fn answer(
    request: Request<Incoming>,
    me: Identity,
    guard: &Guard,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, body) = route(request).await;
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert("x-generation", HeaderValue::from(me.generation));
    headers.insert("x-pid", HeaderValue::from(me.pid));
    // Asked when the answer is ready, not when the request came: the drain may have begun since.
    if guard.phase() >= DrainPhase::LameDuck {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// The shop: items, orders, and a slow corner.
async fn route(request: Request<Incoming>) -> (StatusCode, Bytes) {
    let path = request.uri().path().to_owned();
    match (request.method(), path.strip_prefix('/').unwrap_or_default()) {
        (&Method::GET, "slow") => match slow(request.uri().query()) {
            Some(time) => {
                tokio::time::sleep(time).await;
                (StatusCode::OK, format!("slept {} ms\n", time.as_millis()).into())
            }
            None => (StatusCode::BAD_REQUEST, "slow?ms=700, at most 60000\n".into()),
        },
        (&Method::GET, rest) => match rest.strip_prefix("item/") {
            Some(number) => (StatusCode::OK, format!("item {number}\n").into()),
            None => (StatusCode::NOT_FOUND, "no such page\n".into()),
        },
        (&Method::POST, "orders") => match Limited::new(request, MAX_BODY).collect().await {
            Ok(body) => (StatusCode::OK, body.to_bytes()),
            Err(_) => (StatusCode::BAD_REQUEST, "the order did not arrive whole\n".into()),
        },
        _ => (StatusCode::METHOD_NOT_ALLOWED, "GET or POST\n".into()),
    }
}

/// The time that `ms=` asks for.
fn slow(query: Option<&str>) -> Option<Duration> {
    let ms = query?.strip_prefix("ms=")?.parse().ok()?;
    (ms <= 60_000).then(|| Duration::from_millis(ms))
}
