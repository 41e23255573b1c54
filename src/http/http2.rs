//! Drives one HTTP/2 connection.
//!
//! hyper's graceful shutdown is right here: a GOAWAY that names no last stream and a ping, and
//! after the pong the GOAWAY that does (RFC 9113, section 6.8). So that no stream falls between the
//! two, the pong reaches hyper [late](super::pong),
//! and the connection ends with its last stream. It is asked for with the lame duck phase, or one
//! by one with the graceful phase if the drain is spread over a window; on a fresh connection only
//! after its first request.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::rt::bounds::Http2ServerConnExec;
use hyper::server::conn::http2::Builder;
use hyper::service::HttpService;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};

use super::drive::Watch;
use super::http1::Times;
use super::io::Io;
use super::make::BoxError;
use super::pong::LatePong;
use super::timer::after;
use crate::drain::DrainPhase;

/// Serves the connection until it ends; gives the stream back if it is to be closed with care.
pub(super) async fn run<S, V>(
    watch: &mut Watch,
    builder: &Builder<TokioExecutor>,
    times: &Times,
    (stream, ahead): (S, Bytes),
    service: V,
) -> Option<S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    V: HttpService<Incoming, ResBody: 'static, Error: Into<BoxError>>,
    <V::ResBody as http_body::Body>::Error: Into<BoxError>,
    TokioExecutor: Http2ServerConnExec<V::Future, V::ResBody>,
{
    let ledger = Arc::clone(&watch.ledger);
    let back = Arc::new(Mutex::new(None));
    let io = Io::decided(stream, ahead, Arc::clone(&ledger)).returning(Arc::clone(&back));
    let io = LatePong::new(io, Arc::clone(&ledger));
    let ended = {
        let mut hyper = pin!(builder.serve_connection(TokioIo::new(io), service));
        let mut told = false;
        poll_fn(|cx| {
            let phase = watch.phase(cx);
            if phase == DrainPhase::Force {
                return Poll::Ready(false);
            }
            loop {
                if hyper.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(true);
                }
                let drains = phase >= DrainPhase::LameDuck;
                if drains {
                    watch.label.http2(&ledger, told);
                }
                // A connection that has not asked anything yet may wait for its first request.
                let fresh = ledger.begun() == 0;
                let at = match watch.graceful_since {
                    _ if !fresh || told => None,
                    Some(since) => Some(after(since.max(watch.born), times.first_request)),
                    None => Some(after(watch.born, times.header)),
                };
                let late = watch.timer.poll(at, cx);
                if told || !(late || (phase >= times.goaway && !fresh)) {
                    return Poll::Pending;
                }
                told = true;
                ledger.note_told();
                hyper.as_mut().graceful_shutdown();
            }
        })
        .await
    };
    let stream = back.lock().unwrap_or_else(PoisonError::into_inner).take();
    stream.filter(|_| ended && !ledger.is_over())
}
