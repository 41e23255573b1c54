//! Clients with long sessions: numbered lines, each of which must come back once.
//!
//! The protocol: the server greets with `HELLO <generation> <pid>`, then gives every line back.
//! When it wants to go it says `BYE` between two lines; the client sends no more, ends its side,
//! reads to the end, and opens a new session. Any other end of a session is a cut.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpStream, UnixStream};

use super::pace::Dice;
use super::{Client, FromServer, PATIENCE, ask};
use crate::ledger::{Counts, Kind};
use crate::trouble::{Class, Trouble};

/// The least and the most time between two lines, in milliseconds.
const THINK: (u64, u64) = (20, 80);

/// Lines a second that one session makes, about.
pub(crate) const RATE: f64 = 20.0;

/// A session: its connection, and who greeted us.
pub(crate) struct Session<S> {
    stream: BufReader<S>,
    /// What has come of the next line, so that a cancelled read loses nothing.
    partial: Vec<u8>,
    generation: u64,
    pid: i32,
    told_to_go: bool,
}

/// An echo that came back, and who gave it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Echo {
    generation: u64,
    pid: i32,
}

impl FromServer for Echo {
    fn generation(&self) -> u64 {
        self.generation
    }
    fn pid(&self) -> i32 {
        self.pid
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    /// A session on this connection, once the server has greeted.
    pub(crate) async fn greeted(stream: S) -> Result<Self, Trouble> {
        let stream = BufReader::new(stream);
        let mut session =
            Self { stream, partial: Vec::new(), generation: 0, pid: 0, told_to_go: false };
        let hello = session.line().await?;
        let mut words = hello.split(' ');
        let greeting = (words.next(), words.next(), words.next());
        let (Some("HELLO"), Some(generation), Some(pid)) = greeting else {
            return Err(Trouble::new(Class::BadAnswer, format!("greeted with {hello:?}")));
        };
        let wrong = |_| Trouble::new(Class::BadAnswer, format!("greeted with {hello:?}"));
        session.generation = generation.parse().map_err(wrong)?;
        session.pid = pid.parse().map_err(wrong)?;
        Ok(session)
    }

    /// Sends a numbered line and waits until it comes back. A `BYE` before it is noted.
    pub(crate) async fn echo(&mut self, number: u64) -> Result<Echo, Trouble> {
        let sent = self.stream.get_mut().write_all(format!("{number}\n").as_bytes()).await;
        sent.map_err(|error| Trouble::from(error).with_line_outstanding())?;
        loop {
            let line = self.line().await.map_err(Trouble::with_line_outstanding)?;
            if line == "BYE" {
                self.told_to_go = true;
            } else if line.parse() == Ok(number) {
                return Ok(Echo { generation: self.generation, pid: self.pid });
            } else {
                return Err(unexpected(&line, number));
            }
        }
    }

    /// Waits until the server says `BYE`; anything else that it says is wrong now.
    async fn told(&mut self, last: u64) -> Result<(), Trouble> {
        let line = self.line().await?;
        if line != "BYE" {
            return Err(unexpected(&line, last + 1));
        }
        self.told_to_go = true;
        Ok(())
    }

    /// Ends our side and reads to the end, which must come without another word but `BYE`.
    async fn end(mut self, last: u64) -> Result<(), Trouble> {
        self.stream.get_mut().shutdown().await?;
        loop {
            match self.line().await {
                Ok(line) if line == "BYE" => {}
                Ok(line) => return Err(unexpected(&line, last + 1)),
                Err(trouble) if trouble.class == Class::Closed => return Ok(()),
                Err(trouble) => return Err(trouble),
            }
        }
    }

    /// The next whole line. Cancel safe.
    async fn line(&mut self) -> Result<String, Trouble> {
        self.stream.read_until(b'\n', &mut self.partial).await?;
        let line = std::mem::take(&mut self.partial);
        match line.strip_suffix(b"\n") {
            Some(whole) => Ok(String::from_utf8_lossy(whole).into_owned()),
            None => Err(Trouble::new(Class::Closed, "the session ended")),
        }
    }
}

/// A line that is not the one that was due.
fn unexpected(line: &str, due: u64) -> Trouble {
    let class = match line.parse::<u64>() {
        Ok(number) if number < due => Class::Twice,
        Ok(_) => Class::Lost,
        Err(_) => Class::BadAnswer,
    };
    Trouble::new(class, format!("{line:?} came where {due} was due"))
}

/// Holds one session after another until the load ends.
pub(crate) async fn run(mut client: Client, kind: Kind, seed: usize) {
    let mut dice = Dice::new(seed);
    client.pause(dice.millis(0, THINK.1)).await;
    while !client.stopping() {
        let addresses = client.addresses.clone();
        let ended = match kind {
            Kind::UnixEcho => match connected(UnixStream::connect(&addresses.unix)).await {
                Ok(session) => hold(&mut client, kind, session, &mut dice).await,
                Err(trouble) => Err(trouble),
            },
            _ => match connected(TcpStream::connect(addresses.echo)).await {
                Ok(session) => hold(&mut client, kind, session, &mut dice).await,
                Err(trouble) => Err(trouble),
            },
        };
        if let Err(trouble) = ended {
            Counts::add(&client.ledger.counts().cut);
            client.let_down(kind, trouble).await;
        }
    }
}

/// Connects and waits for the greeting.
async fn connected<S: AsyncRead + AsyncWrite + Unpin>(
    connect: impl Future<Output = std::io::Result<S>>,
) -> Result<Session<S>, Trouble> {
    in_time(async { Session::greeted(connect.await?).await }).await
}

/// Exchanges lines until the server says `BYE` or the load ends; the session then ends in order.
async fn hold<S: AsyncRead + AsyncWrite + Unpin>(
    client: &mut Client,
    kind: Kind,
    mut session: Session<S>,
    dice: &mut Dice,
) -> Result<(), Trouble> {
    let mut number = 0;
    while !session.told_to_go && !client.stopping() {
        number += 1;
        if ask(client, kind, Duration::ZERO, session.echo(number)).await.is_none() {
            // The failure is in the book already; the session is of no more use.
            Counts::add(&client.ledger.counts().cut);
            return Ok(());
        }
        if !session.told_to_go {
            tokio::select! {
                () = client.pause(dice.millis(THINK.0, THINK.1)) => {}
                told = session.told(number) => told?,
            }
        }
    }
    let told_to_go = session.told_to_go;
    in_time(session.end(number)).await?;
    if told_to_go {
        Counts::add(&client.ledger.counts().drained);
    }
    Ok(())
}

/// A step with the deadline that every step has.
async fn in_time<T>(step: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
    match tokio::time::timeout(PATIENCE, step).await {
        Ok(result) => result,
        Err(_) => Err(Trouble::new(Class::Timeout, format!("no word in {PATIENCE:?}"))),
    }
}
