//! Drives one HTTP/1 connection.
//!
//! hyper's own graceful shutdown is not used for connections that may be idle: it closes one that
//! has not said anything yet, and one whose next request has arrived in part. Here a connection
//! that is idle (see [`ledger`](super::ledger)) is taken out of hyper when it has to go. Whatever
//! has arrived then shows, and is answered first.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::server::conn::http1::{Builder, UpgradeableConnection};
use hyper::service::HttpService;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::drive::Watch;
use super::farewell::{Look, look};
use super::io::Io;
use super::label::Label;
use super::ledger::Ledger;
use super::make::BoxError;
use super::mover::{Carriage, GivenBack, Parcel, Turning};
use super::timer::after;
use crate::drain::DrainPhase;
use crate::session::Turn;

/// How a connection has ended for HTTP/1.
pub(super) enum End<S, V> {
    /// It is to be closed with care.
    Close(S),
    /// It speaks HTTP/2, as these bytes show.
    Http2(S, Bytes, V),
    /// There is nothing left to do here: it was upgraded, moved, or broke.
    Gone,
}

/// What the driver wants done with a connection.
enum Step {
    /// hyper has finished with it.
    Ended,
    /// It speaks HTTP/2.
    Http2,
    /// It is idle and has to go.
    Apart,
    /// Its time for a head, or for being idle, is over.
    Late,
    /// The drain's deadline has passed.
    Cut,
}

/// How long a connection may take for what.
pub(super) struct Times {
    pub(super) header: Duration,
    pub(super) idle: Option<Duration>,
    pub(super) first_request: Duration,
    pub(super) half_close: Duration,
    pub(super) lame_duck: Duration,
    /// HTTP/2: when a client is told to go elsewhere.
    pub(super) goaway: DrainPhase,
}

/// One connection's driver.
pub(super) struct Driver<'a, S> {
    pub(super) watch: &'a mut Watch,
    pub(super) builder: &'a Builder,
    pub(super) times: Times,
    pub(super) carriage: Option<Carriage<S>>,
    /// Since when it has been at rest, as far as that matters to a timer.
    rest: Option<Rest>,
    /// hyper has been asked to end it.
    told: bool,
    /// Idle, and waiting for its turn to move.
    waiting: Option<Turning>,
    turn: Option<Turn>,
}

/// A time in which a connection did nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Rest {
    since: Instant,
    /// Requests begun, and whether part of another head is there: a change of either is the end of
    /// this rest.
    begun: usize,
    head: bool,
}

