//! Listeners that come, go, move, or are not what they were.

use std::io::Read;
use std::net::UdpSocket;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::Command;
use std::time::Duration;

use heirloom::UpgradeOutcome;
use nix::sys::signal::Signal;
use socket2::{Domain, SockAddr, Type};

use crate::support::client::{Address, Client, Failure};
use crate::support::wait::{PATIENCE, until};
use crate::support::{Load, Release, Server, Socket};

trials![
    p1_every_kind_of_socket_is_handed_over,
    p1_a_new_udp_socket_is_bound_at_commit,
    p1_a_stopped_service_can_start_again_on_its_port,
    p1_the_queue_of_an_unwanted_listener_is_served_before_it_closes,
    p1_a_renamed_listener_keeps_its_socket,
    p1_many_listeners_can_be_renamed_at_once,
    p1_a_moved_listener_is_served_at_the_old_address_until_commit,
    p1_a_new_listener_takes_nothing_before_its_turn,
    p1_a_new_listener_of_a_rejected_successor_closes_with_it,
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

/// A datagram, and its answer: the text, and the generation behind it.
fn packet(socket: &UdpSocket, server: &Server, name: &str) -> String {
    let mut buffer = [0; 64];
    socket.send_to(b"packet", server.address(name).inet()).unwrap();
    let length = socket.recv(&mut buffer).expect("an answer");
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

/// P1.
fn p1_every_kind_of_socket_is_handed_over() {
    let server = Server::start(Release::with([
        Socket::tcp("main"),
        Socket::group("group", 2),
        Socket::unix("path"),
        Socket::abstract_unix("abstract"),
        Socket::seqpacket("seqpacket"),
        Socket::datagram("datagram"),
        Socket::udp("udp"),
        Socket::udp_group("udp-group", 2),
    ]));
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.set_read_timeout(Some(PATIENCE)).unwrap();
    let own = UnixDatagram::bind(server.path("own.sock")).unwrap();
    own.set_read_timeout(Some(PATIENCE)).unwrap();
    for generation in 0..3 {
        for name in ["main", "group", "path", "abstract"] {
            assert_eq!(server.client(name).who().unwrap().generation, generation, "{name}");
        }
        assert_eq!(packet(&udp, &server, "udp"), format!("packet {generation}"));
        assert_eq!(packet(&udp, &server, "udp-group"), format!("packet {generation}"));
        let mut buffer = [0; 64];
        own.send_to(b"datagram", server.path("datagram.sock")).unwrap();
        let length = own.recv(&mut buffer).expect("an answer");
        assert_eq!(buffer[..length], *format!("datagram {generation}").as_bytes());
        let records = socket2::Socket::new(Domain::UNIX, Type::SEQPACKET, None).unwrap();
        records.set_read_timeout(Some(PATIENCE)).unwrap();
        records.connect(&SockAddr::unix(server.path("seqpacket.sock")).unwrap()).unwrap();
        records.send(b"record").unwrap();
        let length = (&records).read(&mut buffer).expect("an answer");
        assert_eq!(buffer[..length], *format!("record {generation}").as_bytes());
        drop(records);
        let report = server.upgrade();
        assert_eq!((report.claimed, report.bound), (10, 0), "{report}");
    }
    server.stop();
    for name in ["path.sock", "seqpacket.sock", "datagram.sock"] {
        assert!(!server.path(name).exists(), "{name}");
    }
}

/// P1, P2. Before that it would take its share of the packets, or keep the port from others.
fn p1_a_new_udp_socket_is_bound_at_commit() {
    let server = Server::start(Release { probation: LONG, ..Release::default() });
    let new = free_port();
    server.next_release(|release| {
        release.probation = Duration::ZERO;
        release.sockets.push(Socket::udp("udp").at(&new));
    });
    server.signal(server.pid(0), Signal::SIGHUP);
    let successor = server.until_role(1, "successor");
    drop(UdpSocket::bind(&new).expect("it is not bound in probation"));
    server.signal(successor, Signal::SIGTERM);
    server.until_gone(successor);
    drop(UdpSocket::bind(&new).expect("it is not bound after a roll back"));

    let server = Server::start(Release::default());
    server.next_release(|release| release.sockets.push(Socket::udp("udp").at(&new)));
    server.upgrade_well();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = [0; 64];
    until("an answer from the new socket", || {
        udp.send_to(b"packet", &new).unwrap();
        let length = udp.recv(&mut buffer).ok()?;
        (buffer[..length] == *b"packet 1").then_some(())
    });
}

/// P1. Connections of the old one are in TIME_WAIT.
fn p1_a_stopped_service_can_start_again_on_its_port() {
    let port = free_port();
    let server = Server::start(Release::with([Socket::tcp("main").at(&port)]));
    let load = Load::start(&[server.address("main")], 2);
    load.until_answered(50);
    // The server closes first: the wait is on its side.
    let mut held = server.client("main");
    assert_eq!(held.ask("hold"), "held 0");
    assert_eq!(held.ask("release"), "released 0");
    server.stop();
    load.finish();
    server.launch(|directory| Command::new(directory.join("server")));
    until("the service to answer again", || {
        Client::connect(&server.address("main")).ok()?.who().ok()
    });
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
    // Whoever connects now lengthens the queue, so nobody does.
    for name in ["old", "path"] {
        server.until_entry("accept ended", |entry| entry.data["name"] == name);
    }
    assert!(addresses.iter().all(refused));
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
    server.stop();
    assert!(!server.path("path.sock").exists());
}

/// P1, P12. Each is worth a note, and there are more than one message carries.
fn p1_many_listeners_can_be_renamed_at_once() {
    const MANY: usize = 300;
    let sockets = (0..MANY).map(|number| Socket::tcp(&format!("old-{number}")));
    let server = Server::start(Release::with(sockets.chain([Socket::tcp("main")])));
    server.next_release(|release| {
        for socket in &mut release.sockets {
            socket.address = server.address(&socket.name).inet().to_string();
            socket.name = socket.name.replace("old", "new");
        }
    });
    let report = server.upgrade();
    assert_eq!(report.outcome, UpgradeOutcome::Committed, "{report}");
    assert_eq!((report.claimed, report.unclaimed), (MANY + 1, 0), "{report}");
    assert!(report.notes.iter().any(|note| note.contains("old-0")), "{report}");
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
