//! WebSockets: an echo after the other, until the server asks to go.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use heirloom_peers::service::GO;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::fault::Fault;
use super::tally::{Counts, Kind, Run, Sample};
use super::wire::connect;

const THOUGHT: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(10);

/// One socket after the other.
pub(crate) async fn websocket(to: SocketAddr, run: Arc<Run>) {
    let mut counts = Counts::default();
    let mut samples = Vec::new();
    while run.goes_on() {
        if let Err(fault) = session(to, &run, &mut counts, &mut samples).await {
            counts.fault(fault);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    run.ended(Kind::WebSocket, &counts, samples);
}

async fn session(
    to: SocketAddr,
    run: &Run,
    counts: &mut Counts,
    samples: &mut Vec<Sample>,
) -> Result<(), Fault> {
    let stream = connect(to, None).await?;
    let (mut socket, _) = tokio_tungstenite::client_async("ws://peers/ws", stream)
        .await
        .map_err(|error| fault(&error))?;
    counts.connections += 1;
    while run.goes_on() {
        let began = Instant::now();
        let number = run.number();
        let go = tokio::time::timeout(PATIENCE, echo(&mut socket, number))
            .await
            .unwrap_or(Err(Fault::Late))?;
        counts.answered += 1;
        run.answer();
        samples.push(Sample { at: began.duration_since(run.began), took: began.elapsed() });
        if go {
            counts.told += 1;
            break;
        }
        tokio::time::sleep(THOUGHT).await;
    }
    leave(socket).await
}

/// Sends one message and reads its echo; tells whether the server has asked to go.
async fn echo(socket: &mut WebSocketStream<TcpStream>, number: u64) -> Result<bool, Fault> {
    let text = number.to_string();
    socket.send(Message::text(text.clone())).await.map_err(|error| fault(&error))?;
    let mut go = false;
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(answer))) if answer.as_str() == GO => go = true,
            Some(Ok(Message::Text(answer))) if answer.as_str() == text => return Ok(go),
            Some(Ok(Message::Text(_))) => return Err(Fault::Wrong),
            Some(Ok(Message::Close(_))) | None => return Err(Fault::Unanswered),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(fault(&error)),
        }
    }
}

/// Closes, and reads to the end: an echo that comes now is a second one.
async fn leave(mut socket: WebSocketStream<TcpStream>) -> Result<(), Fault> {
    let closed = async {
        socket.close(None).await.map_err(|error| fault(&error))?;
        while let Some(message) = socket.next().await {
            match message {
                Ok(Message::Text(text)) if text.as_str() != GO => return Err(Fault::Doubled),
                Ok(_) => {}
                Err(error) => return Err(fault(&error)),
            }
        }
        Ok(())
    };
    tokio::time::timeout(PATIENCE, closed).await.unwrap_or(Err(Fault::Late))
}

fn fault(error: &Error) -> Fault {
    match error {
        Error::Io(error) => Fault::from(error),
        Error::ConnectionClosed | Error::AlreadyClosed | Error::Protocol(_) => Fault::Unanswered,
        _ => Fault::Wrong,
    }
}
