//! Connections that are asked once at the beginning and once at the end.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpStream;

use super::tally::{Counts, Kind, Run};
use super::wire::{After, Line, Method, connect};
use crate::Failure;

/// How many connections come from one address.
const FROM_ONE: usize = 4096;

/// Idle connections, which have been answered once.
pub(crate) struct Idle {
    lines: Vec<Line<TcpStream>>,
}

impl Idle {
    pub(crate) async fn open(to: SocketAddr, count: usize, run: &Run) -> Result<Self, Failure> {
        let mut lines = Vec::with_capacity(count);
        for number in 0..count {
            let part = u8::try_from(number / FROM_ONE)?;
            let opened = async {
                let from = Ipv4Addr::new(127, 3, 0, part + 1);
                let mut line = Line::new(connect(to, Some(from)).await?);
                line.ask(Method::Get, run.number(), After::Open).await?;
                Ok::<_, super::fault::Fault>(line)
            };
            let line = opened.await.map_err(|fault| {
                format!("idle connection {number} could not be opened: {}", fault.name())
            })?;
            lines.push(line);
        }
        Ok(Self { lines })
    }

    /// Asks all of them, on the connection that they have.
    pub(crate) async fn close(self, run: &Run) {
        let mut counts = Counts::default();
        for mut line in self.lines {
            counts.connections += 1;
            if line.is_over() {
                counts.closed_idle += 1;
                continue;
            }
            match line.ask(Method::Get, run.number(), After::Open).await {
                Ok(answer) => {
                    counts.answered += 1;
                    run.answer();
                    counts.told += u64::from(answer.after == After::Ends);
                }
                Err(fault) => counts.fault(fault),
            }
        }
        run.ended(Kind::Idle, &counts, Vec::new());
    }
}
