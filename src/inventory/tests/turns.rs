use std::io::ErrorKind as IoKind;
use std::net::{TcpStream, UdpSocket as StdUdp};
use std::pin::pin;
use std::task::Poll;

use super::*;
use crate::error::ErrorKind;

/// Whether a future is pending when it is polled once.
async fn pending<F: Future>(mut future: std::pin::Pin<&mut F>) -> bool {
    std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
}

#[tokio::test]
async fn p1_a_queue_goes_over_with_its_listener_and_comes_back() {
    let first = fresh();
    let old = first.tcp("http", "127.0.0.1:0", &options()).unwrap();
    let address = old.local_addr().unwrap();
    first.open().unwrap();
    let next = successor(&first);
    let new = next.tcp("http", address, &options()).unwrap();
    turn(&first, &next).await;
    for _ in 0..10 {
        let client = connect(address);
        assert_eq!(accepted(&new).await, client.local_addr().ok());
    }
    let waiting: Vec<TcpStream> = (0..10).map(|_| connect(address)).collect();
    let mut parked = pin!(old.accept());
    assert!(pending(parked.as_mut()).await);
    next.stop();
    assert_eq!(accepted(&new).await, None, "rolled back: the queue is the predecessor's");
    assert!(first.resume().await.is_empty());
    assert!(tokio::time::timeout(LONG, parked).await.unwrap().unwrap().is_some());
    for _ in 1..waiting.len() {
        assert!(accepted(&old).await.is_some());
    }
}

#[tokio::test]
async fn p1_a_successor_that_has_paused_itself_accepts_when_its_turn_comes_again() {
    let first = fresh();
    let old = first.tcp("http", "127.0.0.1:0", &options()).unwrap();
    let address = old.local_addr().unwrap();
    first.open().unwrap();
    let next = successor(&first);
    let new = next.tcp("http", address, &options()).unwrap();
    turn(&first, &next).await;
    assert!(next.pause().await.is_empty());
    let client = connect(address);
    assert!(pending(pin!(new.accept())).await);
    next.open().unwrap();
    assert!(next.unpause().await.is_empty());
    assert_eq!(accepted(&new).await, client.local_addr().ok());
}

#[tokio::test]
async fn p1_after_the_verdict_one_listener_that_cannot_be_opened_keeps_no_other_closed() {
    let first = fresh();
    let old = first.tcp("http", "127.0.0.1:0", &options()).unwrap();
    let address = old.local_addr().unwrap();
    first.open().unwrap();
    let next = successor(&first);
    let added = next.tcp("added", "127.0.0.1:0", &options()).unwrap();
    let new = next.tcp("http", address, &options()).unwrap();
    let _thief = std::net::TcpListener::bind(added.local_addr().unwrap()).unwrap();
    let claimed = give_bound(&next, &first);
    first.park(&claimed).await.unwrap();
    assert!(next.open().unwrap_err().chain().contains("in use"));
    let client = connect(address);
    assert!(pending(pin!(new.accept())).await, "before the verdict the predecessor serves on");
    let notes = next.open_what_can_be();
    assert!(notes.len() == 1 && notes[0].contains("added"), "{notes:?}");
    assert_eq!(accepted(&new).await, client.local_addr().ok());
    assert!(added.accept().await.unwrap_err().chain().contains("in use"));
}

#[tokio::test]
async fn after_commit_a_parked_listener_waits_to_own_again_until_the_drain_is_over() {
    let first = fresh();
    let old = first.tcp("http", "127.0.0.1:0", &options()).unwrap();
    let address = old.local_addr().unwrap();
    first.open().unwrap();
    let next = successor(&first);
    let _new = next.tcp("http", address, &options()).unwrap();
    turn(&first, &next).await;
    commit(&first, &next).await;
    assert_eq!(first.tcp("late", address, &options()).unwrap_err().kind(), ErrorKind::Stopping);
    assert!(pending(pin!(old.accept())).await);
    drop(next);
    let _client = connect(address);
    assert!(first.own_again().await.is_empty());
    assert!(accepted(&old).await.is_some());
    let next = successor(&first);
    let _new = next.tcp("http", address, &options()).unwrap();
    turn(&first, &next).await;
    commit(&first, &next).await;
    let mut parked = pin!(old.accept());
    assert!(pending(parked.as_mut()).await);
    first.finish();
    assert!(tokio::time::timeout(LONG, parked).await.unwrap().unwrap().is_none());
    connect(address);
}

