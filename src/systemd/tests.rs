//! A mock manager: its socket, and what arrives there.

use std::ffi::OsStr;
use std::io::{ErrorKind as IoErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use super::{Address, Message, Notifier};
use crate::error::ErrorKind;
use crate::name::Name;
use crate::sys::scm;

const LONG: Duration = Duration::from_secs(20);

fn notifier(address: impl AsRef<OsStr>) -> Notifier {
    Notifier::new(Address::parse(address.as_ref()).unwrap())
}

fn bound(directory: &Path) -> (UnixDatagram, Notifier) {
    let path = directory.join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    (socket, notifier(path))
}

fn next(socket: &UnixDatagram) -> String {
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).unwrap();
    String::from_utf8(buffer[..length].to_vec()).unwrap()
}

fn next_with_descriptors(socket: &UnixDatagram) -> (String, Vec<OwnedFd>) {
    let (mut buffer, mut fds) = ([0; 4096], std::collections::VecDeque::new());
    let got = scm::recv(socket.as_fd(), &mut buffer, &mut fds).unwrap();
    (String::from_utf8(buffer[..got.bytes].to_vec()).unwrap(), fds.into())
}

#[test]
fn a_message_is_one_datagram_of_lines() {
    let own = std::process::id().cast_signed();
    let text = Message::new().ready().main_pid(own).status("a\nREADY=0\0b").text;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..2], ["READY=1", &format!("MAINPID={own}")]);
    assert_eq!(*lines.last().unwrap(), "STATUS=a READY=0 b");
    if let Some(id) = crate::sys::pidfd::unique_id(own) {
        assert_eq!(lines[2], format!("MAINPIDFDID={id}"));
    }
    let long = Message::new().status(&"ä".repeat(5000)).text;
    assert_eq!(long.chars().count(), "STATUS=".len() + 500);
    let reloading = Message::new().reloading().text;
    let usec = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
    assert!(usec.parse::<u64>().unwrap() > 0);
    let time = Message::new().extend_timeout(Duration::from_millis(1500)).text;
    assert_eq!(time, "EXTEND_TIMEOUT_USEC=1500000");
}

#[tokio::test]
async fn a_path_and_an_abstract_name_are_reached_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let (socket, to_path) = bound(directory.path());
    let name = format!("heirloom-notify-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
    let by_name = UnixDatagram::bind_addr(&address).unwrap();
    by_name.set_read_timeout(Some(LONG)).unwrap();
    let to_name = notifier(format!("@{name}"));
    for (socket, notifier) in [(socket, to_path), (by_name, to_name)] {
        notifier.post(Message::new().ready());
        notifier.post(Message::new().watchdog());
        assert_eq!((next(&socket), next(&socket)), ("READY=1".into(), "WATCHDOG=1".into()));
    }
}

#[tokio::test]
async fn descriptors_go_beside_their_name() {
    let directory = tempfile::tempdir().unwrap();
    let (socket, notifier) = bound(directory.path());
    let (reader, mut writer) = std::io::pipe().unwrap();
    let name: Name = "http".parse().unwrap();
    notifier.post(Message::store(&name, vec![Arc::new(OwnedFd::from(reader))]));
    notifier.post(Message::remove(&name));
    let (text, mut fds) = next_with_descriptors(&socket);
    assert_eq!(text, "FDSTORE=1\nFDNAME=http\nFDPOLL=0");
    writer.write_all(b"x").unwrap();
    let mut byte = [0];
    nix::unistd::read(fds.pop().unwrap(), &mut byte).unwrap();
    assert_eq!((byte, fds.len()), (*b"x", 0));
    assert_eq!(next(&socket), "FDSTOREREMOVE=1\nFDNAME=http");
}

