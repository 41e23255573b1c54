//! One check, as the application sets it.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::num::NonZeroU32;
use std::ops::{Bound, RangeBounds};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::candidate::Candidate;
use super::http::Question;
use super::vitals::Thresholds;
use crate::error::{Error, ErrorKind, Result};
use crate::name::Name;

type Answer = Pin<Box<dyn Future<Output = Result<(), Box<dyn StdError + Send + Sync>>> + Send>>;

/// What a check asks.
#[derive(Clone)]
pub(super) enum What {
    Http { listener: String, question: Question },
    Tcp { listener: String, send: Arc<[u8]>, expect: Arc<[u8]> },
    Custom(Arc<dyn Fn(Candidate) -> Answer + Send + Sync>),
}

/// A question that the predecessor asks its successor while the successor is on probation.
///
/// It goes through the front door: to a listener by its name, as any client. Only an answer counts,
/// a bare connect proves nothing. For a `SO_REUSEPORT` group a round asks until every socket of the
/// group has answered. The application sees in [`Guard::is_health_check`] that a connection is no
/// client's, and no counter of this crate counts it.
///
/// [`unhealthy_threshold`](Self::unhealthy_threshold) failures in a row reject the successor at
/// once. A probation ends well only when every check has passed
/// [`healthy_threshold`](Self::healthy_threshold) times in a row.
///
/// When no answer comes at all because the service is full, a round counts neither way. That is so
/// if the predecessor's own check, made before it yielded, got no answer either; or if the
/// connection was not even accepted while the successor serves at least as many connections as the
/// predecessor did and goes on accepting or finishing them.
///
/// ```
/// use std::time::Duration;
/// use heirloom::HealthCheck;
///
/// let check = HealthCheck::http("main", "/healthz")
///     .expect_status(200..=204)
///     .timeout(Duration::from_millis(300));
/// ```
///
/// A listener that was handed to a framework with
/// [`into_raw_overlap`](crate::Listener::into_raw_overlap) cannot be checked, since both generations
/// accept on it; the report says so. One handed out with
/// [`into_raw_with`](crate::Listener::into_raw_with) can: there an answer is enough, and which socket
/// gave it is not known.
///
/// [`Guard::is_health_check`]: crate::Guard::is_health_check
#[derive(Clone)]
#[must_use = "a check does nothing until it is part of the configuration"]
pub struct HealthCheck {
    name: String,
    pub(super) what: What,
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
    healthy: NonZeroU32,
    unhealthy: NonZeroU32,
}

impl HealthCheck {
    fn new(name: String, what: What) -> Self {
        Self {
            name,
            what,
            interval: Duration::from_millis(500),
            timeout: Duration::from_secs(1),
            healthy: NonZeroU32::MIN,
            unhealthy: NonZeroU32::MIN.saturating_add(2),
        }
    }

    /// `GET path` in HTTP/1.1 (RFC 9112) to a TCP or Unix listener; any status from 200 to 299 is a
    /// good answer. `path` begins with `/` and is escaped as in a URL.
    ///
    /// `Host` is the address of the listener, or `localhost` on a Unix socket. Only the status is
    /// looked at; the whole head has to come, at most 64 KiB of it. For HTTP/2 or TLS use
    /// [`custom`](Self::custom).
    pub fn http(listener: impl Into<String>, path: impl Into<String>) -> Self {
        let (listener, path) = (listener.into(), path.into());
        let name = format!("http {listener:?} {path}");
        Self::new(name, What::Http { listener, question: Question::get(path) })
    }

    /// Sends some bytes and wants the answer to begin with others. Also for Unix listeners; on a
    /// sequential-packet one `send` is one record.
    ///
    /// Without anything to `send` the server speaks first. Without anything to `expect` any byte is
    /// a good answer; an end without one is none.
    pub fn tcp(
        listener: impl Into<String>,
        send: impl Into<Vec<u8>>,
        expect: impl Into<Vec<u8>>,
    ) -> Self {
        let listener = listener.into();
        let (send, expect) = (send.into().into(), expect.into().into());
        let name = format!("tcp {listener:?}");
        Self::new(name, What::Tcp { listener, send, expect })
    }

