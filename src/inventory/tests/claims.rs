use std::net::{TcpListener as StdListener, UdpSocket as StdUdp};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use socket2::SockRef;

use super::*;
use crate::error::ErrorKind;
use crate::inventory::inherited::is_compatible;
use crate::name::Name;
use crate::wire::{Address, Kind};

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

#[tokio::test]
async fn port_zero_keeps_its_port_across_generations() {
    let first = fresh();
    let address = first.tcp("http", "127.0.0.1:0", &options()).unwrap().local_addr().unwrap();
    first.open().unwrap();
    let mut before = first;
    for _ in 0..3 {
        let next = successor(&before);
        let listener = next.tcp("http", "127.0.0.1:0", &options()).unwrap();
        assert_eq!(listener.local_addr().unwrap(), address);
        let ready = next.ready();
        assert_eq!((ready.claimed, ready.bound.len(), ready.notes), (vec![0], 0, vec![]));
        next.open().unwrap();
        next.committed_as_successor();
        before = next;
    }
}

#[test]
fn a_renamed_listener_is_claimed_by_its_exact_address_and_only_once() {
    let first = fresh();
    let address = first.tcp("http", "127.0.0.1:0", &options()).unwrap().local_addr().unwrap();
    first.open().unwrap();
    let next = successor(&first);
    let web = next.tcp("web", address, &options()).unwrap();
    assert_eq!(web.local_addr().unwrap(), address);
    let http = next.tcp("http", "127.0.0.1:0", &options()).unwrap();
    assert_ne!(http.local_addr().unwrap(), address, "what is claimed is gone");
    let ready = next.ready();
    assert_eq!(ready.claimed, [0]);
    assert_eq!(ready.bound.len(), 1);
    assert!(ready.notes[0].contains("from the name \"http\""), "{:?}", ready.notes);
}

#[test]
fn a_listener_that_moved_to_another_port_is_bound_anew_and_the_old_one_is_not_claimed() {
    let first = fresh();
    let old = first.tcp("http", "127.0.0.1:0", &options()).unwrap().local_addr().unwrap();
    first.open().unwrap();
    let free = StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let next = successor(&first);
    let listener = next.tcp("http", free, &options()).unwrap();
    assert_eq!(listener.local_addr().unwrap(), free);
    assert!(next.ready().claimed.is_empty());
    connect(old);
}

#[test]
fn wildcards_are_one_and_port_zero_is_any() {
    let inet = |text: &str| Address::Inet(text.parse().unwrap());
    let fits = |wanted: &str, found: &str| is_compatible(&inet(wanted), &inet(found));
    assert!(fits("[::]:80", "0.0.0.0:80"));
    assert!(fits("0.0.0.0:0", "[::]:80"));
    assert!(fits("127.0.0.1:0", "127.0.0.1:80"));
    assert!(!fits("127.0.0.1:80", "0.0.0.0:80"));
    assert!(!fits("[::]:81", "[::]:80"));
    assert!(!is_compatible(&Address::None, &Address::None));
}

#[test]
fn a_name_is_asked_for_once_until_it_is_removed() {
    let sockets = fresh();
    let listener = sockets.tcp("http", "127.0.0.1:0", &options()).unwrap();
    let again = sockets.udp("http", "127.0.0.1:0", &options()).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Config);
    assert!(again.to_string().contains("asked for before"), "{again}");
    sockets.open().unwrap();
    listener.core().close();
    let listener = sockets.tcp("http", "127.0.0.1:0", &options()).unwrap();
    connect(listener.local_addr().unwrap());
    assert_eq!(sockets.offer().len(), 1);
}

#[test]
fn a_service_managers_descriptor_of_the_wrong_kind_is_named() {
    let activated = |list| Inventory::new(Drain::new(), Inherited::Activated(list)).unwrap();
    let (pipe, _write) = std::io::pipe().unwrap();
    let udp = StdUdp::bind("127.0.0.1:0").unwrap();
    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    let connection = connect(listener.local_addr().unwrap());
    let sockets = activated(vec![
        (Some(name("pipe")), pipe.into()),
        (Some(name("udp")), udp.into()),
        (Some(name("conn")), connection.into()),
    ]);
    for (name, what) in [("pipe", "a pipe"), ("udp", "UDP"), ("conn", "does not listen")] {
        let error = sockets.tcp(name, "127.0.0.1:0", &options()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Descriptor);
        let text = error.to_string();
        assert!(text.contains(&format!("listener \"{name}\"")) && text.contains(what), "{text}");
    }
    assert!(sockets.descriptor("pipe").unwrap().is_some());
    assert!(sockets.descriptor("pipe").unwrap().is_none(), "taken once");
    assert_eq!(sockets.descriptor("udp").unwrap_err().kind(), ErrorKind::Descriptor);
}

