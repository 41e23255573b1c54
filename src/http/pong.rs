//! HTTP/2: the answer to the ping of a graceful shutdown, held back until nothing is on the way.
//!
//! A graceful shutdown says GOAWAY without a last stream and sends a ping; when its answer comes,
//! hyper says at once which stream was the last (RFC 9113, section 6.8), and whatever a client
//! opened beyond it is not answered. But a client may answer a ping ahead of requests that it has
//! sent already, as far as its application knows: the `h2` crate does, for those that are queued.
//! *Allowing time for any in-flight stream creation*, as the RFC says, is done here: [`LatePong`]
//! gives that answer to hyper once the client has been quiet for a while.
//!
//! Until the client is told to go, frames are only counted through. Other frames are never held
//! back, and theirs is the order among each other.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::io::PREFACE;
use super::ledger::Ledger;
use crate::forward::writes_to;

/// How long a client has to be quiet: as long as its answer took to come, for what is queued behind
/// that answer is as slow; but no less than a client under load needs between two of its writes,
/// and no more than what a distant one needs.
const QUIET: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(20)..=Duration::from_millis(250);

/// How long the answer is held back at most, however much the client has to say: an upload, say.
const LONGEST: Duration = Duration::from_secs(1);

/// The length of a frame's head (RFC 9113, section 4.1).
const HEAD: usize = 9;

/// The answer to the ping of h2's graceful shutdown: PING with ACK on stream 0, and what is in it
/// (`Ping::SHUTDOWN`).
const PONG: [u8; 17] = [0, 0, 8, 6, 1, 0, 0, 0, 0, 0x0b, 0x7b, 0xa2, 0xf0, 0x8b, 0x9b, 0xfe, 0x54];

/// How much is read at once while frames are sorted.
const CHUNK: usize = 8 * 1024;

/// The stream of an HTTP/2 connection, from its preface on.
pub(super) struct LatePong<S> {
    stream: S,
    ledger: Arc<Ledger>,
    frames: Frames,
    /// Once the client has been told to go.
    sorting: Option<Box<Sorting>>,
}

impl<S> LatePong<S> {
    pub(super) fn new(stream: S, ledger: Arc<Ledger>) -> Self {
        Self { stream, ledger, frames: Frames::new(), sorting: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for LatePong<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let sorting = match &mut this.sorting {
            Some(sorting) => sorting,
            None => match this.ledger.told() {
                Some(told) => this.sorting.insert(Box::new(Sorting::new(told))),
                None => {
                    let before = buf.filled().len();
                    ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
                    this.frames.pass(&buf.filled()[before..]);
                    return Poll::Ready(Ok(()));
                }
            },
        };
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            if !sorting.sorted.is_empty() || sorting.ended {
                let count = sorting.sorted.len().min(buf.remaining());
                buf.put_slice(&sorting.sorted[..count]);
                sorting.sorted.advance(count);
                return Poll::Ready(Ok(()));
            }
            let mut chunk = [0; CHUNK];
            let mut read = ReadBuf::new(&mut chunk);
            match Pin::new(&mut this.stream).poll_read(cx, &mut read) {
                Poll::Ready(result) => {
                    result?;
                    sorting.sort(&mut this.frames, read.filled(), Instant::now());
                }
                Poll::Pending => {
                    ready!(sorting.poll_due(cx));
                    if !sorting.release(&this.frames) {
                        // The rest of a frame comes first.
                        return Poll::Pending;
                    }
                }
            }
        }
    }
}

/// Where a stream is in its frames.
struct Frames {
    /// What is left of a frame's payload, or of the preface.
    left: usize,
    /// The beginning of a frame: its head, or less.
    head: [u8; HEAD],
    have: usize,
    /// A header block has begun: nothing may come between its frames (RFC 9113, section 4.3).
    block: bool,
}

impl Frames {
    fn new() -> Self {
        Self { left: PREFACE.len(), head: [0; HEAD], have: 0, block: false }
    }

