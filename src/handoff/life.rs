//! Whether any newer generation lives, as an elder can tell without a word from it.
//!
//! **Contract:** the far end of a pipe goes from owner to owner and is closed by the kernel alone,
//! with the last process that holds it. Nothing is ever said over it, so nothing that is said, and no
//! `shutdown(2)` of the link, can be taken for the end of all newer generations.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::net::unix::pipe::Receiver;

use crate::error::{Error, ErrorKind, Result};

/// The near end.
#[derive(Debug)]
pub(crate) struct Life {
    near: Receiver,
}

impl Life {
    /// Both ends; the far one is for the successor, and must not stay open here. To be called in a
    /// runtime with I/O enabled.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] if no pipe can be had.
    pub(crate) fn new() -> Result<(Self, Arc<OwnedFd>)> {
        let wrong = |error: std::io::Error| {
            Error::new(ErrorKind::Io, "a pipe for the successor's life").with_source(error)
        };
        let (near, far) = std::io::pipe().map_err(wrong)?;
        let near = Receiver::from_owned_fd(near.into()).map_err(wrong)?;
        Ok((Self { near }, Arc::new(far.into())))
    }

    /// Resolves when nobody holds the far end any more. Cancel safe.
    pub(crate) async fn ended(&self) {
        let mut ignored = [0; 64];
        loop {
            if self.near.readable().await.is_err() {
                // The runtime ends; that says nothing of anybody's life.
                return std::future::pending().await;
            }
            match self.near.try_read(&mut ignored) {
                Ok(0) => return,
                // Nobody should write to it.
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn it_ends_with_the_last_holder_of_the_far_end() {
        let (life, far) = Life::new().unwrap();
        let handed_on = far.try_clone().unwrap();
        drop(far);
        std::fs::File::from(handed_on.try_clone().unwrap()).write_all(b"garbage").unwrap();
        let early = tokio::time::timeout(Duration::from_millis(20), life.ended()).await;
        assert!(early.is_err(), "somebody holds it");
        drop(handed_on);
        tokio::time::timeout(Duration::from_secs(20), life.ended()).await.unwrap();
    }
}
