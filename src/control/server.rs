//! The service's side: clients one by one, each in a task of its own.
//!
//! **Contract:** no client, however slow, silent or malicious, delays another one, the service or
//! an upgrade; and who may not give commands learns nothing but that.

use std::future::{Future, poll_fn};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, Interest};
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::access::{Access, Peer};
use super::frame::{self, ANSWER, NEWS, REQUEST};
use super::message::{Answer, Command, Last, News};
use super::request::Request;
use super::taker::{self, Taker};
use crate::error::{Error, ErrorKind, Result};
use crate::sys::socket::accept4;
use crate::sys::watch::Watched;
use crate::wire::text::fit;
use crate::wire::{FrameKind, agree};

/// So many clients are heard at once; the next one is told that it is one too many.
pub(super) const MAX_CLIENTS: usize = 256;
/// So many of them may stay for as long as they like, so that there is room for commands.
const MAX_STAYING: usize = 128;
/// So long the next one waits before it is told so.
const CROWDED: Duration = Duration::from_millis(20);
/// How long a client may take for its request.
pub(super) const FIRST_WORD: Duration = Duration::from_secs(5);
/// How long a client may take to read what it is told.
const UNREAD: Duration = Duration::from_secs(5);
/// So much may wait for a client that reads slowly.
const NEWS_WAITING: usize = 64;
/// The longest version of a client, in bytes.
const MAX_CLIENT: usize = 100;
/// The first and the longest wait after an accept that failed.
const WAITS: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(1)];

/// What comes of a command.
pub(crate) type Reply = Pin<Box<dyn Future<Output = Result<Answer>> + Send>>;

/// Who decides what a command does.
pub(crate) trait Desk: Send + Sync + 'static {
    /// The application's version, for clients of another protocol.
    fn version(&self) -> &str;

    /// Works on a command. The reply is dropped when the client goes away: that takes nothing
    /// back.
    fn answer(&self, command: Command, peer: Peer, teller: Teller) -> Reply;

    /// Somebody would be the successor of the service of this name.
    fn take_over(&self, service: String, taker: Taker) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// Tells one client what happens before the answer.
#[derive(Clone)]
pub(crate) struct Teller(mpsc::Sender<News>);

impl Teller {
    /// Waits for room if the client reads slowly; one that has gone is told nothing.
    pub(crate) async fn tell(&self, news: News) {
        let _ = self.0.send(news).await;
    }
}

/// The clients of one service.
#[derive(Clone)]
pub(crate) struct Clients {
    desk: Arc<dyn Desk>,
    access: Arc<Access>,
    places: Arc<Semaphore>,
    long_places: Arc<Semaphore>,
}

impl Clients {
    pub(crate) fn new(desk: Arc<dyn Desk>, access: Access) -> Self {
        let places = Arc::new(Semaphore::new(MAX_CLIENTS));
        let long_places = Arc::new(Semaphore::new(MAX_STAYING));
        Self { desk, access: Arc::new(access), places, long_places }
    }

    /// Until it is told to stop: whoever was accepted by then has its task.
    async fn accept(self, socket: Arc<OwnedFd>, mut stop: oneshot::Receiver<()>) {
        let socket = match Watched::new(socket, Interest::READABLE) {
            Ok(socket) => socket,
            Err(error) => {
                crate::log::error!(target: "heirloom::control", %error, "the control socket cannot be watched");
                return;
            }
        };
        let [mut wait, longest] = WAITS;
        loop {
            let accepted = tokio::select! {
                biased;
                _ = &mut stop => return,
                accepted = poll_fn(|cx| socket.poll_read(cx, |fd, _| accept4(fd.as_fd()))) => accepted,
            };
            match accepted.and_then(|(fd, _)| UnixStream::from_std(fd.into())) {
                Ok(stream) => {
                    [wait, _] = WAITS;
                    self.take(stream).await;
                }
                // Whatever it is, the next one may be fine.
                Err(error) => {
                    crate::log::warn!(target: "heirloom::control", %error, ?wait, "accept on the control socket");
                    if timeout(wait, &mut stop).await.is_ok() {
                        return;
                    }
                    wait = (wait * 2).min(longest);
                }
            }
        }
    }

    /// A crowd that has come while this process slept may have gone since: that is found out first.
    async fn take(&self, stream: UnixStream) {
        let place = Arc::clone(&self.places).acquire_owned();
        match timeout(CROWDED, place).await {
            Ok(Ok(place)) => {
                let clients = self.clone();
                crate::task::spawn(async move { clients.serve(stream, place).await });
            }
            _ => {
                let text = format!("{MAX_CLIENTS} clients are connected already");
                let crowded = Err(Error::new(ErrorKind::Crowded, text));
                frame::send_at_once(&stream, ANSWER, &Last::from(crowded));
            }
        }
    }

    /// Resolves when every client has been answered.
    async fn answered(&self) {
        let all = u32::try_from(MAX_CLIENTS).unwrap_or(u32::MAX);
        // The semaphore is never closed.
        let _ = self.places.acquire_many(all).await;
    }

