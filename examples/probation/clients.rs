//! Clients that come one after the other, whatever happens to those before them: each connects,
//! asks once and goes, and never retries.

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::Failure;
use crate::trial::now;

/// A client that waits so long for an answer calls it a failure.
pub(crate) const PATIENCE: Duration = Duration::from_millis(500);
/// From one client to the next.
const PACE: Duration = Duration::from_millis(1);

/// One question, by the clock of [`now`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    /// When the client connected.
    pub(crate) at: Duration,
    /// When it had its answer, or gave up.
    pub(crate) ended: Duration,
    /// The generation that answered well.
    pub(crate) good: Option<u64>,
}

/// All clients, in a thread of their own.
pub(crate) struct Clients {
    stop: oneshot::Sender<()>,
    asked: Receiver<Asked>,
}

impl Clients {
    pub(crate) fn start(address: SocketAddr) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let (tell, asked) = channel();
        std::thread::spawn(move || {
            runtime.block_on(async {
                let come = async {
                    let mut clock = interval(PACE);
                    clock.set_missed_tick_behavior(MissedTickBehavior::Skip);
                    loop {
                        clock.tick().await;
                        let tell = tell.clone();
                        tokio::spawn(async move {
                            let at = now();
                            let answer = timeout(PATIENCE, ask(address)).await;
                            let good = answer.ok().and_then(Result::ok).flatten();
                            let _ = tell.send(Asked { at, ended: now(), good });
                        });
                    }
                };
                tokio::select! {
                    () = come => {}
                    _ = stopped => {}
                }
                // Those who still wait are answered, or give up.
                tokio::time::sleep(PATIENCE).await;
            });
        });
        Ok(Self { stop, asked })
    }

    /// Everything that was asked.
    pub(crate) fn finish(self) -> Vec<Asked> {
        let _ = self.stop.send(());
        self.asked.into_iter().collect()
    }
}

/// The generation that answered with 200, or none for another status.
async fn ask(address: SocketAddr) -> io::Result<Option<u64>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: probation\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let head = answer.strip_prefix("HTTP/1.1 200 ").ok_or(io::ErrorKind::InvalidData)?;
    let header = head.lines().find_map(|line| line.strip_prefix("x-generation: "));
    Ok(header.and_then(|number| number.parse().ok()))
}
