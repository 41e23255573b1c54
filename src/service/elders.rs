//! The generations that have committed and still drain, as their owner holds them.
//!
//! **Contract:** as long as this generation owns, it alone reads their links; what they say and
//! that they end reaches it as events; and their descriptors stay open until they have ended, so
//! that none of them believes itself alone.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle};

use crate::control::GenerationView;
use crate::error::{Error, ErrorKind, Result, chain};
use crate::generation::Generation;
use crate::handoff::offer::Elder;
use crate::link::{self, LinkReceiver, LinkSender};
use crate::report::AskedBy;
use crate::spawn::Process;
use crate::status::Role;
use crate::sys::pidfd;
use crate::wire::{LastReport, Message, Owner, Progress};

/// What became known of an elder.
#[derive(Debug)]
pub(crate) enum News {
    /// Somebody asked it for an upgrade.
    Asked(AskedBy),
    /// It was asked for a stop of the service.
    StopAsked {
        /// Whether what is left shall be cut at once.
        hurry: bool,
    },
    /// How far its drain is.
    Progress(Progress),
    /// Its drain is over.
    Drained(LastReport),
    /// Its process has ended.
    Ended,
}

struct Held {
    generation: Generation,
    hurried: bool,
    link: Arc<OwnedFd>,
    process: Arc<OwnedFd>,
    /// Held so that it knows that somebody newer lives.
    life: Option<Arc<OwnedFd>>,
    watched: Option<Watched>,
    /// As it said last.
    progress: Option<Progress>,
}

struct Watched {
    sender: LinkSender,
    task: JoinHandle<()>,
}

/// All elders of this owner, oldest first.
pub(crate) struct Elders {
    held: Vec<Held>,
    tell: mpsc::Sender<(Generation, News)>,
    news: mpsc::Receiver<(Generation, News)>,
}

impl Elders {
    pub(crate) fn new() -> Self {
        let (tell, news) = mpsc::channel(64);
        Self { held: Vec::new(), tell, news }
    }

    pub(crate) fn generations(&self) -> Vec<Generation> {
        self.held.iter().map(|elder| elder.generation).collect()
    }