    /// Whatever you like: TLS, HTTP/2, a query of your protocol. An error, a panic, or no end
    /// within the [`timeout`](Self::timeout) is a failure.
    ///
    /// Connect through [`Candidate::connect`]: only then is the connection known to be a check, and
    /// the answer known to be the candidate's. For each listener that the closure connects to, it is
    /// called until every socket of its group has answered. A closure that never connects, and asks
    /// a metric say, is called once a round.
    ///
    /// It is called in the predecessor, in a task of its own, which ends at the timeout.
    ///
    /// ```
    /// use heirloom::{Candidate, HealthCheck};
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt};
    ///
    /// let check = HealthCheck::custom("redis", |candidate: Candidate| async move {
    ///     let mut stream = candidate.connect("redis").await?;
    ///     stream.write_all(b"PING\r\n").await?;
    ///     let mut answer = [0; 7];
    ///     stream.read_exact(&mut answer).await?;
    ///     if &answer == b"+PONG\r\n" { Ok(()) } else { Err(std::io::Error::other("no pong")) }
    /// });
    /// ```
    pub fn custom<F, Fut, E>(name: impl Into<String>, check: F) -> Self
    where
        F: Fn(Candidate) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let check = Arc::new(check);
        let boxed = move |candidate: Candidate| -> Answer {
            let check = Arc::clone(&check);
            // The closure is called in the task too, so that a panic in it is the task's.
            Box::pin(async move { check(candidate).await.map_err(Into::into) })
        };
        Self::new(name.into(), What::Custom(Arc::new(boxed)))
    }

    /// The statuses that are a good answer, 200 to 299 by default. Only for
    /// [`http`](Self::http); the others have no status, and nothing changes.
    pub fn expect_status(mut self, status: impl RangeBounds<u16>) -> Self {
        let first = match status.start_bound() {
            Bound::Included(first) => *first,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 100,
        };
        let last = match status.end_bound() {
            Bound::Included(last) => *last,
            Bound::Excluded(after) => after.saturating_sub(1),
            Bound::Unbounded => 599,
        };
        if let What::Http { question, .. } = &mut self.what {
            question.status = first..=last;
        }
        self
    }

    /// `Host` in the request. Only for [`http`](Self::http); for others nothing changes.
    pub fn host(mut self, host: impl Into<String>) -> Self {
        if let What::Http { question, .. } = &mut self.what {
            question.host = Some(host.into());
        }
        self
    }

    /// A further header of the request. Only for [`http`](Self::http); for others nothing changes.
    ///
    /// `Host`, `Connection` and those that frame a body cannot be set by it: that is found when the
    /// service starts.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        if let What::Http { question, .. } = &mut self.what {
            question.headers.push((name.into(), value.into()));
        }
        self
    }

    /// From the beginning of one round to that of the next, 500 ms by default. A round that takes
    /// longer is followed by the next at once; rounds of one check never overlap.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// The time for one connection, from before it is made to the end of its answer, 1 s by
    /// default.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Rounds in a row that have to pass, 1 by default.
    pub fn healthy_threshold(mut self, rounds: NonZeroU32) -> Self {
        self.healthy = rounds;
        self
    }

    /// Rounds in a row that have to fail for the turn to be taken back, 3 by default. A single
    /// failure only starts the [`healthy_threshold`](Self::healthy_threshold) anew.
    pub fn unhealthy_threshold(mut self, rounds: NonZeroU32) -> Self {
        self.unhealthy = rounds;
        self
    }

    /// What the check is called in reports and logs. By default it is made from what it does, as
    /// in `http "main" /healthz`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The listener that a built-in check asks.
    pub(super) fn listener(&self) -> Option<&str> {
        match &self.what {
            What::Http { listener, .. } | What::Tcp { listener, .. } => Some(listener),
            What::Custom(_) => None,
        }
    }

    pub(super) fn thresholds(&self) -> Thresholds {
        let (healthy, unhealthy) = (self.healthy, self.unhealthy);
        Thresholds { name: self.name.clone(), healthy, unhealthy }
    }

    /// Looks for settings that could never work.
    pub(super) fn validate(&self) -> Result<()> {
        let wrong = |what: &str| {
            Error::new(ErrorKind::Config, format!("health check {}: {what}", self.name))
        };
        if self.interval.is_zero() {
            return Err(wrong("an interval of zero would never rest; give one above it"));
        }
        if self.timeout.is_zero() {
            return Err(wrong("a timeout of zero leaves no time for an answer"));
        }
        if let Some(listener) = self.listener() {
            listener.parse::<Name>().map_err(|error| wrong("its listener").with_source(error))?;
        }
        match &self.what {
            What::Http { question, .. } => {
                question.wrong().map_or(Ok(()), |text| Err(wrong(&text)))
            }
            What::Tcp { .. } | What::Custom(_) => Ok(()),
        }
    }
}

impl fmt::Debug for HealthCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HealthCheck")
            .field("name", &self.name)
            .field("interval", &self.interval)
            .field("timeout", &self.timeout)
            .field("healthy_threshold", &self.healthy)
            .field("unhealthy_threshold", &self.unhealthy)
            .finish_non_exhaustive()
    }
}