#[tokio::test]
async fn a_nameless_activated_socket_is_claimed_by_its_address() {
    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let list = vec![(None, listener.into())];
    let sockets = Inventory::new(Drain::new(), Inherited::Activated(list)).unwrap();
    let listener = sockets.tcp("http", address, &options()).unwrap();
    sockets.open().unwrap();
    let client = connect(address);
    assert_eq!(accepted(&listener).await, client.local_addr().ok());
}

#[test]
fn a_descriptor_that_is_not_what_its_record_says_is_refused() {
    let record = |kind, address| SocketRecord {
        name: name("http"),
        kind,
        address,
        group: None,
        path_inode: None,
    };
    let refused = |record, fd: OwnedFd| {
        let error = Inventory::new(Drain::new(), Inherited::Link(vec![(record, fd)])).map(drop);
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Descriptor);
        assert!(error.to_string().contains("listener \"http\""), "{error}");
        error.to_string()
    };
    let inet = |address| Address::Inet(address);
    let udp = StdUdp::bind("127.0.0.1:0").unwrap();
    let address = inet(udp.local_addr().unwrap());
    assert!(refused(record(Kind::Tcp, address), udp.into()).contains("not a TCP listener"));
    let (pipe, _write) = std::io::pipe().unwrap();
    assert!(refused(record(Kind::Tcp, Address::None), pipe.into()).contains("a pipe"));
    let (stream, _peer) = UnixStream::pair().unwrap();
    let path = Address::Path("/nowhere".into());
    assert!(refused(record(Kind::UnixStream, path), stream.into()).contains("does not listen"));
    let other = StdListener::bind("127.0.0.1:0").unwrap();
    let elsewhere = inet("127.0.0.1:1".parse().unwrap());
    assert!(refused(record(Kind::Tcp, elsewhere), other.into()).contains("bound to"));
}

#[test]
fn a_listener_that_somebody_made_blocking_is_made_non_blocking() {
    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    let kept = listener.try_clone().unwrap();
    let list = vec![(None, listener.into())];
    let _sockets = Inventory::new(Drain::new(), Inherited::Activated(list)).unwrap();
    let flags = OFlag::from_bits_retain(fcntl(kept.as_fd(), FcntlArg::F_GETFL).unwrap());
    assert!(flags.contains(OFlag::O_NONBLOCK));
}

#[test]
fn drift_is_told_and_changed_only_after_commit() {
    let bytes = |bytes| NonZeroUsize::new(bytes).unwrap();
    let first = fresh();
    let small = options().receive_buffer(bytes(8192));
    let address = first.tcp("http", "[::]:0", &small).unwrap().local_addr().unwrap();
    first.open().unwrap();
    let next = successor(&first);
    let large = options().receive_buffer(bytes(65536)).only_v6();
    next.tcp("http", address, &large).unwrap();
    let notes = next.ready().notes;
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(notes.iter().all(|note| note.starts_with("listener \"http\": ")));
    assert!(notes[0].contains("IPv6 and IPv4, asked for IPv6 only"), "{notes:?}");
    assert!(notes[1].contains("receive buffer is 16384 bytes, asked for 131072"), "{notes:?}");
    next.open().unwrap();
    let size = || SockRef::from(&first.offer()[0].1).recv_buffer_size().unwrap();
    assert_eq!(size(), 16384);
    assert!(next.committed_as_successor().is_empty());
    assert_eq!(size(), 131_072);
}

#[test]
fn descriptors_of_other_kinds_are_handed_on_under_their_names() {
    let first = fresh();
    let (read, _write) = std::io::pipe().unwrap();
    first.provide_descriptor("log", read.into()).unwrap();
    first.open().unwrap();
    let next = successor(&first);
    assert!(next.descriptor("log").unwrap().is_some());
    let ready = next.ready();
    assert_eq!((ready.claimed, ready.bound.len()), (vec![0], 0));
}

#[tokio::test]
async fn a_thousand_sockets_are_offered_and_claimed_by_name() {
    let first = fresh();
    for index in 0..1000 {
        first.unix(&format!("s{index}"), format!("@{}-{index}", unique()), &options()).unwrap();
    }
    first.open().unwrap();
    let offer = first.offer();
    assert_eq!(offer.len(), 1000);
    let addresses: Vec<String> =
        offer.iter().map(|(record, _)| record.address.to_string()).collect();
    let next = successor(&first);
    for (index, address) in addresses.iter().enumerate().rev() {
        next.unix(&format!("s{index}"), address, &options()).unwrap();
    }
    let ready = next.ready();
    assert_eq!(ready.claimed, (0..1000).collect::<Vec<u32>>());
    assert!(ready.bound.is_empty());
    first.park(&ready.claimed).await.unwrap();
    first.committed_as_predecessor();
    assert_eq!(first.park(&[1000]).await.unwrap_err().kind(), ErrorKind::Protocol);
}

/// A name that no other test run uses.
fn unique() -> String {
    format!("heirloom-{}", std::process::id())
}
