//! A client that comes back when it is told that the service restarts.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::checking::Failure;

pub(crate) struct Client(WebSocketStream<TcpStream>);

/// What came of something that was said.
pub(crate) enum Heard {
    /// This generation has answered.
    Answer { generation: u64 },
    /// The service restarts: it has to be said again, on a new connection.
    Restart,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address).await?;
        Ok(Self(client_async(format!("ws://{address}/"), stream).await?.0))
    }

    /// Says something, and hears what comes of it.
    pub(crate) async fn say(&mut self, text: &str) -> Result<Heard, Failure> {
        // If this fails, the server has closed, and has said why before.
        let _ = self.0.send(Message::text(text)).await;
        match self.0.next().await {
            Some(Ok(Message::Text(answer))) => match answer.split_once(' ') {
                Some((generation, echo)) if echo == text => {
                    Ok(Heard::Answer { generation: generation.parse()? })
                }
                _ => Err(format!("{text:?} was answered by {answer:?}").into()),
            },
            Some(Ok(Message::Close(Some(frame)))) if frame.code == CloseCode::Restart => {
                // To the end of the closing handshake.
                while let Some(Ok(_)) = self.0.next().await {}
                Ok(Heard::Restart)
            }
            other => Err(format!("{text:?} was answered by {other:?}").into()),
        }
    }
}

/// Says one thing a second, whoever answers.
pub(crate) async fn stay(address: &str) -> Result<(), Failure> {
    let address = address.parse()?;
    let mut client = Client::connect(address).await?;
    loop {
        match client.say("are you there?").await? {
            Heard::Answer { generation } => tracing::info!(generation, "an answer"),
            Heard::Restart => {
                tracing::info!("1012: the service restarts");
                client = Client::connect(address).await?;
                continue;
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
