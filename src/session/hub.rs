//! What a generation knows about sessions: who takes those that come, and where those go that
//! leave.

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::handlers::{Handler, Handlers};
use super::parcel::LONGEST;
use super::receiver;
use super::sender::{Key, Leaving, Refused, Sender};
use super::session::{NotMoved, Session};
use crate::drain::Drain;
use crate::error::{Result, chain};
use crate::link;
use crate::name::Name;
use crate::spawn::Process;

/// Sessions that may wait for the channel; the others wait with whoever hands them over.
const QUEUE: usize = 1_024;

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// From the moment a session is sent until it is answered.
    pub deadline: Duration,
    /// How long a handler has to say goodbye when it is cut.
    pub farewell: Duration,
}

/// The sessions of one generation; clones are the same.
#[derive(Clone)]
pub(crate) struct Sessions {
    inner: Arc<Inner>,
}

struct Inner {
    drain: Drain,
    settings: Settings,
    handlers: Mutex<Handlers>,
    registered: watch::Sender<()>,
    /// Where sessions go.
    out: Mutex<Option<Out>>,
    /// Ends the taking.
    stop: Mutex<Option<oneshot::Sender<()>>>,
}

/// The way to the successor.
#[derive(Clone)]
struct Out {
    queue: mpsc::Sender<Leaving>,
    refused: Refused,
}

impl Sessions {
    pub(crate) fn new(drain: Drain, settings: Settings) -> Self {
        let inner = Inner {
            drain,
            settings,
            handlers: Mutex::default(),
            registered: watch::Sender::new(()),
            out: Mutex::default(),
            stop: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Takes sessions of this kind and of these versions, of one listener or of all. The last
    /// handler that fits is asked, and one for the listener before one for all.
    pub(crate) fn register(
        &self,
        kind: Name,
        listener: Option<Name>,
        versions: RangeInclusive<u32>,
        handler: Handler,
    ) {
        lock(&self.inner.handlers).add(kind, listener, versions, handler);
        self.inner.registered.send_replace(());
    }

    /// Whether there is a successor that may take sessions now.
    pub(crate) fn can_move(&self) -> bool {
        lock(&self.inner.out).as_ref().is_some_and(|out| !out.queue.is_closed())
    }

    /// Hands a session over to the successor; returns when it is settled.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the session moves all the same, or is closed if the successor does not take it.
    pub(crate) async fn hand_off(&self, session: Session) -> Result<(), NotMoved> {
        let out = lock(&self.inner.out).clone();
        let Some(Out { queue, refused }) = out else {
            return Err(NotMoved::declined(session, "there is no successor to take it"));
        };
        if session.about.length() > LONGEST {
            let text = format!("its state and read-ahead are over {LONGEST} bytes together");
            return Err(NotMoved::declined(session, text));
        }
        if lock(&refused).contains(&Key::of(&session.about)) {
            return Err(NotMoved::declined(session, "the successor has declined others like it"));
        }
        let (reply, settled) = oneshot::channel();
        if let Err(back) = queue.send(Leaving { session, reply }).await {
            let text = "the successor takes no more sessions";
            return Err(NotMoved::declined(back.0.session, text));
        }
        settled.await.unwrap_or_else(|_| Err(NotMoved::lost("the runtime has ended")))
    }

    /// From now on sessions go to this process over this channel.
    pub(crate) fn send_to(&self, channel: OwnedFd, process: Process) {
        let (queue, leaving) = mpsc::channel(QUEUE);
        let refused: Refused = Arc::new(Mutex::new(HashSet::new()));
        let link = match link::open(channel) {
            Ok(link) => link,
            Err(error) => {
                tracing::error!(error = %chain(&error), "no sessions can be handed over");
                return;
            }
        };
        let deadline = self.inner.settings.deadline;
        let sender = Sender::new(link, process, leaving, Arc::clone(&refused), deadline);
        *lock(&self.inner.out) = Some(Out { queue, refused });
        tokio::spawn(sender.run());
    }

    /// From now on sessions of the predecessor are taken from this channel.
    pub(crate) fn receive_from(&self, channel: OwnedFd) {
        let (stop, stopped) = oneshot::channel();
        *lock(&self.inner.stop) = Some(stop);
        tokio::spawn(receiver::run(self.clone(), channel, stopped));
    }

    /// No more sessions are taken; those that are taken are served.
    pub(crate) fn stop_receiving(&self) {
        if let Some(stop) = lock(&self.inner.stop).take() {
            // The channel may have ended before.
            let _ = stop.send(());
        }
    }

    pub(super) fn settings(&self) -> Settings {
        self.inner.settings
    }

    pub(super) fn drain(&self) -> &Drain {
        &self.inner.drain
    }

    pub(super) fn registered(&self) -> watch::Receiver<()> {
        self.inner.registered.subscribe()
    }

    pub(super) fn find(
        &self,
        kind: &Name,
        listener: &Name,
        version: u32,
    ) -> Result<Handler, String> {
        lock(&self.inner.handlers).find(kind, listener, version)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
