//! Idle connections that go from server to server while their clients go on.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use super::app::{LARGE, soon};
use super::client::{Client, get, post};
use super::drain::upgraded;
use super::generation::{Generation, ms, server, settings, short};
use super::http2;
use super::tls::{localhost, tls};
use crate::drain::{Drain, DrainOutcome, DrainPhase};
use crate::http::http;
use crate::http::landing::Landing;
use crate::http::mover::{GivenBack, Mover, Parcel, Taking, Turning};
use crate::session::{Session, SessionStream, Turn};

/// Moves within the process.
#[derive(Default)]
pub(super) struct Direct {
    pub(super) to: OnceLock<(Drain, Arc<dyn Landing>)>,
    closed: AtomicBool,
    /// Declines every so many.
    declines: Option<u64>,
    asked: AtomicU64,
    pub(super) moved: AtomicU64,
    /// Moved together with part of a request.
    ahead: AtomicU64,
}

impl Mover for Direct {
    fn is_open(&self) -> bool {
        self.to.get().is_some() && !self.closed.load(Ordering::Relaxed)
    }

    fn turn(&self) -> Turning {
        Box::pin(async { Some(Turn::at_once()) })
    }

    fn take(&self, parcel: Parcel, _: Turn) -> Taking<'_> {
        Box::pin(async move {
            let Parcel { socket, read_ahead, fresh, guard } = parcel;
            let stream = SessionStream::adopt(socket).unwrap();
            let number = self.asked.fetch_add(1, Ordering::Relaxed);
            // As if a peer had to acknowledge it.
            tokio::task::yield_now().await;
            if self.declines.is_some_and(|every| number.is_multiple_of(every)) {
                return Err(GivenBack { stream, read_ahead });
            }
            let (drain, to) = self.to.get().unwrap();
            let ahead = !read_ahead.is_empty();
            let came = drain.guards(guard.listener()).guard_of_moved(None);
            let mut session = Session::of("moves".parse().unwrap(), 1, stream, came);
            session.set_state([u8::from(fresh)]);
            session.unread(&read_ahead);
            tokio::spawn(to.land(session));
            self.moved.fetch_add(1, Ordering::Relaxed);
            self.ahead.fetch_add(u64::from(ahead), Ordering::Relaxed);
            Ok(())
        })
    }
}

/// Two servers in lame duck that give each other every connection that is idle, for ever.
pub(super) fn tennis() -> (Generation, Arc<Direct>, Arc<Direct>) {
    let generation = Generation::bound();
    for (_, listener) in generation.inventory.offer() {
        // What is accepted inherits it: large answers do not fit, so hyper still holds the rest of
        // them when their bodies are gone.
        SockRef::from(&*listener).set_send_buffer_size(4096).unwrap();
    }
    let (left, right) = (Arc::new(Direct::default()), Arc::new(Direct::default()));
    let serve = |mover: &Arc<Direct>| {
        let mover = Arc::clone(mover) as Arc<dyn Mover>;
        generation.serve_and_land(server(&generation.app), ms(100), Some(mover))
    };
    let (to_left, to_right) = (serve(&right), serve(&left));
    let set = |mover: &Direct, to| {
        assert!(mover.to.set((generation.drain.clone(), to)).is_ok());
    };
    set(&left, to_left);
    set(&right, to_right);
    generation.drain.advance(DrainPhase::LameDuck);
    (generation, left, right)
}

/// Small random numbers, the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// A request, and the answer that belongs to it.
fn request(dice: &mut Dice) -> (Vec<u8>, Vec<u8>) {
    match dice.roll(8) {
        0 => (get("/large").into(), vec![b'x'; LARGE]),
        1 => (get("/chunks").into(), b"chunk".repeat(4)),
        2 | 3 => {
            let body =
                vec![b'a' + u8::try_from(dice.roll(26)).unwrap(); dice.roll(50_000) as usize];
            (post("/echo", &body), body)
        }
        4 => {
            let body = vec![b'c'; 1 + dice.roll(3_000) as usize];
            let head = "POST /echo HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n";
            let chunk = format!("{:x}\r\n", body.len());
            let parts: [&[u8]; 4] = [head.as_bytes(), chunk.as_bytes(), &body, b"\r\n0\r\n\r\n"];
            (parts.concat(), body)
        }
        _ => (get("/").into(), b"hello".to_vec()),
    }
}

