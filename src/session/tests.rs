//! Both ends of a channel in one process. A child stands for the owner's process, so that the owner
//! can be seen to die.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::session::About;
use super::*;
use crate::drain::{Drain, DrainSettings};
use crate::link::{self, LinkReceiver, LinkSender};
use crate::name::Name;
use crate::spawn::Process;
use crate::sys::pidfd;
use crate::wire::{self, DeclinedItem, Message, SessionRecord, SessionsAnswered};

mod doubt;
mod passing;

const PATIENCE: Duration = Duration::from_secs(30);

async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// A generation.
struct Side {
    sessions: Sessions,
    drain: Drain,
}

impl Side {
    fn new() -> Self {
        Self::with(PATIENCE)
    }

    fn with(deadline: Duration) -> Self {
        let drain = Drain::new();
        let settings = Settings { deadline, farewell: Duration::ZERO };
        Self { sessions: Sessions::new(drain.clone(), settings), drain }
    }

    /// A session over a socket pair, and its client's end.
    fn session(&self, kind: &str) -> (Session, StdStream) {
        let (ours, client) = StdStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let guard = self.drain.guards(&name("main")).guard(Some("192.0.2.1:5000".parse().unwrap()));
        guard.set_name("room 7");
        let stream = UnixStream::from_std(ours).unwrap();
        (Session::new(kind, 1, stream, guard).unwrap(), client)
    }

    /// Every session that comes.
    fn takes(&self, kind: &str) -> mpsc::UnboundedReceiver<Session> {
        let (tell, heard) = mpsc::unbounded_channel();
        let serve = handler(move |session| {
            let told = tell.send(session);
            async move { told.is_ok() }
        });
        let _ = self.sessions.register(name(kind), None, 1..=2, serve);
        heard
    }
}

/// A process that stands for the owner's.
struct Owner(std::process::Child);

impl Owner {
    fn new() -> Self {
        Self(std::process::Command::new("sleep").arg("600").spawn().unwrap())
    }

    fn process(&self) -> Process {
        Process::from_pidfd(pidfd::open(self.0.id().cast_signed()).unwrap()).unwrap()
    }

    fn dies(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // It may be dead.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn channel() -> (OwnedFd, OwnedFd) {
    let (ours, theirs) = StdStream::pair().unwrap();
    (ours.into(), theirs.into())
}

/// An elder and an owner that takes its sessions.
fn connected() -> (Side, Side, Owner) {
    let (elder, owner, process) = (Side::new(), Side::new(), Owner::new());
    let (ours, theirs) = channel();
    elder.sessions.send_to(ours, process.process());
    owner.sessions.receive_from(theirs);
    (elder, owner, process)
}

fn declined(result: Result<(), NotMoved>) -> (Session, String) {
    match result {
        Err(NotMoved::Declined { session, reason }) => (*session, reason),
        other => panic!("{other:?}"),
    }
}

/// The client and the session still hear each other.
async fn talks(session: &mut Session, client: &mut StdStream) {
    client.write_all(b"more").unwrap();
    let mut heard = [0; 4];
    soon(session.read_exact(&mut heard)).await.unwrap();
    assert_eq!(&heard, b"more");
    session.write_all(b"good").await.unwrap();
    client.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"good");
}

#[tokio::test]
async fn a_session_goes_on_with_everything_it_had() {
    let (elder, owner, _process) = connected();
    let mut came = owner.takes("chat");
    let (mut session, mut client) = elder.session("chat");
    session.set_state(b"a name\0and more".to_vec());
    session.unread(b"behind");
    session.unread(b"read ");
    assert_eq!(session.read_ahead(), b"read behind");
    soon(elder.sessions.hand_off(session)).await.unwrap();
    assert_eq!((elder.drain.active(), elder.drain.accepted()), (0, 1));

    let mut session = soon(came.recv()).await.unwrap();
    assert_eq!((session.kind().as_str(), session.version()), ("chat", 1));
    assert_eq!(session.listener(), &name("main"));
    assert_eq!(session.peer(), Some("192.0.2.1:5000"));
    assert_eq!(session.guard().name().as_deref(), Some("room 7"));
    assert_eq!(session.state(), b"a name\0and more");
    assert_eq!((owner.drain.active(), owner.drain.accepted()), (1, 0));
    let mut read = [0; 11];
    session.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"read behind");
    talks(&mut session, &mut client).await;
    drop(session);
    assert_eq!(owner.drain.active(), 0);
    assert_eq!(client.read(&mut [0]).unwrap(), 0, "nobody else has it open");
}

