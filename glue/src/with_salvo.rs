//! salvo's server, with an `Acceptor` of ours.

use std::future::pending;
use std::io;

use heirloom::{DrainPhase, Running, TcpConn, TcpListener};
use salvo::conn::tcp::TcpCoupler;
use salvo::conn::{Accepted, Acceptor, ConnCtrl, Holding, StraightStream};
use salvo::fuse::ArcFusePolicy;
use salvo::http::uri::Scheme;
use salvo::http::{StatusCode, Version};
use salvo::{Request, Response, Router, Server, handler};

use crate::Failure;

struct Accept(TcpListener, Vec<Holding>);

impl Accept {
    fn new(listener: TcpListener) -> io::Result<Self> {
        let holding = Holding {
            local_addr: listener.local_addr()?.into(),
            http_versions: vec![Version::HTTP_11],
            http_scheme: Scheme::HTTP,
        };
        Ok(Self(listener, vec![holding]))
    }
}

impl Acceptor for Accept {
    type Coupler = TcpCoupler<Self::Stream>;
    type Stream = StraightStream<TcpConn>;

    fn holdings(&self) -> &[Holding] {
        &self.1
    }

    async fn accept(
        &mut self,
        _: Option<ArcFusePolicy>,
    ) -> io::Result<Accepted<Self::Coupler, Self::Stream>> {
        let conn = match self.0.accept().await {
            Ok(Some(conn)) => conn,
            // Nothing comes any more; salvo would ask again at once after an error.
            Ok(None) | Err(_) => pending().await,
        };
        let (peer, conn_ctrl) = (*conn.peer_addr(), ConnCtrl::new());
        Ok(Accepted {
            coupler: TcpCoupler::new(),
            stream: StraightStream::new(conn, None, conn_ctrl.clone(), None),
            fuse_config: None,
            conn_ctrl,
            remote_addr: peer.into(),
            local_addr: self.1[0].local_addr.clone(),
            http_scheme: Scheme::HTTP,
        })
    }
}

pub async fn serve(running: Running, listener: TcpListener) -> Result<(), Failure> {
    let guard = running.guard("salvo")?;
    let server = Server::new(Accept::new(listener)?);
    let handle = server.handle();
    let app = Router::new().get(hello).push(Router::with_path("echo").post(echo));
    let stop = async {
        guard.reached(DrainPhase::Graceful).await;
        handle.stop_graceful(None);
    };
    tokio::join!(server.try_serve(app), stop).0?;
    Ok(())
}

#[handler]
async fn hello() -> &'static str {
    "hello\n"
}

#[handler]
async fn echo(request: &mut Request, response: &mut Response) {
    match request.payload().await {
        Ok(body) => _ = response.write_body(body.clone()),
        Err(_) => _ = response.status_code(StatusCode::BAD_REQUEST),
    }
}
