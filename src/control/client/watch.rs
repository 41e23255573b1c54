//! Watching a service over its upgrades.

use tokio::net::UnixStream;
use tokio::time::Instant;

use super::exchange::{Told, told};
use super::{Client, unexpected};
use crate::control::message::{Command, News};
use crate::error::{Error, ErrorKind, Result};

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
    /// [`ErrorKind::NobodyThere`] when the service has ended, and as [all methods](Client).
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: what has been read of the next news is lost.
    pub async fn next(&mut self) -> Result<News> {
        loop {
            let again = match told(&mut self.stream).await {
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
