//! The parent's words; what it does is tested with real processes.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use super::heard::read;
use super::options::{Endpoint, Options, Restart, Wanted};
use super::store::Store;

fn parse(text: &str) -> Result<Wanted, String> {
    Options::parse(text.split_whitespace().map(OsString::from).collect())
}

fn options(text: &str) -> Options {
    match parse(text) {
        Ok(Wanted::Run(options)) => options,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn options_come_before_the_server_and_its_own_are_left_alone() {
    let all = options(
        "--listen http=0.0.0.0:80 --listen=admin=/run/a.sock --restart always --grace 1.5 \
         --ready-fd 3 -- server --listen x",
    );
    assert_eq!(all.server, ["server", "--listen", "x"]);
    let names: Vec<&str> = all.listen.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["http", "admin"]);
    assert_eq!(all.listen[1].1, Endpoint::Unix(PathBuf::from("/run/a.sock")));
    let hidden = options("--listen=a=@shop/a s").listen.remove(0).1;
    assert_eq!(hidden, Endpoint::Abstract(String::from("shop/a")));
    assert_eq!((all.restart, all.ready), (Restart::Always, Some(3)));
    assert_eq!(all.grace, Some(Duration::from_millis(1500)));
    assert_eq!(options("server -h").server, ["server", "-h"]);
    assert_eq!(parse("--help"), Ok(Wanted::Help));
}

#[test]
fn what_makes_no_sense_is_named() {
    for (text, named) in [
        ("", "no server"),
        ("--", "no server"),
        ("--listen", "needs a value"),
        ("--listen http", "NAME=ADDRESS"),
        ("--listen http=localhost:80 s", "IP:PORT"),
        ("--listen a=@ s", "@NAME"),
        ("--listen a:b=0.0.0.0:1 s", "a:b"),
        ("--listen a=0.0.0.0:1 --listen a=0.0.0.0:2 s", "already"),
        ("--restart maybe s", "on-failure"),
        ("--grace -1 s", "seconds"),
        ("--ready-fd x s", "number"),
        ("--unknown s", "no option"),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.contains(named), "{text}: {error}");
    }
}

#[test]
fn p9_a_message_is_read_and_what_is_unknown_is_skipped() {
    let message = read(b"READY=1\nMAINPID=17\nX\n=\nSTATUS=a=b\nEXTEND_TIMEOUT_USEC=5", 3, vec![]);
    assert!(message.ready && !message.stopping && !message.remove);
    assert_eq!((message.sender, message.main), (3, Some(17)));
    assert_eq!(message.extend, Some(Duration::from_micros(5)));
    for nonsense in ["MAINPID=-1", "MAINPID=99999999999", "MAINPID=x", "READY=10", "\0\u{ff}"] {
        let message = read(nonsense.as_bytes(), 1, vec![]);
        assert!(message.main.is_none() && !message.ready, "{nonsense:?}");
    }
    let (reader, writer) = std::io::pipe().unwrap();
    // A barrier's descriptor is closed, which is its answer.
    drop(read(b"BARRIER=1", 1, vec![OwnedFd::from(writer)]));
    let mut reader = reader;
    assert_eq!(std::io::Read::read(&mut reader, &mut [0]).unwrap(), 0);
}

#[test]
fn p5_what_is_stored_twice_is_kept_once_and_removed_by_name() {
    let mut store = Store::fitting(1 << 16);
    let (name, other) = ("http".parse().unwrap(), "other".parse().unwrap());
    let socket = OwnedFd::from(std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    store.keep(&name, socket.try_clone().unwrap());
    store.keep(&other, socket);
    assert_eq!(store.kept().len(), 1);
    store.remove(&other);
    assert_eq!(store.kept().len(), 1);
    store.remove(&name);
    assert!(store.kept().is_empty());
    // All of these have one inode.
    let event = || OwnedFd::from(nix::sys::eventfd::EventFd::new().unwrap());
    store.keep(&name, event());
    store.keep(&name, event());
    assert_eq!(store.kept().len(), 2);
}

/// P5. A start passes on what is kept, under numbers that have to be allowed.
#[test]
fn p5_no_more_is_kept_than_a_start_can_pass_on() {
    assert_eq!(Store::fitting(Store::FILES).most(), 1024);
    assert_eq!(Store::fitting(40).most(), 0);
    let mut store = Store::fitting(Store::FILES - 1022);
    let name = "http".parse().unwrap();
    for _ in 0..3 {
        store.keep(&name, nix::sys::eventfd::EventFd::new().unwrap().into());
    }
    assert_eq!((store.most(), store.kept().len()), (2, 2));
}