/// P4. A manager that reads nothing for a while gets everything in order, and nobody waits for it.
#[tokio::test]
async fn p4_a_slow_manager_gets_everything_in_order_and_blocks_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let (socket, notifier) = bound(directory.path());
    socket.set_nonblocking(true).unwrap();
    // The kernel's own queue first.
    let filler = UnixDatagram::unbound().unwrap();
    filler.set_nonblocking(true).unwrap();
    let path = directory.path().join("notify");
    let mut filled = 0;
    while filler.send_to(b"filler", &path).is_ok() {
        filled += 1;
    }
    for number in 0..40 {
        notifier.post(Message::new().status(&number.to_string()));
    }
    notifier.post(Message::new().ready());
    let reading = async {
        let mut got = Vec::new();
        while got.last().is_none_or(|last| last != "READY=1") {
            let mut buffer = [0; 256];
            match socket.recv(&mut buffer) {
                Ok(length) => got.push(String::from_utf8(buffer[..length].to_vec()).unwrap()),
                Err(error) if error.kind() == IoErrorKind::WouldBlock => {
                    tokio::task::yield_now().await;
                }
                Err(error) => panic!("{error}"),
            }
        }
        got
    };
    let got = tokio::time::timeout(LONG, reading).await.unwrap();
    let numbers: Vec<String> = (0..40).map(|number| format!("STATUS={number}")).collect();
    assert_eq!(got[filled..got.len() - 1], numbers[..]);
}

