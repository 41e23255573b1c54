//! The parent's life: what it waits for, and what it makes of it.

use std::io::Write as _;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use super::heard::{Message, NotifySocket};
use super::household::{Member, anybody_left, descends, kill_all, reap};
use super::options::{Options, Restart};
use super::store::Store;
use super::{say, start};
use crate::error::{Error, ErrorKind, Result};
use crate::sys::pidfd::Exit;
use crate::sys::signal::{self, Watch};

/// Those that end the service come first, then those that mean something to the server.
const FORWARDED: [Signal; 6] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGHUP,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];
/// So many of them end the service.
const STOPS: usize = 3;

/// The pause before a crashed server is started again, at first and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// Who lived so long has not crashed because of how it was started.
const SETTLED: Duration = Duration::from_secs(10);
/// When the main process has died beside others of the service: how long one of them may take to
/// say that it is the main process now, before all are taken for lost.
const CLAIM: Duration = Duration::from_secs(2);

pub(super) struct Parent {
    options: Options,
    signals: Watch,
    notify: NotifySocket,
    store: Store,
    main: Option<Member>,
    /// Main processes that named another one, and drain.
    elders: Vec<Member>,
    /// A server of ours was ready once.
    was_ready: bool,
    started: Instant,
    /// The signal by which the end was asked for.
    stopping: Option<Signal>,
    kill_at: Option<Instant>,
    claim_until: Option<Instant>,
    start_at: Option<Instant>,
    back_off: Duration,
    exit: Exit,
}

/// What is to be done after a look at everything.
enum Next {
    GoOn,
    End(u8),
}

impl Parent {
    pub(super) fn new(options: Options) -> Result<Self> {
        let wrong = |what: &str, error: std::io::Error| {
            Error::new(ErrorKind::Io, what.to_owned()).with_source(error)
        };
        nix::sys::prctl::set_child_subreaper(true)
            .map_err(|error| wrong("orphans cannot be adopted", error.into()))?;
        let watched: Vec<Signal> = FORWARDED.into_iter().chain([Signal::SIGCHLD]).collect();
        let signals = Watch::new(&watched).map_err(|error| wrong("signals", error))?;
        let store = Store::listening(&options.listen)?;
        Ok(Self {
            options,
            signals,
            notify: NotifySocket::open()?,
            store,
            main: None,
            elders: Vec::new(),
            was_ready: false,
            started: Instant::now(),
            stopping: None,
            kill_at: None,
            claim_until: None,
            start_at: None,
            back_off: BACK_OFF.0,
            exit: Exit::Unknown,
        })
    }

    /// Until the server has ended for good; its exit code.
    pub(super) fn run(mut self) -> Result<u8> {
        self.start()?;
        loop {
            self.wait()?;
            // What was said before a death is read before the death is believed.
            self.hear();
            self.forward();
            self.bury();
            self.keep_time()?;
            if let Next::End(code) = self.decide() {
                kill_all();
                return Ok(code);
            }
        }
    }

    fn start(&mut self) -> Result<()> {
        let (pid, pidfd) = start::start(&self.options.server, &self.notify.address, &self.store)?;
        self.main = Some(Member { pid, pidfd });
        self.started = Instant::now();
        Ok(())
    }

    /// Sleeps until something has happened, or is due.
    fn wait(&self) -> Result<()> {
        let due = [self.kill_at, self.claim_until, self.start_at].into_iter().flatten().min();
        let timeout = due.map_or(PollTimeout::NONE, |at| {
            // Rounded up: woken too early it would turn in circles.
            let left = at.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        let event = self.signals.event();
        let members = self.main.iter().chain(&self.elders).map(|member| member.pidfd.as_fd());
        let all = [event.as_fd(), self.notify.as_fd()].into_iter().chain(members);
        let mut fds: Vec<PollFd<'_>> = all.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => {
                return Err(Error::new(ErrorKind::Io, "poll").with_source(error));
            }
        }
        // Cleared before the counts are taken, so that none is missed.
        let _ = signal::clear(event.as_fd());
        Ok(())
    }

    fn hear(&mut self) {
        while let Some(message) = self.notify.next() {
            if self.may_speak(message.sender) {
                self.heed(message);
            }
        }
    }

    /// The main process and those that were; and while there is none, whoever descends from us.
    fn may_speak(&self, sender: i32) -> bool {
        let known = self.main.iter().chain(&self.elders).any(|member| member.pid == sender);
        known || (self.main.as_ref().is_none_or(Member::has_ended) && descends(sender))
    }

