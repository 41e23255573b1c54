//! The answer to a readiness probe as an axum route.

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};

use crate::running::{Readiness, Running};

/// A route for the readiness probes of Kubernetes, Nomad and load balancers: 200 and `ready`, or 503
/// and why not, also for `HEAD`.
///
/// On [`stop`](Running::stop) and an operator's drain it turns to 503 at once, and connections are
/// accepted for [`Config::stop_notice`](crate::Config::stop_notice) more: give it a few intervals of
/// the probe. A *liveness* probe is another question; it should not ask here, or a drain ends in a
/// restart.
///
/// ```no_run
/// use axum::{Router, routing::get};
///
/// # fn serve(running: &heirloom::Running, listener: heirloom::TcpListener) {
/// let app = Router::new()
///     .route("/", get(async || "hello"))
///     .route("/readyz", heirloom::readiness_route(running));
/// running.serve(listener, heirloom::axum(app));
/// # }
/// ```
pub fn readiness_route<S: Clone + Send + Sync + 'static>(running: &Running) -> MethodRouter<S> {
    let readiness = running.readiness();
    get(async move || readiness.into_response())
}

impl IntoResponse for Readiness {
    fn into_response(self) -> Response {
        let status = if self.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let headers = [
            (CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")),
            (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        ];
        (status, headers, format!("{self}\n")).into_response()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use axum::Router;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::readiness_route;
    use crate::Config;

    /// One request on a connection of its own, as a kubelet or Nomad asks.
    async fn probe(address: SocketAddr, path: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn on_a_stop_probes_are_told_first_and_connections_are_accepted_on() {
        let notice = Duration::from_millis(400);
        let config = Config::new("test").upgrade_signal(None).stop_signals([]).stop_notice(notice);
        let start = config.start().await.unwrap();
        let listener = start.tcp("http", "127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let running = start.ready().await.unwrap();
        let app = Router::new()
            .route("/", axum::routing::get(async || "hello"))
            .route("/readyz", readiness_route(&running));
        running.serve(listener, crate::axum(app));
        let answer = probe(address, "/readyz").await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("ready\n"), "{answer}");
        let began = tokio::time::Instant::now();
        let mut ready = running.watch_ready();
        running.stop().await;
        ready.wait_for(|ready| !ready).await.unwrap();
        // The probe fails, and who has not noticed is served.
        let answer = probe(address, "/readyz").await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.ends_with("not ready: stopping\n"), "{answer}");
        let served = probe(address, "/").await.unwrap();
        assert!(served.ends_with("hello"), "{served}");
        running.finished().await.unwrap();
        assert!(began.elapsed() >= notice);
        assert!(probe(address, "/readyz").await.is_err());
    }
}
