//! Whoever looks at a program before it may be opened or executed, as a virus scanner does
//! (`fanotify(7)`), and takes his time.

use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::fanotify::{
    EventFFlags, Fanotify, FanotifyEvent, FanotifyResponse, InitFlags, MarkFlags, MaskFlags,
    Response,
};

use super::wait::until;

/// Whom the scanner keeps waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    /// Whoever executes the file.
    Execs,
    /// This process, when it opens the file.
    OpensOf(i32),
    /// Everybody.
    Everything,
}

/// One that looks at a single file. When it goes, everybody who waits may go on.
pub(crate) struct Scanner {
    desk: Arc<Desk>,
    end: Option<std::io::PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

struct Desk {
    group: Fanotify,
    state: Mutex<State>,
}

struct State {
    /// None once everybody may go on.
    holds: Option<Holds>,
    waiting: Vec<FanotifyEvent>,
}

impl Scanner {
    /// Keeps waiting whom it says from now on. None, with the reason on standard error, where the
    /// kernel does not allow that.
    pub(crate) fn of(file: &Path, holds: Holds) -> Option<Self> {
        match Self::try_of(file, holds) {
            Ok(scanner) => Some(scanner),
            Err(error @ (Errno::EPERM | Errno::ENOSYS | Errno::EINVAL)) => {
                let why = "nobody can be asked here before a file is opened";
                let _ = writeln!(std::io::stderr(), "skipped: {why}: {error}");
                None
            }
            Err(error) => panic!("a scanner of {file:?}: {error}"),
        }
    }

    fn try_of(file: &Path, holds: Holds) -> nix::Result<Self> {
        let group = Fanotify::init(
            InitFlags::FAN_CLASS_CONTENT | InitFlags::FAN_CLOEXEC | InitFlags::FAN_NONBLOCK,
            EventFFlags::O_RDONLY | EventFFlags::O_CLOEXEC | EventFFlags::O_LARGEFILE,
        )?;
        let asked = match holds {
            Holds::Execs => MaskFlags::FAN_OPEN_EXEC_PERM,
            Holds::OpensOf(_) => MaskFlags::FAN_OPEN_PERM,
            Holds::Everything => MaskFlags::FAN_OPEN_PERM | MaskFlags::FAN_OPEN_EXEC_PERM,
        };
        group.mark(MarkFlags::FAN_MARK_ADD, asked, nix::fcntl::AT_FDCWD, Some(file))?;
        let state = Mutex::new(State { holds: Some(holds), waiting: Vec::new() });
        let desk = Arc::new(Desk { group, state });
        let (ended, end) = std::io::pipe().unwrap();
        let thread = std::thread::spawn({
            let desk = Arc::clone(&desk);
            move || desk.answer(&ended)
        });
        Ok(Self { desk, end: Some(end), thread: Some(thread) })
    }

    /// Until somebody waits.
    pub(crate) fn until_asked(&self) {
        until("somebody who opens or executes the program", || {
            (!self.desk.state().waiting.is_empty()).then_some(())
        });
    }

    /// Whoever waits goes on, and nobody waits any more.
    pub(crate) fn let_go(&self) {
        let mut state = self.desk.state();
        state.holds = None;
        state.waiting.drain(..).for_each(|event| self.desk.allow(&event));
    }
}

impl Drop for Scanner {
    fn drop(&mut self) {
        self.let_go();
        drop(self.end.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Desk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, ended: &std::io::PipeReader) {
        loop {
            let mut fds =
                [self.group.as_fd(), ended.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => panic!("poll for the scanner's questions: {error}"),
            }
            if fds[1].any() == Some(true) {
                return;
            }
            match self.group.read_events() {
                Ok(events) => events.into_iter().for_each(|event| self.asked(event)),
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(error) => panic!("the scanner's questions: {error}"),
            }
        }
    }

    fn asked(&self, event: FanotifyEvent) {
        let mut state = self.state();
        let waits = match state.holds {
            Some(Holds::OpensOf(pid)) => event.pid() == pid,
            Some(Holds::Execs | Holds::Everything) => true,
            None => false,
        };
        if waits {
            state.waiting.push(event);
        } else {
            self.allow(&event);
        }
    }

    fn allow(&self, event: &FanotifyEvent) {
        let Some(fd) = event.fd() else { return };
        match self.group.write_response(FanotifyResponse::new(fd, Response::FAN_ALLOW)) {
            // Who waited was killed meanwhile.
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(error) => panic!("the scanner's answer: {error}"),
        }
    }
}
