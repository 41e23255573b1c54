//! Listeners that come, go, move, or are not what they were.

use std::os::unix::net::UnixListener;
use std::process::Command;
use std::time::Duration;

use heirloom::UpgradeOutcome;
use nix::sys::signal::Signal;

use crate::support::client::{Address, Client, Failure};
use crate::support::load::Tally;
use crate::support::wait::until;
use crate::support::{Load, Release, Server, Socket};

trials![
    p1_the_queue_of_an_unwanted_listener_is_served_before_it_closes,
    p1_a_renamed_listener_keeps_its_socket,
    p1_a_moved_listener_is_served_at_the_old_address_until_commit,
    p1_a_new_listener_takes_nothing_before_its_turn,
    p1_a_new_listener_of_a_rejected_successor_closes_with_it,
    p1_a_group_that_grows_resets_nobody_when_it_is_rolled_back,
    p1_a_group_that_grows_resets_nobody_when_it_is_committed,
    p1_a_group_that_shrinks_resets_nobody,
    p2_somebody_elses_socket_at_the_path_is_not_touched,
    p4_a_listener_that_a_former_owner_made_blocking_blocks_nobody,
    p9_a_service_that_ran_out_of_descriptors_upgrades_when_it_has_some_again,
];

const LONG: Duration = Duration::from_secs(3600);

fn connect(address: &Address) -> Result<Client, Failure> {
    Client::connect(address)
}

fn refused(address: &Address) -> bool {
    matches!(connect(address).err(), Some(Failure::Refused | Failure::Missing))
}

/// A port that was free a moment ago.
fn free_port() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// P1. Closing it at once would reset them.
fn p1_the_queue_of_an_unwanted_listener_is_served_before_it_closes() {
    let slow = Duration::from_millis(20);
    let server = Server::start(Release::with([
        Socket::tcp("main"),
        Socket::tcp("old").pace(slow),
        Socket::unix("path").pace(slow),
    ]));
    let addresses = [server.address("old"), server.address("path")];
    server.next_release(|release| release.sockets.truncate(1));
    let queue: Vec<Client> =
        (0..40).map(|number| connect(&addresses[number % 2]).unwrap()).collect();
    let report = server.upgrade();
    assert_eq!(report.outcome, UpgradeOutcome::Committed, "{report}");
    assert_eq!((report.claimed, report.unclaimed), (1, 2), "{report}");
    for mut client in queue {
        assert_eq!(client.who().unwrap().generation, 0);
    }
    for address in &addresses {
        until("the unwanted listener to close", || refused(address).then_some(()));
    }
    assert!(!server.path("path.sock").exists(), "its path goes with it");
    server.until_gone(server.pid(0));
}

/// P1. The address says what it is.
fn p1_a_renamed_listener_keeps_its_socket() {
    let server = Server::start(Release::with([Socket::tcp("main"), Socket::unix("path")]));
    let (tcp, unix) = (server.address("main"), server.address("path"));
    let load = Load::start(&[tcp.clone(), unix.clone()], 2);
    load.until_answered(10);
    server.next_release(|release| {
        release.sockets = vec![
            Socket::tcp("main2").at(tcp.inet().to_string()),
            Socket::unix("path2").at("path.sock"),
        ];
    });
    let report = server.upgrade();
    assert_eq!((report.claimed, report.bound), (2, 0), "{report}");
    load.until_answered(10);
    load.finish().assert_unharmed();
    assert_eq!(server.address("main2"), tcp);
    assert_eq!(server.address("path2"), unix);
    let owner = server.owner();
    server.signal(owner, Signal::SIGTERM);
    server.until_gone(owner);
    assert!(!server.path("path.sock").exists());
}

/// P1, P2. Both addresses work while it is open which generation stays.
fn p1_a_moved_listener_is_served_at_the_old_address_until_commit() {
    let server = Server::start(Release { probation: LONG, ..Release::default() });
    let old = server.address("main");
    let new = free_port();
    server.next_release(|release| {
        release.probation = Duration::ZERO;
        release.sockets[0].address.clone_from(&new);
    });
    let new = Address::Inet(new.parse().unwrap());
    assert!(refused(&new));
    server.signal(server.pid(0), Signal::SIGHUP);
    let successor = server.until_role(1, "successor");
    assert_eq!(connect(&new).unwrap().who().unwrap().generation, 1);
    assert_eq!(connect(&old).unwrap().who().unwrap().generation, 0);
    // It is not to be committed: the old address stays.
    server.signal(successor, Signal::SIGTERM);
    server.until_gone(successor);
    assert_eq!(connect(&old).unwrap().who().unwrap().generation, 0);
    until("the new address to close", || refused(&new).then_some(()));
    server.stop();

    let server = Server::start(Release::default());
    let old = server.address("main");
    let new = free_port();
    server.next_release(|release| release.sockets[0].address.clone_from(&new));
    let report = server.upgrade();
    assert_eq!((report.unclaimed, report.bound), (1, 1), "{report}");
    assert_eq!(server.address("main"), Address::Inet(new.parse().unwrap()));
    assert!(server.ask("who").starts_with("1 "));
    until("the old address to close", || refused(&old).then_some(()));
}

/// P1. Its backlog begins with its turn, so no client waits for one that may never come.
fn p1_a_new_listener_takes_nothing_before_its_turn() {
    let server = Server::start(Release::default());
    let new = free_port();
    server.next_release(|release| {
        release.sockets.push(Socket::tcp("new").at(&new));
        release.start_delay = Duration::from_millis(300);
    });
    let new = Address::Inet(new.parse().unwrap());
    server.signal(server.pid(0), Signal::SIGHUP);
    let mut before = 0;
    let owner = until("the new address", || match connect(&new) {
        Ok(mut client) => Some(client.who().unwrap()),
        Err(failure) => {
            assert_eq!(failure, Failure::Refused);
            before += 1;
            None
        }
    });
    assert!(before > 0);
    assert_eq!(owner.generation, 1);
}

