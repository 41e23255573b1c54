//! HTTP/2 in a drain.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, JoinSet};

use super::app::{LARGE, soon};
use super::client::Client;
use super::generation::{Generation, ms, server, settings};
use crate::drain::{DrainOutcome, DrainPhase, DrainSettings};

pub(super) type Sender = SendRequest<Full<Bytes>>;

/// A client that behaves.
pub(super) async fn connect(address: SocketAddr) -> (Sender, JoinHandle<hyper::Result<()>>) {
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (sender, connection) = soon(handshake(TokioExecutor::new(), stream)).await.unwrap();
    (sender, tokio::spawn(connection))
}

pub(super) async fn ask(
    sender: &mut Sender,
    path: &str,
    body: &str,
) -> hyper::Result<(u64, Bytes)> {
    let request = Request::post(format!("http://test{path}"));
    let body = Full::new(Bytes::from(body.to_owned()));
    let response: Response<_> = sender.send_request(request.body(body).unwrap()).await?;
    assert_eq!((response.version(), response.status().as_u16()), (Version::HTTP_2, 200));
    let generation = response.headers()["x-generation"].to_str().unwrap().parse().unwrap();
    Ok((generation, response.into_body().collect().await?.to_bytes()))
}

#[tokio::test]
async fn open_streams_finish_and_the_connection_ends_with_the_last() {
    let generation = Generation::first();
    let (mut sender, connection) = connect(generation.address).await;
    assert_eq!(soon(ask(&mut sender, "/echo", "hello")).await.unwrap().1, "hello");
    let streams: Vec<_> = (0..3)
        .map(|_| {
            let mut sender = sender.clone();
            tokio::spawn(async move { ask(&mut sender, "/gate", "").await })
        })
        .collect();
    generation.asked(4).await;
    let drain = generation.drain(settings());
    tokio::time::sleep(ms(150)).await;
    assert!(!drain.is_finished());
    generation.app.gate.add_permits(3);
    for stream in streams {
        assert_eq!(soon(stream).await.unwrap().unwrap().1, "passed");
    }
    soon(connection).await.unwrap().unwrap();
    assert_eq!(soon(drain).await.unwrap().outcome, DrainOutcome::Drained);
}

#[tokio::test]
async fn a_fresh_connection_gets_its_first_answer_before_the_goaway() {
    let generation = Generation::first();
    let (mut sender, connection) = connect(generation.address).await;
    generation.has(1).await;
    let drain = generation.drain(settings());
    tokio::time::sleep(ms(150)).await;
    assert_eq!(soon(ask(&mut sender, "/echo", "first")).await.unwrap().1, "first");
    soon(connection).await.unwrap().unwrap();
    assert_eq!(soon(drain).await.unwrap().outcome, DrainOutcome::Drained);
}

#[tokio::test]
async fn an_idle_connection_is_told_and_ends_at_once() {
    let generation = Generation::first();
    let (mut sender, connection) = connect(generation.address).await;
    soon(ask(&mut sender, "/echo", "")).await.unwrap();
    generation.drain.advance(DrainPhase::LameDuck);
    soon(connection).await.unwrap().unwrap();
    generation.has(0).await;
}

#[tokio::test]
async fn the_last_answer_arrives_whole_though_the_connection_ends_with_it() {
    let generation = Generation::first();
    for _ in 0..20 {
        let (mut sender, connection) = connect(generation.address).await;
        let asked = generation.app.requests.load(Ordering::Relaxed);
        let mut second = sender.clone();
        let gate = tokio::spawn(async move { ask(&mut second, "/gate", "").await });
        let large = tokio::spawn(async move { ask(&mut sender, "/large", "").await });
        generation.asked(asked + 2).await;
        generation.drain.advance(DrainPhase::LameDuck);
        generation.app.gate.add_permits(1);
        soon(gate).await.unwrap().unwrap();
        assert_eq!(soon(large).await.unwrap().unwrap().1.len(), LARGE);
        soon(connection).await.unwrap().unwrap();
    }
}

/// All told at once would all come back at once.
#[tokio::test]
async fn with_a_window_clients_are_told_to_go_one_after_the_other() {
    const CLIENTS: u32 = 20;
    let generation = Generation::bound();
    let spread = DrainSettings { spread: ms(1_000), lame_duck: ms(50), ..settings() };
    generation.serve_for(server(&generation.app), &spread, None);
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let (mut sender, connection) = connect(generation.address).await;
        soon(ask(&mut sender, "/echo", "")).await.unwrap();
        clients.spawn(async move {
            connection.await.unwrap().unwrap();
            drop(sender);
            Instant::now()
        });
    }
    let began = Instant::now();
    let drain = generation.drain(spread);
    let mut told: Vec<Instant> = soon(clients.join_all()).await;
    told.sort();
    // However slow the machine is, nobody is told before its turn.
    for (turn, told) in (0..CLIENTS).zip(&told) {
        let turn = ms(1_000) * turn / CLIENTS;
        assert!(told.duration_since(began) >= ms(50) + turn, "{turn:?}");
    }
    assert_eq!(soon(drain).await.unwrap().outcome, DrainOutcome::Drained);
}

