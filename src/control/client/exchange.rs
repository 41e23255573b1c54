//! One connection, one request, and what comes back.

use std::io;
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout_at};

use super::Client;
use crate::control::frame::{self, ANSWER, NEWS, REQUEST};
use crate::control::message::{Answer, Command, Last, News};
use crate::control::request::Request;
use crate::error::{Error, ErrorKind, Result};
use crate::wire::SPOKEN;

/// A backlog that is full, or an owner that is just changing, is tried again after this.
pub(super) const AGAIN: Duration = Duration::from_millis(20);
/// So long a command is sent again because another generation owned in the meantime, which may not
/// have come to answering yet.
const CHANGING: Duration = Duration::from_secs(10);

impl Client {
    /// One command, sent again if the owner has changed meanwhile.
    pub(super) async fn within(
        &self,
        length: Duration,
        command: Command,
        mut news: impl FnMut(&News),
    ) -> Result<Answer> {
        let deadline = Instant::now() + length;
        let mut changing = None;
        loop {
            let begun = Instant::now();
            match self.exchange(command.clone(), deadline, &mut news).await {
                Err(error) if error.kind() == ErrorKind::PassedOn => {
                    // Who was at work for a while had an owner until then.
                    let since = changing.filter(|_| begun.elapsed() < CHANGING).unwrap_or(begun);
                    if since.elapsed() >= CHANGING {
                        return Err(error);
                    }
                    changing = Some(since);
                    pause(deadline, length).await?;
                }
                result => return result,
            }
        }
    }

    /// One command, sent again while the service has no place for another client.
    pub(super) async fn exchange(
        &self,
        command: Command,
        deadline: Instant,
        mut news: impl FnMut(&News),
    ) -> Result<Answer> {
        let begun = Instant::now();
        loop {
            let talk = self.talk(command.clone(), deadline, &mut news);
            let told =
                timeout_at(deadline, talk).await.unwrap_or_else(|_| Err(late(begun.elapsed())));
            match told {
                Err(error)
                    if error.kind() == ErrorKind::Crowded && Instant::now() + AGAIN < deadline =>
                {
                    sleep(AGAIN).await;
                }
                told => return told,
            }
        }
    }

    async fn talk(
        &self,
        command: Command,
        deadline: Instant,
        mut news: impl FnMut(&News),
    ) -> Result<Answer> {
        let mut stream = self.send(command, deadline).await?;
        loop {
            match told::<News, Answer>(&mut stream).await? {
                Some(Told::News(item)) => news(&item),
                Some(Told::Last(last)) => return last.into(),
                None => {
                    let text = "the service went away before it had answered";
                    return Err(Error::new(ErrorKind::Link, text));
                }
            }
        }
    }

    pub(super) async fn send(&self, command: Command, deadline: Instant) -> Result<UnixStream> {
        let mut stream = self.connect(deadline).await?;
        let client = env!("CARGO_PKG_VERSION").to_owned();
        let request = Request { protocol: SPOKEN, client, command };
        let left = deadline.saturating_duration_since(Instant::now());
        match frame::send(&mut stream, REQUEST, &request, left).await {
            // The service may have refused before it had read: its answer is there then.
            Err(error) if error.kind() == ErrorKind::Link => {
                match told::<News, Answer>(&mut stream).await {
                    Ok(Some(Told::Last(Last::Error { kind, text }))) => {
                        Err(Result::<Answer>::from(Last::Error { kind, text })
                            .err()
                            .unwrap_or(error))
                    }
                    _ => Err(error),
                }
            }
            sent => sent.map(|()| stream),
        }
    }

    async fn connect(&self, deadline: Instant) -> Result<UnixStream> {
        let begun = Instant::now();
        let wrong = |kind, why: &str, error: io::Error| {
            let text = format!("control socket {}: {why}", self.path.display());
            Err(Error::new(kind, text).with_source(error))
        };
        loop {
            let connecting = timeout_at(deadline, UnixStream::connect(&self.path));
            let Ok(connected) = connecting.await else { return Err(late(begun.elapsed())) };
            return match connected {
                Ok(stream) => Ok(stream),
                Err(error) => match error.kind() {
                    // A full backlog of a Unix socket does not make its clients wait, and whoever
                    // waits in one is told so when its owner ends.
                    io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionReset => {
                        pause(deadline, begun.elapsed()).await?;
                        continue;
                    }
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                        wrong(ErrorKind::NobodyThere, "nobody is there", error)
                    }
                    io::ErrorKind::InvalidInput => {
                        wrong(ErrorKind::Config, "a socket's path has at most 107 bytes", error)
                    }
                    io::ErrorKind::PermissionDenied => {
                        wrong(ErrorKind::Credentials, "this user may not connect", error)
                    }
                    _ => wrong(ErrorKind::NobodyThere, "connect", error),
                },
            };
        }
    }
}

pub(super) enum Told<N = News, A = Answer> {
    News(N),
    Last(Last<A>),
}

/// The next frame that means something here. `None`: the service has closed.
pub(super) async fn told<N: DeserializeOwned, A: DeserializeOwned>(
    stream: &mut UnixStream,
) -> Result<Option<Told<N, A>>> {
    loop {
        match frame::receive(stream).await? {
            Some((NEWS, payload)) => {
                // News of a later version, about something that this one does not know.
                if let Ok(news) = frame::parse(NEWS, &payload) {
                    return Ok(Some(Told::News(news)));
                }
            }
            Some((ANSWER, payload)) => {
                return Ok(Some(Told::Last(frame::parse(ANSWER, &payload)?)));
            }
            Some(_) => {}
            None => return Ok(None),
        }
    }
}

pub(super) async fn pause(deadline: Instant, length: Duration) -> Result<()> {
    if Instant::now() + AGAIN >= deadline {
        return Err(late(length));
    }
    sleep(AGAIN).await;
    Ok(())
}

fn late(length: Duration) -> Error {
    Error::new(ErrorKind::Timeout, format!("no answer within {length:.1?}"))
}
