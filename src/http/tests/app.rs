//! The application under test.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::header::{CONNECTION, UPGRADE};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;

use crate::drain::{DrainPhase, Guard};
use crate::http::Body;

/// What a large answer is made of.
pub(super) const LARGE: usize = 160_000;

/// What the handlers of one generation share.
pub(super) struct App {
    pub(super) generation: u64,
    pub(super) requests: AtomicU64,
    /// `/gate` answers when it gets a permit.
    pub(super) gate: Semaphore,
}

impl App {
    pub(super) fn new(generation: u64) -> Arc<Self> {
        Arc::new(Self { generation, requests: AtomicU64::new(0), gate: Semaphore::new(0) })
    }
}

type Answer = Response<BoxBody<Bytes, Infallible>>;

/// Serves one request.
pub(super) async fn answer(app: Arc<App>, request: Request<Body>) -> Result<Answer, Infallible> {
    app.requests.fetch_add(1, Ordering::Relaxed);
    let mut response = route(&app, request).await;
    response.headers_mut().insert("x-generation", app.generation.into());
    Ok(response)
}

async fn route(app: &Arc<App>, mut request: Request<Body>) -> Answer {
    match request.uri().path().to_owned().as_str() {
        "/" => whole("hello"),
        "/echo" => match request.into_body().collect().await {
            Ok(body) => whole(body.to_bytes()),
            Err(_) => status(StatusCode::BAD_REQUEST),
        },
        // The body is dropped, or kept a while, and not read.
        "/ignore" => whole("ignored"),
        "/keep" => {
            let body = request.into_body();
            let app = Arc::clone(app);
            tokio::spawn(async move {
                app.gate.acquire().await.unwrap().forget();
                drop(body);
            });
            whole("kept")
        }
        // It is read by somebody else, later.
        "/later" => {
            let body = request.into_body();
            let app = Arc::clone(app);
            tokio::spawn(async move {
                app.gate.acquire().await.unwrap().forget();
                body.collect().await.unwrap();
            });
            whole("later")
        }
        "/large" => whole(vec![b'x'; LARGE]),
        "/chunks" => whole_in_chunks(),
        "/gate" => {
            let permit = app.gate.acquire().await;
            permit.unwrap().forget();
            whole("passed")
        }
        "/events" => events(),
        "/upgrade" => {
            let guard = request.extensions().get::<Guard>().unwrap().clone();
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let stream = TokioIo::new(upgrade.await.unwrap());
                chat(stream, guard).await;
            });
            let mut response = status(StatusCode::SWITCHING_PROTOCOLS);
            response.headers_mut().insert(CONNECTION, "upgrade".parse().unwrap());
            response.headers_mut().insert(UPGRADE, "chat".parse().unwrap());
            response
        }
        "/fail" => status(StatusCode::INTERNAL_SERVER_ERROR),
        _ => status(StatusCode::NOT_FOUND),
    }
}

fn whole(body: impl Into<Bytes>) -> Answer {
    Response::new(Full::new(body.into()).boxed())
}

fn status(status: StatusCode) -> Answer {
    let mut response = whole("");
    *response.status_mut() = status;
    response
}

fn whole_in_chunks() -> Answer {
    let chunks = (0..4).map(|_| Ok(Frame::data(Bytes::from_static(b"chunk"))));
    Response::new(BodyExt::boxed(StreamBody::new(futures_util::stream::iter(chunks))))
}

/// One event, and then none for ever.
fn events() -> Answer {
    use futures_util::StreamExt;
    let first = futures_util::stream::iter([Ok(Frame::data(Bytes::from_static(b"data: 1\n\n")))]);
    Response::new(BodyExt::boxed(StreamBody::new(first.chain(futures_util::stream::pending()))))
}

/// Echoes until it is told to go, and says so. Deaf ones are not told.
async fn chat(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin, guard: Guard) {
    let mut chunk = [0; 64];
    let mut deaf = false;
    loop {
        tokio::select! {
            () = guard.reached(DrainPhase::Graceful), if !deaf => {
                let _ = stream.write_all(b"1012 service restart\n").await;
                return;
            }
            read = stream.read(&mut chunk) => match read {
                Ok(0) | Err(_) => return,
                Ok(read) => {
                    deaf |= &chunk[..read] == b"deaf\n";
                    if stream.write_all(&chunk[..read]).await.is_err() {
                        return;
                    }
                }
            },
        }
    }
}

/// Far beyond what any step takes.
pub(super) const LONG: Duration = Duration::from_secs(20);

pub(super) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(LONG, future).await.expect("it should have happened by now")
}
