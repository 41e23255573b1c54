//! Idle connections that go to the successor over the channel of a handoff.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;

use super::app::soon;
use super::client::Client;
use super::generation::{Generation, ms, server, settings};
use crate::drain::DrainOutcome;
use crate::http::mover::{Mover, Plaintext};
use crate::http::moving::{self, ToSuccessor};
use crate::link;
use crate::session::{Sessions, Settings};
use crate::spawn::Process;
use crate::sys::pidfd;
use crate::wire::Message;

fn sessions(generation: &Generation) -> Sessions {
    sessions_within(generation, Duration::from_secs(20))
}

fn sessions_within(generation: &Generation, deadline: Duration) -> Sessions {
    let settings = Settings { deadline, farewell: Duration::ZERO };
    Sessions::new(generation.drain.clone(), settings)
}

/// The first generation, whose connections move, and clients that have been answered.
async fn first(count: usize) -> (Generation, Sessions, Vec<Client>) {
    first_within(count, Duration::from_secs(20)).await
}

async fn first_within(count: usize, deadline: Duration) -> (Generation, Sessions, Vec<Client>) {
    let first = Generation::bound();
    let leaves = sessions_within(&first, deadline);
    let mover = ToSuccessor::new(&leaves, TcpStream::KIND, &"http".parse().unwrap()).unwrap();
    first.serve(server(&first.app), ms(100), Some(Arc::new(mover) as Arc<dyn Mover>));
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut client = Client::connect(first.address).await.unwrap();
        assert_eq!(soon(client.get("/")).await.unwrap().generation(), 0);
        clients.push(client);
    }
    (first, leaves, clients)
}

fn connect(leaves: &Sessions, comes: &Sessions) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let own = pidfd::open(std::process::id().cast_signed()).unwrap();
    leaves.send_to(ours.into(), Process::from_pidfd(own).unwrap());
    comes.receive_from(theirs.into());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_go_on_in_the_next_generation() {
    let (first, leaves, mut clients) = first(50).await;
    let next = first.hand_over().await;
    let comes = sessions(&next);
    let site = next.serve_and_land(server(&next.app), ms(100), None);
    let _serves = moving::land(&comes, TcpStream::KIND, &"http".parse().unwrap(), site);
    connect(&leaves, &comes);
    let drain = first.drain(settings());
    for client in &mut clients {
        // One that asks before it has moved is answered here, and moves then.
        while soon(client.get("/")).await.unwrap().generation() == 0 {}
    }
    let report = soon(drain).await.unwrap();
    assert_eq!((report.moved, report.drained, report.cut_count), (50, 0, 0));
    assert_eq!((next.drain.active(), next.drain.accepted()), (50, 0));
    for client in &mut clients {
        let answer = soon(client.get("/")).await.unwrap();
        assert!(!answer.says_close());
        assert_eq!(answer.generation(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_the_next_generation_does_not_serve_are_drained() {
    let (first, leaves, mut clients) = first(5).await;
    let next = first.hand_over().await;
    let comes = sessions(&next);
    connect(&leaves, &comes);
    let drain = first.drain(settings());
    for client in &mut clients {
        let answer = soon(client.get("/")).await;
        assert!(answer.is_ok_and(|answer| answer.generation() == 0), "no request is lost");
    }
    drop(clients);
    let report = soon(drain).await.unwrap();
    assert_eq!((report.moved, report.drained), (0, 5));
}

/// The successor has said that it takes connections, and then stands still.
#[tokio::test]
async fn a_connection_that_is_lost_on_its_way_is_cut_and_named() {
    let (first, leaves, mut clients) = first_within(1, ms(300)).await;
    let (ours, theirs) = UnixStream::pair().unwrap();
    let own = pidfd::open(std::process::id().cast_signed()).unwrap();
    leaves.send_to(ours.into(), Process::from_pidfd(own).unwrap());
    let (says, _hears) = link::open(theirs.into()).unwrap();
    says.send(Message::SessionsOpen, Vec::new()).await.unwrap();
    let report = soon(first.drain(settings())).await.unwrap();
    assert_eq!((report.drained, report.moved, report.cut_count), (0, 0, 1), "{report:?}");
    assert_eq!((report.outcome, report.left), (DrainOutcome::Cut, 0));
    let why = "lost on its way to the successor: the successor did not answer in time";
    assert_eq!(report.cut[0].reason.as_deref(), Some(why));
    drop((says, _hears));
    assert!(soon(clients[0].closed()).await.is_ok());
}
