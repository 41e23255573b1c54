//! Which listener, which socket of it, and who took the connection.

use std::io::{Read, Write};
use std::num::NonZeroUsize;

use super::*;
use crate::listener::UnixListener;
use crate::wire::Address;

fn count(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).unwrap()
}

fn group(service: &Service, members: usize) -> Vec<TcpListener> {
    let options = ListenOptions::new();
    service.inventory.tcp_group("main", "127.0.0.1:0", count(members), &options).unwrap()
}

#[tokio::test]
async fn every_socket_of_a_group_is_reached() {
    let mut service = Service::new();
    let mut listeners = group(&service, 4);
    service.open();
    let sick = listeners.pop().unwrap();
    for listener in listeners {
        service.answer(listener, OK);
    }
    let handle = sick.clone();
    let task = service.tasks.spawn(async move {
        while let Some(conn) = sick.accept().await.unwrap() {
            drop(conn);
        }
    });
    let failure = service.failure(http()).await;
    assert_eq!(failure.cause, Cause::Wrong, "one of four does not answer: {failure:?}");
    task.abort();
    service.answer(handle, OK);
    assert_eq!(service.round(http()).await, passed());
}

#[tokio::test]
async fn a_socket_of_a_group_on_which_nobody_accepts_is_found() {
    let mut service = Service::new();
    let mut listeners = group(&service, 3);
    service.open();
    let _idle = listeners.pop();
    for listener in listeners {
        service.answer(listener, OK);
    }
    let failure = service.failure(http().timeout(SHORT)).await;
    assert_eq!(failure.cause, Cause::Silent(Reached::Queue), "{failure:?}");
}

#[tokio::test]
async fn a_closure_too_is_asked_until_every_socket_has_answered() {
    let mut service = Service::new();
    let listeners = group(&service, 3);
    service.open();
    for listener in listeners {
        service.answer(listener, OK);
    }
    let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let asks = Arc::clone(&asked);
    let check = HealthCheck::custom("group", move |candidate: Candidate| {
        asks.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        async move {
            let mut stream = candidate.connect("main").await?;
            stream.write_all(b"x").await?;
            stream.read_to_end(&mut Vec::new()).await.map(drop)
        }
    });
    assert_eq!(service.round(check.timeout(LONG)).await, passed());
    assert!(asked.load(std::sync::atomic::Ordering::Relaxed) >= 3);
}

#[tokio::test]
async fn a_socket_that_is_never_met_is_a_failure_that_says_so() {
    let mut service = Service::answering(OK);
    let (announce, mut announcements) = mpsc::channel::<Announcement>(1);
    let here = service.announce.clone();
    service.tasks.spawn(async move {
        while let Some(announcement) = announcements.recv().await {
            // As if the listener had a second socket, on which the kernel puts nothing.
            let Announcement { from, listener, ready, taken } = announcement;
            let (one, announced) = tokio::sync::oneshot::channel();
            here.send(Announcement { from, listener, ready: one, taken }).await.unwrap();
            let announced = announced.await.unwrap();
            ready.send(Announced { members: 2, ..announced }).unwrap();
        }
    });
    let mut rounds = Rounds::new(http(), Arc::new(service.subject()), announce);
    let Round::Failed(failure) = rounds.next().await else { panic!("one was not met") };
    assert_eq!(failure.cause, Cause::Unreached);
    let text = "listener \"main\": 1 of 2 sockets took one of 18 connections, the others none";
    assert_eq!(failure.text, text);
}

#[tokio::test]
async fn an_answer_of_somebody_else_is_none() {
    let service = Service::answering(OK);
    let other = Service::answering(OK);
    // The door is that of the other one: its announcements reach the wrong generation.
    let mut rounds =
        Rounds::new(http().timeout(SHORT), Arc::new(service.subject()), other.announce.clone());
    let Round::Failed(failure) = rounds.next().await else { panic!("somebody else answered") };
    let text = "listener \"main\" answered, but generation 1 has not accepted the connection: it \
                was answered by somebody else";
    assert_eq!(failure, Failure::wrong(text));
    assert_eq!(service.drain.accepted(), 1, "for the one that answered it was a client");
}

#[tokio::test]
async fn a_listener_that_has_got_another_name_is_recognised_by_its_address() {
    let mut service = Service::new();
    let listener = service.tcp("web");
    service.open();
    service.answer(listener, OK);
    let mut subject = service.subject();
    subject.doors[0].name = "main".parse().unwrap();
    let mut rounds = Rounds::new(http(), Arc::new(subject), service.announce.clone());
    assert_eq!(rounds.next().await, passed());
}

#[tokio::test]
async fn without_a_link_there_is_no_check() {
    let service = Service::answering(OK);
    let (announce, announcements) = mpsc::channel(1);
    drop(announcements);
    let mut rounds = Rounds::new(http(), Arc::new(service.subject()), announce);
    let Round::Failed(failure) = rounds.next().await else { panic!("nobody was told") };
    assert_eq!(failure, Failure::not_asked("the link to generation 1 has ended"));
}