/// A stream beyond the last one of a GOAWAY was not processed (RFC 9113, section 6.8); the test
/// compares what was asked with what was answered.
fn is_unprocessed(error: &hyper::Error) -> bool {
    format!("{error:?}").contains("GoAway(b\"\", NO_ERROR, Remote)")
}

/// Asks on one connection after the other; a request that was never sent may be sent again.
async fn stay(address: SocketAddr, stop: Arc<AtomicBool>, asked: Arc<AtomicU64>) -> Vec<String> {
    let mut failures = Vec::new();
    'connect: while !stop.load(Ordering::Relaxed) {
        let (mut sender, _connection) = connect(address).await;
        while !stop.load(Ordering::Relaxed) {
            if sender.ready().await.is_err() {
                continue 'connect;
            }
            match soon(ask(&mut sender, "/echo", "order")).await {
                Ok((_, body)) => assert_eq!(body, "order"),
                Err(error) if error.is_canceled() || is_unprocessed(&error) => continue 'connect,
                Err(error) => failures.push(format!("{error:?}")),
            }
            asked.fetch_add(1, Ordering::Relaxed);
        }
    }
    failures
}

/// On one thread: hyper's client looks for a GOAWAY once more after it has sent a request, and says
/// that it was not sent if one comes between the two on another thread.
#[tokio::test]
async fn p6_busy_clients_lose_nothing_across_five_drains() {
    let mut generation = Generation::first();
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut clients = JoinSet::new();
    for _ in 0..20 {
        clients.spawn(stay(generation.address, Arc::clone(&stop), Arc::clone(&asked)));
    }
    let mut drains = Vec::new();
    let mut apps = vec![Arc::clone(&generation.app)];
    for _ in 0..5 {
        // However busy the machine is, each generation serves under load before it hands over.
        let enough = asked.load(Ordering::Relaxed) + 100;
        let busy = async {
            while asked.load(Ordering::Relaxed) < enough {
                tokio::time::sleep(ms(1)).await;
            }
        };
        soon(busy).await;
        let next = generation.hand_over().await;
        next.serve(server(&next.app), ms(100), None);
        drains.push(generation.drain(settings()));
        apps.push(Arc::clone(&next.app));
        generation = next;
    }
    for drain in drains {
        assert_eq!(soon(drain).await.unwrap().outcome, DrainOutcome::Drained);
    }
    stop.store(true, Ordering::Relaxed);
    let mut failures = BTreeMap::<String, u64>::new();
    for failure in clients.join_all().await.into_iter().flatten() {
        *failures.entry(failure).or_default() += 1;
    }
    assert_eq!(failures, BTreeMap::new());
    let processed = apps.iter().map(|app| app.requests.load(Ordering::Relaxed)).sum::<u64>();
    assert_eq!(processed, asked.load(Ordering::Relaxed), "each that was taken was answered");
    assert!(processed >= 500);
}

/// What a client says first, and one request that takes a stream.
pub(super) fn preface_and_request(path: &str) -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    // SETTINGS, empty.
    bytes.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    bytes.extend(headers(1, path));
    bytes
}

/// HEADERS with the end of both: GET, http, authority, path (RFC 7541, appendix A).
pub(super) fn headers(stream: u32, path: &str) -> Vec<u8> {
    let mut headers = vec![0x82, 0x86, 0x41, 4];
    headers.extend(b"test");
    // Not indexed, so that a block means the same wherever it comes.
    headers.extend([0x04, u8::try_from(path.len()).unwrap()]);
    headers.extend(path.as_bytes());
    let length = u8::try_from(headers.len()).unwrap();
    [&[0, 0, length, 1, 5], &stream.to_be_bytes()[..], &headers].concat()
}

#[tokio::test]
async fn the_preface_may_come_in_any_two_pieces() {
    let generation = Generation::first();
    let bytes = preface_and_request("/");
    for cut in 1..bytes.len() {
        let mut client = Client::connect(generation.address).await.unwrap();
        let asked = generation.app.requests.load(Ordering::Relaxed);
        client.send(&bytes[..cut]).await.unwrap();
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
        client.send(&bytes[cut..]).await.unwrap();
        generation.asked(asked + 1).await;
    }
}

#[tokio::test]
async fn what_only_begins_like_the_preface_is_http1() {
    let generation = Generation::first();
    for method in ["P", "PR", "PRI", "POST", "PRIM"] {
        let mut client = Client::connect(generation.address).await.unwrap();
        for byte in format!("{method} / HTTP/1.1\r\nhost: test\r\n\r\n").bytes() {
            client.send([byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert_eq!(soon(client.answer()).await.unwrap().body, b"hello", "{method}");
    }
}
