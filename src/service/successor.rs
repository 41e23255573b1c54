//! From birth to ownership.

use std::time::Duration;

use tokio::sync::mpsc;
use tracing::Instrument;

use super::{Command, Event, Outcome, PidFileState, Role, Service, Wish, ended, refuse};
use crate::birth::Asked;
use crate::control::Accepting;
use crate::error::{Error, ErrorKind};
use crate::handoff::adoption::{Adoption, Fate, Ownership, Request, Stage, Turn};
use crate::hooks::Moment;
use crate::report::AskedBy;
use crate::spawn;
use crate::wire::Message;

impl Service {
    /// Born over a link: adopts, serves on its turn, and owns after the verdict.
    pub(super) async fn succeed(&mut self, adoption: Adoption) -> Result<(), Outcome> {
        let (request, mut requests) = mpsc::unbounded_channel();
        let shared = std::sync::Arc::clone(&self.shared);
        let hurry = std::sync::Arc::clone(&self.hurry);
        let stage = Stage {
            sockets: &shared.sockets,
            drain: &shared.drain,
            requests: &shared.requests,
            hooks: &shared.hooks,
            states: &shared.states,
            settings: &shared.config.drain,
            hurry: &hurry,
            turn: &shared.turn,
        };
        if self.taker {
            // Our manager knows nothing of a predecessor's.
            shared.manager.starts(None);
            self.beats.extend(Duration::MAX);
        }
        let mut turn = shared.turn.subscribe();
        let span = adoption.span();
        span.record("successor_version", tracing::field::display(&shared.config.version));
        let mut run = std::pin::pin!(adoption.run(stage, &mut requests).instrument(span.clone()));
        let fate = loop {
            tokio::select! {
                biased;
                fate = &mut run => break fate,
                Ok(()) = turn.changed() => self.turned(&turn.borrow_and_update()),
                asked = self.signals.next() => self.asked_early(asked, &request),
                Some(command) = self.commands.recv() => self.told_early(command, &request),
                () = self.beats.due() => self.beats.beat(&shared),
            }
        };
        match fate {
            Fate::Owner(ownership) => {
                self.take_over(*ownership).instrument(span).await;
                Ok(())
            }
            Fate::Left { why } => {
                self.pid_file = None;
                if self.taker {
                    shared.manager.lost(&why.chain());
                }
                Err(Outcome::RolledBack { reason: why.chain() })
            }
        }
    }

    fn turned(&self, turn: &Turn) {
        match turn {
            Turn::Waiting => {}
            Turn::Serving => self.shared.set_role(Role::Successor),
            Turn::Lost { .. } => self.shared.set_role(Role::Leaving),
        }
    }

    fn asked_early(&mut self, asked: Asked, request: &mpsc::UnboundedSender<Request>) {
        let request_for = match asked {
            Asked::Upgrade => {
                self.shared.remember_upgrade(AskedBy::Signal);
                Request::UpgradeAsked(AskedBy::Signal)
            }
            Asked::Stop if self.stop_asked => return self.hurry.notify_one(),
            Asked::Stop => {
                self.stop_asked = true;
                Request::Failed("it was asked to stop by a signal".into())
            }
        };
        // The handoff may have ended in this very moment; then the next state hears of it.
        let _ = request.send(request_for);
    }

    fn told_early(&mut self, command: Command, request: &mpsc::UnboundedSender<Request>) {
        let request_for = match command {
            Command::Ready(prepared) => {
                self.pid_file = prepared.map(PidFileState::Prepared);
                self.shared.status.send_modify(|status| status.not_yet = None);
                Request::Ready
            }
            Command::Failed(text) => Request::Failed(text),
            Command::Upgrade(Wish { reply, queue: false, .. }) => {
                let text = "this generation does not own yet: the upgrade to it is running";
                let _ = reply.send(Err(Error::new(ErrorKind::Busy, text)));
                return;
            }
            Command::Upgrade(Wish { reply, by, .. }) => {
                let _ = reply.send(Err(Error::new(
                    ErrorKind::PassedOn,
                    "this generation does not own yet; the owner remembers the upgrade",
                )));
                self.shared.remember_upgrade(by);
                Request::UpgradeAsked(by)
            }
            Command::Stop(urgency) => {
                if urgency.hurries(self.stop_asked) {
                    self.hurry.notify_one();
                }
                self.stop_asked = true;
                Request::Failed("it was asked to stop".into())
            }
            Command::NotYet(why) => {
                self.shared.set_not_yet(why.clone());
                Request::NotYet(why)
            }
            Command::Take(wanted) => Request::Take(wanted),
            Command::Unhealthy { reason, reply } => {
                // Whoever asked may have stopped waiting.
                let _ = reply.send(Ok(()));
                Request::Unhealthy(reason)
            }
            Command::Approve(_)
            | Command::RollBack { .. }
            | Command::Reject { .. }
            | Command::Hold(_)
            | Command::TakeOver(_) => {
                return refuse(command, "this generation does not own yet: ask its predecessor");
            }
        };
        let _ = request.send(request_for);
    }

