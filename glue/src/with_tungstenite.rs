//! tokio-tungstenite takes any stream: a connection of ours as it is, with its guard inside.

use futures_util::{SinkExt, StreamExt};
use heirloom::{DrainPhase, Running, TcpConn, TcpListener};
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::Failure;

pub async fn serve(running: Running, listener: TcpListener) -> Result<(), Failure> {
    running.accept_loop(listener, echo);
    Ok(())
}

/// Echoes until the client goes, or is told to: 1012 is 'service restart'.
async fn echo(conn: TcpConn) -> Result<(), Failure> {
    let guard = conn.guard().clone();
    let mut socket = accept_async(conn).await?;
    loop {
        tokio::select! {
            () = guard.reached(DrainPhase::Graceful) => break,
            message = socket.next() => match message.transpose()? {
                Some(message) if message.is_text() || message.is_binary() => {
                    socket.send(message).await?;
                }
                Some(_) => {}
                None => return Ok(()),
            }
        }
    }
    let reason = "the service restarts".into();
    let frame = CloseFrame { code: CloseCode::Restart, reason };
    socket.send(Message::Close(Some(frame))).await?;
    // What the client has sent by now is answered by nobody: it may not have been seen, and its
    // client knows by the code to say it again to the next generation.
    while let Some(Ok(_)) = socket.next().await {}
    Ok(())
}
