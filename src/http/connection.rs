//! The life of one connection.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use super::drive::Watch;
use super::handshake::Handshake;
use super::http1::{Driver, End, Times};
use super::ledger::Ledger;
use super::make::Make;
use super::mover::Carriage;
use super::server::Server;
use super::service::Tracked;
use super::timer::after;
use super::{farewell, http2};
use crate::drain::{DrainPhase, Guard};

/// Serves a connection that was accepted.
pub(super) async fn accepted<M, H, S, A>(
    server: Arc<Server<M, H>>,
    stream: S,
    peer: A,
    guard: Guard,
) where
    M: Make<A>,
    H: Handshake<S>,
{
    let service = server.make.make(&peer);
    let ledger = Ledger::new(guard, Arc::clone(&server.hooks));
    let mut watch = Watch::new(ledger);
    let carriage = H::carriage();
    let shaken = {
        let shaking = server.handshake.shake(stream);
        // Without a handshake there is nothing to wait for.
        match carriage {
            Some(_) => shaking.await.ok(),
            None => shake(&server, &mut watch, shaking).await,
        }
    };
    if let Some(stream) = shaken {
        speak::<M, H, _, A>(&server, watch, (stream, Bytes::new()), service, carriage).await;
    }
}

/// Goes on with a connection that comes from elsewhere, where no handshake is asked for.
pub(super) async fn resumed<M, H, S, A>(
    server: Arc<Server<M, H>>,
    (stream, ahead): (S, Bytes),
    peer: A,
    ledger: Arc<Ledger>,
    carriage: Carriage<S>,
) where
    M: Make<A>,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = server.make.make(&peer);
    let watch = Watch::new(ledger);
    speak::<M, H, S, A>(&server, watch, (stream, ahead), service, Some(carriage)).await;
}

/// Waits for the handshake, which is in-flight work with two deadlines: its own and the drain's.
async fn shake<M, H, T>(
    server: &Server<M, H>,
    watch: &mut Watch,
    shaking: impl Future<Output = std::io::Result<T>>,
) -> Option<T> {
    let last = after(watch.born, server.settings.handshake_timeout);
    let mut shaking = pin!(shaking);
    poll_fn(|cx| {
        if let Poll::Ready(result) = shaking.as_mut().poll(cx) {
            return Poll::Ready(result.ok());
        }
        let phase = watch.phase(cx);
        if phase >= DrainPhase::LameDuck {
            watch.label.handshake(&watch.ledger);
        }
        let over = phase == DrainPhase::Force || watch.timer.poll(Some(last), cx);
        if over { Poll::Ready(None) } else { Poll::Pending }
    })
    .await
}

/// Speaks HTTP on a stream.
async fn speak<M, H, S, A>(
    server: &Server<M, H>,
    mut watch: Watch,
    (stream, ahead): (S, Bytes),
    service: M::Service,
    carriage: Option<Carriage<S>>,
) where
    M: Make<A>,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let settings = &server.settings;
    let times = || Times {
        header: settings.header_timeout,
        idle: settings.idle_timeout,
        first_request: settings.first_request,
        half_close: settings.half_close_timeout,
        lame_duck: server.lame_duck,
        goaway: server.goaway,
    };
    let service: Tracked<_, M::RequestBody> = Tracked::new(service, Arc::clone(&watch.ledger));
    let driver = Driver::new(&mut watch, &settings.http1, times(), carriage);
    let to_close = match driver.run(stream, ahead, service).await {
        End::Http2(stream, ahead, service) => {
            http2::run(&mut watch, &settings.http2, &times(), (stream, ahead), service).await
        }
        End::Close(stream) => Some(stream),
        End::Gone => None,
    };
    if let Some(stream) = to_close {
        watch.label.part(&watch.ledger);
        farewell::part(stream, &mut watch, settings.linger).await;
    }
}