#[tokio::test]
async fn what_hinders_the_checker_is_not_the_candidates_fault() {
    let service = Service::answering(OK);
    let mut subject = service.subject();
    // An address of documentation (RFC 5737): no machine has it, so nobody can come from it.
    subject.doors[0].address = Address::Inet("192.0.2.1:80".parse().unwrap());
    let subject = Arc::new(subject);
    let custom = HealthCheck::custom("own", |candidate: Candidate| async move {
        candidate.connect("main").await.map(drop)
    });
    for check in [http(), custom] {
        let mut rounds = Rounds::new(check, Arc::clone(&subject), service.announce.clone());
        let Round::Failed(failure) = rounds.next().await else { panic!("it cannot ask") };
        assert_eq!(failure.cause, Cause::NotAsked, "{failure:?}");
        assert!(failure.text.starts_with("a socket to reach 192.0.2.1:80: "), "{failure:?}");
    }
}

fn unix(service: &Service, path: &str) -> UnixListener {
    service.inventory.unix("main", path, &ListenOptions::new()).unwrap()
}

#[tokio::test]
async fn unix_listeners_are_checked_by_path_and_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s").display().to_string();
    for at in [path, format!("@heirloom-health-{}", std::process::id())] {
        let mut service = Service::new();
        let listener = unix(&service, &at);
        service.open();
        service.tasks.spawn(async move {
            while let Some(mut conn) = listener.accept().await.unwrap() {
                assert!(conn.guard().is_health_check());
                assert!(conn.read(&mut [0; 1024]).await.unwrap() > 0);
                conn.write_all(OK.as_bytes()).await.unwrap();
            }
        });
        assert_eq!(service.round(http()).await, passed(), "{at}");
        assert_eq!(service.drain.accepted(), 0);
    }
}

#[tokio::test]
async fn a_record_is_a_question_on_a_sequential_packet_listener() {
    let dir = tempfile::tempdir().unwrap();
    let mut service = Service::new();
    let path = dir.path().join("s");
    let listener = service.inventory.seqpacket("main", path, &ListenOptions::new()).unwrap();
    service.open();
    service.tasks.spawn(async move {
        while let Some(conn) = listener.accept().await.unwrap() {
            assert!(conn.guard().is_health_check());
            let mut record = [0; 16];
            let length = conn.recv(&mut record).await.unwrap();
            assert_eq!(&record[..length], b"ping");
            conn.send(b"pong").await.unwrap();
        }
    });
    let check = HealthCheck::tcp("main", "ping", "pong").timeout(LONG);
    assert_eq!(service.round(check).await, passed());
}

#[tokio::test]
async fn a_full_queue_of_a_unix_listener_is_no_refusal() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let service = Service::new();
    let options = ListenOptions::new().backlog(count(1).try_into().unwrap());
    let _nobody_accepts = service.inventory.unix("main", &path, &options).unwrap();
    service.open();
    let client = || {
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.connect(&socket2::SockAddr::unix(&path)?).map(|()| socket)
    };
    let _queued: Vec<_> = std::iter::from_fn(|| client().ok()).collect();
    let custom = HealthCheck::custom("own", |candidate: Candidate| async move {
        candidate.connect("main").await.map(drop)
    });
    for check in [http(), custom] {
        let failure = service.failure(check).await;
        assert_eq!(failure.cause, Cause::Silent(Reached::Queue));
        assert!(failure.text.ends_with("its queue is full"), "{}", failure.text);
    }
}

#[tokio::test]
async fn a_wildcard_is_reached_by_loopback() {
    for wildcard in ["0.0.0.0:0", "[::]:0"] {
        let mut service = Service::new();
        let listener = service.inventory.tcp("main", wildcard, &ListenOptions::new()).unwrap();
        service.open();
        service.answer(listener, OK);
        assert_eq!(service.round(http()).await, passed(), "{wildcard}");
    }
}

#[tokio::test]
async fn threads_recognise_a_check_as_well() {
    let mut service = Service::new();
    let listener = service.tcp("main");
    service.open();
    service.tasks.spawn_blocking(move || {
        let mut conn = listener.accept_blocking().unwrap().unwrap();
        assert!(conn.guard().is_health_check());
        assert!(conn.read(&mut [0; 1024]).unwrap() > 0);
        conn.write_all(OK.as_bytes()).unwrap();
    });
    assert_eq!(service.round(http()).await, passed());
    assert_eq!(service.drain.accepted(), 0);
}

#[tokio::test]
async fn where_a_framework_accepts_an_answer_is_enough() {
    struct Never;
    impl crate::Pause for Never {
        async fn pause(&mut self) -> std::io::Result<()> {
            Ok(())
        }
        async fn resume(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut service = Service::new();
    let listener = service.tcp("main");
    service.open();
    let raw = listener.into_raw_with(Never).unwrap();
    let raw = tokio::net::TcpListener::from_std(raw).unwrap();
    service.tasks.spawn(async move {
        while let Ok((mut stream, _)) = raw.accept().await {
            assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
            stream.write_all(OK.as_bytes()).await.unwrap();
        }
    });
    let unobserved = ["main".parse().unwrap()].into();
    assert_eq!(service.round(http()).await, Round::Passed { unobserved });
}

#[tokio::test]
async fn where_both_generations_accept_nothing_is_checked() {
    let service = Service::new();
    let listener = service.tcp("main");
    service.open();
    let _raw = listener.into_raw_overlap().unwrap();
    let round = service.round(http()).await;
    let text = "not checked: both generations accept on listener \"main\"";
    assert_eq!(round, Round::NotChecked(text.into()));
}
