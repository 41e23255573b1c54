//! Sessions that go on in the next generation.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use heirloom::UpgradeOutcome;
use nix::sys::signal::Signal;

use crate::support::release::{Action, Side};
use crate::support::server::Program;
use crate::support::sessions::Moving;
use crate::support::wait::{PATIENCE, until};
use crate::support::{Release, Server, process};

trials![
    p6_sessions_move_across_five_upgrades_and_no_byte_is_lost_or_doubled,
    a_session_that_the_successor_declines_stays_and_drains,
    a_session_goes_on_at_the_elder_if_the_successor_dies_at_the_commit,
    p4_sessions_go_on_at_the_elder_if_the_successor_hangs_at_the_commit,
    a_successor_that_cannot_open_them_leaves_sessions_where_they_are,
    an_owner_that_hands_over_in_turn_takes_no_more,
    ten_thousand_sessions_move,
];

/// A client that counts along.
struct Client {
    stream: BufReader<TcpStream>,
    said: u64,
    generation: u64,
}

impl Client {
    fn connect(server: &Server) -> Self {
        let stream = TcpStream::connect(server.address("main").inet()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream), said: 0, generation: 0 }
    }

    /// Says a line, in two parts, and hears its answer.
    fn says(&mut self, word: &str) -> u64 {
        let line = format!("{word} {}\n", self.said);
        let (early, late) = line.split_at(self.said as usize % line.len());
        self.stream.get_mut().write_all(early.as_bytes()).unwrap();
        self.stream.get_mut().write_all(late.as_bytes()).unwrap();
        self.hears(&line)
    }

    /// The answer to the line: it is the next one that was counted, by this generation or a newer.
    fn hears(&mut self, line: &str) -> u64 {
        self.said += 1;
        let mut answer = String::new();
        self.stream.read_line(&mut answer).unwrap();
        let mut words = answer.splitn(4, ' ');
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok());
        let (count, generation, _pid) = (number(), number(), number());
        assert_eq!(count, Some(self.said), "{answer:?} to {line:?}");
        assert_eq!(words.next(), Some(line));
        assert!(generation >= Some(self.generation), "{answer:?} after {}", self.generation);
        self.generation = generation.unwrap();
        self.generation
    }
}

fn moving(moving: Moving) -> Release {
    Release { moving: Some(moving), ..Release::default() }
}

fn next(server: &Server, change: impl FnOnce(&mut Moving)) {
    server.next_release(|release| change(release.moving.as_mut().unwrap()));
}

/// How many sessions each elder says that it has handed over.
fn moved(server: &Server, generation: u64) -> (u64, u64) {
    let drained = server
        .until_entry("event", |entry| entry.data["elder_drained"]["generation"] == generation);
    let of = |what: &str| drained.data["elder_drained"][what].as_u64().unwrap();
    (of("moved"), of("drained"))
}

/// P6.
fn p6_sessions_move_across_five_upgrades_and_no_byte_is_lost_or_doubled() {
    const CLIENTS: u64 = 12;
    let server = Server::start(moving(Moving::default()));
    let mut idle = Client::connect(&server);
    idle.says("before");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let busy: Vec<_> = (1..CLIENTS)
            .map(|_| {
                let mut client = Client::connect(&server);
                client.says("hello");
                let over = &over;
                scope.spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        client.says("again");
                    }
                    client.says("last");
                    client
                })
            })
            .collect();
        for generation in 0..5 {
            server.upgrade_well();
            assert_eq!(moved(&server, generation), (CLIENTS, 0), "from {generation}");
            server.until_gone(server.pid(generation));
        }
        over.store(true, Ordering::Relaxed);
        for client in busy {
            assert_eq!(client.join().unwrap().generation, 5);
        }
    });
    assert_eq!(idle.says("after"), 5, "it has slept through four generations");
}

fn a_session_that_the_successor_declines_stays_and_drains() {
    for takes in [None, Some((2, 3))] {
        let server = Server::start(moving(Moving::default()));
        let mut client = Client::connect(&server);
        client.says("before");
        next(&server, |moving| moving.takes = takes);
        server.upgrade_well();
        let reason = server.until_entry("declined", |_| true).data["reason"].to_string();
        assert!(reason.contains("the successor takes"), "{reason}");
        assert_eq!(client.says("after"), 0);
        drop(client);
        assert_eq!(moved(&server, 0), (0, 1));
        server.until_gone(server.pid(0));
    }
}

