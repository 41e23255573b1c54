//! Signals: the mask of this thread, and handlers that leave a note.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{SigSet, Signal};
use signal_hook_registry::SigId;

use super::clock::wall_now;

/// Blocks one signal in this thread, and so in the threads and children that it starts.
#[cfg(test)]
pub(crate) fn block(signal: Signal) -> io::Result<()> {
    Ok(set_of(signal).thread_block()?)
}

/// Unblocks one signal in this thread; one that is pending is delivered at once.
pub(crate) fn unblock(signal: Signal) -> io::Result<()> {
    Ok(set_of(signal).thread_unblock()?)
}

/// Ignores a signal in this whole process, for tests that have a process of their own.
#[cfg(test)]
pub(crate) fn ignore(signal: Signal) -> io::Result<()> {
    // SAFETY: ignoring a signal installs no handler.
    unsafe { nix::sys::signal::signal(signal, nix::sys::signal::SigHandler::SigIgn) }?;
    Ok(())
}

fn set_of(signal: Signal) -> SigSet {
    let mut set = SigSet::empty();
    set.add(signal);
    set
}

/// What the handlers share with the reader.
#[derive(Debug)]
struct Notes {
    /// One counter per watched signal, in the order given.
    counts: Box<[AtomicU32]>,
    /// How many of them the kernel sent by itself, as a terminal's driver does.
    by_kernel: Box<[AtomicU32]>,
    /// When the first of them came that has not been taken ([`wall_now`]); zero if none did.
    since: Box<[AtomicU64]>,
    /// Becomes readable with every signal.
    event: Arc<OwnedFd>,
}

/// Handlers for a set of signals, next to those that the application has; removed on drop.
///
/// The handler notes the time, adds one to an atomic and writes to an `eventfd(2)`: all of it is
/// async-signal-safe (`signal-safety(7)`), works before a runtime exists, and turns a storm of
/// signals into one event.
/// Once watched, a signal does not get its default action back: after the drop it does nothing.
#[derive(Debug)]
pub(crate) struct Watch {
    notes: Arc<Notes>,
    handlers: Vec<SigId>,
}

impl Watch {
    /// Installs a handler for each of the signals.
    pub(crate) fn new(signals: &[Signal]) -> io::Result<Self> {
        let event =
            EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let event = Arc::new(OwnedFd::from(event));
        let counts = || signals.iter().map(|_| AtomicU32::new(0)).collect();
        let since = signals.iter().map(|_| AtomicU64::new(0)).collect();
        let mut watch = Self {
            notes: Arc::new(Notes { counts: counts(), by_kernel: counts(), since, event }),
            handlers: Vec::with_capacity(signals.len()),
        };
        for (index, signal) in signals.iter().enumerate() {
            // SIGKILL, SIGSTOP and the signals of faults make the registry panic.
            if signal_hook_registry::FORBIDDEN.contains(&(*signal as i32)) {
                let text = format!("{signal} cannot be handled");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
            let notes = Arc::clone(&watch.notes);
            let handler =
                move |info: &libc::siginfo_t| notes.leave(index, info.si_code == libc::SI_KERNEL);
            // SAFETY: `leave` only changes atomics and calls clock_gettime(2) and write(2); it
            // allocates nothing, takes no lock and cannot panic. The registry saves and restores
            // errno.
            let id = unsafe { signal_hook_registry::register_sigaction(*signal as i32, handler) }?;
            watch.handlers.push(id);
        }
        Ok(watch)
    }

    /// How often the signal with this index has come since it was last asked.
    pub(crate) fn take(&self, index: usize) -> u32 {
        self.notes.counts.get(index).map_or(0, |count| count.swap(0, Ordering::AcqRel))
    }

    /// When the first signal with this index came since this was last asked, in nanoseconds since
    /// the epoch; to be asked after [`take`](Self::take).
    pub(crate) fn take_since(&self, index: usize) -> Option<u64> {
        let since = self.notes.since.get(index)?.swap(0, Ordering::AcqRel);
        (since != 0).then_some(since)
    }

    /// How often it has come from the kernel itself (`SI_KERNEL`, `sigaction(2)`) since this was
    /// last asked: from a terminal, which sends it to every process of its foreground group.
    #[cfg(any(test, feature = "cli"))]
    pub(crate) fn take_by_kernel(&self, index: usize) -> u32 {
        self.notes.by_kernel.get(index).map_or(0, |count| count.swap(0, Ordering::AcqRel))
    }

    /// The event descriptor, non-blocking, which is readable when a signal has come ([`clear`]).
    pub(crate) fn event(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.notes.event)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        for id in self.handlers.drain(..) {
            signal_hook_registry::unregister(id);
        }
    }
}

impl Notes {
    fn leave(&self, index: usize, by_kernel: bool) {
        if by_kernel && let Some(count) = self.by_kernel.get(index) {
            count.fetch_add(1, Ordering::AcqRel);
        }
        if let Some(since) = self.since.get(index) {
            // One that came before, and has not been taken, has the time.
            let _ = since.compare_exchange(0, wall_now(), Ordering::AcqRel, Ordering::Relaxed);
        }
        if let Some(count) = self.counts.get(index) {
            // Counted before the event, so that whoever takes the event finds the count.
            count.fetch_add(1, Ordering::AcqRel);
        }
        // The only error is EAGAIN at 2^64 - 1 unread events, and then it is readable anyway.
        let _ = nix::unistd::write(&self.event, &1_u64.to_ne_bytes());
    }
}

/// Makes the event descriptor of a [`Watch`] unreadable again; `WouldBlock` if it was.
pub(crate) fn clear(event: BorrowedFd<'_>) -> io::Result<()> {
    nix::unistd::read(event, &mut [0; 8])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use nix::sys::signal::raise;

    use super::*;

    #[test]
    fn a_signal_is_counted_and_the_event_is_cleared_once() {
        let watch = Watch::new(&[Signal::SIGWINCH, Signal::SIGURG]).unwrap();
        let event = watch.event();
        assert_eq!(clear(event.as_fd()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        for _ in 0..1000 {
            raise(Signal::SIGURG).unwrap();
        }
        assert_eq!((watch.take(0), watch.take(1), watch.take(1)), (0, 1000, 0));
        assert_eq!(watch.take_by_kernel(1), 0);
        clear(event.as_fd()).unwrap();
        assert_eq!(clear(event.as_fd()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(watch);
        raise(Signal::SIGURG).unwrap();
        assert_eq!(clear(event.as_fd()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_blocked_signal_waits_until_it_is_unblocked() {
        let watch = Watch::new(&[Signal::SIGIO]).unwrap();
        block(Signal::SIGIO).unwrap();
        raise(Signal::SIGIO).unwrap();
        assert_eq!(watch.take(0), 0);
        unblock(Signal::SIGIO).unwrap();
        assert_eq!(watch.take(0), 1);
    }

    #[test]
    fn a_signal_that_nobody_can_handle_is_an_error() {
        for signal in [Signal::SIGKILL, Signal::SIGSTOP, Signal::SIGSEGV] {
            let error = Watch::new(&[signal]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{signal}");
        }
    }
}
