//! The core of every listener and datagram socket: who may read from it, and when.
//!
//! One lock holds the state and the descriptors. A connection is accepted, and its drain guard
//! taken, inside that lock. So parking is: take the lock, set the state; the registrations may be
//! dropped later. When [`Core::park`] returns, no accept is in flight and none can follow; there is
//! nothing to wait for and nothing to acknowledge.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::sync::Notify;

use super::expected::Expected;
use super::inner::Inner;
use super::member::{Member, Source};
use super::place::Place;
use super::raw::RawPause;
use super::state::State;
use crate::drain::{Drain, Guards};
use crate::name::Name;
use crate::wire::Address;

/// One listener or datagram socket: its name, its state, its sockets.
pub(crate) struct Core {
    name: Name,
    pub(super) guards: Guards,
    /// Connections that were announced to this generation.
    pub(super) expected: Expected,
    pub(super) nodelay: bool,
    inner: Mutex<Inner>,
    /// Tells threads about a change of state.
    pub(super) changed: Condvar,
    /// Tells tasks that wait for the end.
    ended: Notify,
    /// Tells tasks that wait for a socket to send on.
    pub(super) bound: Notify,
    /// Tasks accept one after the other, so that one waker per socket is enough.
    pub(super) gate: tokio::sync::Mutex<()>,
    /// Threads likewise.
    pub(super) thread_gate: Mutex<()>,
}

