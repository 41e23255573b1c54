//! What all connections of one server have in common.

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::mover::Mover;
use crate::drain::{DrainPhase, Guard};
use crate::requests::Requests;

/// Told the status of each answer.
pub(super) type OnAnswer = Arc<dyn Fn(StatusCode) + Send + Sync>;

/// How a server speaks HTTP.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) http1: http1::Builder,
    pub(super) http2: http2::Builder<TokioExecutor>,
    pub(super) handshake_timeout: Duration,
    pub(super) header_timeout: Duration,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) first_request: Duration,
    pub(super) half_close_timeout: Duration,
    pub(super) linger: Duration,
    pub(super) on_answer: Option<OnAnswer>,
    /// Idle connections do not move.
    pub(super) stay: bool,
}

impl Default for Settings {
    fn default() -> Self {
        let mut http1 = http1::Builder::new();
        // The driver has a timer of its own, which costs nothing while requests come whole.
        http1.timer(TokioTimer::new()).header_read_timeout(None);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2.timer(TokioTimer::new());
        Self {
            http1,
            http2,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(30),
            idle_timeout: None,
            first_request: Duration::from_secs(5),
            half_close_timeout: Duration::from_secs(5),
            linger: Duration::from_secs(2),
            stay: false,
            on_answer: None,
        }
    }
}

/// What a server tells others, and asks of them.
#[derive(Default)]
pub(super) struct Hooks {
    pub(super) on_answer: Option<OnAnswer>,
    /// Where answers are counted, for error budgets.
    pub(super) requests: Option<Requests>,
    /// Where idle connections go in a drain.
    pub(super) mover: Option<Arc<dyn Mover>>,
}

impl Hooks {
    /// An answer has begun on the connection of this guard.
    pub(super) fn answered(&self, guard: &Guard, status: StatusCode) {
        // A check of the health is no client.
        if guard.is_health_check() {
            return;
        }
        match &self.requests {
            Some(requests) if status.is_server_error() => requests.failed(),
            Some(requests) => requests.succeeded(),
            None => {}
        }
        if let Some(on_answer) = &self.on_answer {
            on_answer(status);
        }
    }
}

/// One server: its settings, and how long a connection is given to be idle.
pub(super) struct Server<M, H> {
    pub(super) make: M,
    pub(super) handshake: H,
    pub(super) settings: Settings,
    pub(super) hooks: Arc<Hooks>,
    /// How long a connection has to be silent in a drain before it is closed.
    pub(super) lame_duck: Duration,
    /// When HTTP/2 clients are told to go elsewhere: with a window not all at once.
    pub(super) goaway: DrainPhase,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drain::Drain;

    #[tokio::test]
    async fn answers_are_counted_and_those_to_health_checks_are_not() {
        let (drain, name) = (Drain::new(), "http".parse().unwrap());
        let requests = Requests::new();
        let hooks = Hooks { requests: Some(requests.clone()), ..Hooks::default() };
        let client = drain.guards(&name).take();
        let check = drain.guards(&name).guard_of_check(None);
        for status in [StatusCode::OK, StatusCode::NOT_FOUND, StatusCode::BAD_GATEWAY] {
            hooks.answered(&client, status);
            hooks.answered(&check, status);
        }
        assert_eq!(requests.totals(), (2, 1), "a client's own mistake is none of ours");
    }
}