    /// What is known of them.
    pub(crate) fn views(&self) -> Vec<GenerationView> {
        let view = |held: &Held| {
            let mut view = GenerationView::new(held.generation, Role::Elder);
            view.pid = pidfd::number(held.process.as_fd());
            view.hurried = held.hurried;
            if let Some(progress) = &held.progress {
                view.version = Some(progress.app_version.clone()).filter(|text| !text.is_empty());
                view.connections = Some(progress.active);
                view.by_listener.clone_from(&progress.by_listener);
                view.oldest = Some(Duration::from_millis(progress.oldest_ms));
            }
            view
        };
        self.held.iter().map(view).collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.held.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// For the offer to a successor.
    pub(crate) fn offer(&self) -> Vec<Elder> {
        let elder = |held: &Held| Elder {
            generation: held.generation,
            hurried: held.hurried,
            link: Arc::clone(&held.link),
            process: Arc::clone(&held.process),
            life: held.life.clone(),
        };
        self.held.iter().map(elder).collect()
    }

    /// Takes over elders that the predecessor held.
    pub(crate) fn inherit(&mut self, elders: Vec<Elder>) {
        for elder in elders {
            self.held.push(Held {
                generation: elder.generation,
                hurried: elder.hurried,
                link: elder.link,
                process: elder.process,
                life: elder.life,
                watched: None,
                progress: None,
            });
        }
        self.watch();
    }

    /// Adds the generation from which this one took over, whose link is already open.
    pub(crate) fn add(
        &mut self,
        generation: Generation,
        sender: LinkSender,
        receiver: LinkReceiver,
        process: Process,
        life: Option<Arc<OwnedFd>>,
    ) {
        let (link, pidfd) = (sender.socket(), process.pidfd());
        let task = crate::task::spawn(read(generation, receiver, process, self.tell.clone()));
        let watched = Some(Watched { sender, task });
        let (process, progress) = (pidfd, None);
        self.held.push(Held { generation, hurried: false, link, process, life, watched, progress });
    }

    /// Reads the links of all that are not watched yet, as an owner does.
    pub(crate) fn watch(&mut self) {
        for elder in &mut self.held {
            if elder.watched.is_some() {
                continue;
            }
            match open(elder) {
                Ok((sender, receiver, process)) => {
                    let tell = self.tell.clone();
                    let task = crate::task::spawn(read(elder.generation, receiver, process, tell));
                    elder.watched = Some(Watched { sender, task });
                }
                Err(error) => {
                    crate::log::error!(generation = %elder.generation, error = %chain(&error), "an elder cannot be watched");
                }
            }
        }
    }

    /// The tasks that read the links, to be stopped at once when a successor takes over.
    pub(crate) fn readers(&self) -> Vec<AbortHandle> {
        let watched = self.held.iter().filter_map(|elder| elder.watched.as_ref());
        watched.map(|watched| watched.task.abort_handle()).collect()
    }

    /// Stops reading: from now on a successor does. The descriptors stay open, so that none of the
    /// elders takes itself for the last one.
    pub(crate) fn unwatch(&mut self) {
        for elder in &mut self.held {
            elder.watched = None;
        }
    }

    /// Tells every elder.
    pub(crate) fn tell_all(&self, message: &Message) {
        for elder in &self.held {
            elder.tell(message.clone());
        }
    }

    /// Hurries the oldest ones until no more than `cap` are left to drain at their ease; returns
    /// whom. Who has been hurried is not hurried again, by this owner or the next.
    pub(crate) fn hurry_beyond(&mut self, cap: usize) -> Vec<Generation> {
        let many = self.held.len().saturating_sub(cap);
        let at_ease = self.held.iter_mut().take(many).filter(|elder| !elder.hurried);
        at_ease
            .map(|elder| {
                elder.tell(Message::Hurry);
                elder.hurried = true;
                elder.generation
            })
            .collect()
    }

    /// The next thing that becomes known of an elder. Cancel safe.
    pub(crate) async fn news(&mut self) -> (Generation, News) {
        match self.news.recv().await {
            Some((generation, News::Progress(progress))) => {
                let mut held = self.held.iter_mut();
                if let Some(held) = held.find(|held| held.generation == generation) {
                    held.progress = Some(progress.clone());
                }
                (generation, News::Progress(progress))
            }
            Some(news) => news,
            None => std::future::pending().await,
        }
    }

    /// What elders were asked for that nobody has heard of yet, for the next owner.
    pub(crate) fn asked_meanwhile(&mut self) -> Vec<Message> {
        let unheard = std::iter::from_fn(|| self.news.try_recv().ok());
        let passed_on = |(_, news)| match news {
            News::Asked(by) => Some(Message::Asked { by: by.asker() }),
            News::StopAsked { hurry } => Some(Message::StopAsked { hurry }),
            News::Progress(_) | News::Drained(_) | News::Ended => None,
        };
        unheard.filter_map(passed_on).collect()
    }

    /// It has ended: nothing of it is held any more.
    pub(crate) fn forget(&mut self, generation: Generation) {
        self.held.retain(|elder| elder.generation != generation);
    }
}

impl Held {
    fn tell(&self, message: Message) {
        let Some(watched) = &self.watched else { return };
        if let Err(error) = watched.sender.post(message) {
            crate::log::debug!(generation = %self.generation, error = %chain(&error), "not sent to an elder");
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn open(elder: &Held) -> Result<(LinkSender, LinkReceiver, Process)> {
    let copy = |fd: &OwnedFd, what: &str| {
        fd.try_clone().map_err(|error| {
            let text = format!("generation {}: its {what} cannot be duplicated", elder.generation);
            Error::new(ErrorKind::Io, text).with_source(error)
        })
    };
    let (sender, receiver) = link::open(copy(&elder.link, "link")?)?;
    let process = Process::from_pidfd(copy(&elder.process, "pidfd")?)?;
    Ok((sender, receiver, process))
}

/// Reads an elder's link to its end, then waits for the end of its process.
async fn read(
    generation: Generation,
    mut receiver: LinkReceiver,
    process: Process,
    tell: mpsc::Sender<(Generation, News)>,
) {
    let mut ended = false;
    loop {
        let envelope = tokio::select! {
            biased;
            envelope = receiver.recv() => envelope,
            () = process.ended(), if !ended => {
                // Its last words may still be in the link, which ends with it.
                ended = true;
                continue;
            }
        };
        let news = match envelope {
            Ok(Some(envelope)) => match envelope.message {
                Message::Asked { by } => News::Asked(by.into()),
                // Its last act as owner came after we had stopped waiting for it.
                Message::Owner(Owner { queued_upgrade: true, queued_by }) => {
                    News::Asked(queued_by.into())
                }
                Message::StopAsked { hurry } => News::StopAsked { hurry },
                Message::LastReport(report) => News::Drained(report),
                Message::Progress(progress) => News::Progress(progress),
                _ => continue,
            },
            Ok(None) | Err(_) => {
                process.ended().await;
                break;
            }
        };
        if tell.send((generation, news)).await.is_err() {
            return;
        }
    }
    // The owner may be gone as well.
    let _ = tell.send((generation, News::Ended)).await;
}