    /// Counts these bytes through.
    fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let count = self.step(bytes);
            bytes = &bytes[count..];
        }
    }

    /// Counts through as many as belong together: the rest of a head, or of a payload.
    fn step(&mut self, bytes: &[u8]) -> usize {
        if self.left > 0 {
            let count = self.left.min(bytes.len());
            self.left -= count;
            return count;
        }
        let count = (HEAD - self.have).min(bytes.len());
        self.head[self.have..self.have + count].copy_from_slice(&bytes[..count]);
        self.have += count;
        if self.have == HEAD {
            self.have = 0;
            let [high, middle, low, kind, flags, ..] = self.head;
            self.left = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
            // HEADERS, PUSH_PROMISE, CONTINUATION; END_HEADERS.
            if matches!(kind, 1 | 5 | 9) {
                self.block = flags & 4 == 0;
            }
        }
        count
    }

    /// Whether a frame may come here that was not sent here.
    fn is_between(&self) -> bool {
        self.left == 0 && self.have == 0 && !self.block
    }
}

/// What is given to hyper, and what is not yet.
struct Sorting {
    /// When the client was told to go.
    told: Instant,
    /// To be given.
    sorted: BytesMut,
    /// The beginning of what may be the answer.
    begun: usize,
    held: Option<Held>,
    /// The answer has come; there is no second one.
    came: bool,
    /// The client sends no more.
    ended: bool,
}

/// The answer, held back.
struct Held {
    came: Instant,
    quiet: Duration,
    due: Pin<Box<Sleep>>,
}

impl Sorting {
    fn new(told: Instant) -> Self {
        let sorted = BytesMut::new();
        Self { told, sorted, begun: 0, held: None, came: false, ended: false }
    }

    /// What has come now; nothing if the client sends no more.
    fn sort(&mut self, frames: &mut Frames, mut bytes: &[u8], now: Instant) {
        self.ended = bytes.is_empty();
        if self.ended {
            self.release(frames);
            self.sorted.extend_from_slice(&PONG[..self.begun]);
            self.begun = 0;
        } else if let Some(held) = &mut self.held {
            held.due.as_mut().reset((now + held.quiet).min(held.came + LONGEST));
        }
        while !bytes.is_empty() {
            if self.held.as_ref().is_some_and(|held| now >= held.came + LONGEST) {
                self.release(frames);
            }
            let count = match self.looks(frames, bytes) {
                0 => self.give(frames, bytes),
                count => {
                    self.begun += count;
                    if self.begun == PONG.len() {
                        self.hold(now);
                    }
                    count
                }
            };
            bytes = &bytes[count..];
        }
    }

    /// How many of these bytes are the answer's, as far as it goes.
    fn looks(&self, frames: &Frames, bytes: &[u8]) -> usize {
        if self.came || !frames.is_between() {
            return 0;
        }
        let rest = &PONG[self.begun..];
        let count = rest.len().min(bytes.len());
        if rest[..count] == bytes[..count] { count } else { 0 }
    }

    /// Gives what is not the answer.
    fn give(&mut self, frames: &mut Frames, bytes: &[u8]) -> usize {
        // It has begun like it.
        let begun = std::mem::take(&mut self.begun);
        frames.pass(&PONG[..begun]);
        self.sorted.extend_from_slice(&PONG[..begun]);
        let count = frames.step(bytes);
        self.sorted.extend_from_slice(&bytes[..count]);
        count
    }

    fn hold(&mut self, now: Instant) {
        self.begun = 0;
        self.came = true;
        let quiet = now.duration_since(self.told).clamp(*QUIET.start(), *QUIET.end());
        let due = Box::pin(sleep_until(now + quiet));
        self.held = Some(Held { came: now, quiet, due });
    }

    /// Resolves when the client has been quiet for long enough.
    fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.held {
            Some(held) => held.due.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }

    /// Gives the answer, if there is one and it may come here; whether it did.
    fn release(&mut self, frames: &Frames) -> bool {
        let given = frames.is_between() && self.held.take().is_some();
        if given {
            self.sorted.extend_from_slice(&PONG);
        }
        given
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for LatePong<S> {
    writes_to!(Self { stream, .. } => stream);
}
