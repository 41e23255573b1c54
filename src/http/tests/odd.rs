//! Requests that are not the plain ones, on connections that move between any two of them, and
//! clients that do things by half.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

use super::app::soon;
use super::client::{Client, get};
use super::generation::{Generation, ms, server, settings, short};
use super::moves::tennis;
use crate::drain::{DrainOutcome, DrainPhase};

const ROUNDS: usize = 40;

/// Lets the connection move a few times.
async fn a_while() {
    for _ in 0..30 {
        tokio::task::yield_now().await;
    }
}

async fn sends(client: &mut Client, pieces: &[&[u8]]) {
    for piece in pieces {
        client.send(piece).await.unwrap();
        a_while().await;
    }
}

/// Asks for leave before it sends the body, and waits for it.
async fn with_leave(client: &mut Client) {
    let head =
        "POST /echo HTTP/1.1\r\nhost: test\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n";
    let (early, late) = head.split_at(30);
    sends(client, &[early.as_bytes(), late.as_bytes()]).await;
    assert!(soon(client.head()).await.unwrap().starts_with("http/1.1 100 "));
    sends(client, &[b"bo", b"dy!"]).await;
    assert_eq!(soon(client.answer()).await.unwrap().body, b"body!");
}

/// Chunks with extensions, and trailers after them.
async fn with_trailers(client: &mut Client) {
    let head = b"POST /echo HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunks: [&[u8]; 5] =
        [b"4;a=b\r\nch", b"un\r", b"\n3\r\nked\r\n0\r\nx-su", b"m: 1\r\n", b"\r\n"];
    sends(client, &[head]).await;
    sends(client, &chunks).await;
    assert_eq!(soon(client.answer()).await.unwrap().body, b"chunked");
}

/// Its head does not fit into one read, and empty lines come before it.
async fn with_a_long_head(client: &mut Client) {
    let long = "x".repeat(60_000);
    let head = format!("\r\n\r\nGET / HTTP/1.1\r\nhost: test\r\nx-long: {long}\r\n\r\n");
    let pieces: Vec<&[u8]> = head.as_bytes().chunks(17_001).collect();
    sends(client, &pieces).await;
    assert_eq!(soon(client.answer()).await.unwrap().body, b"hello");
}

async fn of_an_old_version(client: &mut Client) {
    sends(client, &[b"GET / HTTP/1.0\r\nconnection: keep-", b"alive\r\n\r\n"]).await;
    let answer = soon(client.answer()).await.unwrap();
    assert!(answer.head.contains("connection: keep-alive"), "{}", answer.head);
    assert_eq!(answer.body, b"hello");
}

async fn rally(address: SocketAddr) {
    let mut client = Client::connect(address).await.unwrap();
    for _ in 0..ROUNDS {
        with_leave(&mut client).await;
        with_trailers(&mut client).await;
        with_a_long_head(&mut client).await;
        of_an_old_version(&mut client).await;
    }
    // And in the end it leaves HTTP.
    let upgrade =
        "GET /upgrade HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: chat\r\n\r\n";
    let (early, late) = upgrade.split_at(25);
    sends(&mut client, &[early.as_bytes(), late.as_bytes(), b"over to you"]).await;
    assert_eq!(soon(client.answer()).await.unwrap().status, 101);
    assert_eq!(soon(client.take(11)).await.unwrap(), b"over to you");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_not_plain_are_answered_on_connections_that_move() {
    let (generation, left, right) = tennis();
    let clients: JoinSet<_> = (0..4).map(|_| rally(generation.address)).collect();
    clients.join_all().await;
    let moved = left.moved.load(Ordering::Relaxed) + right.moved.load(Ordering::Relaxed);
    assert!(moved > 4 * ROUNDS as u64, "{moved}");
    generation.has(0).await;
}

#[tokio::test]
async fn what_was_asked_before_a_client_closed_its_half_is_answered_in_a_drain() {
    let generation = Generation::bound();
    generation.serve(server(&generation.app), ms(100), None);
    let mut client = Client::connect(generation.address).await.unwrap();
    client.get("/").await.unwrap();
    let mut silent = Client::connect(generation.address).await.unwrap();
    generation.has(2).await;
    generation.drain.advance(DrainPhase::LameDuck);
    client.send(get("/large")).await.unwrap();
    client.stream.shutdown().await.unwrap();
    silent.stream.shutdown().await.unwrap();
    assert_eq!(soon(client.answer()).await.unwrap().status, 200);
    assert_eq!(soon(generation.drain(settings())).await.unwrap().outcome, DrainOutcome::Drained);
}

/// The answer has been written as far as the client lets us, and the application has nothing more
/// to do with it.
#[tokio::test]
async fn an_answer_that_nobody_reads_is_named_by_its_request() {
    let generation = Generation::first();
    let mut client = Client::connect(generation.address).await.unwrap();
    client.send(get("/large").repeat(200)).await.unwrap();
    generation.asked(1).await;
    let report = soon(generation.drain(short())).await.unwrap();
    assert_eq!((report.outcome, report.cut_count, report.left), (DrainOutcome::Cut, 1, 0));
    assert_eq!(report.cut[0].name.as_deref(), Some("HTTP/1.1 GET /large"));
}
