//! Pausing a framework that cannot be paused, as long as it accepts in a future.

use std::io;
use std::pin::pin;

use heirloom::Pause;
use tokio::sync::{mpsc, oneshot};

type Turn = (Accepting, oneshot::Sender<()>);

#[derive(Clone, Copy, PartialEq)]
enum Accepting {
    No,
    Yes,
}

/// Tells a [`Pausable`] what to do, and waits until it has done so.
pub struct Switch(mpsc::Sender<Turn>);

/// Runs a server's accept loop, and leaves it alone for as long as it is to pause.
///
/// It must not serve its connections as well: they have tasks of their own.
pub struct Pausable(mpsc::Receiver<Turn>);

pub fn pausable() -> (Switch, Pausable) {
    let (tell, told) = mpsc::channel(1);
    (Switch(tell), Pausable(told))
}

impl Switch {
    async fn turn(&self, accepting: Accepting) -> io::Result<()> {
        let gone = || io::Error::other("the server has ended");
        let (done, acknowledged) = oneshot::channel();
        self.0.send((accepting, done)).await.map_err(|_| gone())?;
        acknowledged.await.map_err(|_| gone())
    }
}

impl Pause for Switch {
    async fn pause(&mut self) -> io::Result<()> {
        self.turn(Accepting::No).await
    }

    async fn resume(&mut self) -> io::Result<()> {
        self.turn(Accepting::Yes).await
    }
}

impl Pausable {
    /// The server's output, once it has one. From `shutdown` on the server is never left alone, so
    /// that it can end.
    pub async fn run<F: Future>(mut self, server: F, shutdown: impl Future) -> F::Output {
        let (mut server, mut shutdown) = (pin!(server), pin!(shutdown));
        let mut accepting = Accepting::Yes;
        loop {
            tokio::select! {
                biased;
                _ = &mut shutdown => return server.await,
                // The server is not polled again before it is told so: no accept is in flight.
                Some((turn, done)) = self.0.recv() => {
                    accepting = turn;
                    // Whoever asked may have given up waiting.
                    let _ = done.send(());
                }
                output = &mut server, if accepting == Accepting::Yes => return output,
            }
        }
    }
}
