//! Idle HTTP connections that go on in the next generation.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use heirloom::UpgradeOutcome;
use nix::sys::signal::Signal;

use crate::support::client::Failure;
use crate::support::journal::Entry;
use crate::support::release::{Action, Side, Web};
use crate::support::visitor::{Visitor, assert_seen_once, get, post};
use crate::support::wait::{PATIENCE, pause, until, until_within};
use crate::support::{Release, Server, Socket, process};

trials![
    p6_idle_connections_move_across_five_upgrades_and_no_request_is_lost_or_doubled,
    what_has_been_read_of_a_request_moves_with_its_connection,
    idle_connections_stay_where_that_was_asked_for,
    idle_connections_stay_if_the_successor_does_not_serve_them,
    connections_go_on_at_the_elder_if_the_successor_dies_before_it_takes_them,
    a_successor_that_is_killed_in_the_middle_loses_only_what_it_took,
    p4_connections_are_served_while_a_successor_hangs_that_was_to_take_them,
    a_successor_goes_on_with_what_it_got_from_an_elder_that_was_killed,
    p7_whoever_waits_to_move_is_not_cut_because_too_many_generations_drain,
    p6_connections_pass_through_generations_that_have_handed_over_already,
    idle_connections_move_in_bulk,
];

fn web() -> Release {
    Release { web: Some(Web::default()), ..Release::default() }
}

/// One that closes nothing while a test looks at it.
fn patient() -> Release {
    Release { lame_duck: Duration::from_secs(15), ..web() }
}

/// So many clients speak at once, which is sooner done than one after the other.
const AT_ONCE: usize = 100;

/// So many clients that have been answered.
fn visitors(server: &Server, socket: &str, count: usize) -> Vec<Visitor> {
    let address = server.address(socket);
    let mut visitors: Vec<Visitor> = Vec::with_capacity(count);
    while visitors.len() < count {
        let some = visitors.len()..count.min(visitors.len() + AT_ONCE);
        let first = some.start;
        visitors.extend(some.map(|number| Visitor::connect_as(&address, number)));
        let new = visitors.get_mut(first..).unwrap();
        new.iter_mut().for_each(|visitor| visitor.send(get("/")).unwrap());
        new.iter_mut().for_each(|visitor| assert!(!visitor.answer().unwrap().says_close));
    }
    visitors
}

/// How many connections this elder says that have moved, and that have ended there.
fn moved(server: &Server, generation: u64) -> (u64, u64, u64) {
    moved_within(PATIENCE, server, generation)
}

fn moved_within(patience: Duration, server: &Server, generation: u64) -> (u64, u64, u64) {
    let drained = until_within(patience, "the end of the drain", || {
        let told = |entry: &Entry| entry.data["elder_drained"]["generation"] == generation;
        server.journal().into_iter().rev().find(told)
    });
    let of = |what: &str| drained.data["elder_drained"][what].as_u64().unwrap();
    (of("moved"), of("drained"), of("cut"))
}

/// P6. Half of the clients are idle all the time, the others send requests at any moment of the
/// moves, in two pieces; over TCP and over a Unix socket.
fn p6_idle_connections_move_across_five_upgrades_and_no_request_is_lost_or_doubled() {
    const IDLE: usize = 100;
    const BUSY: usize = 40;
    let release = Release::with([Socket::tcp("main"), Socket::unix("side")]);
    let server = Server::start(Release { web: Some(Web::default()), ..release });
    let mut idle: Vec<Visitor> =
        ["main", "side"].iter().flat_map(|socket| visitors(&server, socket, IDLE)).collect();
    let over = AtomicBool::new(false);
    let talk = |room: usize, mut visitors: Vec<Visitor>| {
        let (mut said, mut round) = (Vec::new(), 0);
        while !over.load(Ordering::Relaxed) {
            for (number, visitor) in visitors.iter_mut().enumerate() {
                let unique = format!("{room} {number} {round}");
                let answer = visitor.post(&unique, round * 7 + number).unwrap();
                assert!(!answer.says_close, "it goes on elsewhere");
                said.push(unique);
            }
            round += 1;
        }
        for visitor in &mut visitors {
            assert_eq!(visitor.get("/").unwrap().generation, 5);
        }
        said
    };
    let said: Vec<String> = std::thread::scope(|scope| {
        let ends = Over(&over);
        let rooms: Vec<_> = ["main", "side", "main", "side"]
            .into_iter()
            .enumerate()
            .map(|(room, socket)| {
                let visitors = visitors(&server, socket, BUSY);
                let talk = &talk;
                scope.spawn(move || talk(room, visitors))
            })
            .collect();
        for generation in 0..5 {
            server.upgrade_well();
            let all = (2 * IDLE + 4 * BUSY) as u64;
            assert_eq!(moved(&server, generation), (all, 0, 0), "from {generation}");
            server.until_gone(server.pid(generation));
        }
        drop(ends);
        rooms.into_iter().flat_map(|room| room.join().unwrap()).collect()
    });
    for visitor in &mut idle {
        assert_eq!(visitor.get("/").unwrap().generation, 5, "it has slept through four of them");
    }
    assert_seen_once(&server, said);
}

