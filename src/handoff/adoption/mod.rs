//! One handoff, driven from the successor's side.
//!
//! **Contract:** descriptors are adopted all or none; the application's accept loops open only at
//! our turn or after the verdict; and what this returns says truly whether this generation owns.

mod act;
mod expected;
mod receive;
mod taking;

use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::{Notify, mpsc, watch};
use tracing::Span;

use super::clock::Clock;
use super::offer::Elder;
use super::successor::{Event, State, Successor, Why};
use crate::drain::{Drain, DrainSettings};
use crate::error::{Error, ErrorKind, Result, chain};
use crate::generation::Generation;
use crate::hooks::Hooks;
use crate::inventory::Inventory;
use crate::link::{Envelope, LinkReceiver, LinkSender};
use crate::report::AskedBy;
use crate::report::queued::Queued;
use crate::requests::Requests;
use crate::spawn::Process;
use crate::state::States;
use crate::verdict::Verdict;
use crate::wire::{
    Budget, ExecutableRecord, Failed, FailureRecord, Figures, Message, SocketRecord,
};

/// What a successor knows once it holds the whole offer.
pub(crate) struct Inheritance {
    pub generation: Generation,
    pub sockets: Vec<(SocketRecord, OwnedFd)>,
    /// What the predecessor runs, and what ran before it.
    pub programs: Vec<(ExecutableRecord, OwnedFd)>,
    /// Programs that have failed.
    pub failures: Vec<FailureRecord>,
    /// Whether an operator wants nothing to be accepted.
    pub paused: bool,
    /// The journal of the predecessor, and of elders.
    pub journals: Vec<(Generation, OwnedFd)>,
}

/// What the application says while the handoff runs.
#[derive(Debug)]
pub(crate) enum Request {
    /// It is ready.
    Ready,
    /// It failed, or was asked to stop.
    Failed(String),
    /// It starts, and waits for this.
    NotYet(String),
    /// It wants a state.
    Take(Wanted),
    /// It is not well and should be taken back.
    Unhealthy(String),
    /// An upgrade was asked for here: the owner shall remember it.
    UpgradeAsked(AskedBy),
}

/// How far our turn is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Not yet ours.
    Waiting,
    /// We accept; the predecessor watches.
    Serving,
    /// We accepted and go, or never will accept.
    Lost { kind: ErrorKind, why: String },
}

/// What became of the handoff.
pub(crate) enum Fate {
    /// This generation owns.
    Owner(Box<Ownership>),
    /// It has finished what it accepted and goes.
    Left { why: Error },
}

/// What comes with the ownership.
pub(crate) struct Ownership {
    pub predecessor: Generation,
    pub sender: LinkSender,
    pub receiver: LinkReceiver,
    pub process: Process,
    pub life: Option<Arc<OwnedFd>>,
    /// Elders that the predecessor held, oldest first.
    pub elders: Vec<Elder>,
    /// Where sessions of the predecessor come from.
    pub sessions: Option<OwnedFd>,
    /// Who asked for an upgrade meanwhile.
    pub queued_upgrade: Option<AskedBy>,
}

/// A handoff in which everything has been adopted and the application starts.
pub(crate) struct Adoption {
    machine: Successor,
    clock: Clock,
    sender: LinkSender,
    receiver: LinkReceiver,
    link_ended: bool,
    verdict: Verdict,
    process: Process,
    process_ended: bool,
    /// The far end of the predecessor's pipe.
    life: Option<Arc<OwnedFd>>,
    elders: Vec<Elder>,
    sessions: Option<OwnedFd>,
    predecessor: Generation,
    queued: Queued,
    /// Of the ping that is answered next.
    sequence: u64,
    /// How many of our requests may fail before the verdict.
    budget: Option<Budget>,
    checks: expected::Checks,
    taking: taking::Taking,
    /// The upgrade, by the name that the predecessor's log has for it.
    span: Span,
}

/// What the driver of a handoff works on.
pub(crate) struct Stage<'a> {
    pub sockets: &'a Inventory,
    pub drain: &'a Drain,
    pub requests: &'a Requests,
    pub hooks: &'a Hooks,
    pub states: &'a States,
    pub settings: &'a DrainSettings,
    pub hurry: &'a Notify,
    pub turn: &'a watch::Sender<Turn>,
}

