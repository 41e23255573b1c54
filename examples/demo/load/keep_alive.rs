//! Clients that stay: many POSTs on one connection, with time to think between them.
//!
//! A POST must not be sent again when its connection ends without an answer, so an upgrade has
//! to do it properly: the server says `Connection: close` on an answer, and the client comes back
//! on a new connection with its next request.

use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use super::http::{Response, exchange};
use super::pace::Dice;
use super::{Client, ask};
use crate::ledger::{Counts, Kind};
use crate::trouble::{Class, Trouble};

/// The least and the most time to think, in milliseconds.
const THINK: (u64, u64) = (10, 110);

/// Requests a second that one such client makes, about.
pub(crate) const RATE: f64 = 16.0;

/// Asks, thinks, asks again, until the load ends.
pub(crate) async fn run(mut client: Client, seed: usize) {
    let mut dice = Dice::new(seed);
    let mut open: Option<TcpStream> = None;
    let mut number = 0_u64;
    client.pause(dice.millis(0, THINK.1)).await;
    while !client.stopping() {
        number += 1;
        let address = client.addresses.http;
        let question = async {
            let mut stream = match open.take() {
                Some(stream) => stream,
                None => TcpStream::connect(address).await?,
            };
            let response = order(&mut stream, seed, number).await?;
            Ok::<_, Trouble>(Asked { stream, response })
        };
        if let Some(asked) = ask(&mut client, Kind::KeepAlive, Duration::ZERO, question).await {
            if asked.response.close {
                Counts::add(&client.ledger.counts().told);
            } else {
                open = Some(asked.stream);
            }
        }
        open = think(&mut client, open, dice.millis(THINK.0, THINK.1)).await;
    }
}

/// Sends one order.
async fn order(stream: &mut TcpStream, seed: usize, number: u64) -> Result<Response, Trouble> {
    let body = format!("order {seed}.{number}\n");
    let length = body.len();
    let request =
        format!("POST /orders HTTP/1.1\r\nhost: shop\r\ncontent-length: {length}\r\n\r\n{body}");
    exchange(stream, request.as_bytes(), &body).await
}

/// Thinks, with an eye on the connection: a server may close it while nothing is asked, and a
/// client that sees that before it asks again has lost nothing.
async fn think(client: &mut Client, open: Option<TcpStream>, time: Duration) -> Option<TcpStream> {
    let Some(mut stream) = open else {
        client.pause(time).await;
        return None;
    };
    let mut byte = [0];
    let read = tokio::select! {
        () = client.pause(time) => return Some(stream),
        read = stream.read(&mut byte) => read,
    };
    match read {
        Ok(0) => Counts::add(&client.ledger.counts().idle_closed),
        Ok(_) => {
            let trouble = Trouble::new(Class::BadAnswer, "an answer that nobody asked for");
            client.let_down(Kind::KeepAlive, trouble).await;
        }
        Err(error) => client.let_down(Kind::KeepAlive, error.into()).await,
    }
    None
}

/// An answer together with the connection that it came on.
struct Asked {
    stream: TcpStream,
    response: Response,
}

impl super::FromServer for Asked {
    fn generation(&self) -> u64 {
        self.response.generation()
    }
    fn pid(&self) -> i32 {
        self.response.pid()
    }
}