fn what_has_been_read_of_a_request_moves_with_its_connection() {
    let server = Server::start(web());
    let mut visitors = visitors(&server, "main", 50);
    // Never asked anything, and half a head.
    visitors.extend((0..10).map(|_| Visitor::connect(&server.address("main"))));
    let order = post("one of a kind");
    let cut = |number: usize| 1 + number % (order.find("\r\n\r\n").unwrap() + 3);
    for (number, visitor) in visitors.iter_mut().enumerate() {
        visitor.send(&order[..cut(number)]).unwrap();
    }
    // Their bytes are in the server once it has answered somebody who came later.
    let _later = self::visitors(&server, "main", 1);
    server.upgrade_well();
    assert_eq!(moved(&server, 0).0, 61);
    for (number, visitor) in visitors.iter_mut().enumerate() {
        visitor.send(&order[cut(number)..]).unwrap();
        let answer = visitor.answer().unwrap();
        assert_eq!((answer.generation, answer.body.as_str()), (1, "one of a kind"));
    }
}

fn idle_connections_stay_where_that_was_asked_for() {
    let stays = Web { stays: true, ..Web::default() };
    let server = Server::start(Release {
        web: Some(stays),
        lame_duck: Duration::from_millis(1_000),
        ..Release::default()
    });
    drains_at_home(&server);
}

fn idle_connections_stay_if_the_successor_does_not_serve_them() {
    let lame_duck = Duration::from_millis(2_000);
    for web in [None, Some(Web { stays: true, ..Web::default() })] {
        let server = Server::start(Release { lame_duck, ..self::web() });
        let serves = web.is_some();
        server.next_release(|release| release.web = web);
        drains_at_home(&server);
        let log = std::fs::read_to_string(server.path("trace.log")).unwrap();
        let said: Vec<_> = log.lines().filter(|line| line.contains("sessions stay")).collect();
        assert!(!serves || said.len() == 1, "once, and not per connection: {said:?}");
        assert!(said.iter().all(|line| line.contains("http/1.1 tcp")), "{said:?}");
    }
}

/// After an upgrade what was accepted is answered where it was, told to close, and closed.
fn drains_at_home(server: &Server) {
    let mut visitors = visitors(server, "main", 50);
    server.upgrade_well();
    for (number, visitor) in visitors.iter_mut().enumerate().filter(|(number, _)| number % 2 == 0) {
        let answer = visitor.post(&number.to_string(), 20).unwrap();
        assert_eq!(answer.generation, 0);
    }
    for visitor in &mut visitors {
        assert!(visitor.is_closed());
    }
    drop(visitors);
    assert_eq!(moved(server, 0), (0, 50, 0));
    assert_seen_once(server, (0..50).step_by(2).map(|number| number.to_string()));
}

/// The successor has read of the first that it shall take it, and dies before it has said that it
/// does.
fn connections_go_on_at_the_elder_if_the_successor_dies_before_it_takes_them() {
    let server = Server::start(patient());
    let mut visitors = visitors(&server, "main", 100);
    server.fault(Side::Successor, "answer sessions", Action::Kill);
    server.signal(server.pid(0), Signal::SIGHUP);
    let report = server.until_report(0);
    assert_eq!(report.outcome, UpgradeOutcome::Committed, "{report}");
    server.until_entry("fault", |_| true);
    for (number, visitor) in visitors.iter_mut().enumerate() {
        assert_eq!(visitor.post(&number.to_string(), number).unwrap().generation, 0);
    }
    assert_seen_once(&server, (0..100).map(|number| number.to_string()));
}

