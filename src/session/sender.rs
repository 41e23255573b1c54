//! The end of the channel that gives sessions away.

use std::collections::VecDeque;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::parcel::{self, GATHERED};
use super::session::{About, NotMoved};
use super::turns::{Key, Turns};
use super::underway::{Reply, Suspended, Underway};
use crate::error::{Result, chain};
use crate::link::{Envelope, LinkReceiver, LinkSender};
use crate::spawn::Process;
use crate::wire::limits::MAX_SESSIONS;
use crate::wire::{Message, SessionsAnswered};

/// Sessions that may be in doubt at once: each is a descriptor that is open on this side, and on
/// its way it counts against the user's limit of open files (`unix(7)`, `ETOOMANYREFS`).
pub(super) const WINDOW: usize = 4 * MAX_SESSIONS;

const NO_MORE: &str = "the successor takes no more sessions";

/// A session that is to move.
pub(super) struct Leaving {
    pub(super) about: About,
    pub(super) stream: OwnedFd,
    pub(super) reply: Reply,
}

impl Leaving {
    /// It stays here.
    pub(super) fn back(self, reason: &str) {
        let Self { about, stream, reply } = self;
        // Without anybody who waits for it, its connection closes here.
        let _ = reply.send(Err(NotMoved::back(about, stream, reason)));
    }
}

/// What may be sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Channel {
    /// Nothing yet: the receiver has not spoken.
    Silent,
    Open,
    /// Nothing any more.
    Shut,
}

/// One channel's sender.
pub(super) struct Sender {
    channel: Channel,
    sender: LinkSender,
    receiver: LinkReceiver,
    /// The channel has been read to its end.
    ended: bool,
    process: Process,
    queue: mpsc::Receiver<Leaving>,
    /// The queue has been read to its end.
    emptied: bool,
    /// Taken from the queue, not sent yet.
    batch: VecDeque<Suspended>,
    underway: Underway,
    sending: Option<Pin<Box<dyn Future<Output = Result<()>> + Send>>>,
    turns: Turns,
    /// The end of what comes to this generation itself, and leaves it again.
    behind: Option<Behind>,
    /// Whether others may come, as the receiver was told last.
    told: Option<bool>,
    deadline: Duration,
    began: Instant,
}