fn a_session_goes_on_at_the_elder_if_the_successor_dies_at_the_commit() {
    let server = Server::start(moving(Moving::default()));
    let mut clients: Vec<Client> = (0..20).map(|_| Client::connect(&server)).collect();
    clients.iter_mut().for_each(|client| _ = client.says("before"));
    server.fault(Side::Successor, "owner", Action::Kill);
    server.signal(server.pid(0), Signal::SIGHUP);
    let report = server.until_report(0);
    assert_eq!(report.outcome, UpgradeOutcome::Committed, "{report}");
    server.until_entry("event", |entry| entry.data == "owns" && entry.generation == Some(0));
    for client in &mut clients {
        assert_eq!(client.says("after"), 0);
    }
    // And the next one takes them after all, or they stay; either way they live.
    server.upgrade_well();
    clients.iter_mut().for_each(|client| _ = client.says("later"));
}

/// P4. Stopped at its commit, it has not said that it takes sessions: none is sent.
fn p4_sessions_go_on_at_the_elder_if_the_successor_hangs_at_the_commit() {
    let server = Server::start(moving(Moving::default()));
    let mut clients: Vec<Client> = (0..50).map(|_| Client::connect(&server)).collect();
    clients.iter_mut().for_each(|client| _ = client.says("before"));
    server.fault(Side::Successor, "owner", Action::Stop);
    server.signal(server.pid(0), Signal::SIGHUP);
    server.until_report(0);
    // Once it has been silent for Config::session_deadline.
    for client in &mut clients {
        assert_eq!(client.says("after"), 0);
    }
    let stayed = server.journal().iter().filter(|entry| entry.event == "declined").count();
    assert_eq!(stayed, clients.len());
}

fn a_successor_that_cannot_open_them_leaves_sessions_where_they_are() {
    let server = Server::start(moving(Moving::default()));
    let mut clients: Vec<Client> = (0..100).map(|_| Client::connect(&server)).collect();
    clients.iter_mut().for_each(|client| _ = client.says("before"));
    server.install(Program::Script("ulimit -n 60; exec \"$SERVER\""));
    server.upgrade_well();
    server.until_entry("declined", |_| true);
    let stayed = clients.iter_mut().filter_map(|client| (client.says("after") == 0).then_some(()));
    assert!(stayed.count() >= 50, "more than it can open has moved");
}

/// Its own sessions go to its successor, and those of its elder stay with that one.
fn an_owner_that_hands_over_in_turn_takes_no_more() {
    let server = Server::start(moving(Moving { hands_off: None, ..Moving::default() }));
    let mut stays = Client::connect(&server);
    stays.says("before");
    next(&server, |moving| *moving = Moving::default());
    server.upgrade_well();
    let mut moves = Client::connect(&server);
    assert_eq!(moves.says("before"), 1);
    server.upgrade_well();
    assert_eq!(moved(&server, 1), (1, 0));
    assert_eq!(moves.says("after"), 2);
    assert_eq!(stays.says("after"), 0);
    server.until_gone(server.pid(1));
}

/// With `HEIRLOOM_FIGURES=1` it says how long that took.
fn ten_thousand_sessions_move() {
    const CLIENTS: usize = 10_000;
    let server = Server::start(moving(Moving { state: 1_000, ..Moving::default() }));
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| Client::connect(&server)).collect();
    clients.iter_mut().for_each(|client| _ = client.says("before"));
    let (elder, before) = (server.pid(0), process::cpu(server.pid(0)));
    let owner = server.upgrade_well();
    let began = Instant::now();
    assert_eq!(moved(&server, 0), (CLIENTS as u64, 0));
    let took = began.elapsed();
    let spent = [process::cpu(elder).saturating_sub(before), process::cpu(owner)];
    // What a client says on the way is heard.
    for client in &mut clients {
        assert_eq!(client.says("after"), 1);
    }
    if std::env::var_os("HEIRLOOM_FIGURES").is_some() {
        let _ = writeln!(
            std::io::stderr(),
            "{CLIENTS} sessions with 1 kB of state: at most {took:?} after the commit; \
             processor time of elder and owner {spent:?}"
        );
    }
    assert!(took < Duration::from_secs(25));
    drop(clients);
    until("the elder's end", || (!process::lives(elder)).then_some(()));
}
