//! Drains that hang elsewhere: each ends at its deadline, and the report names who was cut.

use super::app::soon;
use super::client::{Client, get};
use super::drain::upgraded;
use super::generation::{Generation, short};
use super::http2::preface_and_request;
use super::tls::secure;
use crate::drain::{DrainOutcome, DrainReport};

/// Drains, and expects that one connection had to be cut.
async fn cut(generation: &Generation) -> (String, String) {
    let report: DrainReport = soon(generation.drain(short())).await.unwrap();
    assert_eq!(report.outcome, DrainOutcome::Cut, "{report:?}");
    assert_eq!((report.cut_count, report.left), (1, 0), "{report:?}");
    let cut = &report.cut[0];
    assert!(cut.peer.is_some() && cut.listener.as_str() == "http");
    (cut.name.clone().unwrap(), cut.reason.clone().unwrap())
}

#[tokio::test]
async fn p7_part_of_a_head() {
    let generation = Generation::first();
    let mut client = Client::connect(generation.address).await.unwrap();
    client.get("/").await.unwrap();
    client.send("GET /never HTTP/1.1\r\nhos").await.unwrap();
    let (name, reason) = cut(&generation).await;
    assert_eq!(name, "HTTP/1.1 GET /");
    assert_eq!(reason, "waits for the rest of a request's head");
}

#[tokio::test]
async fn p7_part_of_a_head_that_came_with_the_request_before() {
    let generation = Generation::first();
    let mut client = Client::connect(generation.address).await.unwrap();
    client.send(get("/") + "GET /never HTTP/1.1\r\nhos").await.unwrap();
    client.answer().await.unwrap();
    let (_, reason) = cut(&generation).await;
    assert_eq!(reason, "waits for the rest of a request's head");
}

#[tokio::test]
async fn p7_events_without_end() {
    let generation = Generation::first();
    let mut client = Client::connect(generation.address).await.unwrap();
    client.send(get("/events")).await.unwrap();
    client.head().await.unwrap();
    let (name, reason) = cut(&generation).await;
    assert_eq!((name.as_str(), reason.as_str()), ("HTTP/1.1 GET /events", "streams a response"));
}

#[tokio::test]
async fn p7_an_application_that_does_not_answer() {
    let generation = Generation::first();
    let mut client = Client::connect(generation.address).await.unwrap();
    client.send(get("/gate")).await.unwrap();
    generation.asked(1).await;
    let (name, reason) = cut(&generation).await;
    assert_eq!(name, "HTTP/1.1 GET /gate");
    assert_eq!(reason, "waits for the application's answer");
}

#[tokio::test]
async fn p7_a_client_that_does_not_read() {
    let generation = Generation::first();
    let mut client = Client::connect(generation.address).await.unwrap();
    client.send(get("/large").repeat(100)).await.unwrap();
    generation.asked(1).await;
    let (_, reason) = cut(&generation).await;
    assert!(["streams a response", "sends the rest of a response"].contains(&reason.as_str()));
}

#[tokio::test]
async fn p7_an_upgraded_stream_that_does_not_listen() {
    let generation = Generation::first();
    let mut client = upgraded(&generation).await;
    client.send("deaf\n").await.unwrap();
    client.take(5).await.unwrap();
    let (name, reason) = cut(&generation).await;
    assert_eq!((name.as_str(), reason.as_str()), ("HTTP/1.1 GET /upgrade", "upgraded: chat"));
    assert!(soon(client.closed()).await.is_ok());
}

#[tokio::test]
async fn p7_a_tls_client_that_is_silent() {
    let (generation, _) = secure();
    let _client = Client::connect(generation.address).await.unwrap();
    generation.has(1).await;
    let (name, reason) = cut(&generation).await;
    assert_eq!((name.as_str(), reason.as_str()), ("TLS", "TLS handshake"));
}

#[tokio::test]
async fn p7_an_http2_client_that_does_not_acknowledge() {
    let generation = Generation::first();
    let mut client = Client::connect(generation.address).await.unwrap();
    client.send(preface_and_request("/")).await.unwrap();
    generation.asked(1).await;
    let (name, reason) = cut(&generation).await;
    assert_eq!(
        (name.as_str(), reason.as_str()),
        ("HTTP/2 GET /", "has not acknowledged the GOAWAY")
    );
}

#[tokio::test]
async fn p7_an_http2_stream_that_does_not_end() {
    let generation = Generation::first();
    let mut client = Client::connect(generation.address).await.unwrap();
    client.send(preface_and_request("/events")).await.unwrap();
    generation.asked(1).await;
    let (name, reason) = cut(&generation).await;
    assert_eq!((name.as_str(), reason.as_str()), ("HTTP/2 GET /events", "1 stream open"));
}
