//! Clients that close their side behind what they ask, and clients that have gone.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::app::soon;
use super::client::{Client, get, post};
use super::generation::{Generation, ms, server, settings};
use super::moves::Direct;
use super::tls::{localhost, secure};
use crate::drain::Drain;
use crate::http::io::Io;
use crate::http::ledger::Ledger;

/// Asks, and closes its side before the application has an answer.
async fn asks_and_closes(client: &mut Client, request: impl AsRef<[u8]>) {
    client.send(request).await.unwrap();
    client.stream.shutdown().await.unwrap();
}

/// One connection that was answered here and has moved to a next generation, which gives a client
/// that closed its side so much time.
async fn moved(time: Duration) -> (Generation, Client) {
    let mover = Arc::new(Direct::default());
    let first = Generation::bound();
    first.serve(server(&first.app), ms(100), Some(Arc::clone(&mover) as _));
    let mut client = Client::connect(first.address).await.unwrap();
    client.get("/").await.unwrap();
    let next = first.hand_over().await;
    let to = next.serve_and_land(server(&next.app).half_close_timeout(time), ms(100), None);
    assert!(mover.to.set((next.drain.clone(), to)).is_ok());
    soon(first.drain(settings())).await.unwrap();
    assert_eq!(mover.moved.load(Ordering::Relaxed), 1);
    (next, client)
}

/// One connection to a generation that gives a client that closed its side so much time.
async fn stayed(time: Duration) -> (Generation, Client) {
    let generation = Generation::bound();
    let server = server(&generation.app).half_close_timeout(time);
    generation.serve(server, settings().lame_duck, None);
    let client = Client::connect(generation.address).await.unwrap();
    (generation, client)
}

/// Both requests wait for the application when the client's end arrives.
async fn is_answered((generation, mut client): (Generation, Client)) {
    asks_and_closes(&mut client, get("/gate") + &get("/gate")).await;
    generation.asked(1).await;
    generation.app.gate.add_permits(2);
    for _ in 0..2 {
        assert_eq!(soon(client.answer()).await.unwrap().body, b"passed");
    }
    soon(client.closed()).await.unwrap();
    generation.has(0).await;
}

#[tokio::test]
async fn who_closes_its_side_behind_its_requests_is_answered() {
    is_answered(stayed(Duration::MAX).await).await;
}

#[tokio::test]
async fn who_closes_its_side_behind_its_requests_is_answered_after_a_move() {
    is_answered(moved(Duration::MAX).await).await;
}

#[tokio::test]
async fn who_closes_its_side_behind_the_body_of_its_request_is_answered() {
    let (generation, mut client) = stayed(Duration::MAX).await;
    let body = vec![b'y'; 300_000];
    asks_and_closes(&mut client, post("/echo", &body)).await;
    assert_eq!(soon(client.answer()).await.unwrap().body, body);
    soon(client.closed()).await.unwrap();
    generation.has(0).await;
}

#[tokio::test]
async fn who_ends_tls_behind_its_request_is_answered() {
    let (generation, connector) = secure();
    let stream = TcpStream::connect(generation.address).await.unwrap();
    let mut client = Client::on(connector.connect(localhost(), stream).await.unwrap());
    client.send(get("/gate")).await.unwrap();
    client.stream.shutdown().await.unwrap();
    generation.asked(1).await;
    generation.app.gate.add_permits(1);
    assert_eq!(soon(client.answer()).await.unwrap().body, b"passed");
}

/// The gate does not open: the request ends because its client has gone.
async fn is_given_up((generation, mut client): (Generation, Client)) {
    asks_and_closes(&mut client, get("/gate")).await;
    soon(client.closed()).await.unwrap();
    generation.has(0).await;
}

#[tokio::test]
async fn who_has_gone_is_not_waited_for_beyond_the_time_for_it() {
    is_given_up(stayed(ms(50)).await).await;
    is_given_up(stayed(Duration::ZERO).await).await;
}

#[tokio::test]
async fn who_has_gone_is_not_waited_for_beyond_the_time_for_it_after_a_move_either() {
    is_given_up(moved(ms(50)).await).await;
    is_given_up(moved(Duration::ZERO).await).await;
}

#[tokio::test(start_paused = true)]
async fn the_time_of_who_closed_its_side_begins_anew_with_what_can_be_sent() {
    let drain = Drain::new();
    let guard = drain.guards(&"http".parse().unwrap()).take();
    let ledger = Ledger::new(guard, Arc::default());
    let (ours, mut theirs) = duplex(64);
    let mut io = Io::new(ours, "GET /".into(), Arc::clone(&ledger))
        .half_close_timeout(Duration::from_secs(5));
    theirs.shutdown().await.unwrap();
    let mut head = [0; 5];
    io.read_exact(&mut head).await.unwrap();
    let answer = ledger.begin(&Request::new(()));
    let secs = Duration::from_secs;
    for _ in 0..3 {
        assert!(timeout(secs(4), io.read(&mut head)).await.is_err());
        io.write_all(b"some more").await.unwrap();
    }
    assert!(timeout(secs(4), io.read(&mut head)).await.is_err());
    assert!(!ledger.is_over());
    assert_eq!(timeout(secs(2), io.read(&mut head)).await.unwrap().unwrap(), 0);
    assert!(ledger.is_over());
    drop(answer);
}
