//! Which clients come together.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::busy::Busy;
use super::http2::http2;
use super::idle::Idle;
use super::paced::paced;
use super::short::short;
use super::tally::Run;
use super::tls::Connector;
use super::websocket::websocket;
use super::wire::Method;
use crate::Failure;
use crate::peer::Server;

/// How many of each kind.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mix {
    /// Keep-alive clients; a quarter each thinks for 0, 1, 5 and 20 ms, and half of them POST.
    pub(crate) busy: usize,
    /// Keep-alive clients that do not think.
    pub(crate) eager: usize,
    pub(crate) idle: usize,
    pub(crate) tls: usize,
    /// HTTP/2 connections, with four requests at once.
    pub(crate) http2: usize,
    pub(crate) websockets: usize,
    /// Connect, ask, close, without a pause.
    pub(crate) short: usize,
    /// Clients at a fixed rate of 100 a second.
    pub(crate) paced: usize,
}

impl Mix {
    /// The mixed load, as far as the peer speaks it.
    pub(crate) fn of(server: &Server) -> Self {
        let more = server.peer.speaks_more();
        Self {
            busy: 100,
            idle: 1000,
            tls: if more { 20 } else { 0 },
            http2: if more { 4 } else { 0 },
            websockets: if server.peer.speaks_websocket() { 20 } else { 0 },
            ..Self::default()
        }
    }
}

/// Clients at work.
pub(crate) struct Clients {
    pub(crate) run: Arc<Run>,
    tasks: JoinSet<()>,
    idle: Idle,
}

const THOUGHTS: [u64; 4] = [0, 1, 5, 20];

/// The interval of a client at a fixed rate.
const EVERY: Duration = Duration::from_millis(10);

impl Clients {
    pub(crate) async fn start(server: &Server, mix: Mix) -> Result<Self, Failure> {
        let run = Run::new();
        let arguments = &server.arguments;
        let http = arguments.http()[0];
        let idle = Idle::open(http, mix.idle, &run).await?;
        let mut tasks = JoinSet::new();
        for number in 0..mix.busy {
            tasks.spawn(busy(http, number).plain(Arc::clone(&run)));
        }
        for number in 0..mix.eager {
            let eager = Busy { method: Method::Get, thought: Duration::ZERO, ..busy(http, number) };
            tasks.spawn(eager.plain(Arc::clone(&run)));
        }
        let connector = Connector::new();
        for number in 0..mix.tls {
            let client =
                Busy { thought: Duration::from_millis(5), ..busy(arguments.tls(), number) };
            tasks.spawn(client.tls(Arc::clone(&run), connector.clone()));
        }
        for _ in 0..mix.http2 {
            tasks.spawn(http2(arguments.http2(), 4, Arc::clone(&run)));
        }
        for _ in 0..mix.websockets {
            tasks.spawn(websocket(http, Arc::clone(&run)));
        }
        for number in 0..mix.short {
            tasks.spawn(short(http, from(number), Arc::clone(&run)));
        }
        for number in 0..mix.paced {
            let offset = EVERY * u32::try_from(number)? / u32::try_from(mix.paced)?;
            tasks.spawn(paced(http, EVERY, offset, Arc::clone(&run)));
        }
        Ok(Self { run, tasks, idle })
    }

    /// Ends the load, and asks the idle connections.
    pub(crate) async fn finish(mut self) -> Arc<Run> {
        self.run.stop();
        while self.tasks.join_next().await.is_some() {}
        self.idle.close(&self.run).await;
        self.run
    }
}

fn busy(to: SocketAddr, number: usize) -> Busy {
    let method = if number.is_multiple_of(2) { Method::Get } else { Method::Post };
    let thought = Duration::from_millis(THOUGHTS[number / 2 % THOUGHTS.len()]);
    Busy { to, from: Some(from(number)), method, thought }
}

/// Each client has an address of its own.
fn from(number: usize) -> Ipv4Addr {
    let low = u8::try_from(number % 250).unwrap_or_default();
    Ipv4Addr::new(127, 1, 0, low + 1)
}
