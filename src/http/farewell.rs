//! The end of a connection: its client gets all that was sent, and no reset.
//!
//! A socket that is closed with unread bytes in it, or that gets some afterwards, resets the
//! connection, and a reset takes the end of the last answer with it if the client has not read it
//! yet. So we close our half, read what still comes until the client closes its own, and only then
//! let go (RFC 9112, section 9.6).

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::drive::Watch;
use super::mover::Carriage;
use super::timer::after;
use crate::drain::DrainPhase;

/// How much is read at once of what nobody wants.
const CHUNK: usize = 2048;

/// How much is read for one look whether a client has said something.
const LOOK: usize = 1024;

/// What a look at a stream found.
pub(super) enum Look {
    /// Nothing, so far.
    Silent,
    /// The client has sent something.
    Said(Bytes),
    /// The client has closed its side, or the stream is broken.
    Over,
}

/// Reads what is there now. The task is not woken by what comes later.
///
/// A runtime tells what its last look at epoll has shown, which under load is a while ago, and a
/// request that has arrived since must not be missed: so the kernel is asked where that can be
/// done, and elsewhere the runtime is made to look first.
pub(super) async fn look<S>(stream: &mut S, carriage: Option<Carriage<S>>) -> Look
where
    S: AsyncRead + Unpin,
{
    let read = carriage.map(|carriage| carriage.read);
    if read.is_none() {
        tokio::task::yield_now().await;
    }
    poll_fn(|cx| {
        let mut chunk = [0; LOOK];
        let read = match read {
            Some(read) => match read(stream, &mut chunk) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
                result => Poll::Ready(result),
            },
            None => {
                let mut buf = ReadBuf::new(&mut chunk);
                let polled = Pin::new(&mut *stream).poll_read(cx, &mut buf);
                polled.map_ok(|()| buf.filled().len())
            }
        };
        Poll::Ready(match read {
            Poll::Pending => Look::Silent,
            Poll::Ready(Ok(read @ 1..)) => Look::Said(Bytes::copy_from_slice(&chunk[..read])),
            Poll::Ready(_) => Look::Over,
        })
    })
    .await
}

/// Closes our half and waits for the client to close the other, for at most `linger`, and no
/// longer than the drain's deadline.
pub(super) async fn part<S>(mut stream: S, watch: &mut Watch, linger: std::time::Duration)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut shut = false;
    let mut last = None;
    poll_fn(|cx| {
        if watch.phase(cx) == DrainPhase::Force {
            return Poll::Ready(());
        }
        if !shut {
            // A failure means that there is nobody any more.
            if let Poll::Ready(result) = Pin::new(&mut stream).poll_shutdown(cx) {
                if result.is_err() {
                    return Poll::Ready(());
                }
                shut = true;
            }
        }
        if read_to_end(&mut stream, cx).is_ready() {
            return Poll::Ready(());
        }
        let at = *last.get_or_insert_with(|| after(Instant::now(), linger));
        if watch.timer.poll(Some(at), cx) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

fn read_to_end<S: AsyncRead + Unpin>(stream: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    let mut chunk = [0; CHUNK];
    loop {
        let mut buf = ReadBuf::new(&mut chunk);
        ready!(Pin::new(&mut *stream).poll_read(cx, &mut buf))?;
        if buf.filled().is_empty() {
            return Poll::Ready(Ok(()));
        }
    }
}