/// Resolves when no more sessions come to this generation.
pub(super) type Behind = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Sender {
    pub(super) fn new(
        (sender, receiver): (LinkSender, LinkReceiver),
        process: Process,
        queue: mpsc::Receiver<Leaving>,
        turns: Turns,
        behind: Option<Behind>,
        deadline: Duration,
    ) -> Self {
        Self {
            channel: Channel::Silent,
            sender,
            receiver,
            ended: false,
            process,
            queue,
            emptied: false,
            batch: VecDeque::new(),
            underway: Underway::default(),
            sending: None,
            turns,
            behind,
            told: None,
            deadline,
            began: Instant::now(),
        }
    }

    /// Until nothing can be sent and nothing is in doubt.
    pub(super) async fn run(mut self) {
        loop {
            match self.channel {
                Channel::Shut if self.emptied && self.underway.is_empty() => return,
                Channel::Open if self.sending.is_none() => {
                    if !self.send_next() {
                        // What comes after it is not kept waiting.
                        continue;
                    }
                }
                Channel::Silent | Channel::Open | Channel::Shut => {}
            }
            self.step().await;
        }
    }

    /// The next thing that happens. The channel is read to its end before the receiver's death is
    /// believed, and both come before any deadline.
    async fn step(&mut self) {
        let ended = self.ended;
        let (open, doubt) = (self.channel == Channel::Open, !self.underway.is_empty());
        let room = match self.channel {
            Channel::Open if self.batch.is_empty() => WINDOW.saturating_sub(self.underway.len()),
            Channel::Silent | Channel::Open => 0,
            Channel::Shut if self.emptied => 0,
            // Also what somebody is just about to put there, who has got a place before it closed.
            Channel::Shut => MAX_SESSIONS,
        };
        let calms = open && self.sending.is_none() && self.behind.is_none();
        let calms = calms && self.told == Some(true);
        let late = self.late();
        let mut leaving = Vec::new();
        tokio::select! {
            biased;
            () = pending(&mut self.behind) => self.behind = None,
            envelope = self.receiver.recv(), if !ended => self.heard(envelope),
            () = self.process.ended(), if ended && doubt => {
                // All that it has acknowledged has been read.
                self.underway.take_back("the successor died before it took it");
            }
            sent = pending(&mut self.sending) => {
                self.sending = None;
                if let Err(error) = sent {
                    crate::log::warn!(error = %chain(&error), "sessions cannot be sent any more");
                    self.shut();
                }
            }
            () = until(late) => self.too_late(),
            count = self.queue.recv_many(&mut leaving, room.min(MAX_SESSIONS)), if room > 0 => {
                if count == 0 {
                    self.emptied = true;
                    self.shut();
                }
                leaving.into_iter().for_each(|leaving| self.suspend(leaving));
            }
            // The receiver is told so.
            () = self.turns.at_rest(), if calms => {}
        }
    }

    fn heard(&mut self, envelope: Result<Option<Envelope>>) {
        let message = match envelope {
            Ok(Some(envelope)) => envelope.message,
            Ok(None) => return self.end(),
            Err(error) => {
                crate::log::warn!(error = %chain(&error), "the channel of sessions broke");
                return self.end();
            }
        };
        match message {
            Message::SessionsOpen if self.channel != Channel::Shut => {
                self.channel = Channel::Open;
                self.turns.open();
            }
            Message::SessionsAnswered(SessionsAnswered { taken, declined }) => {
                taken.into_iter().for_each(|number| self.underway.taken(number));
                for item in declined {
                    let key = self.underway.declined(item.number, &item.reason);
                    if let Some(key) = key.filter(|_| item.lasting) {
                        self.refused(key, &item.reason);
                    }
                }
            }
            Message::SessionsClosed => {
                self.underway.take_back(NO_MORE);
                self.shut();
            }
            _ => {}
        }
    }

    /// The receiver takes none like these, which is said once.
    fn refused(&self, key: Key, reason: &str) {
        if self.turns.are_refused(&key) {
            return;
        }
        let Key(kind, version, listener) = &key;
        crate::log::info!(
            target: "heirloom::handoff", step = "sessions stay", %kind, version, %listener, reason
        );
        self.turns.refuse(key);
    }

    /// Without a last word the receiver may have taken what is in doubt, until it is dead.
    fn end(&mut self) {
        self.ended = true;
        self.shut();
    }

    /// Nothing is sent from here on: what has not been sent stays here, and what has been is waited
    /// for.
    fn shut(&mut self) {
        self.channel = Channel::Shut;
        self.turns.shut();
        self.queue.close();
        self.batch.drain(..).for_each(|suspended| suspended.back(NO_MORE));
    }

    /// When it is too late for the first word, or for the answer that has been due longest.
    fn late(&self) -> Option<Instant> {
        let since = match self.channel {
            Channel::Silent => Some(self.began),
            Channel::Open | Channel::Shut => self.underway.silent_since(),
        };
        since.and_then(|since| since.checked_add(self.deadline))
    }

    /// Whoever is late once is offered nothing more.
    fn too_late(&mut self) {
        self.shut();
        let Some(since) = Instant::now().checked_sub(self.deadline) else { return };
        let lost = self.underway.give_up(since, "the successor did not answer in time");
        if lost > 0 {
            crate::log::error!(
                lost,
                "sessions were closed: the successor did not say whether it took them"
            );
        }
    }

    /// Nobody reads it from here on, until it is settled.
    fn suspend(&mut self, leaving: Leaving) {
        if self.channel == Channel::Shut {
            return leaving.back(NO_MORE);
        }
        let Leaving { about, stream, reply } = leaving;
        self.batch.push_back(Suspended { about, stream: Arc::new(stream), reply });
    }

    /// Sends what one frame holds of the batch. One without sessions only says whether others may
    /// come: what comes to this generation leaves it again, and its receiver may be about to end.
    ///
    /// False if that part could not be sent, and stays here.
    fn send_next(&mut self) -> bool {
        let first = self.underway.next();
        let now = Instant::now();
        let mut bytes = 0;
        while let Some(next) = self.batch.front() {
            bytes += next.about.length();
            if bytes > GATHERED && self.underway.next() > first {
                break;
            }
            let Some(next) = self.batch.pop_front() else { break };
            self.underway.add(next, now);
        }
        let (count, wishes) = (self.underway.next() - first, self.turns.wishes());
        let behind = self.behind.is_some();
        let more = behind || wishes > self.underway.len();
        let news = match self.told {
            None => true,
            Some(told) => told && !behind && wishes == 0,
        };
        if count == 0 && !news {
            return true;
        }
        match parcel::pack(first, self.underway.from(first), more) {
            Ok((message, descriptors)) => {
                self.told = Some(more);
                crate::log::debug!(target: "heirloom::handoff", step = "send sessions", count, more);
                let sender = self.sender.clone();
                self.sending =
                    Some(Box::pin(async move { sender.send(message, descriptors).await }));
                true
            }
            Err(error) => {
                // Nothing of it has been sent.
                let reason = chain(&error);
                for number in first..self.underway.next() {
                    self.underway.declined(number, &reason);
                }
                count == 0
            }
        }
    }
}

async fn pending<T>(future: &mut Option<Pin<Box<dyn Future<Output = T> + Send>>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

async fn until(late: Option<Instant>) {
    match late {
        Some(late) => sleep_until(late).await,
        None => std::future::pending().await,
    }
}
