//! Whether a load balancer should send new connections, in the words of those who ask.

use std::fmt;
use std::sync::Arc;

use tokio::io::AsyncWriteExt;

use super::Running;
use crate::control::Accepting;
use crate::listener::{Listener, Transport};
use crate::service::Shared;

/// Whether new connections are welcome, to be asked again and again. Clones are the same.
///
/// It speaks for the service, whichever generation is asked: a probe may reach an elder over an old
/// connection, and the service is there all the same.
#[derive(Clone)]
pub struct Readiness {
    shared: Arc<Shared>,
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Readiness").field(&self.to_string()).finish()
    }
}

/// `ready`, or `not ready: ` and why: the body of an answer to a probe.
impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_ready() {
            return f.write_str("ready");
        }
        match *self.shared.accepting.borrow() {
            Accepting::Open => f.write_str("not ready: not serving yet"),
            accepting => write!(f, "not ready: {accepting}"),
        }
    }
}

impl Readiness {
    /// The same as [`Running::is_ready`].
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.shared.is_ready()
    }

    /// What an agent check of HAProxy is answered: `up ready` if new connections are welcome, else
    /// `drain`, with which HAProxy sends no new ones and leaves those alone that are there
    /// (`agent-check` in its configuration manual).
    #[must_use]
    pub fn agent_words(&self) -> &'static str {
        if self.is_ready() { "up ready\n" } else { "drain\n" }
    }
}

impl Running {
    /// [`is_ready`](Self::is_ready) as something to hand to whoever answers probes.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        Readiness { shared: Arc::clone(&self.shared) }
    }

    /// Answers HAProxy's agent checks on a listener of their own: every connection gets
    /// [`Readiness::agent_words`] and is closed.
    ///
    /// The listener is handed on, paused and drained like any other. So the last word before a
    /// pause is the one that HAProxy goes by: [`Config::stop_notice`](crate::Config::stop_notice)
    /// should be a few times its `agent-inter`. An agent that does not answer changes nothing for
    /// HAProxy.
    ///
    /// ```no_run
    /// # async fn serve(start: heirloom::Starting) -> heirloom::Result<()> {
    /// let agent = start.tcp("agent", "127.0.0.1:8081").await?;
    /// let running = start.ready().await?;
    /// running.answer_agent(agent); // server shop 127.0.0.1:8080 check agent-check agent-port 8081
    /// # Ok(()) }
    /// ```
    pub fn answer_agent<T: Transport>(&self, listener: Listener<T>)
    where
        T::Stream: tokio::io::AsyncWrite + Unpin,
    {
        self.accept_loop_with(listener, self.readiness(), async |readiness, mut connection| {
            // It may have gone.
            let _ = connection.write_all(readiness.agent_words().as_bytes()).await;
            let _ = connection.shutdown().await;
        });
    }
}

#[cfg(test)]
mod tests {
    use crate::Config;

    #[tokio::test]
    async fn a_probe_is_told_why_not() {
        let config = Config::new("test").upgrade_signal(None).stop_signals([]);
        let running = config.start().await.unwrap().ready().await.unwrap();
        let readiness = running.readiness();
        assert_eq!(
            (readiness.to_string().as_str(), readiness.agent_words()),
            ("ready", "up ready\n")
        );
        running.pause().await.unwrap();
        assert_eq!(readiness.to_string(), "not ready: paused");
        running.resume().await.unwrap();
        assert!(readiness.is_ready());
        running.stop().await;
        running.finished().await.unwrap();
        assert_eq!(readiness.to_string(), "not ready: stopping");
        assert_eq!(readiness.agent_words(), "drain\n");
    }
}
