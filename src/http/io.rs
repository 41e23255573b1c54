//! The stream of a connection, as hyper gets it.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::ledger::Ledger;
use super::timer::{Timer, after};
use crate::drain::DrainPhase;

/// What an HTTP/2 client says first (RFC 9113, section 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Where a stream comes back to when hyper drops it.
pub(super) type Return<S> = Arc<Mutex<Option<S>>>;

/// A stream that notes in the [`Ledger`] what passes through it.
///
/// It gives bytes that were read before it was made, tells HTTP/2 from HTTP/1 by what comes first,
/// keeps the client's end to itself while there is somebody to answer, and ends a stream that has left
/// HTTP when the drain's deadline passes, which nobody else can.
pub(super) struct Io<S> {
    /// `None` only once it has been taken out.
    stream: Option<S>,
    /// To be read before what the stream gives.
    ahead: Bytes,
    /// What may become the preface of HTTP/2; `None` once that is decided.
    opening: Option<BytesMut>,
    ledger: Arc<Ledger>,
    back: Option<Return<S>>,
    half_closed: HalfClosed,
    read_cut: Cut,
    write_cut: Cut,
}

impl<S> Io<S> {
    /// A stream that has given `ahead` already. What it speaks is still to be found out.
    pub(super) fn new(stream: S, ahead: Bytes, ledger: Arc<Ledger>) -> Self {
        let opening = Some(BytesMut::new());
        let cut = || Cut(None);
        let (read_cut, write_cut) = (cut(), cut());
        let (stream, half_closed) = (Some(stream), HalfClosed::default());
        Self { stream, ahead, opening, ledger, back: None, half_closed, read_cut, write_cut }
    }

    /// While a request is under way its client may close its side for so long, see
    /// [`Http::half_close_timeout`](super::Http::half_close_timeout). Without this it may not.
    pub(super) fn half_close_timeout(mut self, timeout: Duration) -> Self {
        self.half_closed.timeout = timeout;
        self
    }

    /// A stream that speaks the protocol that it is given to.
    pub(super) fn decided(stream: S, ahead: Bytes, ledger: Arc<Ledger>) -> Self {
        let mut io = Self::new(stream, ahead, ledger);
        io.opening = None;
        io
    }

    /// Puts the stream there when it is dropped.
    pub(super) fn returning(mut self, back: Return<S>) -> Self {
        self.back = Some(back);
        self
    }

    /// The stream, and what it has given that nobody has read.
    pub(super) fn into_parts(mut self) -> (Option<S>, Bytes) {
        let mut ahead = std::mem::take(&mut self.ahead);
        if let Some(opening) = self.opening.take().filter(|opening| !opening.is_empty()) {
            // What was held back came before what is still ahead.
            ahead = [opening.as_ref(), ahead.as_ref()].concat().into();
        }
        (self.stream.take(), ahead)
    }

    fn stream(&mut self) -> io::Result<Pin<&mut S>>
    where
        S: Unpin,
    {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// An error once the stream has left HTTP and its time is over.
    fn check(&mut self, cx: &mut Context<'_>, reads: Side) -> io::Result<()> {
        if !self.ledger.is_upgrading() {
            return Ok(());
        }
        let cut = match reads {
            Side::Read => &mut self.read_cut,
            Side::Write => &mut self.write_cut,
        };
        if cut.poll(cx, &self.ledger).is_ready() {
            let text = "the drain's deadline has passed";
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, text));
        }
        Ok(())
    }

    /// Decides what a connection speaks by what it gave from `before` on: true if the reader may
    /// have it, false if it was held back.
    fn open(&mut self, buf: &mut ReadBuf<'_>, before: usize) -> bool {
        let Some(opening) = &mut self.opening else { return true };
        let held = opening.len();
        let new = &buf.filled()[before..];
        let expected = PREFACE.get(held..).unwrap_or_default();
        let common = new.len().min(expected.len());
        if new[..common] == expected[..common] {
            opening.extend_from_slice(new);
            if opening.len() >= PREFACE.len() {
                self.ledger.note_http2();
            }
        } else {
            let mut opening = self.opening.take().unwrap_or_default();
            if held == 0 {
                return true;
            }
            opening.extend_from_slice(new);
            // What was already ahead comes after what has just been given of it.
            opening.extend_from_slice(&self.ahead);
            self.ahead = opening.freeze();
        }
        buf.set_filled(before);
        false
    }

    /// Bytes that were read before, if there are any.
    fn give(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        if self.ahead.is_empty() || buf.remaining() == 0 {
            return false;
        }
        let count = self.ahead.len().min(buf.remaining());
        buf.put_slice(&self.ahead[..count]);
        self.ahead.advance(count);
        if self.ahead.is_empty() {
            // The buffer may be a large one.
            self.ahead = Bytes::new();
        }
        true
    }
}

