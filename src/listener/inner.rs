//! The state and the sockets of one listener, under its lock.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use nix::sys::eventfd::EventFd;

use super::member::{Member, Source};
use super::passing::is_shortage;
use super::place::Place;
use super::raw::Raw;
use super::state::State;
use crate::drain::Guard;
use crate::wire::Address;

/// The state and the sockets, under the core's lock.
pub(super) struct Inner {
    pub(super) state: State,
    /// Asked to close while it may not accept: closes as soon as it may.
    pub(super) leaving: bool,
    /// No handle is left: nobody will ever accept here again.
    pub(super) abandoned: bool,
    pub(super) members: Vec<Member>,
    /// The member that is asked first next time, so that none starves.
    next: usize,
    pub(super) waker: Option<Waker>,
    /// Counts changes of state, for waits that end with any of them.
    pub(super) epoch: u64,
    pub(super) raw: Raw,
    /// Keeps the drain from ending before a queue has been served.
    pub(super) queue: Option<Guard>,
    pub(super) failure: Option<String>,
    pub(super) place: Option<Arc<Place>>,
    pub(super) address: Option<Address>,
    /// Wakes the one thread that waits in `poll(2)`; made when a thread first waits.
    pub(super) kick: Option<Arc<EventFd>>,
    pub(super) polling: bool,
    /// Threads that wait on [`Core::changed`](super::core::Core::changed).
    pub(super) asleep: usize,
}

impl Inner {
    /// Nothing yet, in `state`.
    pub(super) fn new(state: State) -> Self {
        Self {
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
            asleep: 0,
        }
    }

    /// Ends the waits of threads and of back-offs; the waker is for who holds the lock to take.
    pub(super) fn tell(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
        if self.polling
            && let Some(kick) = &self.kick
        {
            // The counter cannot overflow, it is read by the thread that is woken.
            let _ = kick.write(1);
        }
    }

    pub(super) fn end(&mut self) {
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
    pub(super) fn remember(&mut self, waker: &Waker) -> Option<Waker> {
        match &self.waker {
            Some(known) if known.will_wake(waker) => None,
            _ => self.waker.replace(waker.clone()),
        }
    }

    pub(super) fn poll_members<R>(
        &mut self,
        cx: &mut Context<'_>,
        op: &mut dyn FnMut(Source<'_>) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        let mut left = self.members.len();
        while left > 0 {
            left -= 1;
            let index = self.next % self.members.len();
            let member = &mut self.members[index];
            if member.leftover {
                match op(member.source()) {
                    Ok(result) => return Poll::Ready(Ok(result)),
                    // It can be served later.
                    Err(error) if is_shortage(&error) => return Poll::Ready(Err(error)),
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
        op: &mut dyn FnMut(Source<'_>) -> io::Result<R>,
    ) -> io::Result<R> {
        let mut left = self.members.len();
        while left > 0 {
            left -= 1;
            let index = self.next % self.members.len();
            self.next = index + 1;
            match op(self.members[index].source()) {
                // Served to its end, or it never listened.
                Err(error) if self.members[index].leftover && !is_shortage(&error) => {
                    self.members.remove(index);
                    self.next = index;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Serves what is queued; when nothing is, this is the end.
    pub(super) fn serve_rest<R>(
        &mut self,
        op: &mut dyn FnMut(Source<'_>) -> io::Result<R>,
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