    fn heed(&mut self, message: Message) {
        if let Some(pid) = message.main
            && self.main.as_ref().is_none_or(|main| main.pid != pid)
            && descends(pid)
            && let Some(member) = Member::of(pid)
        {
            self.elders.retain(|elder| elder.pid != pid);
            let before = self.main.replace(member);
            self.elders.extend(before.filter(|main| !main.has_ended()));
            self.claim_until = None;
            self.start_at = None;
            self.started = Instant::now();
        }
        if let Some(name) = &message.name {
            if message.remove {
                self.store.remove(name);
            }
            for descriptor in message.keep {
                self.store.keep(name, descriptor);
            }
        }
        if let (Some(extend), Some(at)) = (message.extend, self.kill_at) {
            let later = Instant::now().checked_add(extend).unwrap_or(at);
            self.kill_at = Some(at.max(later));
        }
        if message.stopping && self.stopping.is_none() {
            // By itself, or because somebody signalled it directly.
            self.stopping = Some(Signal::SIGTERM);
        }
        if message.ready && !std::mem::replace(&mut self.was_ready, true) {
            self.tell_ready();
        }
    }

    /// The descriptor was inherited; its number is all that is known of it.
    fn tell_ready(&self) {
        let Some(number) = self.options.ready else { return };
        let path = format!("/proc/self/fd/{number}");
        let opened = std::fs::OpenOptions::new().append(true).open(path);
        if let Err(error) = opened.and_then(|mut file| file.write_all(b"\n")) {
            say(&format!("--ready-fd {number}: {error}"));
        }
    }

    fn forward(&mut self) {
        for (index, signal) in FORWARDED.into_iter().enumerate() {
            if self.signals.take(index) == 0 {
                continue;
            }
            if index < STOPS {
                self.stopping.get_or_insert(signal);
                if let Some(grace) = self.options.grace {
                    self.kill_at.get_or_insert(Instant::now() + grace);
                }
            }
            match &self.main {
                Some(main) => main.signal(signal),
                None => self.elders.iter().for_each(|elder| elder.signal(signal)),
            }
        }
    }

    fn bury(&mut self) {
        // Looked at before: one that ends in between has its status taken in this very round.
        let over = self.main.as_ref().is_some_and(Member::has_ended);
        let ended = reap();
        let status =
            |pid: i32| ended.iter().find(|(other, _)| *other == pid).map(|(_, exit)| *exit);
        if let Some(main) = self.main.take_if(|main| over || status(main.pid).is_some()) {
            // Its parent, an elder, has the status of one that is not our child.
            self.exit = status(main.pid).unwrap_or(Exit::Unknown);
            // What it started may be the next main process, and knows before we do.
            if self.stopping.is_none() && anybody_left() {
                self.claim_until = Some(Instant::now() + CLAIM);
            }
        }
        self.elders.retain(|elder| !elder.has_ended());
    }

    fn keep_time(&mut self) -> Result<()> {
        let now = Instant::now();
        if self.kill_at.is_some_and(|at| at <= now) {
            self.kill_at = None;
            say("the server has not ended in time, and is killed");
            self.main.iter().chain(&self.elders).for_each(|member| member.signal(Signal::SIGKILL));
        }
        if self.claim_until.is_some_and(|at| at <= now || !anybody_left()) {
            self.claim_until = None;
            // Nobody of them serves: they would only be in the way of who comes next.
            kill_all();
        }
        if self.start_at.is_some_and(|at| at <= now) {
            self.start_at = None;
            self.start()?;
        }
        Ok(())
    }

    fn decide(&mut self) -> Next {
        if self.main.is_some() || self.claim_until.is_some() {
            return Next::GoOn;
        }
        if self.stopping.is_some() {
            // Those that drain end by a deadline of their own, or at the end of the grace.
            return if self.elders.is_empty() { Next::End(code(self.exit)) } else { Next::GoOn };
        }
        if self.start_at.is_some() {
            return Next::GoOn;
        }
        let failed = self.exit != Exit::Code(0);
        let again = match self.options.restart {
            Restart::Always => true,
            Restart::OnFailure => failed,
            Restart::Never => false,
        };
        if !again || !self.was_ready {
            return Next::End(code(self.exit));
        }
        if self.started.elapsed() >= SETTLED {
            self.back_off = BACK_OFF.0;
        }
        say(&format!("the server {}; it is started again in {:?}", self.exit, self.back_off));
        self.start_at = Some(Instant::now() + self.back_off);
        self.back_off = (self.back_off * 2).min(BACK_OFF.1);
        Next::GoOn
    }
}

/// As a shell says it.
fn code(exit: Exit) -> u8 {
    let code = match exit {
        Exit::Code(code) => code & 0xff,
        Exit::Signal(signal) => 128 + signal,
        Exit::Unknown | Exit::NotYet => 1,
    };
    u8::try_from(code).unwrap_or(1)
}