#[tokio::test]
async fn what_the_successor_does_not_want_serves_its_queue_and_is_closed_at_commit() {
    let first = fresh();
    let http = first.tcp("http", "127.0.0.1:0", &options()).unwrap();
    let admin = first.tcp("admin", "127.0.0.1:0", &options()).unwrap();
    first.open().unwrap();
    let address = admin.local_addr().unwrap();
    let next = successor(&first);
    let _http = next.tcp("http", http.local_addr().unwrap(), &options()).unwrap();
    turn(&first, &next).await;
    connect(address);
    assert!(accepted(&admin).await.is_some(), "served on through probation");
    let _clients: Vec<TcpStream> = (0..5).map(|_| connect(address)).collect();
    commit(&first, &next).await;
    for _ in 0..5 {
        assert!(accepted(&admin).await.is_some());
    }
    assert_eq!(accepted(&admin).await, None);
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), IoKind::ConnectionRefused);
}

#[tokio::test]
async fn a_new_tcp_listener_is_bound_early_and_listens_at_our_turn() {
    let first = fresh();
    first.open().unwrap();
    let next = successor(&first);
    let listener = next.tcp("http", "127.0.0.1:0", &options()).unwrap();
    let address = listener.local_addr().unwrap();
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), IoKind::ConnectionRefused);
    assert_eq!(next.ready().bound.len(), 1);
    next.open().unwrap();
    let client = connect(address);
    assert_eq!(accepted(&listener).await, client.local_addr().ok());
    let late = next.tcp("late", "127.0.0.1:0", &options()).unwrap();
    connect(late.local_addr().unwrap());
    assert!(accepted(&late).await.is_some());
}

#[tokio::test]
async fn the_queue_of_a_failed_successors_new_listener_is_served_by_the_predecessor() {
    let first = fresh();
    let old = first.tcp("http", "127.0.0.1:0", &options()).unwrap();
    first.open().unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let next = successor(&first);
    let moved = next.tcp("http", free, &options()).unwrap();
    turn(&first, &next).await;
    let mut clients: Vec<TcpStream> = (0..5).map(|_| connect(free)).collect();
    next.stop();
    drop(moved);
    drop(next);
    first.resume().await;
    clients.push(connect(old.local_addr().unwrap()));
    for _ in &clients {
        assert!(accepted(&old).await.is_some());
    }
    assert!(pending(pin!(old.accept())).await);
    assert!(TcpStream::connect(free).is_err(), "then it is closed");
}

#[tokio::test]
async fn p5_what_a_successor_had_bound_before_its_turn_is_not_held_after_a_roll_back() {
    let dir = tempfile::tempdir().unwrap();
    let first = fresh();
    let _old = first.tcp("http", "127.0.0.1:0", &options()).unwrap();
    first.open().unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let next = successor(&first);
    let added = next.tcp("added", free, &options().without_reuse_address()).unwrap();
    let path = next.unix("path", dir.path().join("path"), &options()).unwrap();
    give_bound(&next, &first);
    first.release_bound();
    // As after a kill: the successor has removed nothing itself.
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    next.finish();
    drop((added, path));
    std::net::TcpListener::bind(free).unwrap();
}

#[tokio::test]
async fn p6_a_datagram_that_is_being_answered_keeps_the_drain_from_ending() {
    let first = fresh();
    first.open().unwrap();
    let dns = first.udp("dns", "127.0.0.1:0", &options()).unwrap();
    let client = StdUdp::bind("127.0.0.1:0").unwrap();
    client.send_to(b"who", dns.local_addr().unwrap()).unwrap();
    let mut buffer = [0; 8];
    let received = tokio::time::timeout(LONG, dns.recv_from_guarded(&mut buffer)).await;
    let (length, peer, guard) = received.unwrap().unwrap().unwrap();
    assert_eq!((length, peer), (3, client.local_addr().unwrap()));
    assert_eq!(first.drain.active(), 1);
    drop(guard);
    assert_eq!(first.drain.active(), 0);
}

#[tokio::test]
async fn a_new_udp_socket_is_tried_before_ready_and_bound_at_commit() {
    let first = fresh();
    first.open().unwrap();
    let taken = StdUdp::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let next = successor(&first);
    let error = next.udp("dns", address, &options()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Bind);
    assert!(error.chain().contains("in use"), "{}", error.chain());
    drop(taken);
    let dns = next.udp("dns", address, &options()).unwrap();
    assert!(next.ready().bound.is_empty());
    next.open().unwrap();
    let mut buffer = [0; 8];
    let mut received = pin!(dns.recv_from(&mut buffer));
    assert!(pending(received.as_mut()).await);
    drop(StdUdp::bind(address).expect("nothing is bound yet"));
    assert!(next.committed_as_successor().is_empty());
    let client = StdUdp::bind("127.0.0.1:0").unwrap();
    client.send_to(b"hello", address).unwrap();
    let (length, peer) = tokio::time::timeout(LONG, received).await.unwrap().unwrap().unwrap();
    assert_eq!((length, peer), (5, client.local_addr().unwrap()));
    dns.send_to(b"there", peer).await.unwrap();
    let mut answer = [0; 8];
    assert_eq!(client.recv_from(&mut answer).unwrap(), (5, address));
}