#[tokio::test]
async fn a_tcp_session_moves_again_and_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, peer) = listener.accept().await.unwrap();
    let mut elder = Side::new();
    let guard = elder.drain.guards(&name("main")).guard(Some(peer));
    let mut session = Session::new("count", 2, stream, guard).unwrap();
    for round in 0..5_u8 {
        let (owner, process) = (Side::new(), Owner::new());
        let (ours, theirs) = channel();
        elder.sessions.send_to(ours, process.process());
        owner.sessions.receive_from(theirs);
        let mut came = owner.takes("count");
        // It is on its way while nobody reads.
        client.write_all(&[round]).await.unwrap();
        session.set_state([round]);
        soon(elder.sessions.hand_off(session)).await.unwrap();
        session = soon(came.recv()).await.unwrap();
        assert!(matches!(session.stream, SessionStream::Tcp(_)));
        assert_eq!(session.state(), [round]);
        assert_eq!(session.peer(), Some(peer.to_string().as_str()));
        assert_eq!(session.read_u8().await.unwrap(), round);
        elder = owner;
    }
}

#[tokio::test]
async fn what_moved_is_neither_drained_nor_cut() {
    let (elder, owner, _process) = connected();
    let mut came = owner.takes("chat");
    let (moves, _client) = elder.session("chat");
    let (ends, _other) = elder.session("chat");
    // As an accept loop does, to cut it at the end.
    let watching = moves.guard().clone();
    let settings = DrainSettings::default();
    let hurry = tokio::sync::Notify::new();
    let drain = elder.drain.run(&settings, &hurry);
    let end = async {
        elder.sessions.hand_off(moves).await.unwrap();
        drop((ends, watching));
    };
    let (report, ()) = soon(async { tokio::join!(drain, end) }).await;
    assert_eq!((report.drained, report.moved, report.cut_count), (1, 1, 0));

    // And what came is the owner's to drain.
    let session = soon(came.recv()).await.unwrap();
    let drain = owner.drain.run(&settings, &hurry);
    let (report, ()) = soon(async { tokio::join!(drain, async { drop(session) }) }).await;
    assert_eq!((report.drained, report.moved), (1, 0));
    assert_eq!(owner.drain.progress().accepted, 0);
}

#[tokio::test]
async fn a_kind_that_nobody_takes_stays_and_is_not_offered_again() {
    let (elder, owner, _process) = connected();
    let _came = owner.takes("chat");
    let (mut session, mut client) = elder.session("game");
    session.set_state(*b"kept");
    session.unread(b"kept too");
    let (mut session, reason) = declined(soon(elder.sessions.hand_off(session)).await);
    assert_eq!(reason, "the successor takes no \"game\" of listener \"main\"");
    assert_eq!((session.state(), session.read_ahead()), (&b"kept"[..], &b"kept too"[..]));
    session.read_exact(&mut [0; 8]).await.unwrap();
    talks(&mut session, &mut client).await;
    let (_, reason) = declined(elder.sessions.hand_off(session).await);
    assert_eq!(reason, "the successor has declined others like it");
    assert!(elder.sessions.can_move());

    let (session, _client) = elder.session("chat");
    let about = About { version: 3, ..session.about };
    let session = Session { stream: session.stream, about };
    let (_, reason) = declined(soon(elder.sessions.hand_off(session)).await);
    assert_eq!(reason, "the successor takes \"chat\", but not in version 3");
    let (session, _client) = elder.session("chat");
    soon(elder.sessions.hand_off(session)).await.unwrap();
}

