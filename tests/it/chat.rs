//! The chat of the examples, as in anybody's hands: everybody hears what anybody says, once and in
//! order, through every upgrade.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::process;
use crate::support::wait::{pause, until};

trials![
    p6_no_line_of_a_chat_is_lost_or_doubled_across_upgrades,
    a_stop_does_not_wait_for_guests_who_say_nothing,
];

const UPGRADES: usize = 4;

/// Those who talk without a pause; with more clients, the others listen.
const TALKERS: usize = 100;

/// How long the talk goes on between two upgrades.
const BETWEEN: Duration = Duration::from_millis(300);

/// The example, as it is built beside the tests.
struct Chat {
    directory: tempfile::TempDir,
    address: SocketAddr,
    first: Child,
}

impl Chat {
    fn start() -> Self {
        let tests = std::env::current_exe().unwrap();
        let program = tests.ancestors().nth(2).unwrap().join("examples/chat");
        assert!(program.exists(), "{} is not there: cargo build --examples", program.display());
        let directory = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let log = File::create(directory.path().join("log")).unwrap();
        let first = Command::new(program)
            .args(["--listen", &address.to_string(), "--probation", "200", "--pid-file"])
            .arg(directory.path().join("pid"))
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let chat = Self { directory, address, first };
        until("the chat to begin", || chat.pid());
        chat
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn pid(&self) -> Option<i32> {
        fs::read_to_string(self.path("pid")).ok()?.trim().parse().ok()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    /// What the elders have said that they handed over, and what ended there.
    fn handed_over(&self) -> Vec<(usize, usize)> {
        let log = self.log();
        let said = log.lines().filter(|line| line.contains("handed over"));
        said.map(|line| {
            let count = |word: &str| line.split(word).nth(1).unwrap().split(' ').next().unwrap();
            (count("moved=").parse().unwrap(), count("ended=").parse().unwrap())
        })
        .collect()
    }

    /// Upgrades, and waits until the elder has gone; how long that took from the commit on.
    fn upgrade(&self) -> Duration {
        let before = self.pid().unwrap();
        process::signal(before, Signal::SIGHUP);
        until("the next generation to own", || self.pid().filter(|pid| *pid != before));
        let began = Instant::now();
        let deadline = began + Duration::from_secs(120);
        while process::lives(before) && !process::is_zombie(before) {
            assert!(Instant::now() < deadline, "the elder does not end: {}", self.log());
            pause(Duration::from_millis(3));
        }
        began.elapsed()
    }
}

impl Drop for Chat {
    fn drop(&mut self) {
        if let Some(pid) = self.pid().filter(|pid| process::lives(*pid)) {
            process::signal(pid, Signal::SIGKILL);
        }
        let _ = self.first.kill();
        let _ = self.first.wait();
    }
}

/// Everybody in the room.
struct Guest {
    stream: BufReader<TcpStream>,
    name: String,
    talks: bool,
    /// How many lines were heard of whom.
    heard: BTreeMap<String, u64>,
    /// How many talkers have said their last word.
    silent: usize,
}

impl Guest {
    async fn join(address: SocketAddr, number: usize, talks: bool) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let name = format!("g{number}");
        let mut guest =
            Self { stream: BufReader::new(stream), name, talks, heard: BTreeMap::new(), silent: 0 };
        // Whoever has heard where it is hears everything from here on.
        guest.says(&format!("{}\n/where\n", guest.name)).await;
        assert!(guest.hears().await.starts_with("* generation "));
        guest
    }

    /// In two pieces, so that a part of a line is read ahead when it moves.
    async fn says(&mut self, text: &str) {
        let (early, late) = text.as_bytes().split_at(text.len() / 2);
        self.stream.write_all(early).await.unwrap();
        tokio::task::yield_now().await;
        self.stream.write_all(late).await.unwrap();
    }

    async fn hears(&mut self) -> String {
        let mut line = String::new();
        let read = self.stream.read_line(&mut line).await.unwrap();
        assert!(read > 0 && line.ends_with('\n'), "{}: closed after {line:?}", self.name);
        line
    }

    /// Talks until it is over, and listens until everybody has said the last word.
    async fn stay(mut self, talkers: usize, over: watch::Receiver<bool>) -> BTreeMap<String, u64> {
        let mut said_last = false;
        if self.talks {
            self.says("0 go\n").await;
        }
        while self.silent < talkers {
            let line = self.hears().await;
            let (name, rest) = line.trim_end().split_once(": ").unwrap();
            let (number, word) = rest.split_once(' ').unwrap();
            let heard = self.heard.entry(name.to_owned()).or_default();
            assert_eq!(number.parse(), Ok(*heard), "{} heard {line:?}", self.name);
            *heard += 1;
            self.silent += usize::from(word == "last");
            if name == self.name && !said_last {
                let next = *heard;
                said_last = *over.borrow();
                self.says(&format!("{next} {}\n", if said_last { "last" } else { "more" })).await;
            }
        }
        self.heard
    }
}

/// P6. With 100 clients, or as many as `HEIRLOOM_CHAT` says; then it also says what it took. Each
/// needs a descriptor in the test, in both generations and, while it moves, one more.
fn p6_no_line_of_a_chat_is_lost_or_doubled_across_upgrades() {
    let wanted = std::env::var("HEIRLOOM_CHAT").ok().and_then(|text| text.parse().ok());
    let count: usize = wanted.unwrap_or(TALKERS);
    let talkers = count.min(TALKERS);
    let chat = Chat::start();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (tell, over) = watch::channel(false);
    let guests = runtime.block_on(async {
        let mut guests = Vec::new();
        for number in 0..count {
            guests.push(Guest::join(chat.address, number, number < talkers).await);
        }
        let stay = |guest: Guest| guest.stay(talkers, over.clone());
        guests.into_iter().map(stay).collect::<JoinSet<_>>()
    });
    let mut took = Vec::new();
    for _ in 0..UPGRADES {
        pause(BETWEEN);
        took.push(chat.upgrade());
    }
    pause(BETWEEN);
    tell.send_replace(true);
    let heard = runtime.block_on(guests.join_all());
    assert_eq!(heard.len(), count);
    assert!(heard.iter().all(|other| *other == heard[0]), "all have heard the same");
    assert_eq!(heard[0].len(), talkers);
    assert_eq!(chat.handed_over(), vec![(count, 0); UPGRADES], "{}", chat.log());
    if wanted.is_some() {
        let said: u64 = heard[0].values().sum();
        let all = said * count as u64;
        let _ = writeln!(
            std::io::stderr(),
            "{count} clients, {UPGRADES} upgrades: {said} lines said, {all} heard, each once and in \
             order; from the commit to the elder's end {took:?}"
        );
    }
}

/// There is nobody to move them to, so they are told; the drain's deadline is 30 s.
fn a_stop_does_not_wait_for_guests_who_say_nothing() {
    let chat = Chat::start();
    let pid = chat.pid().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let began = Instant::now();
    runtime.block_on(async {
        let mut guest = Guest::join(chat.address, 0, false).await;
        process::signal(pid, Signal::SIGTERM);
        let mut last = String::new();
        while guest.stream.read_line(&mut last).await.unwrap() > 0 {}
        assert_eq!(last, "* the service stops\n");
    });
    until("the end of the chat", || {
        (!process::lives(pid) || process::is_zombie(pid)).then_some(())
    });
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert!(!chat.log().contains("cut at the end"), "{}", chat.log());
}
