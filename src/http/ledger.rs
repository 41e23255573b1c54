//! What the parts of one connection tell each other.
//!
//! hyper owns stream and service of a connection, and does not say what state it is in. The stream
//! ([`Io`](super::io::Io)), the service ([`Tracked`](super::service::Tracked)) and the bodies note
//! here what they see of it; the driver reads it.
//!
//! # When a connection is idle
//!
//! *Between two requests hyper's HTTP/1 connection holds nothing but bytes it has read and not
//! parsed.* It is between two requests if, right after its `poll` returned `Pending`:
//!
//! 1. every request that the service was called with has seen its response's body dropped: hyper
//!    drops a body after it has put the last of it into its write buffer, never before;
//! 2. the last request's body was read to its end, or dropped before that poll began: hyper then
//!    reads what is there of it in the same poll, and closes the connection if that was not all;
//! 3. the stream was flushed, with success, after the last of its writes and after the last body
//!    was dropped: hyper flushes the stream only once its write buffer is empty.
//!
//! All three are internals of hyper 1.12, read in `proto/h1/{dispatch,conn,io}.rs`. The tests of
//! this room move connections by them many thousand times.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Waker};

use hyper::{Method, Request, StatusCode, Uri};
use tokio::time::Instant;

use super::server::Hooks;
use crate::drain::{DrainPhase, Guard};

/// No request's body is open.
const NONE: usize = 0;

/// So many answers in a row, without a moment between them, are not told to close while the
/// connection may move.
const IN_A_ROW: usize = 16;

/// One connection's notes.
pub(super) struct Ledger {
    pub(super) guard: Guard,
    pub(super) hooks: Arc<Hooks>,
    /// Requests that the service was called with. For HTTP/1 also the number of the last one.
    begun: AtomicUsize,
    /// Those whose response is over.
    answered: AtomicUsize,
    /// Those that have a response, with its body under way or over.
    responded: AtomicUsize,
    /// HTTP/1: the number of the request whose body is open.
    open_body: AtomicUsize,
    /// HTTP/1: nobody tells when the open body has been read.
    untold: AtomicBool,
    /// HTTP/1: the number of the last request whose body was dropped before its end.
    abandoned: AtomicUsize,
    flushed: AtomicBool,
    /// Bytes of a head have arrived, and it is not complete.
    head: AtomicBool,
    speaks_http2: AtomicBool,
    /// HTTP/2: when hyper was asked to tell the client to go.
    told: OnceLock<Instant>,
    /// The peer has closed its side, or the stream has failed: there is nobody to wait for.
    over: AtomicBool,
    /// The peer has closed its side, and hyper has not been told: somebody is to be answered.
    half_closed: AtomicBool,
    /// The stream leaves HTTP.
    upgrading: AtomicBool,
    /// Another process has answered requests on it.
    served: AtomicBool,
    /// The connection has been declined by a successor.
    stays: AtomicBool,
    /// Answers of a drain since the connection was last idle.
    in_a_row: AtomicUsize,
    last: Mutex<Option<(Method, Uri)>>,
    /// The connection's task, while it waits for the end of a body that others may read, or for the
    /// end of an answer.
    reader: Mutex<Option<Waker>>,
}

impl Ledger {
    pub(super) fn new(guard: Guard, hooks: Arc<Hooks>) -> Arc<Self> {
        Arc::new(Self {
            guard,
            hooks,
            begun: AtomicUsize::new(0),
            answered: AtomicUsize::new(0),
            responded: AtomicUsize::new(0),
            open_body: AtomicUsize::new(NONE),
            untold: AtomicBool::new(false),
            abandoned: AtomicUsize::new(NONE),
            flushed: AtomicBool::new(true),
            head: AtomicBool::new(false),
            speaks_http2: AtomicBool::new(false),
            told: OnceLock::new(),
            over: AtomicBool::new(false),
            half_closed: AtomicBool::new(false),
            upgrading: AtomicBool::new(false),
            served: AtomicBool::new(false),
            stays: AtomicBool::new(false),
            in_a_row: AtomicUsize::new(0),
            last: Mutex::default(),
            reader: Mutex::default(),
        })
    }