    /// The verdict is 'committed', and the predecessor has done its last act.
    async fn take_over(&mut self, ownership: Ownership) {
        let shared = std::sync::Arc::clone(&self.shared);
        for note in shared.sockets.committed_as_successor() {
            crate::log::info!(target: "heirloom::handoff", note, "after the commit");
        }
        if let Some(channel) = ownership.sessions {
            shared.sessions.receive_from(channel);
        }
        self.elders.inherit(ownership.elders);
        self.elders.add(
            ownership.predecessor,
            ownership.sender,
            ownership.receiver,
            ownership.process,
            ownership.life,
        );
        // One that was asked for here in this very moment stays remembered.
        if let Some(by) = ownership.queued_upgrade {
            shared.queued.remember(by);
        }
        self.begin_reign().await;
        // Not before this generation says of itself that it owns: a hook may ask.
        shared.hooks.tell(Moment::Commit);
    }

    /// Born without a predecessor: owns as soon as the application is ready.
    pub(super) async fn first(&mut self) -> Result<(), Outcome> {
        let shared = std::sync::Arc::clone(&self.shared);
        let lost = |reason: String| {
            shared.manager.lost(&reason);
            Err(Outcome::RolledBack { reason })
        };
        shared.manager.starts(None);
        self.beats.extend(shared.config.deadlines.ready);
        loop {
            let command = tokio::select! {
                asked = self.signals.next() => match asked {
                    // There is nothing to upgrade from before the first readiness.
                    Asked::Upgrade => {
                        self.shared.remember_upgrade(AskedBy::Signal);
                        continue;
                    }
                    Asked::Stop => return lost("it was asked to stop by a signal".into()),
                },
                command = self.commands.recv() => command,
                () = self.beats.due() => {
                    self.beats.beat(&shared);
                    continue;
                }
            };
            match command {
                Some(Command::Ready(prepared)) => {
                    self.pid_file = prepared.map(PidFileState::Prepared);
                    break;
                }
                Some(Command::Upgrade(wish)) => {
                    let text = "this generation is not ready yet";
                    let _ = wish.reply.send(Err(Error::new(ErrorKind::Busy, text)));
                }
                // There is nobody to take it from; the application may have given up.
                Some(Command::Take(wanted)) => _ = wanted.reply.send(Ok(None)),
                Some(Command::NotYet(why)) => {
                    shared.manager.starts(Some(&why));
                    shared.set_not_yet(why);
                }
                Some(Command::Failed(text)) => return lost(text),
                Some(Command::Stop(_)) => return lost("it was asked to stop".into()),
                Some(other) => refuse(other, "this generation is not ready yet"),
                None => return lost(ended().to_string()),
            }
        }
        // Whoever came to the control socket's path meanwhile is another instance, which serves.
        let opened = shared.sockets.open().and_then(|()| shared.sockets.open_control());
        if let Err(error) = opened {
            let (kind, why) = (error.kind(), error.chain());
            self.shared.turn.send_replace(Turn::Lost { kind, why });
            return lost(error.chain());
        }
        for note in self.shared.sockets.committed_as_successor() {
            crate::log::info!(target: "heirloom::handoff", note, "at the start");
        }
        self.begin_reign().await;
        self.shared.turn.send_replace(Turn::Serving);
        Ok(())
    }

    /// Elders know who owns, and what they have to keep to if they own again. Returns whether an
    /// upgrade is queued.
    pub(super) fn tell_elders(&self) -> bool {
        let generation = self.shared.generation;
        let queued_upgrade = self.shared.queued.is_there();
        let paused = Some(*self.shared.accepting.borrow() != Accepting::Open);
        self.elders.tell_all(&Message::NewOwner { generation, queued_upgrade, paused });
        queued_upgrade
    }

    /// What every owner does first, however it came to own.
    pub(super) async fn begin_reign(&mut self) {
        self.publish_pid_file().await;
        let queued_upgrade = self.tell_elders();
        let most = self.shared.config.max_draining;
        for hurried in self.elders.hurry_beyond(most) {
            crate::log::warn!(generation = %hurried, most, "too many generations drain at once: the oldest is hurried");
            self.shared.event(Event::ElderHurried(hurried));
        }
        let elders = self.elders.generations();
        self.shared.status.send_modify(|status| {
            status.not_yet = None;
            status.elders = elders;
            status.queued = queued_upgrade;
        });
        self.survey_elders();
        self.shared.set_role(Role::Owner);
        self.listen_to_operator();
        self.beats.extend_no_more();
        self.shared.manager.owns(&self.shared);
        self.beats.feed();
        self.store.begin(&self.shared.sockets);
        crate::log::info!(target: "heirloom::handoff", step = "owns", generation = %self.shared.generation, pid = std::process::id());
        self.shared.event(Event::Owns);
        spawn::look_at_ourselves();
        // Last: it may have to read the whole program.
        self.shared.programs.note_contents();
    }
}
