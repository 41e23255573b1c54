//! Asking for the turn: this process was started by somebody else, and would take over from
//! whoever answers at the control socket.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout_at};

use super::exchange::{AGAIN, Told, told};
use crate::control::access::Access;
use crate::control::frame::{self, REQUEST};
use crate::control::message::Command;
use crate::control::request::Request;
use crate::error::{Error, ErrorKind, Result};
use crate::generation::Generation;
use crate::wire::{Identity, SPOKEN};

/// What is said and compared when the turn is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Asking {
    pub service: String,
    pub version: String,
    /// What this process runs, if that could be found out.
    pub program: Option<Identity>,
    /// Whose sockets may be taken over.
    pub access: Access,
}

/// Whether anybody is at this control socket.
///
/// # Errors
///
/// [`ErrorKind::Credentials`] or [`ErrorKind::Io`] if that cannot be found out;
/// [`ErrorKind::Timeout`] if it is not known at the deadline, because the backlog is full.
///
/// # Cancel safety
///
/// Cancel safe.
pub(crate) async fn is_answered(path: &Path, deadline: Instant) -> Result<bool> {
    let begun = Instant::now();
    match timeout_at(deadline, connect(path)).await {
        Ok(connected) => Ok(connected?.is_some()),
        Err(_) => Err(too_late(path, begun.elapsed(), false)),
    }
}

/// Asks for the turn at this control socket until `deadline`, and waits for an upgrade that runs.
/// Returns the connection, which is a link from then on; none if nobody is there.
///
/// # Errors
///
/// [`ErrorKind::Busy`] or [`ErrorKind::Timeout`] if the turn did not come in time, whatever the
/// service refuses it for, [`ErrorKind::Credentials`] and [`ErrorKind::Protocol`] if who answers is
/// not to be believed. Somebody may be there in each of these cases.
///
/// # Cancel safety
///
/// Cancel safe: the connection is closed, and the wish with it.
pub(crate) async fn ask_for_turn(
    path: &Path,
    asking: &Asking,
    deadline: Instant,
) -> Result<Option<OwnedFd>> {
    let begun = Instant::now();
    let mut waits = false;
    let asked = async {
        loop {
            let Some(stream) = connect(path).await? else { return Ok(None) };
            match one(stream, asking, &mut waits).await {
                Ok(stream) => return Ok(Some(stream)),
                // It ended, another generation owns by now, or too many clients are connected.
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::PassedOn | ErrorKind::Link | ErrorKind::Crowded
                    ) =>
                {
                    crate::log::debug!(target: "heirloom::control", error = %error.chain(), "asks for the turn again");
                    sleep(AGAIN).await;
                }
                Err(error) => return Err(error),
            }
        }
    };
    match timeout_at(deadline, asked).await {
        Ok(asked) => asked,
        Err(_) => Err(too_late(path, begun.elapsed(), waits)),
    }
}

/// Of [`News`](crate::control::News) what concerns who asks for the turn. A service asks for its
/// turn, and shall not carry what reads the rest.
#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Heard {
    news: String,
    owner: Option<Generation>,
}

impl Heard {
    /// Who owns, if what was said is that the turn is another's.
    fn queued(&self) -> Option<Generation> {
        self.owner.filter(|_| self.news == "queued")
    }
}

/// The same of an [`Answer`](crate::control::message::Answer).
#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Answered {
    answer: String,
}

impl Answered {
    fn is_the_turn(&self) -> bool {
        self.answer == "turn"
    }
}

fn too_late(path: &Path, length: Duration, waits: bool) -> Error {
    let (kind, why) = match waits {
        true => (ErrorKind::Busy, "another upgrade is still running"),
        false => (ErrorKind::Timeout, "somebody is there, and does not answer"),
    };
    let text = format!("takeover at {}: no turn within {length:.1?}: {why}", path.display());
    Error::new(kind, text)
}

/// A connection; none if nobody is there.
async fn connect(path: &Path) -> Result<Option<UnixStream>> {
    loop {
        let error = match UnixStream::connect(path).await {
            Ok(stream) => return Ok(Some(stream)),
            Err(error) => error,
        };
        let kind = match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => return Ok(None),
            // A full backlog of a Unix socket does not make its clients wait, and whoever waits in one
            // is told so when its owner ends: somebody else may have the path by now.
            io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionReset => {
                sleep(AGAIN).await;
                continue;
            }
            io::ErrorKind::PermissionDenied => ErrorKind::Credentials,
            _ => ErrorKind::Io,
        };
        let text = format!("takeover at {}: connect", path.display());
        return Err(Error::new(kind, text).with_source(error));
    }
}

