//! Serving with hyper and hyper-util's graceful shutdown, as their documentation shows it.

use std::future::{Future, pending};
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::service::answer;

/// How long connections get to finish: as long as heirloom's drain gives them.
const DRAIN: Duration = Duration::from_secs(30);

/// What is spoken on a listener.
#[derive(Clone)]
pub enum Speaks {
    /// HTTP/1.1 or HTTP/2.
    Http,
    /// The same over TLS.
    Tls(TlsAcceptor),
}

/// A server made of accept loops that can be ended.
pub struct Plain {
    graceful: Arc<Mutex<Option<GracefulShutdown>>>,
    loops: JoinSet<()>,
}

impl Default for Plain {
    fn default() -> Self {
        let graceful = Arc::new(Mutex::new(Some(GracefulShutdown::new())));
        Self { graceful, loops: JoinSet::new() }
    }
}

impl Plain {
    /// Serves what `accept` returns, until it returns nothing.
    pub fn serve<F, A>(&mut self, speaks: Speaks, mut accept: F)
    where
        F: FnMut() -> A + Send + 'static,
        A: Future<Output = Option<TcpStream>> + Send,
    {
        let graceful = Arc::clone(&self.graceful);
        self.loops.spawn(async move {
            while let Some(stream) = accept().await {
                let Some(watcher) = graceful.lock().await.as_ref().map(GracefulShutdown::watcher)
                else {
                    return;
                };
                let _ = stream.set_nodelay(true);
                match speaks.clone() {
                    Speaks::Http => drop(tokio::spawn(connection(stream, watcher))),
                    Speaks::Tls(acceptor) => drop(tokio::spawn(async move {
                        if let Ok(stream) = acceptor.accept(stream).await {
                            connection(stream, watcher).await;
                        }
                    })),
                }
            }
        });
    }

    /// Ends the accept loops, and waits for the connections to finish.
    pub async fn finish(mut self) {
        self.loops.shutdown().await;
        self.drained().await;
    }

    /// Waits for the accept loops to end by themselves, and for the connections to finish.
    pub async fn ended(mut self) {
        while self.loops.join_next().await.is_some() {}
        self.drained().await;
    }

    async fn drained(self) {
        if let Some(graceful) = self.graceful.lock().await.take() {
            let _ = tokio::time::timeout(DRAIN, graceful.shutdown()).await;
        }
    }
}

async fn connection<S>(stream: S, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new());
    builder.http2().timer(TokioTimer::new());
    let service = service_fn(|request| answer(request, pending()));
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let _ = watcher.watch(connection.into_owned()).await;
}
