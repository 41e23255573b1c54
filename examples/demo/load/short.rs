//! Clients that connect, ask once, and go.

use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};

use super::echo::Session;
use super::http::exchange;
use super::{Client, ask};
use crate::ledger::Kind;

/// Connects, sends one GET, reads the answer, closes.
pub(crate) async fn http(mut client: Client, number: u64) {
    let address = client.addresses.http;
    let question = async move {
        let mut stream = TcpStream::connect(address).await?;
        let request =
            format!("GET /item/{number} HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\r\n");
        exchange(&mut stream, request.as_bytes(), &format!("item {number}\n")).await
    };
    ask(&mut client, Kind::Short, Duration::ZERO, question).await;
}

/// Connects to the Unix socket, sends one line, reads it back, closes.
///
/// A connect to a Unix socket whose backlog is full fails at once (EAGAIN); TCP would wait.
pub(crate) async fn unix(mut client: Client, number: u64) {
    let addresses = client.addresses.clone();
    let question = async move {
        let stream = UnixStream::connect(&addresses.unix).await?;
        let mut session = Session::greeted(stream).await?;
        session.echo(number).await
    };
    ask(&mut client, Kind::UnixShort, Duration::ZERO, question).await;
}