/// One question; the connection if the answer is yes.
async fn one(mut stream: UnixStream, asking: &Asking, waits: &mut bool) -> Result<OwnedFd> {
    // Of a listener it is whoever listened first.
    asking.access.check(&stream).map_err(|error| {
        let text = "takeover: the owner of the control socket is not to be believed";
        Error::new(ErrorKind::Credentials, text).with_source(error)
    })?;
    let Asking { service, version, program, .. } = asking.clone();
    let command = Command::TakeOver { service, program };
    let request = Request { protocol: SPOKEN, client: version, command };
    // A service that refuses before it has read has its answer there.
    let sent = frame::send(&mut stream, REQUEST, &request, Duration::MAX).await;
    loop {
        match told::<Heard, Answered>(&mut stream).await? {
            Some(Told::News(heard)) => {
                if let Some(owner) = heard.queued() {
                    *waits = true;
                    crate::log::info!(target: "heirloom::control", %owner, "waits for the turn: another upgrade runs");
                }
            }
            Some(Told::Last(last)) => {
                if Result::<Answered>::from(last)?.is_the_turn() {
                    break;
                }
                let text = "takeover: an answer to something else";
                return Err(Error::new(ErrorKind::Protocol, text));
            }
            None => {
                sent?;
                let text = "takeover: whoever was asked ended before it had answered";
                return Err(Error::new(ErrorKind::Link, text));
            }
        }
    }
    let socket = stream.into_std().map_err(|error| {
        let text = "takeover: the connection cannot become a link";
        Error::new(ErrorKind::Io, text).with_source(error)
    })?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use socket2::{Domain, SockAddr, Socket, Type};

    use super::*;
    use crate::control::message::{Answer, Last, News, Started};

    fn read<T: serde::de::DeserializeOwned>(said: &impl serde::Serialize) -> T {
        serde_json::from_slice(&serde_json::to_vec(said).unwrap()).unwrap()
    }

    #[test]
    fn who_asks_for_the_turn_understands_what_concerns_it_and_lets_the_rest_be() {
        let (owner, to) = (Generation::FIRST, Generation::FIRST.next());
        assert_eq!(read::<Heard>(&News::Queued { owner }).queued(), Some(owner));
        assert_eq!(read::<Heard>(&News::Started { from: owner, to }).queued(), None);
        let reason = "loads".to_owned();
        assert_eq!(read::<Heard>(&News::NotYet { reason }).queued(), None);
        let said = |answer| Result::<Answered>::from(read::<Last<Answered>>(&Last::from(answer)));
        assert!(said(Ok(Answer::Turn)).unwrap().is_the_turn());
        for other in [
            Answer::Done,
            Answer::Upgrade { started: Started::Begun },
            Answer::Text { text: "a".to_owned() },
        ] {
            assert!(!said(Ok(other)).unwrap().is_the_turn());
        }
        let error = said(Err(Error::new(ErrorKind::Busy, "not now"))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy);
        assert!(error.chain().to_string().contains("not now"), "{}", error.chain());
    }

    #[tokio::test]
    async fn p4_a_service_that_accepts_nobody_is_not_waited_for_beyond_the_deadline() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        let soon = || Instant::now() + Duration::from_millis(100);
        assert!(!is_answered(&path, soon()).await.unwrap());
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        listener.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        listener.listen(0).unwrap();
        let mut queued = Vec::new();
        let error = loop {
            match is_answered(&path, soon()).await {
                Ok(answered) => assert!(answered),
                Err(error) => break error,
            }
            queued.push(UnixStream::connect(&path).await);
            assert!(queued.len() < 10, "its backlog is never full");
        };
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    }

    /// Of a connection in a backlog whose socket is closed the kernel says that it was reset.
    #[tokio::test]
    async fn who_waited_for_somebody_that_has_just_ended_finds_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let mut connecting = std::pin::pin!(connect(&path));
        let waits =
            std::future::poll_fn(|cx| Poll::Ready(connecting.as_mut().poll(cx).is_pending()));
        assert!(waits.await);
        drop(listener);
        assert!(connecting.await.unwrap().is_none());
    }
}