/// Sends batches of requests, cut anywhere, and checks every answer.
async fn rally(address: SocketAddr, seed: u64, batches: usize) -> io::Result<usize> {
    let mut dice = Dice(seed * 7919 + 1);
    let socket = TcpSocket::new_v4()?;
    if seed.is_multiple_of(2) {
        socket.set_recv_buffer_size(2048)?;
    }
    let (read, mut write) = tokio::io::split(socket.connect(address).await?);
    let mut client = Client::on(tokio::io::join(read, tokio::io::sink()));
    let mut checked = 0;
    for _ in 0..batches {
        let requests: Vec<_> = (0..=dice.roll(6)).map(|_| request(&mut dice)).collect();
        let bytes: Vec<u8> = requests.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        let mut cuts: Vec<usize> =
            (0..dice.roll(4)).map(|_| dice.roll(bytes.len() as u64) as usize).collect();
        cuts.push(bytes.len());
        cuts.sort_unstable();
        let send = async {
            let mut sent = 0;
            for cut in cuts {
                write.write_all(&bytes[sent..cut]).await?;
                sent = cut;
                for _ in 0..20 {
                    tokio::task::yield_now().await;
                }
            }
            io::Result::Ok(())
        };
        let read = async {
            for (_, expected) in &requests {
                let answer = soon(client.answer()).await?;
                assert_eq!(answer.status, 200);
                assert!(answer.body == *expected, "an answer that belongs to another question");
                assert!(!answer.says_close());
            }
            io::Result::Ok(())
        };
        tokio::try_join!(send, read)?;
        checked += requests.len();
    }
    Ok(checked)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_moves_change_no_answer() {
    let (generation, left, right) = tennis();
    let mut clients = JoinSet::new();
    for seed in 1..=8 {
        clients.spawn(rally(generation.address, seed, 25));
    }
    let mut checked = 0;
    while let Some(client) = clients.join_next().await {
        checked += client.unwrap().unwrap();
    }
    let moved = left.moved.load(Ordering::Relaxed) + right.moved.load(Ordering::Relaxed);
    let ahead = left.ahead.load(Ordering::Relaxed) + right.ahead.load(Ordering::Relaxed);
    assert!(checked > 500 && moved > 2_000 && ahead > 0, "{checked} {moved} {ahead}");
    generation.has(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rest_of_a_body_that_nobody_reads_is_never_taken_for_requests() {
    let (generation, left, right) = tennis();
    let smuggled = get("/fail");
    for turn in 0..200_usize {
        let (path, expected) = [("/ignore", "ignored"), ("/keep", "kept")][turn % 2];
        let mut client = Client::connect(generation.address).await.unwrap();
        let order = post(path, smuggled.repeat(4 + turn % 50).as_bytes());
        // The head and what comes with it, the rest after the answer.
        let cut = order.len() - smuggled.len() * (turn % 4);
        client.send(&order[..cut]).await.unwrap();
        assert_eq!(soon(client.answer()).await.unwrap().body, expected.as_bytes());
        let sent = client.send(&order[cut..]).await;
        generation.app.gate.add_permits(turn % 2);
        let again = match sent {
            Ok(()) => client.send(get("/")).await.map(drop),
            error => error,
        };
        // Either the body was read to its end, or the connection ends here.
        match (again, soon(client.answer()).await) {
            (_, Ok(answer)) => assert_eq!((answer.status, &answer.body[..]), (200, &b"hello"[..])),
            (_, Err(error)) => assert!(cut < order.len(), "{turn}: {error}"),
        }
    }
    assert!(left.moved.load(Ordering::Relaxed) + right.moved.load(Ordering::Relaxed) > 100);
}

#[tokio::test]
async fn an_idle_connection_goes_on_elsewhere_and_its_client_notices_nothing() {
    let mover = Arc::new(Direct::default());
    let generation = Generation::bound();
    generation.serve(server(&generation.app), ms(100), Some(Arc::clone(&mover) as _));
    let mut clients = Vec::new();
    for turn in 0..20 {
        let mut client = Client::connect(generation.address).await.unwrap();
        // Some have had a request, some have not, and some are in the middle of one.
        if turn % 2 == 0 {
            assert_eq!(client.get("/").await.unwrap().generation(), 0);
        }
        if turn % 3 == 0 {
            client.send("GET / HTTP/1.1\r\nho").await.unwrap();
        }
        clients.push(client);
    }
    generation.has(20).await;
    let next = generation.hand_over().await;
    let to = next.serve_and_land(server(&next.app), ms(100), None);
    assert!(mover.to.set((next.drain.clone(), to)).is_ok());
    let report = soon(generation.drain(settings())).await.unwrap();
    assert_eq!((report.outcome, report.drained), (DrainOutcome::Drained, 20));
    assert_eq!(mover.moved.load(Ordering::Relaxed), 20);
    assert_eq!(next.drain.active(), 20);
    for (turn, client) in clients.iter_mut().enumerate() {
        let rest = if turn % 3 == 0 { "st: test\r\n\r\n".to_owned() } else { get("/") };
        client.send(rest).await.unwrap();
        let answer = soon(client.answer()).await.unwrap();
        assert_eq!((answer.generation(), answer.says_close()), (1, false));
    }
    drop(clients);
    next.has(0).await;
}

#[tokio::test]
async fn a_connection_that_is_declined_is_served_here_and_told_to_close() {
    let mover = Arc::new(Direct { declines: Some(1), ..Direct::default() });
    let generation = Generation::bound();
    generation.serve(server(&generation.app), ms(100), Some(Arc::clone(&mover) as _));
    let mut asks = Client::connect(generation.address).await.unwrap();
    let mut silent = Client::connect(generation.address).await.unwrap();
    asks.get("/").await.unwrap();
    silent.get("/").await.unwrap();
    let next = generation.hand_over().await;
    let to = next.serve_and_land(server(&next.app), ms(100), None);
    assert!(mover.to.set((next.drain.clone(), to)).is_ok());
    let drain = generation.drain(settings());
    soon(async {
        while mover.asked.load(Ordering::Relaxed) < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let answer = soon(asks.get("/")).await.unwrap();
    assert_eq!((answer.generation(), answer.says_close()), (0, true));
    soon(silent.closed()).await.unwrap();
    drop((asks, silent));
    assert_eq!(soon(drain).await.unwrap().outcome, DrainOutcome::Drained);
    assert_eq!((mover.asked.load(Ordering::Relaxed), next.drain.accepted()), (2, 0));
}

#[tokio::test]
async fn what_is_in_flight_is_answered_first_and_moves_then() {
    let mover = Arc::new(Direct::default());
    let generation = Generation::bound();
    generation.serve(server(&generation.app), ms(100), Some(Arc::clone(&mover) as _));
    let mut client = Client::connect(generation.address).await.unwrap();
    client.send(get("/gate") + &get("/")).await.unwrap();
    generation.asked(1).await;
    let next = generation.hand_over().await;
    let to = next.serve_and_land(server(&next.app), ms(100), None);
    assert!(mover.to.set((next.drain.clone(), to)).is_ok());
    let drain = generation.drain(settings());
    assert_eq!(mover.moved.load(Ordering::Relaxed), 0);
    generation.app.gate.add_permits(1);
    let gate = soon(client.answer()).await.unwrap();
    assert_eq!((gate.generation(), gate.says_close()), (0, false));
    // Sent together with the first, and so answered by either, once.
    assert_eq!(soon(client.answer()).await.unwrap().body, b"hello");
    assert_eq!(soon(drain).await.unwrap().outcome, DrainOutcome::Drained);
    assert_eq!(soon(client.get("/")).await.unwrap().generation(), 1);
}

/// What it asked and its end are there together when the successor first looks.
#[tokio::test]
async fn a_client_that_closes_its_half_behind_its_request_is_answered_after_a_move() {
    const CLIENTS: u64 = 30;
    let mover = Arc::new(Direct::default());
    let generation = Generation::bound();
    generation.serve(server(&generation.app), ms(100), Some(Arc::clone(&mover) as _));
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = Client::connect(generation.address).await.unwrap();
        client.get("/").await.unwrap();
        clients.push(client);
    }
    let next = generation.hand_over().await;
    let to = next.serve_and_land(server(&next.app), ms(100), None);
    assert!(mover.to.set((next.drain.clone(), to)).is_ok());
    let drain = generation.drain(settings());
    soon(async {
        while mover.moved.load(Ordering::Relaxed) < CLIENTS {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for client in &mut clients {
        client.send(get("/")).await.unwrap();
        client.stream.shutdown().await.unwrap();
    }
    for client in &mut clients {
        assert_eq!(soon(client.answer()).await.unwrap().generation(), 1);
        soon(client.closed()).await.unwrap();
    }
    assert_eq!(soon(drain).await.unwrap().outcome, DrainOutcome::Drained);
    assert_eq!(soon(next.drain(settings())).await.unwrap().drained, 0, "they had all ended");
}

/// Its client has sent the next request, always, before it has an answer.
#[tokio::test]
async fn one_that_is_never_idle_is_told_to_close_when_the_lame_duck_phase_is_over() {
    let mover = Arc::new(Direct::default());
    let generation = Generation::bound();
    generation.serve(server(&generation.app), ms(100), Some(Arc::clone(&mover) as _));
    let mut client = Client::connect(generation.address).await.unwrap();
    client.send(get("/gate") + &get("/gate")).await.unwrap();
    generation.asked(1).await;
    let next = generation.hand_over().await;
    let to = next.serve_and_land(server(&next.app), ms(100), None);
    assert!(mover.to.set((next.drain.clone(), to)).is_ok());
    generation.drain.advance(DrainPhase::LameDuck);
    let mut answers = 0;
    loop {
        client.send(get("/gate")).await.unwrap();
        generation.app.gate.add_permits(1);
        let answer = soon(client.answer()).await.unwrap();
        answers += 1;
        if answer.says_close() {
            break;
        }
        assert!(answers < 100, "it is not told to go");
        if answers == 30 {
            generation.drain.advance(DrainPhase::Graceful);
        }
        generation.asked(answers + 1).await;
    }
    assert!(answers > 30, "in the lame duck phase it may still become idle");
    assert_eq!(mover.moved.load(Ordering::Relaxed), 0);
}

/// TLS, HTTP/2, what has left HTTP, and what cannot be known to be idle.
#[tokio::test]
async fn what_another_process_could_not_go_on_with_is_not_moved() {
    let to = Generation::first();
    let (acceptor, connector) = tls();
    let mover = || {
        let mover = Arc::new(Direct::default());
        let site = to.serve_and_land(server(&to.app), ms(100), None);
        assert!(mover.to.set((to.drain.clone(), site)).is_ok());
        mover
    };
    let (plain, secure, untold) = (mover(), mover(), mover());
    let generations = [Generation::bound(), Generation::bound(), Generation::bound()];
    let [on_plain, on_secure, on_untold] = &generations;
    on_plain.serve(server(&on_plain.app), ms(100), Some(Arc::clone(&plain) as _));
    let shakes = server(&on_secure.app).tls(move |stream| acceptor.accept(stream));
    on_secure.serve(shakes, ms(100), Some(Arc::clone(&secure) as _));
    let service = service_fn(async |request: Request<Incoming>| {
        let body = request.into_body().collect().await?.to_bytes();
        Ok::<_, hyper::Error>(Response::new(Full::new(body)))
    });
    on_untold.serve(http(service), ms(100), Some(Arc::clone(&untold) as _));

    let (mut streams, http2) = http2::connect(on_plain.address).await;
    assert_eq!(soon(http2::ask(&mut streams, "/echo", "hello")).await.unwrap().0, 0);
    let mut upgraded = upgraded(on_plain).await;
    let stream = TcpStream::connect(on_secure.address).await.unwrap();
    let mut private = Client::on(connector.connect(localhost(), stream).await.unwrap());
    assert!(!private.get("/").await.unwrap().says_close());
    let mut asks = Client::connect(on_untold.address).await.unwrap();
    assert!(!asks.post("/", b"body").await.unwrap().says_close());

    on_untold.drain.advance(DrainPhase::LameDuck);
    let answer = soon(asks.post("/", b"body")).await.unwrap();
    assert!(answer.says_close(), "it would be closed while it may have another request under way");
    soon(asks.closed()).await.unwrap();
    drop(asks);
    let drains: Vec<_> =
        generations.iter().map(|generation| generation.drain(settings())).collect();
    assert_eq!(soon(upgraded.take(21)).await.unwrap(), b"1012 service restart\n");
    soon(http2).await.unwrap().unwrap();
    soon(private.closed()).await.unwrap();
    drop((private, upgraded));
    for drain in drains {
        assert_eq!(soon(drain).await.unwrap().outcome, DrainOutcome::Drained);
    }
    let asked = [plain, secure, untold].map(|mover| mover.asked.load(Ordering::Relaxed));
    assert_eq!(asked, [0, 0, 0]);
}

#[tokio::test]
async fn one_that_is_declined_and_cut_is_named_by_what_it_does_here() {
    let mover = Arc::new(Direct { declines: Some(1), ..Direct::default() });
    let generation = Generation::bound();
    generation.serve(server(&generation.app), ms(100), Some(Arc::clone(&mover) as _));
    let mut client = Client::connect(generation.address).await.unwrap();
    client.get("/").await.unwrap();
    client.send("GET /never HTTP/1.1\r\nhos").await.unwrap();
    let next = Generation::first();
    let to = next.serve_and_land(server(&next.app), ms(100), None);
    assert!(mover.to.set((next.drain.clone(), to)).is_ok());
    let report = soon(generation.drain(short())).await.unwrap();
    assert_eq!((report.outcome, report.cut_count), (DrainOutcome::Cut, 1));
    let reason = report.cut[0].reason.as_deref();
    assert_eq!(reason, Some("waits for the rest of a request's head"));
    assert_eq!(mover.asked.load(Ordering::Relaxed), 1);
}