    async fn serve(self, mut stream: UnixStream, place: OwnedSemaphorePermit) {
        let refused = match self.hear(&mut stream).await {
            Ok(Some((peer, command, _long_place))) => {
                match self.begin(stream, peer, command, place).await {
                    Ok(()) => return,
                    Err((back, error)) => {
                        stream = back;
                        error
                    }
                }
            }
            Ok(None) => return,
            Err(error) => error,
        };
        crate::log::warn!(target: "heirloom::control", error = %refused.chain(), "a client was refused");
        frame::send_at_once(&stream, ANSWER, &Last::from(Err(refused)));
    }

    /// What a client asks for, and the place that it needs if it stays.
    async fn hear(
        &self,
        stream: &mut UnixStream,
    ) -> Result<Option<(Peer, Command, Option<OwnedSemaphorePermit>)>> {
        let peer = self.access.check(stream)?;
        let command = timeout(FIRST_WORD, self.request(stream)).await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Timeout, format!("no request came within {FIRST_WORD:?}")))
        })?;
        let Some(command) = command else { return Ok(None) };
        let long_place = match command.stays() {
            true => Some(Arc::clone(&self.long_places).try_acquire_owned().map_err(|_| {
                let text = format!("{MAX_STAYING} clients watch already");
                Error::new(ErrorKind::Crowded, text)
            })?),
            false => None,
        };
        Ok(Some((peer, command, long_place)))
    }

    async fn begin(
        &self,
        stream: UnixStream,
        peer: Peer,
        command: Command,
        place: OwnedSemaphorePermit,
    ) -> std::result::Result<(), (UnixStream, Error)> {
        match command {
            Command::TakeOver { service, program } => {
                let process = match taker::process(stream.as_fd(), peer.pid) {
                    Ok(process) => process,
                    Err(error) => return Err((stream, error)),
                };
                let taker = Taker::new(stream, peer, process, program, place);
                crate::log::info!(target: "heirloom::control", %taker, "asks for the turn");
                self.desk.take_over(service, taker).await;
            }
            command => self.work(stream, peer, command).await,
        }
        Ok(())
    }

    async fn request(&self, stream: &mut UnixStream) -> Result<Option<Command>> {
        let (kind, payload) = match frame::receive(stream).await? {
            Some((REQUEST, payload)) => (REQUEST, payload),
            Some((kind, _)) => {
                let text = format!("control socket: {} is no request", FrameKind(kind));
                return Err(Error::new(ErrorKind::Protocol, text));
            }
            None => return Ok(None),
        };
        let request: Request = frame::parse(kind, &payload)?;
        let client = fit(&request.client, MAX_CLIENT);
        agree(self.desk.version(), request.protocol, &client)?;
        match request.command {
            Command::Unknown => {
                let text = "this service does not know that command: its release is older";
                Err(Error::new(ErrorKind::Protocol, text))
            }
            command => Ok(Some(command)),
        }
    }

    async fn work(&self, mut stream: UnixStream, peer: Peer, command: Command) {
        let (uid, pid) = (peer.uid, peer.pid);
        let name = command.changes().then(|| command.name());
        let (teller, mut news) = mpsc::channel(NEWS_WAITING);
        let mut reply = self.desk.answer(command, peer, Teller(teller));
        if let Some(command) = name {
            crate::log::info!(target: "heirloom::control", command, uid, pid, "command");
        }
        let (mut read, mut write) = stream.split();
        let answer = loop {
            let mut more = [0];
            tokio::select! {
                biased;
                Some(news) = news.recv() => {
                    if frame::send(&mut write, NEWS, &news, UNREAD).await.is_err() {
                        return;
                    }
                }
                answer = &mut reply => break answer,
                // It has gone, or says more than it may.
                _ = read.read(&mut more) => return,
            }
        };
        while let Ok(news) = news.try_recv() {
            if frame::send(&mut write, NEWS, &news, UNREAD).await.is_err() {
                return;
            }
        }
        // A client that has gone needs no answer.
        let _ = frame::send(&mut write, ANSWER, &Last::from(answer), UNREAD).await;
    }
}

/// Accepts clients while it lives and is not paused. Those that were accepted are served to their
/// end, whatever becomes of this.
pub(crate) struct Answering {
    clients: Clients,
    /// Tells the task to accept nobody any more when it is dropped: one that was cancelled would
    /// forget whom it has just accepted.
    stop: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<()>>,
}

impl Answering {
    pub(crate) fn new(clients: Clients) -> Self {
        Self { clients, stop: None, task: None }
    }

    /// Nobody is accepted any more, but for one who is just being accepted.
    pub(crate) fn pause(&mut self) {
        self.stop.take();
    }

    /// Nobody is accepted any more, and whoever was has been answered.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropped, it is only not waited for any more.
    pub(crate) async fn end(&mut self) {
        self.pause();
        if let Some(task) = self.task.take() {
            let _ = task.await;
        }
        self.clients.answered().await;
    }

    /// Accepts on this socket from now on. In a runtime only.
    pub(crate) fn resume(&mut self, socket: Arc<OwnedFd>) {
        let (stop, stopped) = oneshot::channel();
        self.stop = Some(stop);
        let before = self.task.take();
        let clients = self.clients.clone();
        self.task = Some(crate::task::spawn(async move {
            // epoll(7) has a socket once only: as long as it is not over, ours would be refused.
            if let Some(before) = before {
                let _ = before.await;
            }
            clients.accept(socket, stopped).await;
        }));
    }
}
