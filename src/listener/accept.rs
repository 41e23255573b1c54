//! Accepting: which errors pass, and how long to wait for them to pass.

use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use socket2::SockAddr;

use super::core::Core;
use super::expected::Met;
use super::member::Source;
use super::passing::{is_lost_connection, is_shortage};
use crate::drain::Guard;
use crate::error::{Error, ErrorKind, Result};
use crate::sys::socket::accept4;

/// The first wait after an error that passes, for example when descriptors have run out.
pub(super) const FIRST_DELAY: Duration = Duration::from_millis(10);
/// The longest wait after such errors: so long clients may wait when the shortage is over.
const LONGEST_DELAY: Duration = Duration::from_millis(100);

/// So many connections in a row may fail before they are accepted; then we wait as for a shortage.
const LOST_IN_A_ROW: u32 = 64;

/// A connection as the kernel gives it, with its guard.
pub(super) struct Accepted {
    pub(super) fd: OwnedFd,
    pub(super) peer: SockAddr,
    pub(super) guard: Guard,
    met: Option<Met>,
}

impl Accepted {
    /// Tells whoever announced the connection that it has come. Not under the listener's lock: it
    /// wakes other people's tasks.
    pub(super) fn told(mut self) -> Self {
        if let Some(met) = self.met.take() {
            met.tell();
        }
        self
    }
}

impl Core {
    /// The next connection. `None`: the listener has ended. Cancel safe: a connection that is
    /// taken is returned in the same poll.
    pub(super) async fn accept(&self) -> Result<Option<Accepted>> {
        let accepted = self.next(&mut |source| self.accept_one(source), "accept").await?;
        Ok(accepted.map(Accepted::told))
    }

    /// The next result of `op`, which is tried under the lock. Cancel safe likewise.
    pub(super) async fn next<R>(
        &self,
        op: &mut (dyn FnMut(Source<'_>) -> io::Result<R> + Send),
        what: &str,
    ) -> Result<Option<R>> {
        let _turn = self.gate.lock().await;
        let mut delay = FIRST_DELAY;
        loop {
            match poll_fn(|cx| self.poll_io(cx, op)).await {
                Ok(result) => return Ok(result),
                Err(error) => self.passing(error, delay, what)?,
            }
            self.back_off(delay).await;
            delay = longer(delay);
        }
    }

    /// Waits, or until the state changes.
    async fn back_off(&self, delay: Duration) {
        let epoch = self.lock().epoch;
        let mut timer = pin!(tokio::time::sleep(delay));
        poll_fn(|cx| match timer.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => self.poll_changed(cx, epoch),
        })
        .await;
    }

    /// An error that is not ours to wait out, or a warning that we wait.
    pub(super) fn passing(&self, error: io::Error, delay: Duration, what: &str) -> Result<()> {
        if is_shortage(&error) || is_lost_connection(&error) {
            if delay < LONGEST_DELAY {
                crate::log::warn!(listener = %self.name(), %error, ?delay, "{what} waits for resources");
            } else {
                // It has been said.
                crate::log::debug!(listener = %self.name(), %error, ?delay, "{what} waits on");
            }
            return Ok(());
        }
        let message = format!("listener \"{}\": {what}", self.name());
        Err(Error::new(ErrorKind::Io, message).with_source(error))
    }

    /// Accepts and takes the guard in one go, under the lock that parking takes.
    pub(super) fn accept_one(&self, source: Source<'_>) -> io::Result<Accepted> {
        let mut tries = LOST_IN_A_ROW;
        let (fd, peer) = loop {
            match accept4(source.fd) {
                Err(error) if is_lost_connection(&error) && tries > 0 => tries -= 1,
                result => break result?,
            }
        };
        let met = self.expected.meet(&peer, self.name(), source.index);
        let guard = match met {
            Some(_) => self.guards.guard_of_check(peer.as_socket()),
            None => self.guards.guard(peer.as_socket()),
        };
        Ok(Accepted { fd, peer, guard, met })
    }
}

/// The next wait: twice as long, within bounds.
pub(super) fn longer(delay: Duration) -> Duration {
    (delay * 2).min(LONGEST_DELAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_tenth_of_a_second() {
        let mut delay = FIRST_DELAY;
        let mut total = 0;
        while delay < LONGEST_DELAY {
            delay = longer(delay);
            total += 1;
        }
        assert_eq!((total, longer(delay)), (4, Duration::from_millis(100)));
    }
}
