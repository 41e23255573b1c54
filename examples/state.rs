//! How does what a server holds in memory survive an upgrade, without a moment of standstill?
//!
//! Here is a small store of keys and values. Its contents go to the next generation in two parts:
//! all of it while both processes run and this one still serves, and what has changed since in the
//! moment in which the turn changes hands.
//!
//! ```text
//! cargo run --example state
//! printf 'set colour blue\nget colour\n' | nc -N 127.0.0.1 7100
//! kill -HUP $(cat /tmp/heirloom-state.pid)
//! printf 'get colour\n' | nc -N 127.0.0.1 7100
//! ```
//!
//! A roll back hands nothing back, so this server lets nobody write while a roll back is possible:
//! from `on_yield` on writers wait, and go on when it is known how the upgrade has ended. Try
//! `kill -9` on the new process within its probation of 2 s.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use heirloom::{Config, DrainPhase, Outcome, State, TcpConn};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::sync::watch;

/// The version of the store's format.
const FORMAT: u32 = 1;

/// Who may write.
#[derive(Clone, Copy, PartialEq)]
enum Writing {
    Allowed,
    /// It is not known yet who owns the store.
    Waits,
    /// The next generation owns it.
    Over,
}

struct Store {
    contents: Mutex<Contents>,
    writing: watch::Sender<Writing>,
}

#[derive(Default)]
struct Contents {
    values: BTreeMap<String, String>,
    /// Keys that were written since the last snapshot was taken.
    changed: BTreeSet<String>,
}

fn main() -> ExitCode {
    tracing_subscriber::fmt().log_internal_errors(false).with_writer(std::io::stderr).init();
    let mut listen = String::from("127.0.0.1:7100");
    let mut pid_file = std::env::temp_dir().join("heirloom-state.pid");
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        match (flag.as_str(), args.next()) {
            ("--listen", Some(address)) => listen = address,
            ("--pid-file", Some(path)) => pid_file = path.into(),
            _ => {
                tracing::error!("usage: state [--listen ADDR] [--pid-file PATH]");
                return ExitCode::from(2);
            }
        }
    }
    let config = Config::new("state").pid_file(pid_file).probation(Duration::from_secs(2));
    heirloom::run(config, async move |start| -> heirloom::Result<Outcome> {
        // Nobody may write before it is certain that this generation owns.
        let store = Arc::new(Store {
            contents: Mutex::default(),
            writing: watch::Sender::new(Writing::Waits),
        });
        // A state that cannot be read fails the upgrade, and the old generation serves on.
        if let Some(state) = start.take_versions("store", FORMAT..=FORMAT).await? {
            store.load(&state);
        }
        let all = Arc::clone(&store);
        let delta = Arc::clone(&store);
        let state = State::new(FORMAT, move |writer| all.write_all(writer))
            .delta(move |writer| delta.write_changed(writer));
        start.provide_with("store", state)?;
        let late = Arc::clone(&store);
        start.on_delta("store", move |state| {
            late.load(&state);
            async { io::Result::Ok(()) }
        })?;

        let listener = start.tcp("store", listen).await?;
        let running = start.ready().await?;
        let freeze = Arc::clone(&store);
        running.on_yield(move || {
            freeze.writing.send_replace(Writing::Waits);
            async { io::Result::Ok(()) }
        });
        // Owning begins at the start, at a commit, or again after a roll back.
        let (mut owner, turn) = (running.watch_owner(), running.clone());
        let owners = Arc::clone(&store);
        let thaw = move || {
            let now = if turn.is_owner() { Writing::Allowed } else { Writing::Over };
            owners.writing.send_replace(now);
        };
        running.on_roll_back({
            let thaw = thaw.clone();
            move || {
                thaw();
                async {}
            }
        });
        tokio::spawn(async move {
            while owner.wait_for(|owner| *owner).await.is_ok() {
                thaw();
                if owner.wait_for(|owner| !*owner).await.is_err() {
                    return;
                }
                thaw();
            }
        });
        running.accept_loop_with(listener, store, serve);
        running.finished().await
    })
}

impl Store {
    /// All of it, as it is now. What is written from here on belongs to the delta.
    fn write_all(&self, to: &mut impl Write) -> io::Result<()> {
        let values = {
            let mut contents = self.contents.lock().expect("nobody panics with it");
            contents.changed.clear();
            // A copy, so that readers and writers need not wait until it is written down.
            contents.values.clone()
        };
        values.iter().try_for_each(|(key, value)| writeln!(to, "{key} {value}"))
    }

    fn write_changed(&self, to: &mut impl Write) -> io::Result<()> {
        let contents = self.contents.lock().expect("nobody panics with it");
        let changed = contents.changed.iter();
        let mut changed = changed.filter_map(|key| contents.values.get_key_value(key));
        changed.try_for_each(|(key, value)| writeln!(to, "{key} {value}"))
    }

    fn load(&self, state: &[u8]) {
        let mut contents = self.contents.lock().expect("nobody panics with it");
        for line in String::from_utf8_lossy(state).lines() {
            if let Some((key, value)) = line.split_once(' ') {
                contents.values.insert(key.to_owned(), value.to_owned());
            }
        }
        tracing::info!(values = contents.values.len(), "loaded");
    }

    fn get(&self, key: &str) -> String {
        let contents = self.contents.lock().expect("nobody panics with it");
        contents.values.get(key).cloned().unwrap_or_default()
    }

    /// False if the next generation has to be asked.
    async fn set(&self, key: &str, value: &str) -> bool {
        let mut writing = self.writing.subscribe();
        loop {
            match writing.wait_for(|writing| *writing != Writing::Waits).await.map(|now| *now) {
                Ok(Writing::Over) | Err(_) => return false,
                Ok(_) => {}
            }
            let mut contents = self.contents.lock().expect("nobody panics with it");
            // Asked again under the lock that the delta takes.
            if *self.writing.borrow() == Writing::Allowed {
                contents.values.insert(key.to_owned(), value.to_owned());
                contents.changed.insert(key.to_owned());
                return true;
            }
        }
    }
}

async fn serve(store: Arc<Store>, mut conn: TcpConn) -> io::Result<()> {
    let guard = conn.guard().clone();
    let (read, mut write) = conn.split();
    let mut lines = BufReader::new(read).lines();
    loop {
        let line = tokio::select! {
            biased;
            line = lines.next_line() => line?,
            // What the client has sent by now is answered; then it has to come back.
            () = guard.reached(DrainPhase::Graceful) => None,
        };
        let Some(line) = line else { return Ok(()) };
        let answer = match line.split(' ').collect::<Vec<_>>()[..] {
            ["get", key] => store.get(key),
            ["set", key, value] if store.set(key, value).await => String::from("written"),
            ["set", ..] => String::from("not here any more: connect again"),
            _ => String::from("get KEY, or set KEY VALUE"),
        };
        write.write_all(format!("{answer}\n").as_bytes()).await?;
    }
}
