//! Each fault is seen as what it is: servers that do one thing wrong.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::fault::Fault;
use super::wire::{After, Line, Method, connect};

const RIGHT: &str = "HTTP/1.1 200 OK\r\nx-pid: 7\r\nContent-Length: 1\r\n\r\n5";

/// A server that reads a request, says this, and closes when the client does or says no more.
async fn server(says: &'static str, resets: Resets) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 1024];
        let _ = stream.read(&mut request).await.unwrap();
        stream.write_all(says.as_bytes()).await.unwrap();
        match resets {
            Resets::No => {}
            Resets::Yes => {
                socket2::SockRef::from(&stream).set_linger(Some(Default::default())).unwrap()
            }
        }
    });
    address
}

enum Resets {
    No,
    Yes,
}

async fn line(to: SocketAddr) -> Line<TcpStream> {
    Line::new(connect(to, None).await.unwrap())
}

async fn asked(says: &'static str, resets: Resets) -> Result<After, Fault> {
    let mut line = line(server(says, resets).await).await;
    line.ask(Method::Post, 5, After::Open).await.map(|answer| answer.after)
}

#[tokio::test]
async fn an_answer_in_order_is_none() {
    assert_eq!(asked(RIGHT, Resets::No).await, Ok(After::Open));
    let says = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 1\r\n\r\n5";
    assert_eq!(asked(says, Resets::No).await, Ok(After::Ends));
}

#[tokio::test]
async fn faults_have_their_kinds() {
    let wrong = "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n6";
    let error = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
    let half = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n5";
    assert_eq!(asked(wrong, Resets::No).await, Err(Fault::Wrong));
    assert_eq!(asked(error, Resets::No).await, Err(Fault::Wrong));
    assert_eq!(asked(half, Resets::No).await, Err(Fault::Unanswered));
    assert_eq!(asked("", Resets::No).await, Err(Fault::Unanswered));
    assert_eq!(asked("", Resets::Yes).await, Err(Fault::Reset));
}

#[tokio::test]
async fn nobody_there_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    assert_eq!(connect(address, None).await.map(|_| ()), Err(Fault::Refused));
}

#[tokio::test]
async fn a_second_answer_is_doubled() {
    let twice = "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n5HTTP/1.1 200 OK\r\n";
    let mut line = line(server(twice, Resets::No).await).await;
    line.ask(Method::Get, 5, After::Ends).await.unwrap();
    assert_eq!(line.rest().await, Err(Fault::Doubled));
}

#[tokio::test]
async fn a_connection_that_was_closed_is_over_and_one_that_is_open_is_not() {
    let (client, mut server) = tokio::io::duplex(64);
    let mut line = Line::new(client);
    assert!(!line.is_over());
    server.shutdown().await.unwrap();
    assert!(line.is_over());
    assert!(!line.unasked());
}
