//! The main job: upgrades one after the other while clients come and go.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::time::Duration;

use heirloom::{UpgradeOutcome, UpgradePhase};

use crate::support::client::{Address, Client};
use crate::support::process;
use crate::support::wait::{PATIENCE, until};
use crate::support::{Load, Release, Server, Socket};

trials![
    p1_nobody_is_refused_while_ten_upgrades_follow_each_other,
    p1_unix_clients_that_never_retry_are_served_across_fifty_upgrades,
    p1_a_queue_is_served_by_the_generation_that_accepts_next,
    p1_each_datagram_is_answered_once,
    p2_the_pid_file_changes_hands_after_the_verdict,
    p6_sessions_stay_with_the_generation_that_accepted_them,
    p12_a_report_tells_how_the_upgrade_went,
];

/// P1, P3. Port 0 keeps its port.
fn p1_nobody_is_refused_while_ten_upgrades_follow_each_other() {
    let server = Server::start(Release::with([
        Socket::tcp("main"),
        Socket::unix("path"),
        Socket::abstract_unix("abstract"),
    ]));
    let addresses = ["main", "path", "abstract"].map(|name| server.address(name));
    let load = Load::start(&addresses, 2);
    for generation in 1..=10 {
        load.until_answered(20);
        server.upgrade_well();
        assert_eq!(server.owners().len(), 1, "after upgrade {generation}");
        assert_eq!(server.owners()[0].0, generation);
    }
    load.until_answered(20);
    let tally = load.finish();
    tally.assert_unharmed();
    assert_eq!(tally.generations(), (0..=10).collect::<Vec<_>>());
    assert_eq!(addresses, ["main", "path", "abstract"].map(|name| server.address(name)));
    server.stop();
    assert!(!server.path("path.sock").exists(), "a stopped service leaves no path");
}

/// P1. A full backlog would fail them at once.
fn p1_unix_clients_that_never_retry_are_served_across_fifty_upgrades() {
    let server = Server::start(Release {
        probation: Duration::ZERO,
        ..Release::with([Socket::unix("main")])
    });
    let load = Load::start(&[server.address("main")], 2);
    for _ in 0..50 {
        server.upgrade_well();
    }
    let tally = load.finish();
    tally.assert_unharmed();
}

/// P1. Nobody accepts in generation 0: what waits is the next generation's.
fn p1_a_queue_is_served_by_the_generation_that_accepts_next() {
    let server = Server::start(Release::with([
        Socket::tcp("tcp").not_accepting(),
        Socket::unix("unix").not_accepting(),
        Socket::tcp("main"),
    ]));
    let queue = |name: &str| -> Vec<Client> { (0..50).map(|_| server.client(name)).collect() };
    let (tcp, unix) = (queue("tcp"), queue("unix"));
    server.next_release(|release| {
        release.sockets.iter_mut().for_each(|socket| socket.accepts = true);
    });
    server.upgrade_well();
    for mut client in tcp.into_iter().chain(unix) {
        assert_eq!(client.who().unwrap().generation, 1);
    }
}

/// P1, P6. One reader at a time: 2000 datagrams in five upgrades.
fn p1_each_datagram_is_answered_once() {
    const DATAGRAMS: usize = 2_000;
    const IN_FLIGHT: usize = 16;
    let server = Server::start(Release::with([Socket::tcp("main"), Socket::udp("udp")]));
    let Address::Inet(address) = server.address("udp") else {
        panic!("UDP without an address");
    };
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answers: BTreeMap<usize, usize> = BTreeMap::new();
    let receive = |answers: &mut BTreeMap<usize, usize>| {
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).expect("an answer to each datagram");
        let text = std::str::from_utf8(&buffer[..length]).unwrap();
        let number = text.split(' ').next().unwrap().parse().unwrap();
        *answers.entry(number).or_default() += 1;
    };
    for number in 0..DATAGRAMS {
        socket.send(number.to_string().as_bytes()).unwrap();
        if number >= IN_FLIGHT {
            receive(&mut answers);
        }
        if number % (DATAGRAMS / 5) == DATAGRAMS / 10 {
            server.signal(server.owner(), nix::sys::signal::Signal::SIGHUP);
        }
        if number % (DATAGRAMS / 5) == DATAGRAMS / 5 - 1 {
            let index = number / (DATAGRAMS / 5);
            let report = server.until_report(index);
            assert_eq!(report.outcome, UpgradeOutcome::Committed, "{report}");
            server.until_owner(report.to.get());
        }
    }
    while answers.len() < DATAGRAMS {
        receive(&mut answers);
    }
    assert!(answers.values().all(|times| *times == 1), "answered twice");
    // Nothing is left over: the next thing that comes is the answer to this one.
    socket.send(b"2000").unwrap();
    receive(&mut answers);
    assert_eq!(answers.get(&DATAGRAMS), Some(&1));
}

