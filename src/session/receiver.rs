//! The end of the channel that takes sessions.

use std::collections::{HashSet, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::handlers::{Found, Handler};
use super::hub::{Arrivals, Sessions};
use super::parcel::{self, Arrived};
use super::session::{About, Session};
use super::stream::SessionStream;
use super::turns::Key;
use crate::error::{Result, chain};
use crate::link::{self, Envelope, LinkSender};
use crate::wire::limits::MAX_SESSIONS;
use crate::wire::{DeclinedItem, Message, SessionsAnswered};

/// For so long after the commit a session may wait for a handler: the predecessor is faster with
/// its sessions than an application that adds its handlers after it is ready. Until there is any
/// handler at all, none is asked for.
const LATE_HANDLER: Duration = Duration::from_secs(1);

/// One channel's receiver.
struct Receiver {
    hub: Sessions,
    sender: LinkSender,
    /// Until when a session waits for its handler.
    patient_until: Instant,
    /// Sessions that nobody takes yet.
    undecided: VecDeque<Arrived>,
    /// What was declined for good, as nobody took it then.
    refused: HashSet<Key>,
    /// The sender has said that others wait.
    others: bool,
}

/// What is decided of some sessions.
#[derive(Default)]
struct Decided {
    taken: Vec<(u64, Session, Handler)>,
    declined: Vec<DeclinedItem>,
}

/// Takes sessions until it is told to stop, the sender is gone, or the channel breaks.
/// `came` is told when some have come.
pub(super) async fn run(
    hub: Sessions,
    socket: OwnedFd,
    mut stop: oneshot::Receiver<()>,
    came: watch::Sender<Arrivals>,
) {
    let (sender, mut receiver) = match link::open(socket) {
        Ok(link) => link,
        Err(error) => {
            crate::log::error!(error = %chain(&error), "no sessions can be taken");
            return;
        }
    };
    let mut registered = hub.registered();
    let patient_until = Instant::now() + LATE_HANDLER;
    let mut this = Receiver::new(hub, sender, patient_until);
    // Nobody is without service while it waits for an application's first word.
    while !this.hub.has_handlers() {
        tokio::select! {
            biased;
            _ = &mut stop => return this.close().await,
            envelope = receiver.recv() => match arrived(envelope) {
                Came::Nothing => {}
                // None has been asked for.
                Came::Sessions(..) | Came::Nonsense => return this.close().await,
                Came::End => return,
            },
            _ = registered.changed() => {}
            () = sleep_until(patient_until) => break,
        }
    }
    if this.sender.post(Message::SessionsOpen).is_err() {
        return;
    }
    loop {
        let late = (!this.undecided.is_empty()).then_some(patient_until);
        let decided = tokio::select! {
            biased;
            _ = &mut stop => break,
            envelope = receiver.recv() => match arrived(envelope) {
                Came::Sessions(arrived, more) => {
                    this.others = more;
                    came.send_replace(Arrivals { since: Instant::now(), more: true });
                    this.decide(arrived)
                }
                Came::Nothing => continue,
                Came::End => return,
                Came::Nonsense => break,
            },
            Ok(()) = registered.changed() => this.reconsider(),
            () = until(late) => this.reconsider(),
        };
        if !this.answer(decided).await {
            return;
        }
        // However long that took, the predecessor had to wait for it.
        came.send_replace(Arrivals { since: Instant::now(), more: this.others });
    }
    this.close().await;
}

enum Came {
    /// And whether others wait behind them.
    Sessions(Vec<Arrived>, bool),
    Nothing,
    End,
    Nonsense,
}

fn arrived(envelope: Result<Option<Envelope>>) -> Came {
    let unpacked = match envelope {
        Ok(None) => return Came::End,
        Ok(Some(Envelope { message: Message::Sessions(sessions), descriptors, .. })) => {
            let more = sessions.more;
            parcel::unpack(sessions, descriptors).map(|arrived| (arrived, more))
        }
        Ok(Some(_)) => return Came::Nothing,
        Err(error) => Err(error),
    };
    match unpacked {
        Ok((arrived, more)) => Came::Sessions(arrived, more),
        Err(error) => {
            crate::log::error!(error = %chain(&error), "no more sessions are taken");
            Came::Nonsense
        }
    }
}

impl Receiver {
    fn new(hub: Sessions, sender: LinkSender, patient_until: Instant) -> Self {
        let (undecided, refused) = (VecDeque::new(), HashSet::new());
        Self { hub, sender, patient_until, undecided, refused, others: false }
    }

    /// What is in the channel, undecided or not even read, stays where it was.
    async fn close(self) {
        let last = self.sender.send(Message::SessionsClosed, Vec::new());
        let _ = tokio::time::timeout(self.hub.settings().deadline, last).await;
    }

    fn decide(&mut self, arrived: Vec<Arrived>) -> Decided {
        let mut decided = Decided::default();
        let patient = Instant::now() < self.patient_until;
        for arrived in arrived {
            let record = &arrived.record;
            match self.hub.find(&record.kind, &record.listener, record.version) {
                Found::Handler(handler) => self.take(arrived, handler, &mut decided),
                Found::Nobody(_) if patient => self.undecided.push_back(arrived),
                Found::Nobody(reason) | Found::Declined(reason) => {
                    self.refused.insert(Key::new(&record.kind, record.version, &record.listener));
                    decided.decline(arrived.number, reason, true);
                }
            }
        }
        decided
    }

    /// A handler was added, or the time for that is over.
    fn reconsider(&mut self) -> Decided {
        let waiting: Vec<_> = std::mem::take(&mut self.undecided).into();
        let hub = &self.hub;
        let before = self.refused.len();
        self.refused.retain(|Key(kind, version, listener)| {
            !matches!(hub.find(kind, listener, *version), Found::Handler(_))
        });
        // The sender need not know which: of each kind it sends one ahead again.
        if self.refused.len() < before && self.sender.post(Message::SessionsOpen).is_err() {
            crate::log::debug!("the predecessor cannot be told that there is a handler now");
        }
        self.decide(waiting)
    }

    fn take(&self, arrived: Arrived, handler: Handler, decided: &mut Decided) {
        let Arrived { number, record, state, ahead, stream } = arrived;
        let stream = match SessionStream::adopt(stream) {
            Ok(stream) => stream,
            Err(error) => return decided.decline(number, error.to_string(), false),
        };
        let guard = self.hub.drain().guards(&record.listener).guard_of_moved(record.peer);
        if let Some(name) = record.name {
            guard.set_name(name);
        }
        let (kind, version) = (record.kind, record.version);
        let about = About { state, ahead, ..About::new(kind, version, guard) };
        decided.taken.push((number, Session { stream, about }, handler));
    }

    /// Says what was decided, and lets the handlers begin once that is in the kernel, or if the
    /// sender is gone; false if it cannot be told for another reason, and then none begins.
    async fn answer(&self, decided: Decided) -> bool {
        let Decided { taken, mut declined } = decided;
        let mut taken = taken.into_iter().peekable();
        while taken.peek().is_some() || !declined.is_empty() {
            let some: Vec<_> = taken.by_ref().take(MAX_SESSIONS).collect();
            let answered = SessionsAnswered {
                taken: some.iter().map(|(number, ..)| *number).collect(),
                declined: declined.drain(..declined.len().min(MAX_SESSIONS)).collect(),
            };
            let count = answered.taken.len();
            crate::log::debug!(target: "heirloom::handoff", step = "answer sessions", side = "successor", count);
            let sent = self.sender.send(Message::SessionsAnswered(answered), Vec::new()).await;
            // It has closed its end, and with it or before it all that was still in doubt: nobody
            // else has them.
            if sent.is_err() && !self.sender.is_deserted() {
                return false;
            }
            for (_, session, handler) in some {
                self.begin(session, &handler);
            }
        }
        true
    }

    fn begin(&self, session: Session, handler: &Handler) {
        let cut = session.guard().clone().cut(self.hub.settings().farewell);
        let handler = Arc::clone(handler);
        crate::task::spawn(async move {
            tokio::select! {
                // Called in here, so that a panic of the application's is this session's alone.
                () = async { handler(session).await } => {}
                () = cut => {}
            }
        });
    }
}

impl Decided {
    fn decline(&mut self, number: u64, reason: String, lasting: bool) {
        self.declined.push(DeclinedItem { number, reason, lasting });
    }
}

async fn until(late: Option<Instant>) {
    match late {
        Some(late) => sleep_until(late).await,
        None => std::future::pending().await,
    }
}
