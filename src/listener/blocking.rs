//! Accepting from plain threads.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::accept::{Accepted, FIRST_DELAY, longer};
use super::core::Core;
use super::inner::Inner;
use super::state::State;
use super::transport::Transport;
use super::{BlockingConn, Listener};
use crate::error::Result;

impl<T: Transport> Listener<T> {
    /// The next connection, for a plain thread: no runtime is needed. The stream is blocking.
    ///
    /// It waits, gives `None` and treats errors as [`accept`](Self::accept) does. Several threads
    /// may call it on one listener; they are served one after the other.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) for what does not pass.
    pub fn accept_blocking(&self) -> Result<Option<BlockingConn<T::Blocking, T::Addr>>> {
        let core = self.core();
        while let Some(accepted) = core.accept_blocking()?.map(Accepted::told) {
            let made = T::peer(&accepted.peer)
                .and_then(|peer| Ok((T::blocking(accepted.fd, core.nodelay)?, peer)));
            match made {
                Ok((stream, peer)) => {
                    return Ok(Some(BlockingConn::new(stream, peer, accepted.guard)));
                }
                Err(error) => self.lost(&error),
            }
        }
        Ok(None)
    }
}

impl Core {
    fn accept_blocking(&self) -> Result<Option<Accepted>> {
        // One thread waits in poll(2), the others here: a connection wakes one thread.
        let _turn = self.thread_gate.lock().unwrap_or_else(PoisonError::into_inner);
        let mut delay = FIRST_DELAY;
        let mut inner = self.lock();
        loop {
            let result = match inner.state {
                State::Waiting | State::Parked => {
                    inner = self.wait(inner);
                    continue;
                }
                State::Open if inner.raw.is_taken() => {
                    inner = self.wait(inner);
                    continue;
                }
                State::Open => inner.try_members(&mut |source| self.accept_one(source)).map(Some),
                State::Closing | State::Ended => {
                    inner.serve_rest(&mut |source| self.accept_one(source))
                }
            };
            let error = match result {
                Ok(None) => {
                    drop(inner);
                    self.tell_everyone();
                    return Ok(None);
                }
                Ok(accepted) => return Ok(accepted),
                Err(error) => error,
            };
            if error.kind() == std::io::ErrorKind::WouldBlock {
                match self.wait_for_socket(inner) {
                    (again, Ok(())) => {
                        inner = again;
                        continue;
                    }
                    (again, Err(error)) => {
                        inner = again;
                        self.passing(error, delay, "waiting for a connection")?;
                    }
                }
            } else {
                self.passing(error, delay, "accept")?;
            }
            inner = self.wait_at_most(inner, delay);
            delay = longer(delay);
        }
    }

    /// Waits in `poll(2)` until a socket has something or the state changes.
    fn wait_for_socket<'a>(
        &'a self,
        mut inner: MutexGuard<'a, Inner>,
    ) -> (MutexGuard<'a, Inner>, std::io::Result<()>) {
        let kick = match &inner.kick {
            Some(kick) => Arc::clone(kick),
            None => match EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK) {
                Ok(kick) => Arc::clone(inner.kick.insert(Arc::new(kick))),
                Err(error) => return (inner, Err(error.into())),
            },
        };
        let sockets: Vec<Arc<OwnedFd>> =
            inner.members.iter().map(|member| Arc::clone(&member.fd)).collect();
        inner.polling = true;
        drop(inner);
        let mut fds: Vec<PollFd<'_>> = std::iter::once(kick.as_fd())
            .chain(sockets.iter().map(|socket| socket.as_fd()))
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        let waited = match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(nix::Error::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        };
        drop(fds);
        drop(sockets);
        let mut inner = self.lock();
        inner.polling = false;
        // Empty when it was a socket that woke us.
        let _ = kick.read();
        (inner, waited)
    }

    fn wait<'a>(&'a self, mut inner: MutexGuard<'a, Inner>) -> MutexGuard<'a, Inner> {
        inner.asleep += 1;
        let mut inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        inner.asleep -= 1;
        inner
    }

    fn wait_at_most<'a>(
        &'a self,
        mut inner: MutexGuard<'a, Inner>,
        delay: Duration,
    ) -> MutexGuard<'a, Inner> {
        inner.asleep += 1;
        let waited = self.changed.wait_timeout(inner, delay);
        let mut inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        inner.asleep -= 1;
        inner
    }
}