/// Who asks.
#[derive(Clone, Copy)]
enum Side {
    Read,
    Write,
}

impl<S: AsyncRead + Unpin> AsyncRead for Io<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.check(cx, Side::Read)?;
        loop {
            let before = buf.filled().len();
            if !this.give(buf) {
                if this.ledger.speaks_http2() && this.opening.is_some() {
                    return Poll::Pending;
                }
                if this.half_closed.since.is_none()
                    && let Err(error) = ready!(this.stream()?.poll_read(cx, buf))
                {
                    this.ledger.note_over();
                    return Poll::Ready(Err(error));
                }
            }
            if buf.filled().len() == before {
                if buf.remaining() > 0 {
                    ready!(this.half_closed.poll_over(&this.ledger, cx));
                    if !this.end() {
                        continue;
                    }
                }
                return Poll::Ready(Ok(()));
            }
            this.ledger.note_heard();
            if this.open(buf, before) {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S> Io<S> {
    /// The peer sends no more. False if there is something that was held back for longer than
    /// it made sense: that comes first.
    fn end(&mut self) -> bool {
        self.ledger.note_over();
        match self.opening.take() {
            Some(opening) if !opening.is_empty() => {
                self.ahead = opening.freeze();
                false
            }
            _ => true,
        }
    }

    /// Notes what became of a write.
    fn wrote(&mut self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(result, Poll::Ready(Ok(_))) {
            self.half_closed.note_sent();
        }
        self.failed(result)
    }

    fn failed<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if matches!(result, Poll::Ready(Err(_))) {
            self.ledger.note_over();
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Io<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(cx, Side::Write)?;
        self.ledger.note_written();
        let result = self.stream()?.poll_write(cx, buf);
        self.wrote(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(cx, Side::Write)?;
        self.ledger.note_written();
        let result = self.stream()?.poll_write_vectored(cx, bufs);
        self.wrote(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = self.stream()?.poll_flush(cx);
        if matches!(result, Poll::Ready(Ok(()))) {
            self.ledger.note_flushed();
        }
        self.failed(result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = self.stream()?.poll_shutdown(cx);
        self.failed(result)
    }
}

impl<S> Drop for Io<S> {
    fn drop(&mut self) {
        if let Some(back) = self.back.take() {
            *back.lock().unwrap_or_else(PoisonError::into_inner) = self.stream.take();
        }
    }
}

/// A client that has closed its side, or has gone: before something is sent to it nobody can tell.
///
/// hyper would drop a request as soon as it reads its client's end, or never look for that end
/// until the answer is over (`half_close`). So it does not get to see it for a while.
#[derive(Default)]
struct HalfClosed {
    timeout: Duration,
    /// Since then the client has sent no more and nothing could be sent to it.
    since: Option<Instant>,
    timer: Timer,
}

impl HalfClosed {
    /// The client sends no more. Resolves when the stream may end: when there is nobody to answer,
    /// or when the time is over.
    fn poll_over(&mut self, ledger: &Ledger, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.since.get_or_insert_with(Instant::now);
        let asked = ledger.in_flight() > 0 && !ledger.speaks_http2() && !ledger.is_upgrading();
        if !asked || self.timeout.is_zero() {
            return Poll::Ready(());
        }
        ledger.note_half_closed(cx);
        let over = self.timer.poll(Some(after(since, self.timeout)), cx);
        if over { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Something could be sent to the client.
    fn note_sent(&mut self) {
        if let Some(since) = &mut self.since {
            *since = Instant::now();
        }
    }
}

/// The end of the time of a stream that has left HTTP, as one of its two sides waits for it.
struct Cut(Option<Pin<Box<dyn Future<Output = ()> + Send>>>);

impl Cut {
    fn poll(&mut self, cx: &mut Context<'_>, ledger: &Ledger) -> Poll<()> {
        if ledger.phase() >= DrainPhase::Force {
            return Poll::Ready(());
        }
        let wait = self.0.get_or_insert_with(|| {
            let guard = ledger.guard.clone();
            Box::pin(async move { guard.reached(DrainPhase::Force).await })
        });
        wait.as_mut().poll(cx)
    }
}