/// What it has said that it takes dies with it, as everything does that an owner serves; all others
/// are answered by the elder, each once.
fn a_successor_that_is_killed_in_the_middle_loses_only_what_it_took() {
    const ALL: usize = 1_500;
    let server = Server::start(patient());
    let mut visitors = visitors(&server, "main", ALL);
    server.signal(server.pid(0), Signal::SIGHUP);
    let answers = |entry: &Entry| entry.data["step"] == "answer sessions";
    let successor = server.until_entry("step", answers).pid;
    server.signal(successor, Signal::SIGKILL);
    server.until_gone(successor);
    let (mut said, mut lost) = (Vec::new(), 0_u64);
    for (number, visitor) in visitors.iter_mut().enumerate() {
        let unique = number.to_string();
        match visitor.post(&unique, 0) {
            Ok(answer) => {
                assert_eq!(answer.generation, 0);
                said.push(unique);
            }
            Err(Failure::Closed | Failure::Reset) => lost += 1,
            Err(failure) => panic!("{failure}"),
        }
    }
    assert_seen_once(&server, said);
    // The last answer may not have left it.
    let took = answered(&server);
    let sure: u64 = took[..took.len() - 1].iter().sum();
    assert!((sure..=took.iter().sum()).contains(&lost), "{lost} lost, {took:?} taken");
}

/// How many connections a successor was about to say that it takes, each time it was.
fn answered(server: &Server) -> Vec<u64> {
    let log = std::fs::read_to_string(server.path("trace.log")).unwrap();
    let answers = log.lines().filter(|line| line.contains("answer sessions"));
    answers.map(|line| line.rsplit_once("count=").unwrap().1.parse().unwrap()).collect()
}

/// P4. It is stopped when it has got the first and has not said so: that one waits for it, the
/// others are served where they are.
fn p4_connections_are_served_while_a_successor_hangs_that_was_to_take_them() {
    const ALL: usize = 50;
    let server = Server::start(patient());
    let visitors = visitors(&server, "main", ALL);
    server.fault(Side::Successor, "answer sessions", Action::Stop);
    server.signal(server.pid(0), Signal::SIGHUP);
    let stopped = server.until_entry("fault", |_| true).pid;
    until("the successor to be stopped", || process::is_stopped(stopped).then_some(()));
    let (tell, told) = mpsc::channel();
    let asking = visitors.into_iter().enumerate().map(|(number, mut visitor)| {
        let tell = tell.clone();
        std::thread::spawn(move || tell.send(visitor.post(&number.to_string(), 0)).unwrap())
    });
    let asking: Vec<_> = asking.collect();
    for _ in 1..ALL {
        assert_eq!(told.recv_timeout(PATIENCE).unwrap().unwrap().generation, 0);
    }
    server.signal(stopped, Signal::SIGCONT);
    assert_eq!(told.recv_timeout(PATIENCE).unwrap().unwrap().generation, 1);
    asking.into_iter().for_each(|asking| asking.join().unwrap());
    assert_seen_once(&server, (0..ALL).map(|number| number.to_string()));
}

/// It is stopped when it has got the first of them, and its elder is killed: nobody else has that
/// connection, so it is served.
fn a_successor_goes_on_with_what_it_got_from_an_elder_that_was_killed() {
    let server = Server::start(web());
    let mut visitors = visitors(&server, "main", 20);
    server.fault(Side::Successor, "answer sessions", Action::Stop);
    let elder = server.pid(0);
    server.signal(elder, Signal::SIGHUP);
    let stopped = server.until_entry("fault", |_| true).pid;
    until("the successor to be stopped", || process::is_stopped(stopped).then_some(()));
    server.signal(elder, Signal::SIGKILL);
    server.until_gone(elder);
    server.signal(stopped, Signal::SIGCONT);
    let mut said = Vec::new();
    for (number, visitor) in visitors.iter_mut().enumerate() {
        let unique = number.to_string();
        if let Ok(answer) = visitor.post(&unique, 0) {
            assert_eq!(answer.generation, 1);
            said.push(unique);
        }
    }
    assert_eq!(said.len(), 1);
    assert_seen_once(&server, said);
}