pub(crate) use self::receive::{adopt, greet, regret};
pub(crate) use self::taking::Wanted;

type Going<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

impl Adoption {
    /// Ends the handoff before the application has been started: what was inherited is unusable.
    pub(crate) async fn give_up(self, error: String) {
        let sent = self.sender.send(Message::Failed(Failed { error }), Vec::new());
        let _ = tokio::time::timeout(self.clock.lengths().commit, sent).await;
    }

    /// Lines that belong to the upgrade to this generation are logged in this.
    pub(crate) fn span(&self) -> Span {
        self.span.clone()
    }

    /// Drives the handoff from 'adopted' to its end.
    pub(crate) async fn run(
        mut self,
        stage: Stage<'_>,
        requests: &mut mpsc::UnboundedReceiver<Request>,
    ) -> Fate {
        let mut going: Option<Going<'_>> = None;
        let mut why = rolled_back("the predecessor took the turn back");
        while *self.machine.state() != State::Owner {
            let Some(event) = self.next(&stage, requests, &mut going).await else {
                continue;
            };
            let finished = event == Heard::Finished;
            let event = match event {
                Heard::Event(event) => event,
                Heard::Finished if self.predecessor_dies().await => Event::Died,
                Heard::Finished => {
                    self.say_goodbye(&stage).await;
                    return Fate::Left { why };
                }
            };
            let Some(event) = self.after_deltas(event, stage.states) else {
                continue;
            };
            let words = self.feed(event, &stage);
            self.drop_useless_deltas();
            if finished && *self.machine.state() != State::Owner {
                return Fate::Left { why };
            }
            if self.machine.state().is_useless() {
                // Clients must not wait in the backlog of what nobody will accept from.
                stage.sockets.finish();
            }
            for last in words {
                going = match last {
                    Last::Own => {
                        // It may have been told to go before.
                        stage.drain.reopen();
                        None
                    }
                    Last::Leave(error) => {
                        stage
                            .turn
                            .send_replace(Turn::Lost { kind: error.kind(), why: error.chain() });
                        why = error;
                        let (drain, settings, hurry) = (stage.drain, stage.settings, stage.hurry);
                        Some(Box::pin(async move {
                            drain.run(settings, hurry).await;
                        }))
                    }
                };
            }
        }
        Fate::Owner(Box::new(self.ownership()))
    }

    /// Whether the predecessor, whose link has ended, is about to die: a process that ends closes
    /// its descriptors first. Then this side is not spare.
    async fn predecessor_dies(&mut self) -> bool {
        if !self.link_ended || self.process_ended {
            return false;
        }
        let wait = self.clock.lengths().commit;
        self.process_ended = tokio::time::timeout(wait, self.process.ended()).await.is_ok();
        self.process_ended
    }

    /// The next thing that happens. The link is read to its end before the predecessor's death is
    /// believed, and both come before any timer.
    async fn next(
        &mut self,
        stage: &Stage<'_>,
        requests: &mut mpsc::UnboundedReceiver<Request>,
        going: &mut Option<Going<'_>>,
    ) -> Option<Heard> {
        if let Some(event) = self.taking.due() {
            return Some(Heard::Event(event));
        }
        let (link_ended, process_ended) = (self.link_ended, self.process_ended);
        let applies = self.applies();
        tokio::select! {
            biased;
            envelope = self.receiver.recv(), if !link_ended => {
                self.heard(envelope, stage).map(Heard::Event)
            }
            () = self.process.ended(), if link_ended && !process_ended && !applies => {
                self.process_ended = true;
                Some(Heard::Event(Event::Died))
            }
            applied = self.taking.applied() => {
                self.applied(applied);
                None
            }
            Some(request) = requests.recv() => self.asked(request).map(Heard::Event),
            reason = stage.requests.spent() => {
                // Said once: each further failure would say it again to a predecessor that may be
                // slow to read, and fill the link.
                stage.requests.unwatch();
                self.post(Message::Unhealthy { reason });
                None
            }
            () = gone(going) => Some(Heard::Finished),
            timer = self.clock.next() => Some(Heard::Event(Event::Expired(timer))),
        }
    }

