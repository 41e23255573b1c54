use std::collections::HashSet;
use std::net::{TcpStream, UdpSocket as StdUdp};

use socket2::SockRef;
use tokio::task::JoinSet;

use super::*;

/// Connects until each of these listeners has accepted; gives how many connections were served.
async fn until_all_serve(listeners: &[TcpListener], address: SocketAddr) -> usize {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    for (at, listener) in listeners.iter().cloned().enumerate() {
        let tell = tell.clone();
        tasks.spawn(async move {
            while listener.accept().await.unwrap().is_some() {
                tell.send(at).unwrap();
            }
        });
    }
    let mut seen = HashSet::new();
    let mut served = 0;
    while seen.len() < listeners.len() {
        assert!(served < 10_000, "some listener never serves: {seen:?}");
        connect(address);
        let at = tokio::time::timeout(LONG, told.recv()).await.expect("it is served");
        seen.insert(at.unwrap());
        served += 1;
    }
    served
}

async fn group_of_four() -> (Inventory, Vec<TcpListener>, SocketAddr) {
    let first = fresh();
    let listeners = first.tcp_group("http", "127.0.0.1:0", count(4), &options()).unwrap();
    first.open().unwrap();
    let address = listeners[0].local_addr().unwrap();
    assert!(listeners.iter().all(|listener| listener.local_addr().unwrap() == address));
    (first, listeners, address)
}

#[tokio::test]
async fn four_members_and_two_listeners_lose_nobodys_queue() {
    let (first, _old, address) = group_of_four().await;
    let next = successor(&first);
    let new = next.tcp_group("http", "127.0.0.1:0", count(2), &options()).unwrap();
    let claimed = give_bound(&next, &first);
    assert_eq!(claimed, [0, 1, 2, 3]);
    first.park(&claimed).await.unwrap();
    let clients: Vec<TcpStream> = (0..100).map(|_| connect(address)).collect();
    next.open().unwrap();
    commit(&first, &next).await;
    first.finish();
    let mut served = 0;
    let mut tasks = JoinSet::new();
    for listener in new {
        tasks.spawn(async move {
            let mut served = 0;
            while listener.accept().await.unwrap().is_some() {
                served += 1;
            }
            served
        });
    }
    while next.drain.accepted() < 100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(next.offer().len(), 4, "every member stays open");
    assert!(next.offer().iter().all(|(record, _)| record.group.unwrap().count == 4));
    next.stop();
    while let Some(task) = tasks.join_next().await {
        served += task.unwrap();
    }
    assert_eq!(served, clients.len());
}

#[tokio::test]
async fn four_members_and_six_listeners_grow_at_commit_and_not_before() {
    let (first, _old, address) = group_of_four().await;
    let next = successor(&first);
    let new = next.tcp_group("http", "127.0.0.1:0", count(6), &options()).unwrap();
    turn(&first, &next).await;
    assert_eq!(next.offer().len(), 4);
    assert!(new[5].local_addr().is_err(), "it has no socket yet");
    until_all_serve(&new[..4], address).await;
    assert!(commit(&first, &next).await.is_empty());
    assert_eq!(next.offer().len(), 6);
    assert_eq!(new[5].local_addr().unwrap(), address);
    until_all_serve(&new, address).await;
}

#[tokio::test]
async fn one_listener_of_a_group_accepts_on_every_member() {
    let (first, _old, address) = group_of_four().await;
    let next = successor(&first);
    let one = next.tcp("http", address, &options()).unwrap();
    turn(&first, &next).await;
    let clients: Vec<TcpStream> = (0..40).map(|_| connect(address)).collect();
    for _ in &clients {
        assert!(accepted(&one).await.is_some());
    }
}

#[tokio::test]
async fn a_socket_without_reuse_port_cannot_grow_and_the_report_says_so() {
    let first = fresh();
    let listener = first.tcp("http", "127.0.0.1:0", &options()).unwrap();
    first.open().unwrap();
    let next = successor(&first);
    let address = listener.local_addr().unwrap();
    let group = next.tcp_group("http", address, count(3), &options()).unwrap();
    let notes = next.ready().notes;
    assert!(notes[0].contains("SO_REUSEPORT"), "{notes:?}");
    next.open().unwrap();
    assert!(next.committed_as_successor().is_empty());
    connect(address);
    assert!(accepted(&group[0]).await.is_some());
}

#[tokio::test]
async fn a_new_udp_group_binds_at_commit_on_one_port() {
    let first = fresh();
    first.open().unwrap();
    let next = successor(&first);
    let group = next.udp_group("dns", "127.0.0.1:0", count(3), &options()).unwrap();
    next.ready();
    next.open().unwrap();
    assert!(next.offer().is_empty());
    assert!(next.committed_as_successor().is_empty());
    let offer = next.offer();
    assert_eq!(offer.len(), 3);
    assert!(offer.iter().all(|(_, fd)| SockRef::from(fd).reuse_port().unwrap()));
    let address = group[0].local_addr().unwrap();
    assert!(group.iter().all(|socket| socket.local_addr().unwrap() == address));
    assert_ne!(address.port(), 0);
    StdUdp::bind("127.0.0.1:0").unwrap().send_to(b"x", address).unwrap();
}
