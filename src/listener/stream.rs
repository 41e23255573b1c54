//! A listener as a stream of connections.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;

use super::transport::Transport;
use super::{Conn, Listener};
use crate::error::Result;

type Next<T> = Result<Option<Conn<<T as Transport>::Stream, <T as Transport>::Addr>>>;

/// The connections of a [`Listener`], for what takes a [`Stream`] (tonic, warp, hyper-util).
///
/// It ends where [`Listener::accept`] gives `None`, and after an error.
#[must_use = "streams do nothing unless polled"]
pub struct Incoming<T: Transport> {
    listener: Listener<T>,
    next: Option<Pin<Box<dyn Future<Output = Next<T>> + Send>>>,
    ended: bool,
}

impl<T: Transport> Listener<T> {
    /// The connections as a stream. Other clones may accept beside it.
    pub fn incoming(self) -> Incoming<T> {
        Incoming {
            listener: self,
            next: None,
            ended: false,
        }
    }
}

impl<T: Transport> Stream for Incoming<T> {
    type Item = Result<Conn<T::Stream, T::Addr>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let mut next = self.next.take().unwrap_or_else(|| {
            let listener = self.listener.clone();
            Box::pin(async move { listener.accept().await })
        });
        let Poll::Ready(result) = next.as_mut().poll(cx) else {
            self.next = Some(next);
            return Poll::Pending;
        };
        self.ended = !matches!(result, Ok(Some(_)));
        Poll::Ready(result.transpose())
    }
}

impl<T: Transport> fmt::Debug for Incoming<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Incoming").field(&self.listener).finish()
    }
}