    /// A request has come; the answer stands for it until it is over.
    pub(super) fn begin<B>(self: &Arc<Self>, request: &Request<B>) -> Pending {
        let asked = (request.method().clone(), request.uri().clone());
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(asked);
        // hyper parses a head only when the body before it is over, whatever became of its reader.
        self.open_body.store(NONE, Ordering::Release);
        self.untold.store(false, Ordering::Relaxed);
        self.head.store(false, Ordering::Relaxed);
        self.begun.fetch_add(1, Ordering::Release);
        Pending(Arc::clone(self))
    }

    /// The last request has a body; gives its number.
    pub(super) fn open_body(&self) -> usize {
        let number = self.begun.load(Ordering::Acquire);
        self.open_body.store(number, Ordering::Release);
        number
    }

    /// The last request has a body that nobody tells us of.
    pub(super) fn open_untold_body(&self) {
        self.open_body();
        self.untold.store(true, Ordering::Release);
    }

    /// A request's body was read to its end. Where that was done is the application's choice, and
    /// hyper does not learn of it: the connection's task does.
    pub(super) fn close_body(&self, number: usize) {
        let closed =
            self.open_body.compare_exchange(number, NONE, Ordering::AcqRel, Ordering::Relaxed);
        if closed.is_ok() {
            self.wake_reader();
        }
    }

    /// A request's body was dropped before its end.
    pub(super) fn abandon_body(&self, number: usize) {
        self.abandoned.store(number, Ordering::Release);
        self.wake_reader();
    }

    fn wake_reader(&self) {
        let waker = self.reader.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The task is woken when the open body ends, if there is one. False if one has been dropped
    /// since [`abandoned`](Self::abandoned) said this: hyper has to be polled again.
    pub(super) fn watch_body(&self, abandoned: usize, cx: &mut Context<'_>) -> bool {
        if self.reads_body() {
            self.wakes(cx);
        }
        // Whoever has closed or dropped one since will find the waker, or has been seen.
        self.abandoned() == abandoned
    }

    fn wakes(&self, cx: &mut Context<'_>) {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        if !reader.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *reader = Some(cx.waker().clone());
        }
    }

    /// The peer has closed its side, which hyper does not get to see yet. The task is woken at the
    /// end of each answer: hyper takes a stream that had nothing to read for one that wakes it.
    pub(super) fn note_half_closed(&self, cx: &mut Context<'_>) {
        self.half_closed.store(true, Ordering::Relaxed);
        self.wakes(cx);
    }

    /// The body that hyper will see as dropped in the poll that begins now.
    pub(super) fn abandoned(&self) -> usize {
        self.abandoned.load(Ordering::Acquire)
    }

    /// hyper has been polled, is pending, and so has read the rest of that body.
    pub(super) fn settle(&self, abandoned: usize) {
        if abandoned != NONE {
            self.close_body(abandoned);
        }
    }

    /// HTTP/1: nothing is under way but, maybe, part of a head. See the module's text for when
    /// this may be asked.
    pub(super) fn is_idle(&self) -> bool {
        self.is_answered() && self.flushed.load(Ordering::Relaxed)
    }

    /// HTTP/1: only hyper knows whether it is idle, and it may be.
    pub(super) fn may_be_idle(&self) -> bool {
        self.untold.load(Ordering::Acquire)
            && self.in_flight() == 0
            && self.flushed.load(Ordering::Relaxed)
            && !self.is_upgrading()
    }

    /// Nothing is under way but what may be unflushed.
    pub(super) fn is_answered(&self) -> bool {
        self.in_flight() == 0 && !self.reads_body() && !self.is_upgrading()
    }

    /// Whether a request's body is being read.
    pub(super) fn reads_body(&self) -> bool {
        self.open_body.load(Ordering::Acquire) != NONE
    }

    /// Requests whose response is not over.
    pub(super) fn in_flight(&self) -> usize {
        // In this order, so that the difference is never negative.
        let answered = self.answered.load(Ordering::Acquire);
        self.begun.load(Ordering::Acquire).saturating_sub(answered)
    }

    /// Requests whose response is under way.
    pub(super) fn streaming(&self) -> usize {
        let answered = self.answered.load(Ordering::Acquire);
        self.responded.load(Ordering::Acquire).saturating_sub(answered)
    }

    /// Another process has answered requests on it.
    pub(super) fn note_served(&self) {
        self.served.store(true, Ordering::Relaxed);
    }

