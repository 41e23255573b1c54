//! What a generation knows about sessions: who takes those that come, and where those go that
//! leave.

use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};

use super::handlers::{Found, Handler, Handlers};
use super::parcel::LONGEST;
use super::receiver;
use super::sender::{Behind, Leaving, Sender, WINDOW};
use super::session::{About, NotMoved, Session};
#[cfg(feature = "http")]
use super::turns::Turn;
use super::turns::{Key, Turns};
use crate::drain::Drain;
use crate::error::{Result, chain};
use crate::link;
use crate::name::Name;
use crate::spawn::Process;

/// Sessions that may wait for the channel; the others wait with whoever hands them over.
const QUEUE: usize = 1_024;

/// A predecessor that has given nothing for so long has nothing more to give for now, if it has said
/// that nobody waits. Its idle connections come without a pause.
const QUIET: Duration = Duration::from_millis(500);

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// From the moment a session is sent until it is answered.
    pub deadline: Duration,
    /// How long a handler has to say goodbye when it is cut.
    pub farewell: Duration,
}

/// A handler that was added, by its number.
#[cfg_attr(not(feature = "http"), allow(dead_code, reason = "only HTTP takes handlers away"))]
pub(crate) struct Registered(u64);

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
    /// How the predecessor's come; ends with the taking.
    arrivals: Mutex<Option<watch::Receiver<Arrivals>>>,
}

/// How sessions come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrivals {
    /// Since when the predecessor could have given the next ones.
    pub(super) since: Instant,
    /// It has said that others wait or may come, or has not said anything.
    pub(super) more: bool,
}

fn ended(mut arrivals: watch::Receiver<Arrivals>) -> Behind {
    Box::pin(async move { while arrivals.changed().await.is_ok() {} })
}

/// The way to the successor.
#[derive(Clone)]
struct Out {
    queue: mpsc::Sender<Leaving>,
    turns: Turns,
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
            arrivals: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Takes sessions of this kind and of these versions, of one listener or of all. The last
    /// handler that fits is asked, and one for the listener before one for all. It is there for as
    /// long as the generation, unless it is [taken away](Self::unregister).
    pub(crate) fn register(
        &self,
        kind: Name,
        listener: Option<Name>,
        versions: RangeInclusive<u32>,
        handler: Handler,
    ) -> Registered {
        let number = lock(&self.inner.handlers).add(kind, listener, versions, Some(handler));
        self.inner.registered.send_replace(());
        Registered(number)
    }

    /// Leaves sessions of this kind, of whatever version, where they are, and says so at once.
    #[cfg(feature = "http")]
    pub(crate) fn leave(&self, kind: Name, listener: Name) -> Registered {
        let number = lock(&self.inner.handlers).add(kind, Some(listener), 0..=u32::MAX, None);
        self.inner.registered.send_replace(());
        Registered(number)
    }

    /// Takes a handler away: whoever it stood for has ended.
    #[cfg(feature = "http")]
    pub(crate) fn unregister(&self, Registered(number): Registered) {
        let handler = lock(&self.inner.handlers).remove(number);
        // What it holds is the application's, and not dropped under the lock.
        drop(handler);
    }

    /// Whether there is a successor that may take sessions now.
    pub(crate) fn can_move(&self) -> bool {
        lock(&self.inner.out).as_ref().is_some_and(|out| !out.queue.is_closed())
    }

