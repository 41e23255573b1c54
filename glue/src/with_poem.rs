//! poem's server, with an `Acceptor` of ours.

use std::future::pending;
use std::io;

use heirloom::{DrainPhase, Running, TcpConn, TcpListener};
use poem::http::uri::Scheme;
use poem::listener::Acceptor;
use poem::web::{LocalAddr, RemoteAddr};
use poem::{Route, Server, get, handler, post};

use crate::Failure;

struct Accept(TcpListener);

impl Accept {
    fn local(&self) -> LocalAddr {
        self.0
            .local_addr()
            .map_or_else(|_| LocalAddr::default(), |address| LocalAddr(address.into()))
    }
}

impl Acceptor for Accept {
    type Io = TcpConn;

    fn local_addr(&self) -> Vec<LocalAddr> {
        vec![self.local()]
    }

    async fn accept(&mut self) -> io::Result<(TcpConn, LocalAddr, RemoteAddr, Scheme)> {
        match self.0.accept().await {
            Ok(Some(conn)) => {
                let peer = RemoteAddr((*conn.peer_addr()).into());
                Ok((conn, self.local(), peer, Scheme::HTTP))
            }
            // Nothing comes any more; poem would ask again at once after an error.
            Ok(None) | Err(_) => pending().await,
        }
    }
}

pub async fn serve(running: Running, listener: TcpListener) -> Result<(), Failure> {
    let guard = running.guard("poem")?;
    let app = Route::new().at("/", get(hello)).at("/echo", post(echo));
    Server::new_with_acceptor(Accept(listener))
        .run_with_graceful_shutdown(app, guard.reached(DrainPhase::Graceful), None)
        .await?;
    Ok(())
}

#[handler]
fn hello() -> &'static str {
    "hello\n"
}

#[handler]
fn echo(body: Vec<u8>) -> Vec<u8> {
    body
}
