//! The core of every listener and datagram socket: who may read from it, and when.
//!
//! One lock holds the state and the descriptors. A connection is accepted, and its drain guard
//! taken, inside that lock. So parking is: take the lock, set the state, drop the registrations.
//! When [`Core::park`] returns, no accept is in flight and none can follow; there is nothing to
//! wait for and nothing to acknowledge.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use nix::sys::eventfd::EventFd;
use tokio::sync::Notify;

use super::member::Member;
use super::place::Place;
use super::raw::{Raw, RawPause};
use crate::drain::{Drain, Guard};
use crate::name::Name;
use crate::wire::Address;

/// What may be done with the sockets of one listener.
///
/// ```text
///            open                park
///  Waiting ───────▶ Open ◀──────────────▶ Parked
///                    │        resume        │ end
///              close │                      ▼
///                    └──▶ Closing ───────▶ Ended
///                          queue empty
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It is not our turn yet: the predecessor accepts.
    Waiting,
    /// We accept.
    Open,
    /// The successor accepts. Every descriptor stays open, none is in epoll.
    Parked,
    /// What is queued is still served, then the sockets are closed.
    Closing,
    /// Nothing comes any more.
    Ended,
}

/// The state and the sockets, under the core's lock.
pub(super) struct Inner {
    pub(super) state: State,
    /// Asked to close while it may not accept: closes as soon as it may.
    leaving: bool,
    /// No handle is left: nobody will ever accept here again.
    abandoned: bool,
    pub(super) members: Vec<Member>,
    /// The member that is asked first next time, so that none starves.
    next: usize,
    waker: Option<Waker>,
    /// Counts changes of state, for waits that end with any of them.
    pub(super) epoch: u64,
    pub(super) raw: Raw,
    /// Keeps the drain from ending before a queue has been served.
    queue: Option<Guard>,
    failure: Option<String>,
    place: Option<Arc<Place>>,
    address: Option<Address>,
    /// Wakes the one thread that waits in `poll(2)`; made when a thread first waits.
    pub(super) kick: Option<Arc<EventFd>>,
    pub(super) polling: bool,
}

/// One listener or datagram socket: its name, its state, its sockets.
pub(crate) struct Core {
    name: Name,
    drain: Drain,
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
    pub(crate) fn new(name: Name, drain: Drain, state: State, nodelay: bool) -> Arc<Self> {
        Arc::new(Self {
            name,
            drain,
            nodelay,
            inner: Mutex::new(Inner {
                state,
                leaving: false,
                abandoned: false,
                members: Vec::new(),
                next: 0,
                waker: None,
                epoch: 0,
                raw: Raw::No,
                queue: None,
                failure: None,
                place: None,
                address: None,
                kick: None,
                polling: false,
            }),
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

    pub(crate) fn drain(&self) -> &Drain {
        &self.drain
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

    /// Adds a socket of its own; a task or thread that waits takes it up.
    pub(crate) fn add(&self, fd: Arc<OwnedFd>, address: Address) {
        self.change(|inner| {
            inner.address = Some(address);
            if inner.state != State::Ended {
                inner.members.push(Member::new(fd, false));
            }
        });
        self.bound.notify_waiters();
    }

    /// Adds a socket that a failed successor bound: its queue is served, then it is closed.
    pub(crate) fn add_leftover(&self, fd: Arc<OwnedFd>) {
        self.change(|inner| {
            if matches!(inner.state, State::Open | State::Closing) && !inner.abandoned {
                inner.members.push(Member::new(fd, true));
            }
        });
    }

    /// Our turn: a waiting listener accepts from now on.
    pub(crate) fn open(&self) {
        self.admit(State::Waiting);
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
        self.change(|inner| match inner.state {
            State::Open | State::Closing => {
                inner.leaving |= inner.state == State::Closing;
                inner.state = State::Parked;
                inner.members.iter_mut().for_each(Member::deregister);
                inner.raw.pause()
            }
            State::Waiting | State::Parked | State::Ended => None,
        })
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
            let guard = self.drain.guard(&self.name, None);
            guard.name("the queue of a closing socket");
            guard.reason("nobody has taken what it holds");
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
        let waker = self.lock().waker.take();
        self.changed.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
        self.tell_ended();
    }

    /// Tries `op` on the sockets in turn. `None`: the listener has ended.
    ///
    /// Only one task at a time may wait here, hence the gate in front of it. A socket is put into
    /// the epoll of the runtime that polls, so this needs a tokio runtime with I/O enabled.
    pub(crate) fn poll_io<R>(
        &self,
        cx: &mut Context<'_>,
        op: &mut dyn FnMut(BorrowedFd<'_>) -> io::Result<R>,
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
        let (result, waker) = {
            let mut inner = self.lock();
            let result = change(&mut inner);
            inner.tell();
            (result, inner.waker.take())
        };
        self.changed.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
        result
    }
}

impl Inner {
    /// Ends the waits of threads and of back-offs; the waker is for who holds the lock to take.
    fn tell(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
        if self.polling
            && let Some(kick) = &self.kick
        {
            // The counter cannot overflow, it is read by the thread that is woken.
            let _ = kick.write(1);
        }
    }

    fn end(&mut self) {
        self.state = State::Ended;
        self.tell();
        self.leaving = false;
        self.members.clear();
        self.queue = None;
        if let Raw::Paused(_) = self.raw {
            self.raw = Raw::Gone;
        }
    }

    #[must_use = "to be dropped after the lock"]
    fn remember(&mut self, waker: &Waker) -> Option<Waker> {
        match &self.waker {
            Some(known) if known.will_wake(waker) => None,
            _ => self.waker.replace(waker.clone()),
        }
    }

    fn poll_members<R>(
        &mut self,
        cx: &mut Context<'_>,
        op: &mut dyn FnMut(BorrowedFd<'_>) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        let mut left = self.members.len();
        while left > 0 {
            left -= 1;
            let index = self.next % self.members.len();
            let member = &mut self.members[index];
            if member.leftover {
                match op(member.fd.as_fd()) {
                    Ok(result) => return Poll::Ready(Ok(result)),
                    // Served to its end, or it never listened.
                    Err(_) => drop(self.members.remove(index)),
                }
                continue;
            }
            match member.poll(cx, op) {
                Poll::Pending => self.next = index + 1,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(result)) => {
                    self.next = index + 1;
                    return Poll::Ready(Ok(result));
                }
            }
        }
        Poll::Pending
    }

    /// Tries each socket once, without epoll. `WouldBlock`: all of them are empty.
    pub(super) fn try_members<R>(
        &mut self,
        op: &mut dyn FnMut(BorrowedFd<'_>) -> io::Result<R>,
    ) -> io::Result<R> {
        let mut left = self.members.len();
        while left > 0 {
            left -= 1;
            let index = self.next % self.members.len();
            self.next = index + 1;
            match op(self.members[index].fd.as_fd()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Serves what is queued; when nothing is, this is the end.
    pub(super) fn serve_rest<R>(
        &mut self,
        op: &mut dyn FnMut(BorrowedFd<'_>) -> io::Result<R>,
    ) -> io::Result<Option<R>> {
        match self.try_members(op) {
            Ok(result) => Ok(Some(result)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.end();
                match &self.failure {
                    Some(message) => Err(io::Error::other(message.clone())),
                    None => Ok(None),
                }
            }
            Err(error) => Err(error),
        }
    }
}