/// P1, P2. Nobody answers there any more, and nobody waits.
fn p1_a_new_listener_of_a_rejected_successor_closes_with_it() {
    let server = Server::start(Release { probation: LONG, ..Release::default() });
    server.next_release(|release| release.sockets.push(Socket::unix("new")));
    server.signal(server.pid(0), Signal::SIGHUP);
    let successor = server.until_role(1, "successor");
    let new = server.address("new");
    assert_eq!(connect(&new).unwrap().who().unwrap().generation, 1);
    server.signal(successor, Signal::SIGKILL);
    until("the new path to close", || refused(&new).then_some(()));
    assert!(server.ask("who").starts_with("0 "));
    server.next_release(|release| release.probation = Duration::ZERO);
    assert_eq!(server.until_report(0).outcome, UpgradeOutcome::RolledBack);
    // What it left must not keep the next one from binding there.
    server.signal(server.pid(0), Signal::SIGHUP);
    server.until_role(2, "successor");
    assert_eq!(connect(&new).unwrap().who().unwrap().generation, 2);
}

/// Load on a group while the next generation, with another number of members, is in probation;
/// then it is told to go, or commits.
fn resize(from: usize, to: usize, committed: bool) -> (Server, Tally) {
    let probation = if committed { Duration::from_millis(500) } else { LONG };
    let server =
        Server::start(Release { probation, ..Release::with([Socket::group("main", from)]) });
    let load = Load::start(&[server.address("main")], 4);
    load.until_answered(100);
    server.next_release(|release| release.sockets = vec![Socket::group("main", to)]);
    server.signal(server.pid(0), Signal::SIGHUP);
    let successor = server.until_role(1, "successor");
    load.until_answered(100);
    if !committed {
        server.signal(successor, Signal::SIGTERM);
    }
    let report = server.until_report(0);
    assert_eq!(report.outcome == UpgradeOutcome::Committed, committed, "{report}");
    load.until_answered(400);
    let tally = load.finish();
    (server, tally)
}

/// P1. A member that joins takes its share at once, and resets it when it goes.
fn p1_a_group_that_grows_resets_nobody_when_it_is_rolled_back() {
    let (server, tally) = resize(4, 6, false);
    tally.assert_unharmed();
    assert_eq!(tally.generations(), [0, 1]);
    assert!(server.ask("who").starts_with("0 "));
}

/// P1.
fn p1_a_group_that_grows_resets_nobody_when_it_is_committed() {
    let (server, tally) = resize(4, 6, true);
    tally.assert_unharmed();
    assert!(server.ask("who").starts_with("1 "));
}

/// P1. Each member has a queue of its own, which must have somebody who accepts.
fn p1_a_group_that_shrinks_resets_nobody() {
    let (server, tally) = resize(4, 2, true);
    tally.assert_unharmed();
    server.upgrade_well();
    for _ in 0..20 {
        assert!(server.ask("who").starts_with("2 "), "every member is served");
    }
}

/// P2. Its inode is compared before anything is unlinked.
fn p2_somebody_elses_socket_at_the_path_is_not_touched() {
    let server = Server::start(Release::with([Socket::tcp("main"), Socket::unix("path")]));
    let path = server.path("path.sock");
    std::fs::remove_file(&path).unwrap();
    let theirs = UnixListener::bind(&path).unwrap();
    server.upgrade_well();
    server.next_release(|release| release.sockets.truncate(1));
    server.upgrade_well();
    server.until_gone(server.pid(1));
    assert!(connect(&Address::Path(path.clone())).is_ok());
    server.stop();
    assert!(path.exists());
    drop(theirs);
}

/// P4. `O_NONBLOCK` belongs to the description, which a former owner shares.
fn p4_a_listener_that_a_former_owner_made_blocking_blocks_nobody() {
    let names = ["main", "b", "c", "d"];
    let server = Server::start(Release::with(names.map(Socket::tcp)));
    server.ask("block-listeners");
    server.upgrade_well();
    let flags: Vec<bool> = serde_json::from_str(&server.ask("non-blocking")).unwrap();
    assert_eq!(flags, [true; 4]);
    for _ in 0..3 {
        for name in names {
            assert_eq!(server.client(name).ask("slow 1"), "slow 1");
        }
    }
}

/// P9. One accept error must not end anything for ever.
fn p9_a_service_that_ran_out_of_descriptors_upgrades_when_it_has_some_again() {
    let server = Server::start_by(Release::default(), |directory| {
        let mut command = Command::new("/bin/sh");
        let script = format!("ulimit -n 48; exec {}/server", directory.display());
        command.args(["-c", &script]);
        command
    });
    let mut clients = Vec::new();
    for _ in 0..64 {
        clients.push(server.client("main"));
    }
    until("the descriptors to run out", || {
        let log = std::fs::read_to_string(server.path("trace.log")).unwrap();
        log.contains("Too many open files").then_some(())
    });
    server.signal(server.pid(0), Signal::SIGHUP);
    let report = server.until_report(0);
    assert_eq!(report.outcome, UpgradeOutcome::Failed, "{report}");
    drop(clients);
    assert!(server.ask("who").starts_with("0 "));
    server.upgrade_well();
}