/// P2.
fn p2_the_pid_file_changes_hands_after_the_verdict() {
    let server = Server::start(Release { pid_file: true, ..Release::default() });
    let pid = || -> i32 {
        let text = std::fs::read_to_string(server.path("pid")).unwrap();
        text.trim().parse().unwrap()
    };
    let first = server.pid(0);
    assert_eq!(pid(), first);
    server.next_release(|release| release.probation = Duration::from_secs(3600));
    // The predecessor's release counts: with it, probation is short.
    let second = server.upgrade_well();
    assert_eq!(pid(), second);
    server.signal(second, nix::sys::signal::Signal::SIGHUP);
    let third = server.until_role(2, "successor");
    assert_eq!(pid(), second, "in probation the file is the predecessor's");
    process::signal(third, nix::sys::signal::Signal::SIGKILL);
    assert_eq!(server.until_report(1).outcome, UpgradeOutcome::RolledBack);
    assert_eq!(pid(), second);
    server.stop();
    assert!(!server.path("pid").exists(), "a stopped service has no pid");
    let left: Vec<_> = std::fs::read_dir(server.directory())
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.contains("pid"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// P6, P7. Each is told to go once, and its answers never stop coming.
fn p6_sessions_stay_with_the_generation_that_accepted_them() {
    let server = Server::start(Release::default());
    let mut sessions: Vec<Client> = (0..5).map(|_| server.client("main")).collect();
    for session in &mut sessions {
        assert_eq!(session.ask("echo before"), "before");
    }
    server.upgrade_well();
    for session in &mut sessions {
        until("the word to go", || {
            let by = session.who().unwrap();
            assert_eq!(by.generation, 0);
            session.told_to_go.then_some(())
        });
    }
    assert!(process::lives(server.pid(0)));
    drop(sessions);
    server.until_gone(server.pid(0));
    let end = server.until_entry("outcome", |entry| entry.generation == Some(0));
    let drained = &end.data["Ok"]["handed_over"];
    assert_eq!(drained["outcome"], "drained", "{}", end.data);
    assert_eq!(drained["cut_count"], 0);
}

/// P12.
fn p12_a_report_tells_how_the_upgrade_went() {
    let server = Server::start(Release::default());
    server.next_release(|release| release.version = String::from("2.0"));
    let report = server.upgrade();
    assert_eq!(report.outcome, UpgradeOutcome::Committed);
    assert_eq!((report.from.get(), report.to.get()), (0, 1));
    assert_eq!(report.version, "1.0");
    assert_eq!(report.successor_version.as_deref(), Some("2.0"));
    assert_eq!(report.successor_pid, Some(server.pid(1)));
    assert_eq!(report.cause, None);
    assert_eq!((report.claimed, report.unclaimed, report.bound), (1, 0, 0));
    let phases: Vec<UpgradePhase> = report.phases.iter().map(|(phase, _)| *phase).collect();
    assert!(phases.is_sorted() && phases.contains(&UpgradePhase::Probation), "{phases:?}");
    assert!(report.longest_gap > Duration::ZERO && report.longest_gap < report.elapsed);
    let sum: Duration = report.phases.iter().map(|(_, time)| *time).sum();
    assert!(sum <= report.elapsed + Duration::from_millis(1));
}
