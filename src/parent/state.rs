//! The parent's life: what it waits for, and what it makes of it.

use std::io::Write as _;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use super::heard::{Message, NotifySocket};
use super::household::{Member, anybody_left, descends, is_visible, kill_all, reap};
use super::options::{Options, Restart};
use super::start::Files;
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

/// So many messages are read before anything else gets its turn: whoever can reach the socket can
/// send without pause. More never waits there (`net.unix.max_dgram_qlen`).
const AT_ONCE: usize = 1024;
/// How long a server that has just been started may take to say its first word. Before that it may
/// not have a handler yet, and a signal that asks for an upgrade would end it.
const FIRST_WORD: Duration = Duration::from_secs(2);

pub(super) struct Parent {
    options: Options,
    files: Files,
    signals: Watch,
    notify: NotifySocket,
    store: Store,
    main: Option<Member>,
    /// Main processes that named another one, and drain.
    elders: Vec<Member>,
    /// A server of ours was ready once.
    was_ready: bool,
    /// Signals that wait for the first word of the main process, and until when.
    held: Vec<Signal>,
    deaf_until: Option<Instant>,
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
        if !is_visible() {
            let text = "/proc is not mounted, or shows nothing: no server can be followed";
            return Err(Error::new(ErrorKind::Config, text));
        }
        nix::sys::prctl::set_child_subreaper(true)
            .map_err(|error| wrong("orphans cannot be adopted", error.into()))?;
        let watched: Vec<Signal> = FORWARDED.into_iter().chain([Signal::SIGCHLD]).collect();
        let signals = Watch::new(&watched).map_err(|error| wrong("signals", error))?;
        let files = Files::allow(Store::FILES);
        let store = Store::listening(&options.listen, files.ours)?;
        Ok(Self {
            options,
            files,
            signals,
            notify: NotifySocket::open()?,
            store,
            main: None,
            elders: Vec::new(),
            was_ready: false,
            held: Vec::new(),
            deaf_until: None,
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
            self.keep_time();
            if let Next::End(code) = self.decide() {
                kill_all();
                return Ok(code);
            }
        }
    }

    fn start(&mut self) -> Result<()> {
        let (server, address) = (&self.options.server, &self.notify.address);
        self.main = Some(start::start(server, address, &self.store, &self.files)?);
        self.started = Instant::now();
        self.deaf_until = Some(self.started + FIRST_WORD);
        Ok(())
    }