/// P7. The queue moves, but not within the second that every drain has; a request that takes longer
/// than that is cut, as soon as the queue has moved.
fn p7_whoever_waits_to_move_is_not_cut_because_too_many_generations_drain() {
    const ALL: usize = 300;
    let server = Server::start(Release { max_draining: 1, session: PATIENCE, ..patient() });
    let mut visitors = visitors(&server, "main", ALL);
    let mut busy = Visitor::connect(&server.address("main"));
    busy.send(get("/slow?20000")).unwrap();
    // It has begun once somebody is answered who came later.
    let _later = self::visitors(&server, "main", 1);
    server.fault(Side::Successor, "answer sessions", Action::Block(Duration::from_millis(1_600)));
    server.upgrade_well();
    let owner = server.upgrade_well();
    assert!(busy.is_closed(), "one too many drains");
    assert_eq!(moved(&server, 0), (ALL as u64 + 1, 0, 1));
    for (number, visitor) in visitors.iter_mut().enumerate() {
        assert!(visitor.post(&number.to_string(), 0).unwrap().generation > 0);
    }
    assert_eq!(server.owner(), owner);
    assert_seen_once(&server, (0..ALL).map(|number| number.to_string()));
}

/// P6. Three upgrades in a row, while the first of all is held up on its way: what comes to a
/// generation that has handed over goes on, however late it comes.
fn p6_connections_pass_through_generations_that_have_handed_over_already() {
    const ALL: usize = 200;
    let server = Server::start(Release { session: PATIENCE, ..web() });
    let mut visitors = visitors(&server, "main", ALL);
    server.fault(Side::Successor, "answer sessions", Action::Block(Duration::from_millis(2_500)));
    for _ in 0..3 {
        server.upgrade_well();
    }
    for elder in 0..3 {
        assert_eq!(moved(&server, elder), (ALL as u64, 0, 0), "from {elder}");
    }
    for (number, visitor) in visitors.iter_mut().enumerate() {
        assert_eq!(visitor.post(&number.to_string(), 0).unwrap().generation, 3);
    }
    assert_seen_once(&server, (0..ALL).map(|number| number.to_string()));
}

/// Ends a loop, whatever becomes of the test.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// As many as `HEIRLOOM_MOVES` says, or 2 000; with it, it also says what that took. Each needs a
/// descriptor in the test and in both generations (`ulimit -n`).
fn idle_connections_move_in_bulk() {
    let wanted = std::env::var("HEIRLOOM_MOVES").ok().and_then(|text| text.parse().ok());
    let count: usize = wanted.unwrap_or(2_000);
    // The machine may be a slow one, and nothing of this is about its speed.
    let drain = Duration::from_secs(20) + Duration::from_millis(2) * u32::try_from(count).unwrap();
    let server = Server::start(Release { drain, ..web() });
    let mut visitors = visitors(&server, "main", count);
    // One that goes on asking sees how long an answer takes meanwhile.
    let mut asking = visitors.pop().unwrap();
    let over = AtomicBool::new(false);
    let (elder, before) = (server.pid(0), process::cpu(server.pid(0)));
    let resident = process::resident(elder);
    let (took, owner, slowest) = std::thread::scope(|scope| {
        let ends = Over(&over);
        let asking = scope.spawn(|| {
            let mut slowest = Duration::ZERO;
            while !over.load(Ordering::Relaxed) {
                let began = Instant::now();
                asking.get("/").unwrap();
                slowest = slowest.max(began.elapsed());
                pause(Duration::from_millis(1));
            }
            slowest
        });
        let owner = server.upgrade_well();
        let began = Instant::now();
        assert_eq!(moved_within(drain + PATIENCE, &server, 0), (count as u64, 0, 0));
        let took = began.elapsed();
        drop(ends);
        (took, owner, asking.join().unwrap())
    });
    let spent = [process::cpu(elder).saturating_sub(before), process::cpu(owner)];
    if wanted.is_some() {
        let _ = writeln!(
            std::io::stderr(),
            "{count} idle connections: at most {took:?} after the commit; processor time of elder \
             and owner {spent:?}; resident before in the elder {} kB, after in the owner {} kB; \
             the slowest answer on one that was in use {slowest:?}",
            resident / 1024,
            process::resident(owner) / 1024,
        );
    }
    for some in visitors.chunks_mut(AT_ONCE) {
        some.iter_mut().for_each(|visitor| visitor.send(get("/")).unwrap());
        some.iter_mut().for_each(|visitor| assert_eq!(visitor.answer().unwrap().generation, 1));
    }
}