#[tokio::test]
async fn a_handler_may_come_late_and_one_for_the_listener_comes_first() {
    let (elder, owner, _process) = connected();
    let (early, _client) = elder.session("chat");
    let sessions = elder.sessions.clone();
    let early = tokio::spawn(async move { sessions.hand_off(early).await });
    while owner.drain.active() > 0 || elder.drain.active() != 1 {
        tokio::task::yield_now().await;
    }
    let mut for_all = owner.takes("chat");
    soon(early).await.unwrap().unwrap();
    drop(soon(for_all.recv()).await.unwrap());

    let (tell, mut for_main) = mpsc::unbounded_channel();
    let serve = handler(move |session| {
        let told = tell.send(session);
        async move { told.is_ok() }
    });
    let _ = owner.sessions.register(name("chat"), Some(name("main")), 1..=1, serve);
    let (session, _client) = elder.session("chat");
    soon(elder.sessions.hand_off(session)).await.unwrap();
    drop(soon(for_main.recv()).await.unwrap());
    assert!(for_all.try_recv().is_err());
}

/// Longer after the commit than anybody waits.
#[tokio::test]
async fn a_handler_that_comes_when_its_kind_was_declined_gets_the_next_ones() {
    let (elder, owner, _process) = connected();
    let _others = owner.takes("chat");
    let (session, _client) = elder.session("game");
    let (mut session, _) = declined(soon(elder.sessions.hand_off(session)).await);
    let mut came = owner.takes("game");
    let again = async {
        loop {
            match elder.sessions.hand_off(session).await {
                Ok(()) => break,
                // It has not heard of it.
                Err(NotMoved::Declined { session: back, .. }) => session = *back,
                Err(lost) => panic!("{lost}"),
            }
            tokio::task::yield_now().await;
        }
    };
    soon(again).await;
    drop(soon(came.recv()).await.unwrap());
}

#[cfg(feature = "http")]
#[tokio::test]
async fn what_is_left_where_it_is_is_declined_and_comes_when_nobody_says_so_any_more() {
    let (elder, owner, _process) = connected();
    let mut came = owner.takes("chat");
    let stays = owner.sessions.leave(name("chat"), name("main"));
    let (session, _client) = elder.session("chat");
    let (session, reason) = declined(soon(elder.sessions.hand_off(session)).await);
    assert_eq!(reason, "the successor leaves \"chat\" of listener \"main\" where they are");
    owner.sessions.unregister(stays);
    // Another one is added, and the elder is told that there is something new.
    let taken_away = owner.sessions.register(name("game"), None, 1..=1, handler(async |_| ()));
    let mut session = Some(session);
    let again = async {
        while let Some(back) = session.take() {
            if let Err(not_moved) = elder.sessions.hand_off(back).await {
                session = Some(declined(Err(not_moved)).0);
            }
            tokio::task::yield_now().await;
        }
    };
    soon(again).await;
    drop(soon(came.recv()).await.unwrap());

    owner.sessions.unregister(taken_away);
    let (session, _client) = elder.session("game");
    let (_, reason) = declined(soon(elder.sessions.hand_off(session)).await);
    assert_eq!(reason, "the successor takes no \"game\" of listener \"main\"");
}

#[tokio::test]
async fn a_handler_that_panics_at_once_ends_its_session_alone() {
    let (elder, owner, _process) = connected();
    let serve = handler(|session| {
        assert!(session.state().is_empty(), "on purpose");
        async move { drop(session) }
    });
    let _ = owner.sessions.register(name("brittle"), None, 1..=1, serve);
    let mut came = owner.takes("chat");
    let (mut brittle, _first) = elder.session("brittle");
    brittle.set_state([1]);
    soon(elder.sessions.hand_off(brittle)).await.unwrap();
    let (session, _second) = elder.session("chat");
    soon(elder.sessions.hand_off(session)).await.unwrap();
    drop(soon(came.recv()).await.unwrap());
}

