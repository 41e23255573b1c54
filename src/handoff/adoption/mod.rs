//! One handoff, driven from the successor's side.
//!
//! **Contract:** descriptors are adopted all or none; the application's accept loops open only at
//! our turn or after the verdict; and what this returns says truly whether this generation owns.

mod receive;

use std::collections::VecDeque;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};

use super::Timer;
use super::clock::Clock;
use super::offer::{self, Elder};
use super::successor::{Action, Event, Say, State, Successor, Why};
use crate::drain::{Drain, DrainSettings};
use crate::error::{Error, ErrorKind, Result, chain};
use crate::generation::Generation;
use crate::inventory::{Inventory, in_background};
use crate::link::{Envelope, LinkReceiver, LinkSender};
use crate::spawn::Process;
use crate::verdict::{Decision, Verdict};
use crate::wire::{Failed, Message, SocketRecord};

/// What a successor knows once it holds the whole offer.
pub(crate) struct Inheritance {
    pub generation: Generation,
    pub sockets: Vec<(SocketRecord, OwnedFd)>,
}

/// What the application says while the handoff runs.
#[derive(Debug)]
pub(crate) enum Request {
    /// It is ready.
    Ready,
    /// It failed, or was asked to stop.
    Failed(String),
    /// An upgrade was asked for here: the owner shall remember it.
    UpgradeAsked,
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
    /// Elders that the predecessor held, oldest first.
    pub elders: Vec<Elder>,
    pub queued_upgrade: bool,
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
    elders: Vec<Elder>,
    predecessor: Generation,
    queued_upgrade: bool,
    /// Of the ping that is answered next.
    sequence: u64,
}

/// What the driver of a handoff works on.
pub(crate) struct Stage<'a> {
    pub sockets: &'a Inventory,
    pub drain: &'a Drain,
    pub settings: &'a DrainSettings,
    pub hurry: &'a Notify,
    pub turn: &'a watch::Sender<Turn>,
}

pub(crate) use self::receive::{adopt, greet, regret};

type Going<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

impl Adoption {
    /// Ends the handoff before the application has been started: what was inherited is unusable.
    pub(crate) async fn give_up(self, error: String) {
        let sent = self.sender.send(Message::Failed(Failed { error }), Vec::new());
        let _ = tokio::time::timeout(self.clock.lengths().commit, sent).await;
    }