impl Core {
    /// A listener in `state` without sockets.
    pub(crate) fn new(
        name: Name,
        (drain, expected): (Drain, Expected),
        state: State,
        nodelay: bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            guards: drain.guards(&name),
            name,
            expected,
            nodelay,
            inner: Mutex::new(Inner::new(state)),
            changed: Condvar::new(),
            ended: Notify::new(),
            bound: Notify::new(),
            gate: tokio::sync::Mutex::new(()),
            thread_gate: Mutex::new(()),
        })
    }

    pub(crate) fn name(&self) -> &Name {
        &self.name
    }

    pub(crate) fn state(&self) -> State {
        self.lock().state
    }

    /// The address it was asked for, with the port that it got. `None`: not bound yet.
    pub(crate) fn address(&self) -> Option<Address> {
        self.lock().address.clone()
    }

    /// The path of a Unix socket.
    pub(crate) fn place(&self) -> Option<Arc<Place>> {
        self.lock().place.clone()
    }

    pub(crate) fn set_place(&self, place: Arc<Place>) {
        self.lock().place = Some(place);
    }

    /// Whether it is closed, closing, or will close as soon as it may.
    pub(crate) fn is_leaving(&self) -> bool {
        let inner = self.lock();
        inner.leaving || matches!(inner.state, State::Closing | State::Ended)
    }

    /// The first socket, to send on or to hand out.
    pub(crate) fn first(&self) -> Option<Arc<OwnedFd>> {
        self.lock().members.first().map(|member| Arc::clone(&member.fd))
    }

    /// Adds a socket of its own, which is number `index` of its name; a task or thread that waits
    /// takes it up.
    pub(crate) fn add(&self, fd: Arc<OwnedFd>, address: Address, index: usize) {
        self.change(|inner| {
            inner.address = Some(address);
            if inner.state != State::Ended {
                inner.members.push(Member::new(fd, index));
            }
        });
        self.bound.notify_waiters();
    }

    /// Adds a socket that a failed successor bound: its queue is served, then it is closed.
    pub(crate) fn add_leftover(&self, fd: Arc<OwnedFd>) {
        self.change(|inner| {
            if matches!(inner.state, State::Open | State::Closing) && !inner.abandoned {
                inner.members.push(Member::leftover(fd));
            }
        });
    }

    /// Our turn: a waiting listener accepts from now on.
    pub(crate) fn open(&self) {
        self.admit(State::Waiting);
    }

    /// Our turn, but an operator holds it: a waiting listener is parked.
    pub(crate) fn hold(&self) {
        self.change(|inner| {
            if inner.state == State::Waiting {
                inner.state = State::Parked;
            }
        });
    }

    /// The turn is back: a parked listener accepts again, on the very same sockets.
    pub(crate) fn resume(&self) {
        self.admit(State::Parked);
    }

    fn admit(&self, from: State) {
        let close = self.change(|inner| {
            if inner.state != from {
                return false;
            }
            inner.state = State::Open;
            inner.leaving
        });
        if close {
            self.close();
        }
    }

    /// Stops accepting. When this returns no accept is in flight and none follows, except that a
    /// framework which owns the socket has yet to be told, by what is returned.
    #[must_use = "a framework that accepts on its own is told through it"]
    pub(crate) fn park(&self) -> Option<Arc<RawPause>> {
        let pause = self.park_at_once();
        self.leave_epoll();
        pause
    }

    /// As [`park`](Self::park), but the sockets stay in epoll, where each of their connections
    /// wakes somebody for nothing, until [`leave_epoll`](Self::leave_epoll).
    #[must_use = "a framework that accepts on its own is told through it"]
    pub(crate) fn park_at_once(&self) -> Option<Arc<RawPause>> {
        let mut inner = self.lock();
        // Who waits for a connection waits on, now for the end of the pause: with a thousand
        // listeners as many tasks would be woken for nothing while the successor needs the
        // processors. A thread that polls the socket itself has to leave it.
        match inner.state {
            State::Open | State::Closing => {
                inner.leaving |= inner.state == State::Closing;
                inner.state = State::Parked;
                inner.tell();
                inner.raw.pause()
            }
            State::Waiting | State::Parked | State::Ended => None,
        }
    }

    /// Takes the sockets out of epoll if it is parked still.
    pub(crate) fn leave_epoll(&self) {
        let mut inner = self.lock();
        if inner.state == State::Parked {
            inner.members.iter_mut().for_each(Member::deregister);
        }
    }

    /// The framework that owns the socket, to tell it that it may accept again.
    pub(crate) fn raw(&self) -> Option<Arc<RawPause>> {
        self.lock().raw.pause()
    }

    /// Serves what is queued, then ends. A Unix path that is ours goes first, so that the queue
    /// does not grow. While it may not accept, it remembers to close when it may.
    pub(crate) fn close(&self) {
        self.change(|inner| {
            match inner.state {
                State::Ended | State::Closing => return,
                State::Waiting | State::Parked => {
                    inner.leaving = true;
                    return;
                }
                State::Open => {}
            }
            if let Some(place) = &inner.place {
                place.unlink();
            }
            let queued = inner.members.iter().any(Member::has_queued);
            if inner.abandoned || inner.raw.is_taken() || !queued {
                inner.end();
                return;
            }
            inner.state = State::Closing;
            inner.members.iter_mut().for_each(Member::deregister);
            let guard = self.guards.take();
            guard.set_name("the queue of a closing socket");
            guard.set_reason("nobody has taken what it holds");
            inner.queue = Some(guard);
        });
        self.tell_ended();
    }

    /// Ends at once: whoever accepts gets `None`, the descriptors are closed here.
    pub(crate) fn end(&self) {
        self.change(Inner::end);
        self.tell_ended();
    }

    /// Ends with an error that whoever accepts gets.
    pub(crate) fn fail(&self, message: String) {
        self.change(|inner| {
            inner.failure = Some(message);
            inner.end();
        });
        self.tell_ended();
    }

    /// The last handle is gone: nobody accepts here any more, so nothing stays in epoll, and what
    /// is closing has no one to serve its queue.
    pub(crate) fn abandon(&self) {
        self.change(|inner| {
            inner.abandoned = true;
            inner.members.iter_mut().for_each(Member::deregister);
            if inner.state == State::Closing {
                inner.end();
            }
        });
        self.tell_ended();
    }

    /// Resolves when the listener has ended. Cancel safe.
    pub(crate) async fn ended(&self) {
        loop {
            let told = self.ended.notified();
            if self.state() == State::Ended {
                return;
            }
            told.await;
        }
    }

    fn tell_ended(&self) {
        if self.state() == State::Ended {
            self.ended.notify_waiters();
            self.bound.notify_waiters();
        }
    }

    /// Tells threads and tasks that the queue has been served.
    pub(super) fn tell_everyone(&self) {
        self.change(|_| {});
        self.tell_ended();
    }

    /// Tries `op` on the sockets in turn. `None`: the listener has ended.
    ///
    /// Only one task at a time may wait here, hence the gate in front of it. A socket is put into
    /// the epoll of the runtime that polls, so this needs a tokio runtime with I/O enabled.
    pub(super) fn poll_io<R>(
        &self,
        cx: &mut Context<'_>,
        op: &mut dyn FnMut(Source<'_>) -> io::Result<R>,
    ) -> Poll<io::Result<Option<R>>> {
        // Dropped after the lock: a waker's drop may run code that takes it.
        let _old;
        let mut inner = self.lock();
        _old = inner.remember(cx.waker());
        let served = match inner.state {
            State::Waiting | State::Parked => return Poll::Pending,
            State::Open if inner.raw.is_taken() => return Poll::Pending,
            State::Open => match inner.poll_members(cx, op) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(result) => return Poll::Ready(result.map(Some)),
            },
            State::Closing | State::Ended => inner.serve_rest(op),
        };
        drop(inner);
        self.tell_everyone();
        Poll::Ready(served)
    }

    /// Resolves when the state has changed since `epoch`; the waker is the one of `poll_io`.
    pub(super) fn poll_changed(&self, cx: &mut Context<'_>, epoch: u64) -> Poll<()> {
        let _old;
        let mut inner = self.lock();
        _old = inner.remember(cx.waker());
        if inner.epoch == epoch { Poll::Pending } else { Poll::Ready(()) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state under the lock and tells everyone who waits, tasks after the lock is free.
    pub(super) fn change<R>(&self, change: impl FnOnce(&mut Inner) -> R) -> R {
        let (result, waker, asleep) = {
            let mut inner = self.lock();
            let result = change(&mut inner);
            inner.tell();
            (result, inner.waker.take(), inner.asleep)
        };
        // A system call even where nobody waits.
        if asleep > 0 {
            self.changed.notify_all();
        }
        if let Some(waker) = waker {
            waker.wake();
        }
        result
    }
}
