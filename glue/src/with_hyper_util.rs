//! hyper's connections in a loop of one's own, with hyper-util's `GracefulShutdown`.

use heirloom::{DrainPhase, Running, TcpListener};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;

use crate::Failure;

pub async fn serve(running: Running, listener: TcpListener) -> Result<(), Failure> {
    let guard = running.guard("hyper-util")?;
    let graceful = GracefulShutdown::new();
    loop {
        let conn = tokio::select! {
            conn = listener.accept() => conn?,
            () = guard.reached(DrainPhase::Graceful) => None,
        };
        let Some(conn) = conn else { break };
        let mut builder = http1::Builder::new();
        let connection = builder
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(conn), service_fn(answer));
        // A connection that fails has told its client, and concerns nobody else.
        tokio::spawn(graceful.watch(connection));
    }
    graceful.shutdown().await;
    Ok(())
}

pub async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let body = match *request.method() {
        Method::POST => request.into_body().collect().await?.to_bytes(),
        _ => Bytes::from_static(b"hello\n"),
    };
    Ok(Response::new(Full::new(body)))
}
