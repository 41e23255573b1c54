//! What each kind of connection does in a drain.

use std::io;
use std::sync::Arc;

use tokio::io::AsyncWriteExt;

use super::app::{LARGE, soon};
use super::client::{Client, get, post};
use super::generation::{Generation, ms, server, settings};
use crate::drain::{DrainOutcome, DrainPhase};
use crate::http::mover::{Mover, Parcel, Taking, Turning};
use crate::session::Turn;

#[tokio::test]
async fn in_lame_duck_answers_say_close_and_idle_connections_stay_open() {
    let generation = Generation::first();
    let mut asked = Client::connect(generation.address).await.unwrap();
    let mut idle = Client::connect(generation.address).await.unwrap();
    assert!(!asked.get("/").await.unwrap().says_close());
    assert!(!idle.get("/").await.unwrap().says_close());
    generation.drain.advance(DrainPhase::LameDuck);
    assert!(asked.get("/").await.unwrap().says_close());
    soon(asked.closed()).await.unwrap();
    // The other one has been told nothing, and may ask at any time.
    assert!(idle.get("/").await.unwrap().says_close());
    soon(idle.closed()).await.unwrap();
    drop((asked, idle));
    generation.has(0).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_by_half_and_never_reset() {
    let generation = Generation::first();
    let mut client = Client::connect(generation.address).await.unwrap();
    client.get("/").await.unwrap();
    let drain = generation.drain(settings());
    soon(client.closed()).await.unwrap();
    // The server has closed its half only: what we send now is read, and not answered by a reset.
    for _ in 0..8 {
        client.send(get("/")).await.unwrap();
        tokio::task::yield_now().await;
    }
    soon(client.closed()).await.unwrap();
    assert_eq!(generation.drain.active(), 1);
    drop(client);
    assert_eq!(soon(drain).await.unwrap().outcome, DrainOutcome::Drained);
}

/// Read, or dropped, by a task of the application's when nothing else happens on the connection.
#[tokio::test]
async fn a_body_that_ends_elsewhere_ends_the_wait_for_it() {
    for path in ["/later", "/keep"] {
        let generation = Generation::first();
        let mut client = Client::connect(generation.address).await.unwrap();
        assert_eq!(client.post(path, b"body").await.unwrap().status, 200);
        generation.drain.advance(DrainPhase::LameDuck);
        generation.drain.advance(DrainPhase::Graceful);
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        generation.app.gate.add_permits(1);
        soon(client.closed()).await.expect(path);
        drop(client);
        generation.has(0).await;
    }
}

#[tokio::test]
async fn a_client_that_does_not_close_is_waited_for_no_longer_than_the_linger() {
    let generation = Generation::bound();
    generation.serve(server(&generation.app).linger(ms(50)), ms(10), None);
    let mut client = Client::connect(generation.address).await.unwrap();
    client.get("/").await.unwrap();
    let report = soon(generation.drain(settings())).await.unwrap();
    assert_eq!(report.outcome, DrainOutcome::Drained);
    soon(client.closed()).await.unwrap();
}

#[tokio::test]
async fn p6_a_fresh_connection_is_answered_in_the_graceful_phase() {
    let generation = Generation::first();
    let mut fresh = Client::connect(generation.address).await.unwrap();
    let mut begun = Client::connect(generation.address).await.unwrap();
    begun.send("GET / HT").await.unwrap();
    generation.has(2).await;
    generation.drain.advance(DrainPhase::Graceful);
    // They are looked at again by the time that this one is closed.
    let mut late = Client::connect(generation.address).await.unwrap();
    assert!(late.get("/").await.unwrap().says_close());
    let answer = fresh.get("/").await.unwrap();
    assert!(answer.says_close());
    begun.send("TP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    assert!(begun.answer().await.unwrap().says_close());
    soon(fresh.closed()).await.unwrap();
    soon(begun.closed()).await.unwrap();
}

#[tokio::test]
async fn a_fresh_connection_that_stays_silent_has_its_time_and_no_more() {
    let generation = Generation::bound();
    generation.serve(server(&generation.app).first_request(ms(50)), ms(10), None);
    let mut client = Client::connect(generation.address).await.unwrap();
    generation.has(1).await;
    let drain = generation.drain(settings());
    soon(client.closed()).await.unwrap();
    drop(client);
    assert_eq!(soon(drain).await.unwrap().outcome, DrainOutcome::Drained);
}

#[tokio::test]
async fn p6_what_is_in_flight_when_the_drain_begins_is_finished() {
    let generation = Generation::first();
    let mut gate = Client::connect(generation.address).await.unwrap();
    gate.send(get("/gate")).await.unwrap();
    let mut body = Client::connect(generation.address).await.unwrap();
    let order = post("/echo", &[b'o'; 1000]);
    body.send(&order[..order.len() / 2]).await.unwrap();
    generation.asked(2).await;
    let drain = generation.drain(settings());
    // Well into the graceful phase.
    tokio::time::sleep(ms(150)).await;
    generation.app.gate.add_permits(1);
    let answer = soon(gate.answer()).await.unwrap();
    assert!(answer.says_close() && answer.body == b"passed");
    body.send(&order[order.len() / 2..]).await.unwrap();
    let answer = soon(body.answer()).await.unwrap();
    assert!(answer.says_close() && answer.body.len() == 1000);
    drop((gate, body));
    assert_eq!(soon(drain).await.unwrap().outcome, DrainOutcome::Drained);
}

#[tokio::test]
async fn an_answer_whose_head_left_before_the_drain_is_followed_by_a_pause_before_the_close() {
    let generation = Generation::first();
    let mut client = Client::connect(generation.address).await.unwrap();
    // Larger than the buffers: it is under way until it is read.
    client.send(get("/large").repeat(40)).await.unwrap();
    generation.asked(1).await;
    generation.drain.advance(DrainPhase::Graceful);
    let mut answers = 0;
    loop {
        let answer = soon(client.answer()).await.unwrap();
        assert_eq!(answer.body.len(), LARGE);
        answers += 1;
        if answer.says_close() {
            break;
        }
    }
    soon(client.closed()).await.unwrap();
    assert!(answers > 0);
}

#[tokio::test]
async fn the_last_answer_arrives_though_the_client_has_sent_more_than_was_read() {
    let generation = Generation::first();
    generation.drain.advance(DrainPhase::LameDuck);
    let mut client = Client::connect(generation.address).await.unwrap();
    // The body is not read; a close with it in the receive buffer would reset the connection.
    client
        .send("POST /ignore HTTP/1.1\r\nhost: test\r\ncontent-length: 900000\r\n\r\n")
        .await
        .unwrap();
    let sent = client.stream.write_all(&vec![0; 900_000]).await;
    let answer = soon(client.answer()).await.unwrap();
    assert!(answer.says_close() && answer.body == b"ignored");
    sent.unwrap();
    match soon(client.closed()).await {
        Ok(()) => {}
        Err(error) => assert_ne!(error.kind(), io::ErrorKind::ConnectionReset),
    }
}

#[tokio::test]
async fn an_upgraded_stream_is_told_to_go_and_the_drain_waits_for_it() {
    let generation = Generation::first();
    let mut client = upgraded(&generation).await;
    client.send("hello\n").await.unwrap();
    assert_eq!(client.take(6).await.unwrap(), b"hello\n");
    let drain = generation.drain(settings());
    let farewell = soon(client.take(21)).await.unwrap();
    assert_eq!(farewell, b"1012 service restart\n");
    drop(client);
    assert_eq!(soon(drain).await.unwrap().outcome, DrainOutcome::Drained);
}

/// A connection that has left HTTP.
pub(super) async fn upgraded(generation: &Generation) -> Client {
    let mut client = Client::connect(generation.address).await.unwrap();
    let ask = "GET /upgrade HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: chat\r\n\r\n";
    client.send(ask).await.unwrap();
    assert_eq!(soon(client.answer()).await.unwrap().status, 101);
    client
}

/// A successor that lets everybody wait.
struct Never;

impl Mover for Never {
    fn is_open(&self) -> bool {
        true
    }

    fn turn(&self) -> Turning {
        Box::pin(std::future::pending())
    }

    fn take(&self, _: Parcel, _: Turn) -> Taking<'_> {
        Box::pin(async { panic!("it was nobody's turn") })
    }
}

#[tokio::test]
async fn a_head_has_its_time_also_while_its_connection_waits_to_move() {
    let generation = Generation::bound();
    let server = server(&generation.app).header_timeout(ms(300));
    generation.serve(server, ms(10), Some(Arc::new(Never)));
    let mut begun = Client::connect(generation.address).await.unwrap();
    let mut idle = Client::connect(generation.address).await.unwrap();
    let mut silent = Client::connect(generation.address).await.unwrap();
    begun.get("/").await.unwrap();
    idle.get("/").await.unwrap();
    generation.has(3).await;
    generation.drain.advance(DrainPhase::LameDuck);
    generation.drain.advance(DrainPhase::Graceful);
    begun.send("GET /never HTTP/1.1\r\nhos").await.unwrap();
    soon(begun.closed()).await.unwrap();
    soon(silent.closed()).await.unwrap();
    // And one that is only idle is served for as long as it waits.
    let answer = soon(idle.get("/")).await.unwrap();
    assert!(!answer.says_close());
}