#[tokio::test]
async fn an_owner_that_stops_taking_leaves_everything_where_it_is() {
    let (elder, owner, _process) = connected();
    let mut came = owner.takes("chat");
    let (session, _first) = elder.session("chat");
    soon(elder.sessions.hand_off(session)).await.unwrap();
    let (waits, mut client) = elder.session("nobody takes it");
    let waiting = elder.sessions.hand_off(waits);
    let stopping = async {
        // The one that waits for a handler stays as well.
        tokio::task::yield_now().await;
        owner.sessions.stop_receiving();
    };
    let (result, ()) = soon(async { tokio::join!(waiting, stopping) }).await;
    let (mut session, reason) = declined(result);
    assert_eq!(reason, "the successor takes no more sessions");
    talks(&mut session, &mut client).await;
    assert!(!elder.sessions.can_move());
    drop(declined(elder.sessions.hand_off(session).await));
    let _first = soon(came.recv()).await.unwrap();
    let (session, _client) = elder.session("chat");
    let (_, reason) = declined(Side::new().sessions.hand_off(session).await);
    assert_eq!(reason, "there is no successor to take it");
}

#[tokio::test]
async fn states_of_any_length_travel_up_to_the_limit() {
    let (elder, owner, _process) = connected();
    let mut came = owner.takes("chat");
    let lengths = [0, 1, 5 << 20, 3, (16 << 20) - 1, 70_000, 4 << 20];
    let mut clients = Vec::new();
    let mut moves = JoinSet::new();
    for length in lengths {
        let (mut session, client) = elder.session("chat");
        session.set_state(vec![length as u8; length]);
        session.unread(&[1]);
        clients.push(client);
        let sessions = elder.sessions.clone();
        moves.spawn(async move { sessions.hand_off(session).await });
    }
    let mut seen = Vec::new();
    for _ in lengths {
        let session = soon(came.recv()).await.unwrap();
        let length = session.state().len();
        assert!(session.state().iter().all(|byte| *byte == length as u8));
        assert_eq!(session.read_ahead(), [1]);
        seen.push(length);
    }
    while let Some(moved) = soon(moves.join_next()).await {
        moved.unwrap().unwrap();
    }
    seen.sort_unstable();
    let mut lengths = lengths.to_vec();
    lengths.sort_unstable();
    assert_eq!(seen, lengths);
    let (mut session, _client) = elder.session("chat");
    session.set_state(vec![0; 16 << 20]);
    session.unread(&[1]);
    let (_, reason) = declined(elder.sessions.hand_off(session).await);
    assert!(reason.contains("16777216 bytes"), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_sessions_move_each_with_its_own_state() {
    const ALL: usize = 10_000;
    let (elder, owner, _process) = connected();
    let (tell, mut heard) = mpsc::unbounded_channel();
    let serve = handler(move |mut session: Session| {
        let tell = tell.clone();
        async move {
            let state = session.state().to_vec();
            let mut line = vec![0; state.len()];
            session.read_exact(&mut line).await.unwrap();
            assert_eq!(line, state, "it is this client's");
            tell.send(state).unwrap();
        }
    });
    let _ = owner.sessions.register(name("chat"), None, 1..=1, serve);
    let mut moves = JoinSet::new();
    let limit = Arc::new(tokio::sync::Semaphore::new(150));
    for number in 0..ALL {
        let permit = Arc::clone(&limit).acquire_owned().await.unwrap();
        let (mut session, mut client) = elder.session("chat");
        let line = format!("line {number}").into_bytes();
        // Half of what the client says is here already, half comes later.
        let (early, late) = line.split_at(number % line.len());
        session.unread(early);
        session.set_state(line.clone());
        client.write_all(late).unwrap();
        let sessions = elder.sessions.clone();
        moves.spawn(async move {
            sessions.hand_off(session).await.unwrap();
            drop((client, permit));
        });
    }
    while let Some(moved) = soon(moves.join_next()).await {
        moved.unwrap();
    }
    let mut all = Vec::new();
    while all.len() < ALL {
        all.push(soon(heard.recv()).await.unwrap());
    }
    all.sort();
    all.dedup();
    assert_eq!(all.len(), ALL, "each of them once");
    soon(owner.drain.empty()).await;
    assert_eq!((elder.drain.active(), owner.drain.accepted()), (0, 0));
}
