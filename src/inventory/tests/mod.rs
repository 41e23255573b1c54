//! Two generations of sockets in one process: what one offers, the other inherits.

mod claims;
mod doors;
mod groups;
mod paths;
mod turns;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::{Inherited, Inventory};
use crate::drain::Drain;
use crate::listener::{ListenOptions, TcpListener};
use crate::wire::SocketRecord;

const LONG: Duration = Duration::from_secs(20);

fn options() -> ListenOptions {
    ListenOptions::new()
}

fn count(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).unwrap()
}

fn fresh() -> Inventory {
    Inventory::new(Drain::new(), Inherited::Fresh).unwrap()
}

/// The next generation of these sockets: it holds duplicates, as SCM_RIGHTS would give it.
fn successor(of: &Inventory) -> Inventory {
    linked(offered(of))
}

fn linked(list: Vec<(SocketRecord, OwnedFd)>) -> Inventory {
    Inventory::new(Drain::new(), Inherited::Link(list)).unwrap()
}

fn offered(of: &Inventory) -> Vec<(SocketRecord, OwnedFd)> {
    of.offer().into_iter().map(|(record, fd)| (record, fd.try_clone().unwrap())).collect()
}

/// What the successor has bound goes over to the predecessor.
fn give_bound(successor: &Inventory, predecessor: &Inventory) -> Vec<u32> {
    let ready = successor.ready();
    let bound = ready.bound.into_iter();
    predecessor.adopt_bound(bound.map(|(record, fd)| (record, fd.try_clone().unwrap())).collect());
    ready.claimed
}

/// The steps from ready to our turn, on both sides.
async fn turn(predecessor: &Inventory, successor: &Inventory) {
    let claimed = give_bound(successor, predecessor);
    predecessor.park(&claimed).await.unwrap();
    successor.open().unwrap();
}

async fn commit(predecessor: &Inventory, successor: &Inventory) -> Vec<String> {
    let notes = successor.committed_as_successor();
    predecessor.committed_as_predecessor();
    notes
}

async fn accepted(listener: &TcpListener) -> Option<SocketAddr> {
    let conn = tokio::time::timeout(LONG, listener.accept()).await.expect("a connection").unwrap();
    conn.map(|conn| *conn.peer_addr())
}

fn connect(address: SocketAddr) -> std::net::TcpStream {
    std::net::TcpStream::connect(address).unwrap()
}