    fn heard(&mut self, envelope: Result<Option<Envelope>>, stage: &Stage<'_>) -> Option<Event> {
        let Envelope { message, descriptors, .. } = match envelope {
            Ok(Some(envelope)) => envelope,
            Ok(None) => {
                self.link_ended = true;
                self.nobody_answers();
                return Some(Event::LinkClosed);
            }
            Err(error) => {
                self.link_ended = true;
                self.nobody_answers();
                return Some(Event::Nonsense(chain(&error)));
            }
        };
        match message {
            Message::Ping { sequence } => {
                self.sequence = sequence;
                stage.requests.look();
                Some(Event::Ping)
            }
            Message::Expect(expect) => {
                self.checks.expect(expect, stage.sockets, &self.sender);
                None
            }
            Message::Stated(stated) => {
                self.stated(stated, descriptors, stage.states);
                None
            }
            Message::Delta(delta) => (!self.keep_delta(delta, descriptors))
                .then(|| Event::Nonsense("deltas without end".into())),
            Message::Yield => Some(Event::Yield),
            Message::MayCommit => Some(Event::MayCommit),
            Message::Owner(owner) => {
                if owner.queued_upgrade {
                    self.queued.remember(owner.queued_by.into());
                }
                Some(Event::Owner)
            }
            Message::RollBack { last, .. } => Some(Event::RollBack { last }),
            Message::Unknown(_) => None,
            other => {
                Some(Event::Nonsense(out_of_order(&other, "a step of the handoff").to_string()))
            }
        }
    }

    fn asked(&mut self, request: Request) -> Option<Event> {
        match request {
            Request::Ready => Some(Event::Ready),
            Request::Failed(why) => Some(Event::Failed(why)),
            Request::NotYet(reason) => {
                self.post(Message::NotYet { reason });
                None
            }
            Request::Take(wanted) => {
                self.take(wanted);
                None
            }
            Request::Unhealthy(reason) => {
                self.post(Message::Unhealthy { reason });
                None
            }
            Request::UpgradeAsked(by) => {
                self.queued.remember(by);
                self.post(Message::Asked { by: by.asker() });
                None
            }
        }
    }

    fn ownership(self) -> Ownership {
        Ownership {
            predecessor: self.predecessor,
            sender: self.sender,
            receiver: self.receiver,
            process: self.process,
            life: self.life,
            elders: self.elders,
            sessions: self.sessions,
            queued_upgrade: self.queued.take(),
        }
    }
}

/// What this generation has served so far.
fn figures(stage: &Stage<'_>) -> Figures {
    let (succeeded, failed) = stage.requests.totals();
    let active = stage.drain.active() as u64;
    Figures { active, accepted: stage.drain.accepted(), succeeded, failed }
}

/// What comes out of one wait.
#[derive(PartialEq)]
enum Heard {
    Event(Event),
    /// Everything that was accepted is finished.
    Finished,
}

/// What the machine wants of the loop itself.
enum Last {
    Own,
    Leave(Error),
}

async fn gone(going: &mut Option<Going<'_>>) {
    match going {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

fn rolled_back(why: &str) -> Error {
    Error::new(ErrorKind::RolledBack, why.to_owned())
}

fn error_of(why: Why) -> Error {
    match why {
        Why::RolledBack => rolled_back("the predecessor took the turn back"),
        Why::Unusable(why) => Error::new(ErrorKind::Predecessor, why),
        Why::Failed(why) => Error::new(ErrorKind::Successor, why),
    }
}

/// One line for each step, like the predecessor's report.
fn step(name: &'static str) {
    let pid = std::process::id();
    crate::log::info!(target: "heirloom::handoff", step = name, side = "successor", pid);
}

fn out_of_order(message: &Message, awaited: &str) -> Error {
    Error::new(
        ErrorKind::Protocol,
        format!("the predecessor sent '{}' where {awaited} was due", message.name()),
    )
}
