//! What the successor says, and whether it is the one that was started.

use super::{IN_A_ROW, News, Started, Upgrade};
use crate::error::{Error, ErrorKind, Result, chain};
use crate::handoff::predecessor::{Event, State};
use crate::link::{self, Envelope};
use crate::report::CauseKind;
use crate::spawn::Child;
use crate::wire::{Hello, MAX_OFFERED, Message, Refuse, agree};

impl<H: FnOnce(i32) + Send> Upgrade<H> {
    pub(super) fn spawned(&mut self, spawned: Result<Started>) -> Event {
        let opened = spawned.and_then(|Started { child, link, programs }| {
            // Not known of one in another pid namespace.
            if child.pid() > 0 {
                self.report.successor_pid(child.pid());
                (self.order.on_news)(News::Process(child.pid()));
            }
            self.charge.child = Some(child);
            self.programs = programs;
            link::open(link)
        });
        match opened {
            Ok(link) => {
                self.link = Some(link);
                Event::Spawned
            }
            Err(error) => {
                self.spare_the_program(&error);
                Event::SpawnFailed(chain(&error))
            }
        }
    }

    /// What this process lacked says nothing of the program.
    pub(super) fn spare_the_program(&mut self, error: &Error) {
        if error.kind() == ErrorKind::Io {
            self.report.blame(CauseKind::Predecessor);
        }
    }

    /// What the successor said, as an event; `None` if it changes nothing.
    pub(super) fn heard(&mut self, envelope: Result<Option<Envelope>>) -> Option<Event> {
        let envelope = match envelope {
            Ok(Some(envelope)) => envelope,
            Ok(None) => {
                self.link_ended = true;
                return Some(Event::LinkClosed);
            }
            Err(error) => {
                self.link_ended = true;
                return Some(Event::Nonsense(chain(&error)));
            }
        };
        if self.in_a_row > IN_A_ROW {
            self.link_ended = true;
            return Some(Event::Nonsense("it talks without a pause".into()));
        }
        match envelope.message {
            Message::Hello(hello) => {
                let pid = envelope.credentials.map(|credentials| credentials.pid);
                Some(match self.judge(&hello, pid) {
                    Ok(()) => Event::Hello,
                    Err(error) => Event::Stranger(chain(&error)),
                })
            }
            Message::Refuse(Refuse { reason }) => Some(Event::Refused(reason)),
            Message::Adopted => Some(Event::Adopted),
            Message::Ready(ready) => {
                let last = self.ready.add(ready, envelope.descriptors);
                if self.ready.claimed.len() > self.offered || self.ready.bound.len() > MAX_OFFERED {
                    let text = "it claims more than was offered, or bound more than can be held";
                    return Some(Event::Nonsense(text.into()));
                }
                last.then_some(Event::Ready)
            }
            Message::Failed(failed) => Some(Event::Failed(failed.error)),
            Message::Serving => Some(Event::Serving),
            Message::Committed => Some(Event::Committed),
            other => self.told(other),
        }
    }

    /// What the successor says beside the steps of the handoff.
    fn told(&mut self, message: Message) -> Option<Event> {
        match message {
            Message::Pong { figures, .. } => {
                self.figures = figures;
                (self.order.on_news)(News::Served(figures));
                if let Some(checks) = &self.checks {
                    checks.tell_figures(figures);
                }
                Some(Event::Pong)
            }
            Message::Expected(expected) => {
                if let Some(checks) = &mut self.checks {
                    checks.expected(expected);
                }
                None
            }
            Message::Taken(taken) => {
                if let Some(checks) = &mut self.checks {
                    checks.taken(taken);
                }
                None
            }
            // Before that it may be anybody.
            Message::Take(take) if *self.machine.state() == State::Starting => {
                let (sender, _) = self.link.as_ref()?;
                let answered = self.supply.answer(take, sender.clone());
                answered.err().map(|error| Event::Nonsense(error.to_string()))
            }
            Message::Asked { by } => self.news(News::Asked(by.into())),
            Message::NotYet { reason } => {
                self.not_yet = Some(reason.clone());
                self.news(News::NotYet(reason))
            }
            Message::Unhealthy { reason } => {
                let why = format!("it says that it is not well: {reason}");
                Some(self.rejected(CauseKind::Unwell, why))
            }
            // A later version may say more than we know.
            Message::Unknown(_) | Message::Left { .. } | Message::Progress(_) => None,
            other => Some(Event::Nonsense(format!(
                "its message '{}' is not one that a successor sends",
                other.name()
            ))),
        }
    }

    /// Something that concerns the service and changes nothing here.
    fn news(&self, news: News) -> Option<Event> {
        (self.order.on_news)(news);
        None
    }

    /// Whether the hello comes from the process that was started, in a version that both speak.
    fn judge(&mut self, hello: &Hello, pid: Option<i32>) -> Result<()> {
        self.report.successor_version(&hello.app_version);
        (self.order.on_news)(News::Version(hello.app_version.clone()));
        let child = self.charge.child.as_ref().map(Child::pid);
        if pid != child {
            return Err(Error::new(
                ErrorKind::Credentials,
                format!(
                    "hello came from {}, not from {} that was started: a wrapper has to 'exec' \
                     the server, and nobody else may use its link",
                    named(pid),
                    named(child)
                ),
            ));
        }
        self.protocol = agree(&self.order.version, hello.protocol, &hello.app_version)?;
        if !self.enforceable() {
            if !self.order.accept_unenforceable {
                return Err(Error::new(
                    ErrorKind::Credentials,
                    "this process may not signal it, so a roll back could not be enforced: run \
                     both as the same user, or allow it by Config::accept_unenforceable",
                ));
            }
            self.report
                .note("roll back not enforceable: this process may not signal its successor");
        }
        Ok(())
    }

    pub(super) fn enforceable(&self) -> bool {
        self.charge.child.as_ref().is_some_and(Child::may_signal)
    }
}

fn named(pid: Option<i32>) -> String {
    pid.map_or_else(|| "a process without a pid here".into(), |pid| format!("pid {pid}"))
}