    /// Sleeps until something has happened, or is due.
    fn wait(&self) -> Result<()> {
        let held = (!self.held.is_empty()).then(|| self.deaf_until.unwrap_or_else(Instant::now));
        let due = [self.kill_at, self.claim_until, self.start_at, held].into_iter().flatten().min();
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
        for _ in 0..AT_ONCE {
            let Some(message) = self.notify.next() else { return };
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
        if self.main.as_ref().is_some_and(|main| main.pid == message.sender) {
            self.deaf_until = None;
        }
        if let Some(pid) = message.main {
            self.follow(pid);
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
            self.start_at = None;
            self.main.iter_mut().for_each(|main| main.told_to_stop = true);
        }
        if message.ready && !std::mem::replace(&mut self.was_ready, true) {
            self.tell_ready();
        }
    }

    /// The main process is this one from now on, if it is one of ours.
    fn follow(&mut self, pid: i32) {
        if let Some(main) = self.main.as_mut().filter(|main| main.pid == pid) {
            main.handed_over = false;
            return;
        }
        let known = self.elders.iter().position(|elder| elder.pid == pid);
        let member = match known {
            Some(index) => self.elders.swap_remove(index),
            None => match Member::of(pid) {
                // Looked at when the number cannot become another's any more. One that has ended
                // since it was named is followed as well: its end is the main process's.
                Ok(member) if descends(pid) => member,
                _ => {
                    self.main.iter_mut().for_each(|main| main.handed_over = true);
                    return;
                }
            },
        };
        let before = self.main.replace(member);
        self.elders.extend(before.filter(|main| !main.has_ended()));
        (self.claim_until, self.start_at, self.deaf_until) = (None, None, None);
        self.started = Instant::now();
        // A stop may have gone to whoever was main before, and means the service.
        self.pass_stop_on();
    }

    /// The stop that was asked for reaches whoever answers for the service, once.
    fn pass_stop_on(&mut self) {
        let Some(signal) = self.stopping else { return };
        for member in self.main.iter_mut().filter(|main| !main.told_to_stop) {
            member.told_to_stop = true;
            member.signal(signal);
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
            let by_terminal = self.signals.take_by_kernel(index);
            let came = self.signals.take(index);
            if came == 0 {
                continue;
            }
            if index < STOPS {
                self.stop_by(signal);
            } else if self.deaf_until.is_some() {
                if !self.held.contains(&signal) {
                    self.held.push(signal);
                }
                continue;
            }
            self.pass_on(signal, came <= by_terminal);
        }
        let deaf = self.deaf_until.is_some_and(|until| Instant::now() < until);
        if !deaf && !self.held.is_empty() {
            self.deaf_until = None;
            for signal in std::mem::take(&mut self.held) {
                self.pass_on(signal, false);
            }
        }
    }

    /// The end was asked for: nothing is started any more.
    fn stop_by(&mut self, signal: Signal) {
        self.stopping.get_or_insert(signal);
        self.start_at = None;
        let over = self.options.grace.and_then(|grace| Instant::now().checked_add(grace));
        self.kill_at = self.kill_at.or(over);
    }

    /// To the main process; to those that drain, if there is none. What a terminal has sent, it has
    /// sent to its whole foreground group, and a second one would mean more than the first.
    fn pass_on(&mut self, signal: Signal, by_terminal: bool) {
        let stops = FORWARDED[..STOPS].contains(&signal);
        let members = match &mut self.main {
            Some(main) => std::slice::from_mut(main),
            None => self.elders.as_mut_slice(),
        };
        for member in members {
            member.told_to_stop |= stops;
            if !(by_terminal && member.shares_our_group()) {
                member.signal(signal);
            }
        }
    }

    fn bury(&mut self) {
        let ended = reap();
        let status =
            |pid: i32| ended.iter().find(|(other, _)| *other == pid).map(|(_, exit)| *exit);
        let is_over = |member: &&Member| member.has_ended() || status(member.pid).is_some();
        let over: Vec<i32> =
            self.main.iter().chain(&self.elders).filter(is_over).map(|member| member.pid).collect();
        if over.is_empty() {
            return;
        }
        // What they said last is there by now, and is heeded while they are known.
        self.hear();
        self.elders.retain(|elder| !over.contains(&elder.pid));
        if let Some(main) = self.main.take_if(|main| over.contains(&main.pid)) {
            // Its parent, an elder, has the status of one that is not our child.
            let exit = status(main.pid).unwrap_or(Exit::Unknown);
            let gone = main.handed_over && self.stopping.is_none() && exit == Exit::Code(0);
            self.exit = if gone { Exit::Unknown } else { exit };
            self.held.clear();
            self.deaf_until = None;
            // What it started may be the next main process, and knows before we do.
            if self.stopping.is_none() && anybody_left() {
                self.claim_until = Some(Instant::now() + CLAIM);
            }
        }
    }

    fn keep_time(&mut self) {
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
            if let Err(error) = self.start() {
                // The sockets stay open meanwhile: whoever connects waits for the next try.
                self.start_later(&error.chain());
            }
        }
    }

    fn start_later(&mut self, why: &str) {
        say(&format!("{why}; it is started again in {:?}", self.back_off));
        self.start_at = Some(Instant::now() + self.back_off);
        self.back_off = (self.back_off * 2).min(BACK_OFF.1);
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
        self.start_later(&format!("the server has ended ({})", self.exit));
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