impl<'a, S> Driver<'a, S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    pub(super) fn new(
        watch: &'a mut Watch,
        builder: &'a Builder,
        times: Times,
        carriage: Option<Carriage<S>>,
    ) -> Self {
        Self { watch, builder, times, carriage, rest: None, told: false, waiting: None, turn: None }
    }

    /// Serves the connection until it ends, or is not HTTP/1's any more.
    pub(super) async fn run<V>(mut self, stream: S, ahead: Bytes, mut service: V) -> End<S, V>
    where
        V: HttpService<Incoming, ResBody: 'static, Error: Into<BoxError>>,
        <V::ResBody as http_body::Body>::Error: Into<BoxError>,
    {
        let ledger = Arc::clone(&self.watch.ledger);
        let half_close = self.times.half_close;
        let mut io = io(stream, ahead, &ledger).half_close_timeout(half_close);
        loop {
            let mut hyper =
                self.builder.serve_connection(TokioIo::new(io), service).with_upgrades();
            let step = poll_fn(|cx| self.poll(&mut hyper, cx)).await;
            let Some(parts) = hyper.into_parts() else { return End::Gone };
            let (stream, held) = parts.io.into_inner().into_parts();
            let Some(stream) = stream else { return End::Gone };
            service = parts.service;
            let ahead = join(parts.read_buf, held);
            match step {
                Step::Cut => return End::Gone,
                Step::Ended if ledger.is_over() => return End::Gone,
                Step::Ended | Step::Late => return End::Close(stream),
                Step::Http2 => return End::Http2(stream, ahead, service),
                Step::Apart => match self.let_go(stream, ahead).await {
                    Ok(end) => return end.into_end(),
                    Err((stream, ahead)) => {
                        ledger.forget_head();
                        io = self::io(stream, ahead, &ledger).half_close_timeout(half_close);
                    }
                },
            }
        }
    }

    fn poll<V>(
        &mut self,
        hyper: &mut UpgradeableConnection<TokioIo<Io<S>>, V>,
        cx: &mut Context<'_>,
    ) -> Poll<Step>
    where
        V: HttpService<Incoming, ResBody: 'static, Error: Into<BoxError>>,
        <V::ResBody as http_body::Body>::Error: Into<BoxError>,
    {
        loop {
            let phase = self.watch.phase(cx);
            if phase == DrainPhase::Force {
                return Poll::Ready(Step::Cut);
            }
            let ledger = &self.watch.ledger;
            let abandoned = ledger.abandoned();
            // What went wrong with one connection is its client's to know.
            if Pin::new(&mut *hyper).poll(cx).is_ready() {
                return Poll::Ready(Step::Ended);
            }
            ledger.settle(abandoned);
            if ledger.speaks_http2() {
                return Poll::Ready(Step::Http2);
            }
            if !ledger.watch_body(abandoned, cx) {
                continue;
            }
            match self.decide(phase, cx) {
                Some(Step::Ended) => {
                    // A body that nobody tells us of: only hyper knows whether it was read.
                    self.told = true;
                    Pin::new(&mut *hyper).graceful_shutdown();
                }
                Some(step) => return Poll::Ready(step),
                None => return Poll::Pending,
            }
        }
    }

    /// What is to be done with a connection that is pending. [`Step::Ended`]: hyper may end it.
    fn decide(&mut self, phase: DrainPhase, cx: &mut Context<'_>) -> Option<Step> {
        let ledger = Arc::clone(&self.watch.ledger);
        let drains = phase >= DrainPhase::LameDuck;
        let (idle, fresh, head) = (ledger.is_idle(), ledger.is_fresh(), ledger.head());
        let mut waits = false;
        if drains {
            self.watch.label.http1(&ledger);
            if idle {
                ledger.note_idle();
            }
            if idle && self.carriage.is_some() && ledger.may_move() {
                match self.poll_turn(cx) {
                    Poll::Ready(Some(turn)) => {
                        self.turn = Some(turn);
                        return Some(Step::Apart);
                    }
                    // It is not closed meanwhile: it goes on elsewhere. Only a head has its time.
                    Poll::Pending if head || fresh => waits = true,
                    Poll::Pending => {
                        self.rest = None;
                        return None;
                    }
                    Poll::Ready(None) => {}
                }
            }
            if !waits {
                // Others need not wait for one that is busy.
                self.waiting = None;
            }
        }
        // In steady state only a head that does not come, or a limit that was asked for.
        let timed = fresh || head || drains || self.times.idle.is_some();
        let settled = idle || (drains && !self.told && ledger.may_be_idle());
        if !timed || !settled {
            self.rest = None;
            return None;
        }
        let rest = self.rest(ledger.begun(), head);
        let since = if fresh { self.watch.born } else { rest.since };
        let graceful = self.watch.graceful_since.filter(|_| !waits);
        let (at, step) = match graceful {
            _ if !idle => (graceful.map(|_| after(since, self.times.lame_duck)), Step::Ended),
            _ if head => (Some(after(since, self.times.header)), Step::Late),
            Some(graceful) if fresh => {
                let first = after(graceful.max(since), self.times.first_request);
                (Some(first), Step::Apart)
            }
            Some(_) => (Some(after(since, self.times.lame_duck)), Step::Apart),
            None if fresh => (Some(after(since, self.times.header)), Step::Late),
            None => (self.times.idle.map(|idle| after(since, idle)), Step::Late),
        };
        self.watch.timer.poll(at, cx).then_some(step)
    }

    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Option<Turn>> {
        let Some(mover) = &self.watch.ledger.hooks.mover else { return Poll::Ready(None) };
        let turn = self.waiting.get_or_insert_with(|| mover.turn()).as_mut().poll(cx);
        if turn.is_ready() {
            self.waiting = None;
        }
        turn
    }

    /// The rest that it is in; it begins now if there was none.
    fn rest(&mut self, begun: usize, head: bool) -> Rest {
        match self.rest {
            Some(rest) if rest.begun == begun && rest.head == head => rest,
            _ => *self.rest.insert(Rest { since: Instant::now(), begun, head }),
        }
    }

    /// An idle connection has to go. What has arrived on it comes back, to be served first.
    async fn let_go(&mut self, stream: S, ahead: Bytes) -> Result<LetGo<S>, (S, Bytes)> {
        // Empty lines before a request line mean nothing (RFC 9112, section 2.2).
        let ahead = skip_empty_lines(ahead);
        if let (Some(carriage), Some(turn)) = (self.carriage, self.turn.take()) {
            return self.hand_over(stream, ahead, carriage, turn).await;
        }
        if !ahead.is_empty() {
            return Err((stream, ahead));
        }
        let mut stream = stream;
        match look(&mut stream, self.carriage).await {
            Look::Silent => Ok(LetGo::Close(stream)),
            Look::Said(said) => Err((stream, said)),
            Look::Over => Ok(LetGo::Gone),
        }
    }

    /// Hands it to the successor.
    async fn hand_over(
        &mut self,
        stream: S,
        read_ahead: Bytes,
        carriage: Carriage<S>,
        turn: Turn,
    ) -> Result<LetGo<S>, (S, Bytes)> {
        let ledger = Arc::clone(&self.watch.ledger);
        let Some(mover) = ledger.hooks.mover.clone() else { return Err((stream, read_ahead)) };
        let guard = &ledger.guard;
        let socket = match (carriage.off)(stream) {
            Ok(socket) => socket,
            Err(error) => {
                // The runtime did not give it back: its I/O driver has ended.
                crate::log::warn!(%error, "an idle connection was closed");
                guard.lost(&error.to_string());
                return Ok(LetGo::Gone);
            }
        };
        guard.set_reason("moves to the successor");
        let fresh = ledger.is_fresh();
        let parcel = Parcel { socket, read_ahead, fresh, guard: guard.clone() };
        let taken = tokio::select! {
            biased;
            taken = mover.take(parcel, turn) => taken,
            () = guard.reached(DrainPhase::Force) => return Ok(LetGo::Gone),
        };
        let Err(GivenBack { stream, read_ahead }) = taken else { return Ok(LetGo::Gone) };
        ledger.stay();
        // It says anew what it does.
        self.watch.label = Label::default();
        // It is the stream that went.
        (carriage.on)(stream).map_or(Ok(LetGo::Gone), |stream| Err((stream, read_ahead)))
    }
}

/// What became of a connection that had to go.
enum LetGo<S> {
    Close(S),
    Gone,
}

impl<S> LetGo<S> {
    fn into_end<V>(self) -> End<S, V> {
        match self {
            Self::Close(stream) => End::Close(stream),
            Self::Gone => End::Gone,
        }
    }
}

/// The stream for hyper. What it speaks is known once it has had a request.
fn io<S>(stream: S, ahead: Bytes, ledger: &Arc<Ledger>) -> Io<S> {
    if ledger.is_fresh() {
        Io::new(stream, ahead, Arc::clone(ledger))
    } else {
        Io::decided(stream, ahead, Arc::clone(ledger))
    }
}

/// Two pieces in their order, most of the time without a copy.
fn join(first: Bytes, second: Bytes) -> Bytes {
    if second.is_empty() {
        first
    } else if first.is_empty() {
        second
    } else {
        [first, second].concat().into()
    }
}

fn skip_empty_lines(mut bytes: Bytes) -> Bytes {
    let empty = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    bytes.split_off(empty)
}