#[tokio::test]
async fn a_udp_socket_that_cannot_be_bound_at_commit_says_so() {
    let first = fresh();
    first.open().unwrap();
    let next = successor(&first);
    let free = StdUdp::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dns = next.udp("dns", free, &options()).unwrap();
    next.ready();
    next.open().unwrap();
    let _thief = StdUdp::bind(free).unwrap();
    let notes = next.committed_as_successor();
    assert!(notes[0].contains("dns") && notes[0].contains("in use"), "{notes:?}");
    let error = dns.recv_from(&mut [0; 8]).await.unwrap_err();
    assert!(error.chain().contains("in use"), "{}", error.chain());
    assert!(dns.send_to(b"x", free).await.is_err());
}

#[tokio::test]
async fn one_generation_reads_a_udp_socket_at_a_time() {
    let first = fresh();
    let old = first.udp("dns", "127.0.0.1:0", &options()).unwrap();
    let address = old.local_addr().unwrap();
    first.open().unwrap();
    let next = successor(&first);
    let new = next.udp("dns", address, &options()).unwrap();
    let client = StdUdp::bind("127.0.0.1:0").unwrap();
    let peer = client.local_addr().unwrap();
    let (mut here, mut there) = ([0; 8], [0; 8]);
    let mut reads = pin!(old.recv_from(&mut here));
    let mut waits = pin!(new.recv_from(&mut there));
    assert!(pending(reads.as_mut()).await && pending(waits.as_mut()).await);
    turn(&first, &next).await;
    client.send_to(b"one", address).unwrap();
    let got = tokio::time::timeout(LONG, waits).await.unwrap().unwrap().unwrap();
    assert_eq!(got, (3, peer));
    client.send_to(b"two!", address).unwrap();
    assert!(pending(reads.as_mut()).await, "parked");
    old.send_to(b"still", peer).await.unwrap();
    next.stop();
    first.resume().await;
    let got = tokio::time::timeout(LONG, reads).await.unwrap().unwrap().unwrap();
    assert_eq!(got, (4, peer));
}

#[tokio::test]
async fn stop_serves_every_queue_and_then_says_none() {
    let sockets = fresh();
    let busy = sockets.tcp("busy", "127.0.0.1:0", &options()).unwrap();
    let idle = sockets.tcp("idle", "127.0.0.1:0", &options()).unwrap();
    sockets.open().unwrap();
    let _clients: Vec<TcpStream> = (0..50).map(|_| connect(busy.local_addr().unwrap())).collect();
    sockets.stop();
    assert_eq!(accepted(&idle).await, None);
    for _ in 0..50 {
        assert!(accepted(&busy).await.is_some());
    }
    assert_eq!(accepted(&busy).await, None);
    let late = sockets.tcp("late", "127.0.0.1:0", &options()).unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Stopping);
}

#[tokio::test]
async fn an_address_in_use_is_an_error_that_names_listener_and_address() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = fresh().tcp("http", address, &options()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Bind);
    let text = error.chain();
    assert!(text.contains("listener \"http\"") && text.contains(&address.to_string()), "{text}");
    assert!(text.contains("in use"), "{text}");
    let error = fresh().tcp("http", "nonsense", &options()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}

/// Whether a framework accepts.
struct Framework(std::sync::Arc<std::sync::atomic::AtomicBool>);

impl crate::listener::Pause for Framework {
    async fn pause(&mut self) -> std::io::Result<()> {
        self.0.store(false, std::sync::atomic::Ordering::SeqCst);
        Ok(())
    }

    async fn resume(&mut self) -> std::io::Result<()> {
        self.0.store(true, std::sync::atomic::Ordering::SeqCst);
        Ok(())
    }
}

/// P1. Each is told by a task of its own, and they may run in any order.
#[tokio::test]
async fn p1_a_framework_follows_the_last_word_whichever_reaches_it_first() {
    let inventory = fresh();
    let listener = inventory.tcp("http", "127.0.0.1:0", &options()).unwrap();
    inventory.open().unwrap();
    let accepts = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let _raw = listener.into_raw_with(Framework(accepts.clone())).unwrap();
    let now = || accepts.load(std::sync::atomic::Ordering::SeqCst);
    inventory.hold();
    let (paused, released) = (inventory.pause(), inventory.release());
    assert!(released.await.is_empty() && paused.await.is_empty());
    assert!(now(), "the operator has resumed it");
    inventory.hold();
    let first = inventory.pause();
    let released = inventory.release();
    inventory.hold();
    let again = inventory.pause();
    assert!(again.await.is_empty() && released.await.is_empty() && first.await.is_empty());
    assert!(!now(), "the operator has paused it");
}
