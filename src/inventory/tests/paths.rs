use std::fs;
use std::io::{ErrorKind as IoKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram as StdDatagram, UnixListener as StdListener, UnixStream};
use std::path::Path;

use socket2::{Domain, SockAddr, Socket, Type};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;

use super::*;
use crate::error::ErrorKind;

fn dir() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn entries(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_path_survives_ten_upgrades_and_goes_with_the_last_stop() {
    let dir = dir();
    let path = dir.path().join("s");
    let mut before = fresh();
    let mut listener = before.unix("admin", &path, &options().mode(0o600)).unwrap();
    assert!(!path.exists(), "it appears when it is answered");
    before.open().unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    for _ in 0..10 {
        let next = successor(&before);
        let claimed = next.unix("admin", &path, &options()).unwrap();
        turn(&before, &next).await;
        assert!(commit(&before, &next).await.is_empty());
        before.stop();
        before.finish();
        assert!(listener.accept().await.unwrap().is_none());
        (before, listener) = (next, claimed);
        let mut client = UnixStream::connect(&path).unwrap();
        client.write_all(b"x").unwrap();
        let mut conn = listener.accept().await.unwrap().unwrap();
        assert_eq!(conn.read_u8().await.unwrap(), b'x');
    }
    before.stop();
    assert_eq!(entries(dir.path()), [""; 0]);
}

#[tokio::test]
async fn someone_elses_socket_at_the_path_is_not_touched() {
    let dir = dir();
    let path = dir.path().join("s");
    let sockets = fresh();
    let _listener = sockets.unix("admin", &path, &options()).unwrap();
    sockets.open().unwrap();
    fs::remove_file(&path).unwrap();
    let _other = StdListener::bind(&path).unwrap();
    let next = successor(&sockets);
    let _claimed = next.unix("admin", &path, &options()).unwrap();
    let notes = next.ready().notes;
    assert!(notes[0].contains("no longer leads"), "{notes:?}");
    sockets.stop();
    assert!(path.exists());
}

#[tokio::test]
async fn a_path_that_nobody_wants_any_more_goes_at_commit() {
    let dir = dir();
    let path = dir.path().join("s");
    let first = fresh();
    let listener = first.unix("admin", &path, &options()).unwrap();
    first.open().unwrap();
    let next = successor(&first);
    turn(&first, &next).await;
    let _queued = UnixStream::connect(&path).unwrap();
    commit(&first, &next).await;
    assert!(!path.exists());
    assert!(listener.accept().await.unwrap().is_some());
    assert!(listener.accept().await.unwrap().is_none());
}

#[tokio::test]
async fn p2_a_new_path_that_is_rolled_back_leaves_no_trace() {
    let dir = dir();
    let (old, new) = (dir.path().join("old"), dir.path().join("new"));
    let first = fresh();
    let listener = first.unix("admin", &old, &options()).unwrap();
    first.open().unwrap();
    for killed in [false, true] {
        let next = successor(&first);
        let moved = next.unix("admin", &new, &options()).unwrap();
        assert!(!new.exists());
        turn(&first, &next).await;
        let _client = UnixStream::connect(&new).unwrap();
        if killed {
            // Nothing of it runs any more, so nothing is tidied up by itself.
            Box::leak(Box::new((next, moved)));
        } else {
            next.stop();
        }
        first.resume().await;
        assert!(listener.accept().await.unwrap().is_some(), "its queue is served");
        assert_eq!(entries(dir.path()), ["old"]);
    }
    let _failed = successor(&first);
    let next = successor(&first);
    let _moved = next.unix("admin", &new, &options()).unwrap();
    give_bound(&next, &first);
    Box::leak(Box::new(next));
    first.resume().await;
    assert_eq!(entries(dir.path()), ["old"], "the temporary name neither");
}

#[tokio::test]
async fn a_dead_socket_of_ours_is_replaced_and_nothing_else() {
    let dir = dir();
    let path = dir.path().join("s");
    drop(StdListener::bind(&path).unwrap());
    let sockets = fresh();
    let listener = sockets.unix("admin", &path, &options()).unwrap();
    sockets.open().unwrap();
    let _client = UnixStream::connect(&path).unwrap();
    assert!(listener.accept().await.unwrap().is_some());
    let refused = |path: &Path| {
        let error = fresh().unix("admin", path, &options()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Bind);
        error.chain()
    };
    assert!(refused(&path).contains("a process has a socket there"));
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    assert!(refused(&file).contains("no socket"));
    let long = dir.path().join("x".repeat(100));
    assert!(refused(&long).contains("a Unix socket may have 107"), "{}", refused(&long));
    assert_eq!(entries(dir.path()), ["file", "s"]);
}

#[tokio::test]
async fn p2_a_successor_replaces_a_dead_socket_only_at_commit() {
    let dir = dir();
    let path = dir.path().join("s");
    drop(StdListener::bind(&path).unwrap());
    let first = fresh();
    first.open().unwrap();
    let next = successor(&first);
    let _listener = next.unix("admin", &path, &options()).unwrap();
    turn(&first, &next).await;
    let dead = UnixStream::connect(&path).unwrap_err();
    assert_eq!(dead.kind(), IoKind::ConnectionRefused);
    assert!(commit(&first, &next).await.is_empty());
    UnixStream::connect(&path).unwrap();
    assert_eq!(entries(dir.path()), ["s"]);
}

#[tokio::test]
async fn a_service_managers_path_is_never_unlinked() {
    let dir = dir();
    let path = dir.path().join("s");
    let listener = StdListener::bind(&path).unwrap();
    let list = vec![(Some("admin".parse().unwrap()), listener.into())];
    let first = Inventory::new(Drain::new(), Inherited::Activated(list)).unwrap();
    let _listener = first.unix("admin", &path, &options()).unwrap();
    first.open().unwrap();
    let next = successor(&first);
    let _claimed = next.unix("admin", &path, &options().mode(0o600)).unwrap();
    turn(&first, &next).await;
    commit(&first, &next).await;
    next.stop();
    assert!(path.exists());
}

/// Connects until the backlog is full, and gives how many connections it took.
fn fill(path: &Path) -> Vec<Socket> {
    let mut clients = Vec::new();
    loop {
        let client = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        client.set_nonblocking(true).unwrap();
        match client.connect(&SockAddr::unix(path).unwrap()) {
            Ok(()) => clients.push(client),
            Err(error) => {
                assert_eq!(error.kind(), IoKind::WouldBlock);
                return clients;
            }
        }
    }
}

#[tokio::test]
async fn p2_the_backlog_changes_at_commit_and_not_before() {
    let backlog = |connections| options().backlog(std::num::NonZeroU32::new(connections).unwrap());
    let dir = dir();
    let path = dir.path().join("s");
    let first = fresh();
    let _listener = first.unix("admin", &path, &backlog(2)).unwrap();
    first.open().unwrap();
    let next = successor(&first);
    let listener = next.unix("admin", &path, &backlog(7)).unwrap();
    turn(&first, &next).await;
    let clients = fill(&path);
    assert_eq!(clients.len(), 3, "one more than the backlog");
    commit(&first, &next).await;
    assert_eq!(fill(&path).len(), 5);
    for _ in 0..8 {
        assert!(listener.accept().await.unwrap().is_some());
    }
}

#[tokio::test]
async fn records_keep_their_bounds() {
    let dir = dir();
    let path = dir.path().join("s");
    let sockets = fresh();
    let listener = sockets.seqpacket("records", &path, &options()).unwrap();
    sockets.open().unwrap();
    let client = Socket::new(Domain::UNIX, Type::SEQPACKET, None).unwrap();
    client.connect(&SockAddr::unix(&path).unwrap()).unwrap();
    let conn = listener.accept().await.unwrap().unwrap();
    assert!(conn.peer_addr().is_unnamed());
    client.send(b"one").unwrap();
    client.send(b"three").unwrap();
    let mut buffer = [0; 16];
    assert_eq!(conn.recv(&mut buffer).await.unwrap(), 3);
    assert_eq!(conn.recv(&mut buffer).await.unwrap(), 5);
    assert_eq!(conn.send(b"back").await.unwrap(), 4);
    let mut answer = [std::mem::MaybeUninit::uninit(); 16];
    assert_eq!(client.recv(&mut answer).unwrap(), 4);
    drop(client);
    assert_eq!(conn.recv(&mut buffer).await.unwrap(), 0);
}

#[tokio::test]
async fn a_new_datagram_path_appears_at_commit() {
    let dir = dir();
    let path = dir.path().join("s");
    let first = fresh();
    first.open().unwrap();
    let next = successor(&first);
    let socket = next.unix_datagram("log", &path, &options()).unwrap();
    turn(&first, &next).await;
    assert!(!path.exists());
    commit(&first, &next).await;
    let client = StdDatagram::bind(dir.path().join("client")).unwrap();
    client.send_to(b"line", &path).unwrap();
    let mut buffer = [0; 8];
    let (length, peer) = socket.recv_from(&mut buffer).await.unwrap().unwrap();
    assert_eq!((length, peer.as_pathname()), (4, Some(dir.path().join("client").as_path())));
    socket.send_to(b"ok", dir.path().join("client")).await.unwrap();
    assert_eq!(client.recv(&mut buffer).unwrap(), 2);
    next.stop();
    assert_eq!(entries(dir.path()), ["client"]);
}
