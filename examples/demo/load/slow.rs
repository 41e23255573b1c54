//! Clients whose requests take longer than a drain takes to begin: each upgrade meets some of
//! them half way.

use std::time::Duration;

use tokio::net::TcpStream;

use super::http::exchange;
use super::pace::Dice;
use super::{Client, ask};
use crate::ledger::Kind;

/// How long the server is asked to take.
pub(crate) const TIME: Duration = Duration::from_millis(700);

/// Asks for slow answers, one after another, each on its own connection.
///
/// The latency that is written down is what goes beyond the time that was asked for.
pub(crate) async fn run(mut client: Client, seed: usize) {
    let mut dice = Dice::new(seed);
    client.pause(dice.millis(0, 700)).await;
    while !client.stopping() {
        let address = client.addresses.http;
        let question = async move {
            let mut stream = TcpStream::connect(address).await?;
            let ms = TIME.as_millis();
            let request = format!("GET /slow?ms={ms} HTTP/1.1\r\nhost: shop\r\n\r\n");
            exchange(&mut stream, request.as_bytes(), &format!("slept {ms} ms\n")).await
        };
        ask(&mut client, Kind::Slow, TIME, question).await;
    }
}