/// P4. What would wait too long is given up, first what only people read.
#[tokio::test]
async fn p4_a_manager_that_reads_nothing_loses_statuses_first() {
    let directory = tempfile::tempdir().unwrap();
    let (socket, notifier) = bound(directory.path());
    socket.set_nonblocking(true).unwrap();
    let filler = UnixDatagram::unbound().unwrap();
    filler.set_nonblocking(true).unwrap();
    while filler.send_to(b"filler", directory.path().join("notify")).is_ok() {}
    for number in 0..1000 {
        notifier.post(Message::new().status(&number.to_string()));
    }
    notifier.post(Message::new().main_pid(1));
    assert!(!notifier.barrier(Duration::from_millis(20)).await);
    let mut got = Vec::new();
    let reading = async {
        while !got.iter().any(|text: &String| text.starts_with("MAINPID=1")) {
            let mut buffer = [0; 256];
            match socket.recv(&mut buffer) {
                Ok(length) => got.push(String::from_utf8(buffer[..length].to_vec()).unwrap()),
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(LONG, reading).await.unwrap();
    assert!(got.iter().filter(|text| text.starts_with("STATUS=")).count() < 70);
}

/// P3. Whoever has missed this takes the service for dead.
#[tokio::test(start_paused = true)]
async fn p3_a_manager_that_wakes_after_an_hour_learns_the_main_process() {
    let directory = tempfile::tempdir().unwrap();
    let (socket, notifier) = bound(directory.path());
    socket.set_nonblocking(true).unwrap();
    let filler = UnixDatagram::unbound().unwrap();
    filler.set_nonblocking(true).unwrap();
    while filler.send_to(b"filler", directory.path().join("notify")).is_ok() {}
    notifier.post(Message::new().status("takes its time"));
    notifier.post(Message::new().main_pid(1).ready());
    for _ in 0..3600 {
        tokio::task::yield_now().await;
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    let mut got = String::new();
    for _ in 0..1_000_000 {
        let mut buffer = [0; 256];
        match socket.recv(&mut buffer) {
            Ok(length) => got = String::from_utf8(buffer[..length].to_vec()).unwrap(),
            Err(_) => tokio::task::yield_now().await,
        }
        assert!(!got.starts_with("STATUS="), "that was given up");
        if got.starts_with("MAINPID=1\n") {
            return;
        }
    }
    panic!("it was given up");
}

#[tokio::test]
async fn a_barrier_holds_until_the_manager_has_read() {
    let directory = tempfile::tempdir().unwrap();
    let (socket, notifier) = bound(directory.path());
    notifier.post(Message::new().ready());
    let waiting = notifier.clone();
    let mut waits = std::pin::pin!(waiting.barrier(LONG));
    let early = tokio::time::timeout(Duration::from_millis(20), &mut waits).await;
    assert!(early.is_err(), "{early:?}");
    assert_eq!(next(&socket), "READY=1");
    let (text, fds) = next_with_descriptors(&socket);
    assert_eq!((text.as_str(), fds.len()), ("BARRIER=1", 1));
    drop(fds);
    assert!(waits.await);
}

#[tokio::test]
async fn p4_nobody_waits_for_a_manager_that_is_gone_and_one_that_comes_back_is_heard() {
    let directory = tempfile::tempdir().unwrap();
    let (socket, notifier) = bound(directory.path());
    notifier.post(Message::new().ready());
    assert_eq!(next(&socket), "READY=1");
    drop(socket);
    notifier.post(Message::new().watchdog());
    // Nobody holds the other end: that is no reason to wait.
    let begun = std::time::Instant::now();
    notifier.barrier(LONG).await;
    assert!(begun.elapsed() < LONG / 2);
    std::fs::remove_file(directory.path().join("notify")).unwrap();
    let socket = UnixDatagram::bind(directory.path().join("notify")).unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    notifier.post(Message::new().stopping());
    assert_eq!(next(&socket), "STOPPING=1");
}

/// What came over one connection, to its end.
fn whole(listener: &Socket) -> String {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        match (&stream).read(&mut buffer).unwrap() {
            0 => return String::from_utf8(text).unwrap(),
            length => text.extend_from_slice(&buffer[..length]),
        }
    }
}

/// Each message is a connection, in order, of the first type that the manager takes; a barrier
/// waits until all are sent, since nobody can answer it there.
async fn speaks_over_connections(listener: Socket, notifier: Notifier) {
    let long = "x".repeat(499);
    for message in [Message::new().ready(), Message::new().status(&long), Message::new().watchdog()]
    {
        notifier.post(message);
    }
    let reading = tokio::task::spawn_blocking(move || [(); 3].map(|()| whole(&listener)));
    assert!(notifier.barrier(LONG).await);
    let expected = ["READY=1", &format!("STATUS={long}"), "WATCHDOG=1"];
    assert_eq!(reading.await.unwrap(), expected);
}

/// The vsock of a virtual machine, by a stand-in of Unix sockets: everything but the address.
#[tokio::test]
async fn a_manager_behind_a_vsock_gets_a_connection_for_each_message() {
    for kind in [Type::SEQPACKET, Type::STREAM] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vsock");
        let listener = Socket::new(Domain::UNIX, kind, None).unwrap();
        listener.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        listener.listen(8).unwrap();
        let types = &[Type::DGRAM, Type::SEQPACKET, Type::STREAM];
        speaks_over_connections(listener, Notifier::new(Address::stand_in(&path, types))).await;
    }
}

/// The same over a real vsock, where the kernel has one that leads back to this machine
/// (`vsock_loopback`). Elsewhere the stand-in is all that is tested.
#[tokio::test]
async fn a_manager_behind_the_loopback_vsock_gets_each_message() {
    const LOCAL: u32 = 1;
    let Ok(listener) = Socket::new(Domain::VSOCK, Type::STREAM, None) else { return };
    if listener.bind(&SockAddr::vsock(LOCAL, u32::MAX)).is_err() {
        return;
    }
    listener.listen(8).unwrap();
    let (_, port) = listener.local_addr().unwrap().as_vsock_address().unwrap();
    speaks_over_connections(listener, notifier(format!("vsock-stream:{LOCAL}:{port}"))).await;
}

#[tokio::test]
async fn a_manager_behind_a_vsock_that_is_gone_keeps_nobody_waiting() {
    let directory = tempfile::tempdir().unwrap();
    let address = Address::stand_in(&directory.path().join("vsock"), &[Type::STREAM]);
    let notifier = Notifier::new(address);
    notifier.post(Message::new().ready());
    assert!(notifier.barrier(LONG).await);
}

#[test]
fn p9_an_address_is_checked() {
    for fine in ["/run/systemd/notify", "@name", "vsock:2:1234", "vsock-stream:2:1"] {
        Address::parse(OsStr::new(fine)).unwrap();
    }
    let long = format!("/{}", "x".repeat(200));
    let wrong = [
        "run/notify",
        "",
        "@",
        "/",
        "vsock:2",
        "vsock:2:x",
        "vsock:-1:1",
        "vsock:4294967295:1",
        "vsock:1:2:3",
        "vsock-odd:1:1",
        "tcp:1:1",
        &long,
    ];
    for text in wrong {
        let error = Address::parse(OsStr::new(text)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Birth, "{text:?}");
        assert!(error.to_string().contains("NOTIFY_SOCKET"), "{error}");
    }
}
