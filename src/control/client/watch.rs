//! Watching a service over its upgrades.

use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::{Instant, timeout};

use super::exchange::{Told, told};
use super::{Client, unexpected};
use crate::control::message::{Command, News};
use crate::error::{Error, ErrorKind, Result};

/// A service that runs says something every second.
const SILENCE: Duration = Duration::from_secs(10);

/// What happens to a service, as it happens; [`Client::watch`] begins it.
#[derive(Debug)]
pub struct Watch {
    pub(super) client: Client,
    pub(super) stream: UnixStream,
}

impl Watch {
    /// The next news. It goes on over upgrades, with whoever owns then.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NobodyThere`] when the service has ended, [`ErrorKind::Timeout`] when it has said
    /// nothing for 10 s, as one that is stopped or hangs, and as [all methods](Client).
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: what has been read of the next news is lost.
    pub async fn next(&mut self) -> Result<News> {
        loop {
            let Ok(heard) = timeout(SILENCE, told(&mut self.stream)).await else {
                let text = format!("no news from the service for {SILENCE:?}");
                return Err(Error::new(ErrorKind::Timeout, text));
            };
            let again = match heard {
                Ok(Some(Told::News(news))) => return Ok(news),
                Ok(Some(Told::Last(last))) => match Result::from(last) {
                    Ok(answer) => return Err(unexpected(&answer)),
                    Err(error) if error.kind() == ErrorKind::PassedOn => error,
                    Err(error) => return Err(error),
                },
                Ok(None) => Error::new(ErrorKind::Link, "the service went away"),
                Err(error) if error.kind() == ErrorKind::Link => error,
                Err(error) => return Err(error),
            };
            let deadline = Instant::now() + self.client.short;
            self.stream = self
                .client
                .send(Command::Watch, deadline)
                .await
                .map_err(|error| if error.kind() == ErrorKind::Link { again } else { error })?;
        }
    }
}
