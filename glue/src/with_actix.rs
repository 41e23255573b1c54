//! actix-web accepts in a thread of its own, so it owns a duplicate of the listener, and is paused
//! for the handoff. A roll back resumes it.

use std::io;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpServer, web};
use heirloom::{DrainPhase, Pause, Running, TcpListener};
use tokio::sync::oneshot;

use crate::Failure;

/// The seconds that its connections get once it has been told to stop. It closes an idle one only
/// after its keep-alive time, 5 s by default.
const SHUTDOWN: u64 = 8;

/// actix says that it has paused before its thread has seen the command. What that thread accepts
/// in the moment between is served by its workers, which end only with the drain: nobody is lost.
struct Accepting(oneshot::Receiver<ServerHandle>, Option<ServerHandle>);

impl Accepting {
    /// The handle comes once the server has been made.
    async fn handle(&mut self) -> io::Result<&ServerHandle> {
        let handle = match self.1.take() {
            Some(handle) => handle,
            None => (&mut self.0).await.map_err(io::Error::other)?,
        };
        Ok(self.1.insert(handle))
    }
}

impl Pause for Accepting {
    async fn pause(&mut self) -> io::Result<()> {
        self.handle().await?.pause().await;
        Ok(())
    }

    async fn resume(&mut self) -> io::Result<()> {
        self.handle().await?.resume().await;
        Ok(())
    }
}

pub async fn serve(running: Running, listener: TcpListener) -> Result<(), Failure> {
    let guard = running.guard("actix-web")?;
    let (give, handle) = oneshot::channel();
    let socket = listener.into_raw_with(Accepting(handle, None))?;
    let server = HttpServer::new(|| {
        App::new()
            .route("/", web::get().to(async || "hello\n"))
            .route("/echo", web::post().to(async |body: web::Bytes| body))
    })
    .workers(2)
    .shutdown_timeout(SHUTDOWN)
    .disable_signals()
    .listen(socket)?
    .run();
    let handle = server.handle();
    // Nobody to take it: the listener has ended already.
    let _ = give.send(handle.clone());
    let stop = async {
        guard.reached(DrainPhase::Graceful).await;
        handle.stop(true).await;
    };
    tokio::join!(server, stop).0?;
    Ok(())
}
