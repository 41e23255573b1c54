//! Clients on keep-alive connections: one request after the other, with a thought in between.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::fault::Fault;
use super::tally::{Counts, Kind, Run, Sample};
use super::tls;
use super::wire::{After, Line, Method, connect};

/// How a client behaves.
#[derive(Clone, Copy)]
pub(crate) struct Busy {
    pub(crate) to: SocketAddr,
    pub(crate) from: Option<Ipv4Addr>,
    pub(crate) method: Method,
    pub(crate) thought: Duration,
}

impl Busy {
    /// Asks until the run ends.
    pub(crate) async fn plain(self, run: Arc<Run>) {
        let mut client = Client::new(self, run);
        while client.run.goes_on() {
            let asked = match connect(self.to, self.from).await {
                Ok(stream) => client.connection(stream).await,
                Err(fault) => Err(fault),
            };
            client.note(asked).await;
        }
        client.run.ended(Kind::KeepAlive, &client.counts, client.samples);
    }

    /// The same over TLS.
    pub(crate) async fn tls(self, run: Arc<Run>, connector: tls::Connector) {
        let mut client = Client::new(self, run);
        while client.run.goes_on() {
            let asked = match self.secure(&connector).await {
                Ok(stream) => client.connection(stream).await,
                Err(fault) => Err(fault),
            };
            client.note(asked).await;
        }
        client.run.ended(Kind::Tls, &client.counts, client.samples);
    }

    async fn secure(self, connector: &tls::Connector) -> Result<TlsStream<TcpStream>, Fault> {
        let stream = connect(self.to, self.from).await?;
        connector.connect(stream).await.map_err(|error| Fault::from(&error))
    }
}

struct Client {
    busy: Busy,
    run: Arc<Run>,
    counts: Counts,
    samples: Vec<Sample>,
}

/// The pause after a fault, so that a server that is gone is not asked a million times.
const BREATH: Duration = Duration::from_millis(5);

impl Client {
    fn new(busy: Busy, run: Arc<Run>) -> Self {
        Self { busy, run, counts: Counts::default(), samples: Vec::new() }
    }

    async fn note(&mut self, asked: Result<(), Fault>) {
        if let Err(fault) = asked {
            self.counts.fault(fault);
            tokio::time::sleep(BREATH).await;
        }
    }

    /// One connection, until it ends or fails.
    async fn connection<S>(&mut self, stream: S) -> Result<(), Fault>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut line = Line::new(stream);
        self.counts.connections += 1;
        while self.run.goes_on() {
            if line.is_over() {
                if line.unasked() {
                    return Err(Fault::Doubled);
                }
                self.counts.closed_idle += 1;
                return Ok(());
            }
            let began = Instant::now();
            let answer = line.ask(self.busy.method, self.run.number(), After::Open).await?;
            self.samples
                .push(Sample { at: began.duration_since(self.run.began), took: began.elapsed() });
            self.counts.answered += 1;
            self.run.answer();
            if answer.after == After::Ends {
                self.counts.told += 1;
                return line.rest().await;
            }
            if !self.busy.thought.is_zero() {
                tokio::time::sleep(self.busy.thought).await;
            }
        }
        Ok(())
    }
}
