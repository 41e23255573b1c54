//! `axum::serve` as it is, through its `Listener` trait.

use std::future::pending;
use std::io;
use std::net::SocketAddr;

use axum::Router;
use axum::body::Bytes;
use axum::routing::{get, post};
use heirloom::{DrainPhase, Running, TcpConn, TcpListener};

use crate::Failure;

/// A listener of ours as one of axum's.
struct Accept(TcpListener);

impl axum::serve::Listener for Accept {
    type Io = TcpConn;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpConn, SocketAddr) {
        match self.0.accept().await {
            Ok(Some(conn)) => {
                let peer = *conn.peer_addr();
                (conn, peer)
            }
            // Nothing comes any more; the shutdown ends the wait.
            Ok(None) | Err(_) => pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

pub async fn serve(running: Running, listener: TcpListener) -> Result<(), Failure> {
    let guard = running.guard("axum")?;
    axum::serve(Accept(listener), app())
        .with_graceful_shutdown(async move { guard.reached(DrainPhase::Graceful).await })
        .await?;
    Ok(())
}

pub fn app() -> Router {
    Router::new().route("/", get(async || "hello\n")).route("/echo", post(async |body: Bytes| body))
}
