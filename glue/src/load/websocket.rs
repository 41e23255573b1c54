//! WebSockets that say one thing after the other, and come back when they are told to.

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::{WebSocketStream, client_async};

use super::{Client, one};

pub(super) async fn run(client: Client) {
    while client.goes_on() {
        let Ok(stream) = TcpStream::connect(client.address).await else {
            one(&client.tally.refused);
            client.calm_down().await;
            continue;
        };
        match client_async(format!("ws://{}/", client.address), stream).await {
            Ok((socket, _)) => talk(&client, socket).await,
            Err(_) => one(&client.tally.lost_fresh),
        }
    }
}

async fn talk(client: &Client, mut socket: WebSocketStream<TcpStream>) {
    let mut number = client.number;
    while client.goes_on() {
        number += 1;
        let said = number.to_string();
        // If this fails the other side has closed, and said why before.
        let _ = socket.send(Message::text(said.clone())).await;
        match socket.next().await {
            Some(Ok(Message::Text(heard))) if heard.as_str() == said => one(&client.tally.answered),
            Some(Ok(Message::Close(Some(frame)))) if frame.code == CloseCode::Restart => {
                one(&client.tally.closed);
                // To the end of the closing handshake.
                while let Some(Ok(_)) = socket.next().await {}
                return;
            }
            _ => return one(&client.tally.lost_kept),
        }
        tokio::time::sleep(client.thought()).await;
    }
}
