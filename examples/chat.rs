//! How does a connection survive an upgrade that its client must not notice?
//!
//! Here is a chat: everybody hears what anybody says. At an upgrade each session goes to the next
//! generation, with its name and with what was read of its next line, and goes on there. No line is
//! lost, none is heard twice, nobody has to come back.
//!
//! While an upgrade is in probation there are two rooms: who came before it talks in the old one, who
//! comes during it in the new one, and what is said in one is not heard in the other.
//!
//! ```text
//! cargo run --example chat
//! nc 127.0.0.1 7200                    # in a second and a third terminal; your name comes first
//! kill -HUP $(cat /tmp/heirloom-chat.pid)
//! ```
//!
//! The log says how many sessions have moved. Say `/where` to hear which process you talk to.

use std::io;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use heirloom::{Config, DrainPhase, NotMoved, Outcome, Role, Running, Session};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::sync::watch;

/// The kind of our sessions, and the version of their state: the name, in UTF-8.
const KIND: &str = "chat";
const VERSION: u32 = 1;

/// What was said, in order. Everybody hears it from some line on.
#[derive(Default)]
struct Room {
    book: Mutex<Book>,
    /// How many lines there are.
    length: watch::Sender<usize>,
}

#[derive(Default)]
struct Book {
    lines: Vec<Arc<str>>,
    /// Everybody is moving: what is said now is for the next generation to tell.
    closed: bool,
    /// The first line that those hear who come from the generation before: they arrive one after
    /// the other, and must not miss what the first of them says.
    arrivals: Option<usize>,
}

/// What each session needs.
#[derive(Clone)]
struct Chat {
    room: Arc<Room>,
    running: Running,
}

fn main() -> ExitCode {
    tracing_subscriber::fmt().log_internal_errors(false).with_writer(std::io::stderr).init();
    let mut listen = String::from("127.0.0.1:7200");
    let mut probation = Duration::from_secs(5);
    let mut pid_file = std::env::temp_dir().join("heirloom-chat.pid");
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        match (flag.as_str(), args.next()) {
            ("--listen", Some(address)) => listen = address,
            ("--pid-file", Some(path)) => pid_file = path.into(),
            ("--probation", Some(time)) if time.parse::<u32>().is_ok() => {
                probation = Duration::from_millis(time.parse().unwrap_or_default());
            }
            _ => {
                tracing::error!("usage: chat [--listen ADDR] [--probation MS] [--pid-file PATH]");
                return ExitCode::from(2);
            }
        }
    }
    heirloom::run(
        Config::new("chat").pid_file(pid_file).probation(probation),
        async move |start| -> heirloom::Result<Outcome> {
            let listener = start.tcp("chat", listen).await?;
            let running = start.ready().await?;
            let chat = Chat { room: Arc::default(), running: running.clone() };
            // Sessions of the generation before come once this one owns.
            let arriving = chat.clone();
            running.on_session(KIND, VERSION..=VERSION, move |session| {
                let hears_from = arriving.room.arrives();
                serve(arriving.clone(), session, hears_from)
            })?;
            // Also when every newer generation has died, and this one owns again.
            let back = chat.room.clone();
            running.on_roll_back(move || {
                back.reopen();
                async {}
            });
            running.accept_loop_with(listener, chat, async |chat, conn| {
                let (stream, guard) = conn.into_parts();
                let session = Session::new(KIND, VERSION, stream, guard)?;
                let hears_from = chat.room.length();
                serve(chat, session, hears_from)
                    .await
                    .map_err(Box::<dyn std::error::Error + Send + Sync>::from)
            });
            let outcome = running.finished().await?;
            if let Outcome::HandedOver(drain) = &outcome {
                tracing::info!(moved = drain.moved, ended = drain.drained, "handed over");
            }
            Ok(outcome)
        },
    )
}

/// One session, until its client goes or the next generation has it.
async fn serve(chat: Chat, session: Session, mut heard: usize) -> io::Result<()> {
    let guard = session.guard().clone();
    let mut name = String::from_utf8_lossy(session.state()).into_owned();
    let mut length = chat.room.length.subscribe();
    let mut reader = BufReader::new(session);
    let mut line = Vec::new();
    let (mut moves, mut parts) = (true, false);
    loop {
        tokio::select! {
            biased;
            // The upgrade has committed, or the service stops.
            () = guard.reached(DrainPhase::LameDuck), if moves => {
                chat.room.close();
                reader.write_all(&chat.room.since(&mut heard)).await?;
                line.extend_from_slice(reader.buffer());
                let mut session = reader.into_inner();
                session.unread(&std::mem::take(&mut line));
                session.set_state(name.clone());
                reader = match chat.running.hand_off(session).await {
                    Ok(()) => return Ok(()),
                    // It stays, among those that stay, until the drain's deadline. At a stop
                    // there is nobody to take it, and nothing to wait for.
                    Err(NotMoved::Declined { session, reason }) => {
                        (moves, parts) = (false, chat.running.status().role == Role::Stopping);
                        if !parts {
                            tracing::warn!(reason, "a session stays");
                        }
                        BufReader::new(*session)
                    }
                    Err(lost) => return Err(io::Error::other(lost)),
                };
                continue;
            }
            () = guard.reached(DrainPhase::Graceful), if parts => {
                return reader.write_all(b"* the service stops\n").await;
            }
            Ok(()) = length.changed() => {
                reader.write_all(&chat.room.since(&mut heard)).await?;
                continue;
            }
            read = reader.read_until(b'\n', &mut line) => {
                if read? == 0 || !line.ends_with(b"\n") {
                    return Ok(());
                }
            }
        }
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        if name.is_empty() {
            guard.set_name(text.clone());
            name = text;
        } else if text == "/where" {
            let here = format!("* generation {}\n", chat.running.generation());
            reader.write_all(here.as_bytes()).await?;
        } else if !chat.room.say(&format!("{name}: {text}\n"), moves) {
            // Everybody is moving: the line goes along, and is said over there.
            guard.reached(DrainPhase::LameDuck).await;
            continue;
        }
        line.clear();
    }
}

impl Room {
    /// False if everybody is moving, whoever says it among them.
    fn say(&self, line: &str, moves: bool) -> bool {
        let mut book = self.book.lock().expect("nobody panics with it");
        let said = !(moves && book.closed);
        if said {
            book.lines.push(line.into());
            self.length.send_replace(book.lines.len());
        }
        said
    }

    /// What was said since then. A room that lives for long would forget its oldest lines.
    fn since(&self, heard: &mut usize) -> Vec<u8> {
        let book = self.book.lock().expect("nobody panics with it");
        let lines = book.lines[*heard..].iter().flat_map(|line| line.bytes()).collect();
        *heard = book.lines.len();
        lines
    }

    fn length(&self) -> usize {
        self.book.lock().expect("nobody panics with it").lines.len()
    }

    fn arrives(&self) -> usize {
        let mut book = self.book.lock().expect("nobody panics with it");
        let now = book.lines.len();
        *book.arrivals.get_or_insert(now)
    }

    fn reopen(&self) {
        self.book.lock().expect("nobody panics with it").closed = false;
    }

    /// From here on nothing is said, and everybody can hear the rest before moving.
    fn close(&self) {
        self.book.lock().expect("nobody panics with it").closed = true;
    }
}