    /// Whether it has not had a request in its life.
    pub(super) fn is_fresh(&self) -> bool {
        self.begun() == 0 && !self.served.load(Ordering::Relaxed)
    }

    pub(super) fn begun(&self) -> usize {
        self.begun.load(Ordering::Acquire)
    }

    /// Method and path of the last request.
    pub(super) fn last(&self) -> Option<String> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().map(|(method, uri)| format!("{method} {}", uri.path()))
    }

    pub(super) fn phase(&self) -> DrainPhase {
        self.guard.phase()
    }

    /// Whether answers have to send the client elsewhere.
    pub(super) fn says_close(&self) -> bool {
        let phase = self.phase();
        if phase < DrainPhase::LameDuck {
            return false;
        }
        // After a body that nobody tells us of it is not known when the connection is idle, so it
        // does not move.
        if self.untold.load(Ordering::Acquire) || !self.may_move() {
            return true;
        }
        // With requests in a row that never ends there is no moment to move in.
        let in_a_row = self.in_a_row.fetch_add(1, Ordering::Relaxed);
        phase >= DrainPhase::Graceful && in_a_row >= IN_A_ROW
    }

    /// A drain has found it idle: it can move.
    pub(super) fn note_idle(&self) {
        self.in_a_row.store(0, Ordering::Relaxed);
    }

    /// Whether a successor takes the connection when it is idle.
    pub(super) fn may_move(&self) -> bool {
        // A health check is about this generation.
        !self.stays.load(Ordering::Relaxed)
            && !self.guard.is_health_check()
            && self.hooks.mover.as_ref().is_some_and(|mover| mover.is_open())
    }

    /// No successor takes it.
    pub(super) fn stay(&self) {
        self.stays.store(true, Ordering::Relaxed);
    }

    pub(super) fn note_written(&self) {
        self.flushed.store(false, Ordering::Relaxed);
    }

    pub(super) fn note_flushed(&self) {
        self.flushed.store(true, Ordering::Relaxed);
    }

    /// Bytes have arrived. With nothing under way they are a head's.
    pub(super) fn note_heard(&self) {
        if self.is_answered() {
            self.head.store(true, Ordering::Relaxed);
        }
    }

    /// Whether part of a head has arrived.
    pub(super) fn head(&self) -> bool {
        self.head.load(Ordering::Relaxed)
    }

    /// What has arrived of a head has been taken out, to be read anew.
    pub(super) fn forget_head(&self) {
        self.head.store(false, Ordering::Relaxed);
    }

    pub(super) fn note_http2(&self) {
        self.speaks_http2.store(true, Ordering::Relaxed);
    }

    pub(super) fn speaks_http2(&self) -> bool {
        self.speaks_http2.load(Ordering::Relaxed)
    }

    /// HTTP/2: hyper is asked to tell the client to go.
    pub(super) fn note_told(&self) {
        self.told.get_or_init(Instant::now);
    }

    /// HTTP/2: when that was.
    pub(super) fn told(&self) -> Option<Instant> {
        self.told.get().copied()
    }

    pub(super) fn note_over(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    pub(super) fn note_upgrading(&self) {
        self.upgrading.store(true, Ordering::Release);
    }

    pub(super) fn is_upgrading(&self) -> bool {
        self.upgrading.load(Ordering::Acquire)
    }
}

/// A request that is not over: dropped when its response is, or when there will be none.
pub(super) struct Pending(Arc<Ledger>);

impl Pending {
    pub(super) fn ledger(&self) -> &Ledger {
        &self.0
    }

    /// The response has begun.
    pub(super) fn responded(&self, status: StatusCode) {
        self.0.responded.fetch_add(1, Ordering::Release);
        self.0.hooks.answered(&self.0.guard, status);
    }

    /// Whether the last request asks for a tunnel.
    pub(super) fn is_connect(&self) -> bool {
        let last = self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().is_some_and(|(method, _)| *method == Method::CONNECT)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        // Before the count, so that whoever sees the answer as over sees that it is not flushed.
        self.0.flushed.store(false, Ordering::Relaxed);
        self.0.answered.fetch_add(1, Ordering::Release);
        if self.0.half_closed.load(Ordering::Relaxed) {
            self.0.wake_reader();
        }
    }
}