    /// Drives the handoff from 'adopted' to its end.
    pub(crate) async fn run(
        mut self,
        stage: Stage<'_>,
        requests: &mut mpsc::Receiver<Request>,
    ) -> Fate {
        let mut going: Option<Going<'_>> = None;
        let mut why = rolled_back("the predecessor took the turn back");
        while *self.machine.state() != State::Owner {
            let Some(event) = self.next(requests, &mut going).await else {
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
            let words = self.feed(event, &stage);
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
        requests: &mut mpsc::Receiver<Request>,
        going: &mut Option<Going<'_>>,
    ) -> Option<Heard> {
        let (link_ended, process_ended) = (self.link_ended, self.process_ended);
        tokio::select! {
            biased;
            envelope = self.receiver.recv(), if !link_ended => {
                self.heard(envelope).map(Heard::Event)
            }
            () = self.process.ended(), if link_ended && !process_ended => {
                self.process_ended = true;
                Some(Heard::Event(Event::Died))
            }
            Some(request) = requests.recv() => self.asked(request).map(Heard::Event),
            () = gone(going) => Some(Heard::Finished),
            timer = self.clock.next() => Some(Heard::Event(Event::Expired(timer))),
        }
    }

    fn heard(&mut self, envelope: Result<Option<Envelope>>) -> Option<Event> {
        let message = match envelope {
            Ok(Some(envelope)) => envelope.message,
            Ok(None) => {
                self.link_ended = true;
                return Some(Event::LinkClosed);
            }
            Err(error) => {
                self.link_ended = true;
                return Some(Event::Nonsense(chain(&error)));
            }
        };
        match message {
            Message::Ping { sequence } => {
                self.sequence = sequence;
                Some(Event::Ping)
            }
            Message::Yield => Some(Event::Yield),
            Message::MayCommit => Some(Event::MayCommit),
            Message::Owner(owner) => {
                self.queued_upgrade |= owner.queued_upgrade;
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
            Request::UpgradeAsked => {
                self.queued_upgrade = true;
                self.post(Message::Asked);
                None
            }
        }
    }

    /// One event through the machine, with the verdict as it is now, and all that follows.
    fn feed(&mut self, event: Event, stage: &Stage<'_>) -> Vec<Last> {
        let mut words = Vec::new();
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let seen = self.verdict.read().unwrap_or_else(|error| {
                tracing::error!(target: "heirloom::handoff", error = %chain(&error), "the verdict cannot be read");
                None
            });
            let (machine, actions) = self.machine.clone().on(event, seen);
            self.machine = machine;
            for action in actions {
                events.extend(self.perform(action, stage, &mut words));
            }
        }
        words
    }

    /// Does one thing; what it brings about at once is the next event.
    fn perform(
        &mut self,
        action: Action,
        stage: &Stage<'_>,
        words: &mut Vec<Last>,
    ) -> Option<Event> {
        match action {
            Action::Send(say) => self.say(say, stage),
            Action::Arm(Timer::Silence) => self.clock.arm_for(Timer::Silence, self.alone_after()),
            Action::Arm(timer) => self.clock.arm(timer),
            Action::Disarm(timer) => self.clock.disarm(timer),
            Action::DisarmAll => self.clock.disarm_all(),
            // The application has been starting since the offer was whole.
            Action::Start => {}
            Action::Open => return self.open(stage),
            Action::Pause => in_background(stage.sockets.pause()),
            Action::Seal(decision) => {
                let now = self.verdict.decide(decision).unwrap_or_else(|error| {
                    // Whoever cannot seal must not own.
                    tracing::error!(target: "heirloom::handoff", error = %chain(&error), "the verdict cannot be sealed");
                    Decision::RolledBack
                });
                return Some(Event::Sealed(now));
            }
            Action::Own => {
                step("owner");
                words.push(Last::Own);
            }
            Action::Leave(why) => {
                step("leaving");
                in_background(stage.sockets.pause());
                words.push(Last::Leave(error_of(why)));
            }
        }
        None
    }

    /// How long the predecessor has to be silent before this side stands alone.
    fn alone_after(&self) -> Duration {
        let lengths = self.clock.lengths();
        lengths.probation.saturating_add(lengths.silence)
    }

    fn open(&mut self, stage: &Stage<'_>) -> Option<Event> {
        if let Err(error) = stage.sockets.open() {
            tracing::error!(target: "heirloom::handoff", error = %chain(&error), "not every listener could be opened");
            if matches!(self.verdict.read(), Ok(None)) {
                return Some(Event::OpenFailed(chain(&error)));
            }
            // Nobody else serves: better the others than none.
            stage.sockets.open_what_can_be();
        }
        // What this side had paused by itself: its lease ran out, or it was on its way out.
        in_background(stage.sockets.unpause());
        step("serving");
        stage.turn.send_replace(Turn::Serving);
        None
    }

    fn say(&mut self, say: Say, stage: &Stage<'_>) {
        let message = match say {
            Say::Adopted => Message::Adopted,
            Say::Ready => return self.ready(stage),
            Say::Pong => Message::Pong { sequence: self.sequence },
            Say::Serving => Message::Serving,
            Say::Committed => {
                step("committed");
                Message::Committed
            }
            Say::Failed(error) => Message::Failed(Failed { error }),
        };
        self.post(message);
    }

    fn post(&self, message: Message) {
        // A link that takes nothing more is seen on the reading side, or by its deadline.
        if let Err(error) = self.sender.post(message) {
            tracing::debug!(target: "heirloom::handoff", error = %chain(&error), "not sent");
        }
    }

    /// 'Ready' may be long, and the predecessor slow to read it: it leaves in a task of its own.
    fn ready(&self, stage: &Stage<'_>) {
        step("ready");
        let part = stage.sockets.ready();
        let sender = self.sender.clone();
        tokio::spawn(async move {
            for (message, descriptors) in offer::ready(part.claimed, part.bound, part.notes) {
                if let Err(error) = sender.send(message, descriptors).await {
                    tracing::debug!(target: "heirloom::handoff", error = %chain(&error), "not sent");
                    return;
                }
            }
        });
    }

    /// The last word of a successor that goes; the predecessor may not be there to hear it.
    async fn say_goodbye(&self, stage: &Stage<'_>) {
        let left = Message::Left { accepted: stage.drain.accepted() };
        let sent = self.sender.send(left, Vec::new());
        let _ = tokio::time::timeout(self.clock.lengths().commit, sent).await;
    }

    fn ownership(self) -> Ownership {
        Ownership {
            predecessor: self.predecessor,
            sender: self.sender,
            receiver: self.receiver,
            process: self.process,
            elders: self.elders,
            queued_upgrade: self.queued_upgrade,
        }
    }
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
    tracing::info!(target: "heirloom::handoff", step = name, side = "successor", pid);
}

fn out_of_order(message: &Message, awaited: &str) -> Error {
    Error::new(
        ErrorKind::Protocol,
        format!("the predecessor sent '{}' where {awaited} was due", message.name()),
    )
}
