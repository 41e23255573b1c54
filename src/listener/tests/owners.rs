//! Threads and frameworks that accept.

use super::*;

#[test]
fn threads_accept_park_and_end_without_a_runtime() {
    let (listener, address, drain) = listener(State::Waiting);
    let core = Arc::clone(listener.core());
    let (served, done) = mpsc::channel();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (listener, served) = (listener.clone(), served.clone());
            std::thread::spawn(move || {
                while let Some(mut conn) = listener.accept_blocking().unwrap() {
                    conn.write_all(b"x").unwrap();
                    served.send(()).unwrap();
                }
            })
        })
        .collect();
    let ask = |client: &mut TcpStream| client.read_exact(&mut [0]).unwrap();
    let mut early = connect(address);
    core.open();
    ask(&mut early);
    for _ in 0..20 {
        ask(&mut connect(address));
        let _ = core.park();
        let accepted = drain.accepted();
        let mut client = connect(address);
        assert!(core.lock().members[0].has_queued());
        assert_eq!(drain.accepted(), accepted, "nobody accepts while it is parked");
        core.resume();
        ask(&mut client);
    }
    core.close();
    for thread in threads {
        thread.join().unwrap();
    }
    drop(served);
    assert_eq!(done.iter().count(), 41);
}

#[test]
fn a_thread_that_waits_in_poll_sees_a_member_that_joins() {
    let drain = Drain::new();
    let core = core(State::Open, &drain);
    let listener = TcpListener::new(Arc::clone(&core), &ListenOptions::new());
    let thread = std::thread::spawn(move || listener.accept_blocking().unwrap().is_some());
    let (fd, address) = socket();
    core.add(fd, Address::Inet(address), 0);
    let _client = connect(address);
    assert!(thread.join().unwrap());
}

struct Framework {
    asked: mpsc::Sender<&'static str>,
    acknowledge: Option<oneshot::Receiver<io::Result<()>>>,
}

impl Pause for Framework {
    async fn pause(&mut self) -> io::Result<()> {
        self.asked.send("pause").unwrap();
        match self.acknowledge.take() {
            Some(acknowledged) => acknowledged.await.unwrap(),
            None => Ok(()),
        }
    }

    async fn resume(&mut self) -> io::Result<()> {
        self.asked.send("resume").unwrap();
        Ok(())
    }
}

#[tokio::test]
async fn parking_a_framework_waits_for_its_acknowledgement() {
    let (listener, address, _drain) = listener(State::Open);
    let core = Arc::clone(listener.core());
    let (asked, asks) = mpsc::channel();
    let (acknowledge, acknowledged) = oneshot::channel();
    let framework = Framework { asked, acknowledge: Some(acknowledged) };
    let raw = listener.into_raw_with(framework).unwrap();
    let _client = connect(address);
    raw.accept().unwrap();
    let pause = core.park().unwrap();
    let mut paused = pin!(pause.pause());
    assert!(pending(paused.as_mut()).await);
    assert_eq!(asks.recv().unwrap(), "pause");
    acknowledge.send(Ok(())).unwrap();
    soon(paused).await.unwrap();
    core.resume();
    soon(core.raw().unwrap().resume_if(|| true)).await.unwrap();
    assert_eq!(asks.recv().unwrap(), "resume");
}

#[tokio::test]
async fn a_framework_gets_a_listener_only_when_it_may_accept() {
    let (asked, _asks) = mpsc::channel();
    let framework = || Framework { asked: asked.clone(), acknowledge: None };
    let refused =
        |listener: TcpListener| listener.into_raw_with(framework()).map(drop).unwrap_err().kind();
    let (waiting, _, _) = listener(State::Waiting);
    assert_eq!(refused(waiting.clone()), ErrorKind::Config, "clones");
    assert_eq!(refused(waiting), ErrorKind::Config, "not our turn");
    let (parked, _, _) = listener(State::Open);
    let _ = parked.core().park();
    assert_eq!(refused(parked), ErrorKind::Config);
    let (overlap, address, _) = listener(State::Waiting);
    let core = Arc::clone(overlap.core());
    let raw = overlap.into_raw_overlap().unwrap();
    assert!(core.is_overlap());
    let _client = connect(address);
    raw.accept().unwrap();
}

#[test]
fn p2_what_a_failed_successor_bound_and_never_listened_on_ends_no_thread() {
    let (listener, address, _drain) = listener(State::Open);
    let quiet = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    quiet.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.core().add_leftover(Arc::new(quiet.into()));
    let _clients = [connect(address), connect(address)];
    for _ in 0..2 {
        assert!(listener.accept_blocking().unwrap().is_some());
    }
    assert_eq!(listener.core().lock().members.len(), 1);
}