    /// Resolves when no session is under way to the successor and none waits for its turn. Without
    /// a word from the successor for a deadline none does any more.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(crate) async fn at_rest(&self) {
        let turns = lock(&self.inner.out).as_ref().map(|out| out.turns.clone());
        if let Some(turns) = turns {
            turns.at_rest().await;
        }
    }

    /// Whether there is a successor that may take sessions like these: it has declined none.
    #[cfg(feature = "http")]
    pub(crate) fn may_take(&self, key: &Key) -> bool {
        lock(&self.inner.out).as_ref().is_some_and(|out| out.turns.may_come(key))
    }

    /// Resolves when it is the turn of one like these to [leave](Self::hand_off_socket); `None` if
    /// the successor takes none, or none any more.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropped, it gives its place in the queue up.
    #[cfg(feature = "http")]
    pub(crate) fn turn(&self, key: &Key) -> impl Future<Output = Option<Turn>> + Send + use<> {
        let turns = lock(&self.inner.out).as_ref().map(|out| out.turns.clone());
        let key = key.clone();
        async move { turns?.next(key).await }
    }

    /// Hands a session over to the successor; returns when it is settled.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the session moves all the same, or is closed if the successor does not take it.
    pub(crate) async fn hand_off(&self, session: Session) -> Result<(), NotMoved> {
        let Some(Out { queue, turns }) = lock(&self.inner.out).clone() else {
            return Err(NotMoved::declined(session, "there is no successor to take it"));
        };
        if session.about.length() > LONGEST {
            let text = format!("its state and read-ahead are over {LONGEST} bytes together");
            return Err(NotMoved::declined(session, text));
        }
        if turns.are_refused(&Key::of(&session.about)) {
            return Err(NotMoved::declined(session, "the successor has declined others like it"));
        }
        let _wish = turns.wish();
        let Session { stream, about } = session;
        match stream.into_fd() {
            Ok(stream) => leave(queue, about, stream).await,
            Err(error) => Err(NotMoved::unreadable(about, &error)),
        }
    }

    /// The same for a connected socket that no runtime watches.
    #[cfg(feature = "http")]
    pub(crate) async fn hand_off_socket(
        &self,
        about: About,
        stream: OwnedFd,
    ) -> Result<(), NotMoved> {
        let queue = lock(&self.inner.out).as_ref().map(|out| out.queue.clone());
        match queue {
            Some(queue) => leave(queue, about, stream).await,
            None => Err(NotMoved::back(about, stream, "there is no successor to take it")),
        }
    }

    /// From now on sessions go to this process over this channel.
    pub(crate) fn send_to(&self, channel: OwnedFd, process: Process) {
        let (queue, leaving) = mpsc::channel(QUEUE);
        let turns = Turns::new(WINDOW);
        let link = match link::open(channel) {
            Ok(link) => link,
            Err(error) => {
                crate::log::error!(error = %chain(&error), "no sessions can be handed over");
                return;
            }
        };
        let deadline = self.inner.settings.deadline;
        let behind = lock(&self.inner.arrivals).clone().map(ended);
        let sender = Sender::new(link, process, leaving, turns.clone(), behind, deadline);
        *lock(&self.inner.out) = Some(Out { queue, turns });
        crate::task::spawn(sender.run());
    }

    /// From now on sessions of the predecessor are taken from this channel.
    pub(crate) fn receive_from(&self, channel: OwnedFd) {
        let (stop, stopped) = oneshot::channel();
        *lock(&self.inner.stop) = Some(stop);
        // It says whether there are any as soon as some are taken here.
        let unknown = Arrivals { since: Instant::now(), more: true };
        let (came, arrivals) = watch::channel(unknown);
        *lock(&self.inner.arrivals) = Some(arrivals);
        crate::task::spawn(receiver::run(self.clone(), channel, stopped, came));
    }

    /// No more sessions are taken; those that are taken are served.
    pub(crate) fn stop_receiving(&self) {
        if let Some(stop) = lock(&self.inner.stop).take() {
            // The channel may have ended before.
            let _ = stop.send(());
        }
    }

    /// Resolves when no more sessions come: the predecessor's channel has ended, or has been quiet
    /// for a while and was closed. A generation that hands over while its predecessor's sessions
    /// still come takes them all the same, and they leave again with its own.
    ///
    /// # Cancel safety
    ///
    /// Dropped, no more sessions are taken.
    pub(crate) async fn pass_on(&self) {
        let arrivals = lock(&self.inner.arrivals).clone();
        let _stops = Stops(self);
        let Some(mut arrivals) = arrivals.filter(|_| self.has_handlers()) else { return };
        loop {
            let Arrivals { since, more } = *arrivals.borrow_and_update();
            let patience = if more { self.inner.settings.deadline.max(QUIET) } else { QUIET };
            let patience = patience.saturating_sub(since.elapsed());
            match timeout(patience, arrivals.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return,
                Err(_) => break,
            }
        }
        self.stop_receiving();
        // What has been taken by then has its guard.
        ended(arrivals).await;
    }

    /// The generation has ended: nobody is asked any more, and what handlers hold is let go.
    pub(crate) fn end(&self) {
        self.stop_receiving();
        let handlers = std::mem::take(&mut *lock(&self.inner.handlers));
        drop(handlers);
        lock(&self.inner.out).take();
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

    /// Whether somebody has said what becomes of some kind.
    pub(super) fn has_handlers(&self) -> bool {
        !lock(&self.inner.handlers).is_empty()
    }

    pub(super) fn find(&self, kind: &Name, listener: &Name, version: u32) -> Found {
        lock(&self.inner.handlers).find(kind, listener, version)
    }
}

/// Ends the taking when it is dropped.
struct Stops<'a>(&'a Sessions);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.stop_receiving();
    }
}

async fn leave(
    queue: mpsc::Sender<Leaving>,
    about: About,
    stream: OwnedFd,
) -> Result<(), NotMoved> {
    let (reply, settled) = oneshot::channel();
    if let Err(back) = queue.send(Leaving { about, stream, reply }).await {
        back.0.back("the successor takes no more sessions");
    }
    settled.await.unwrap_or_else(|_| Err(NotMoved::lost("the runtime has ended")))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
