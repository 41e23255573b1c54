//! Where clients come in, as both generations see it.

use tokio::sync::oneshot;

use super::*;
use crate::inventory::Door;
use crate::listener::{Taken, address_of};
use crate::wire::{Address, Kind};

fn tcp(inventory: &Inventory, name: &str, address: impl std::net::ToSocketAddrs) -> TcpListener {
    inventory.tcp(name, address, &options()).unwrap()
}

/// Names, addresses and numbers of sockets, by name.
fn list(mut doors: Vec<Door>) -> Vec<(String, Address, usize)> {
    doors.sort_by_key(|door| door.name.clone());
    doors.into_iter().map(|door| (door.name.to_string(), door.address, door.members)).collect()
}

#[tokio::test]
async fn a_door_is_a_listener_with_its_sockets() {
    let inventory = fresh();
    let http = tcp(&inventory, "http", "127.0.0.1:0");
    let group = inventory.tcp_group("group", "127.0.0.1:0", count(3), &options()).unwrap();
    let _datagrams = inventory.udp("udp", "127.0.0.1:0", &options()).unwrap();
    inventory.open().unwrap();
    let address = Address::Inet(http.local_addr().unwrap());
    let door = inventory.door("http").unwrap();
    let expected = Door {
        name: "http".parse().unwrap(),
        kind: Kind::Tcp,
        address: address.clone(),
        members: 1,
        observed: true,
        overlap: false,
    };
    assert_eq!(door, expected);
    let shared = Address::Inet(group[0].local_addr().unwrap());
    let doors = [("group".to_owned(), shared, 3), ("http".to_owned(), address, 1)];
    assert_eq!(list(inventory.doors()), doors, "nobody connects to datagrams");
    assert_eq!((inventory.door("udp"), inventory.door("none")), (None, None));
    let _raw = tcp(&inventory, "raw", "127.0.0.1:0").into_raw_overlap().unwrap();
    let raw = inventory.door("raw").unwrap();
    assert!(raw.overlap && !raw.observed);
    http.remove().await;
    assert_eq!(inventory.door("http"), None, "it has been closed");
}

#[tokio::test]
async fn the_doors_of_a_successor_are_what_it_claimed_and_what_it_bound() {
    let predecessor = fresh();
    let kept = tcp(&predecessor, "kept", "127.0.0.1:0");
    let renamed = tcp(&predecessor, "renamed", "127.0.0.1:0");
    let moved = tcp(&predecessor, "moved", "127.0.0.1:0");
    let _dropped = tcp(&predecessor, "dropped", "127.0.0.1:0");
    predecessor.open().unwrap();
    let [kept, renamed, moved] = [kept, renamed, moved].map(|one| one.local_addr().unwrap());

    let successor = successor(&predecessor);
    let _kept = tcp(&successor, "kept", kept);
    let _renamed = tcp(&successor, "another", renamed);
    let elsewhere = tcp(&successor, "moved", "127.0.0.2:0");
    let new = successor.tcp_group("new", "127.0.0.1:0", count(2), &options()).unwrap();
    turn(&predecessor, &successor).await;

    let inet = |listener: &TcpListener| Address::Inet(listener.local_addr().unwrap());
    let doors = [
        ("kept".to_owned(), Address::Inet(kept), 1),
        ("moved".to_owned(), inet(&elsewhere), 1),
        ("new".to_owned(), inet(&new[0]), 2),
        ("renamed".to_owned(), Address::Inet(renamed), 1),
    ];
    assert_eq!(list(predecessor.doors_of_successor()), doors, "by the predecessor's names");
    assert_ne!(inet(&elsewhere), Address::Inet(moved));
    assert_eq!(successor.door("another").unwrap().address, Address::Inet(renamed));
}

#[tokio::test]
async fn an_announced_connection_is_told_by_the_socket_that_took_it() {
    let inventory = fresh();
    let listeners = inventory.tcp_group("group", "[::]:0", count(2), &options()).unwrap();
    inventory.open().unwrap();
    let port = listeners[0].local_addr().unwrap().port();
    for (index, listener) in listeners.iter().enumerate() {
        let (taken, guard) = loop {
            // The kernel chooses the socket: again until it is this one.
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
            let socket = socket.unwrap();
            socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
            let from = address_of(&socket.local_addr().unwrap());
            let (tell, told) = oneshot::channel();
            let _expecting = inventory.expect(&from, Box::new(|by| tell.send(by).unwrap()));
            socket.connect(&SocketAddr::from(([127, 0, 0, 1], port)).into()).unwrap();
            let all = listeners.iter().map(|listener| Box::pin(listener.accept()));
            let mut all: Vec<_> = all.collect();
            let conn = std::future::poll_fn(|cx| {
                let mut ready = all.iter_mut().map(|accept| accept.as_mut().poll(cx));
                ready.find(std::task::Poll::is_ready).unwrap_or(std::task::Poll::Pending)
            });
            let conn = tokio::time::timeout(LONG, conn).await.unwrap().unwrap().unwrap();
            let taken = told.await.unwrap();
            if taken.member == index {
                break (taken, conn.into_parts().1);
            }
        };
        assert_eq!(taken, Taken { listener: listener.name().clone(), member: index });
        assert!(guard.is_health_check());
    }
}
