//! The application: it answers with the number of the request, so that a client knows whose answer
//! it got, and in `x-pid` with who gave it.

use std::convert::Infallible;
use std::future::Future;
use std::sync::LazyLock;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Full};
use hyper::body::Body;
use hyper::header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

/// What a WebSocket's client is told when it should end what it does, and close.
pub const GO: &str = "please go";

static PID: LazyLock<HeaderValue> = LazyLock::new(|| HeaderValue::from(std::process::id()));

/// Answers one request. `leave` ends when WebSockets should.
///
/// # Errors
///
/// None.
pub async fn answer<B>(
    mut request: Request<B>,
    leave: impl Future<Output = ()> + Send + 'static,
) -> Result<Response<Full<Bytes>>, Infallible>
where
    B: Body<Data = Bytes, Error: Send>,
{
    let mut response = if request.headers().contains_key(UPGRADE) {
        let upgraded = hyper::upgrade::on(&mut request);
        switch(&request, upgraded, leave)
    } else if request.method() == Method::POST {
        match request.into_body().collect().await {
            Ok(body) => Response::new(Full::new(body.to_bytes())),
            Err(_) => status(StatusCode::BAD_REQUEST),
        }
    } else {
        let number = request.headers().get("x-id").map(HeaderValue::as_bytes).unwrap_or_default();
        Response::new(Full::new(Bytes::copy_from_slice(number)))
    };
    response.headers_mut().insert("x-pid", PID.clone());
    Ok(response)
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

fn switch<B>(
    request: &Request<B>,
    upgraded: OnUpgrade,
    leave: impl Future<Output = ()> + Send + 'static,
) -> Response<Full<Bytes>> {
    let Some(key) = request.headers().get(SEC_WEBSOCKET_KEY) else {
        return status(StatusCode::BAD_REQUEST);
    };
    let mut response = status(StatusCode::SWITCHING_PROTOCOLS);
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    tokio::spawn(async move {
        if let Ok(upgraded) = upgraded.await {
            let io = TokioIo::new(upgraded);
            echo(WebSocketStream::from_raw_socket(io, Role::Server, None).await, leave).await;
        }
    });
    response
}

/// Echoes until the client closes. A close frame from our side would cross the message that is
/// under way, so the client is asked to close.
async fn echo<S>(mut socket: WebSocketStream<S>, leave: impl Future<Output = ()>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut leave = std::pin::pin!(leave);
    let mut told = false;
    loop {
        let message = tokio::select! {
            () = &mut leave, if !told => {
                told = true;
                if socket.send(Message::text(GO)).await.is_err() {
                    return;
                }
                continue;
            }
            message = socket.next() => message,
        };
        match message {
            Some(Ok(message)) if message.is_text() => {
                if socket.send(message).await.is_err() {
                    return;
                }
            }
            Some(Ok(_)) => {}
            // The client's close has been answered by now.
            Some(Err(_)) | None => return,
        }
    }
}
