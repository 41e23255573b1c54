//! Listeners on their own, with real sockets.

mod owners;

use std::future::{Future, poll_fn};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_core::Stream;
use tokio::io::AsyncReadExt;
use tokio::sync::oneshot;

use super::core::Core;
use super::state::State;
use super::*;
use crate::drain::Drain;
use crate::error::ErrorKind;
use crate::wire::Address;

const LONG: Duration = Duration::from_secs(20);

fn core(state: State, drain: &Drain) -> Arc<Core> {
    Core::new("http".parse().unwrap(), (drain.clone(), Expected::default()), state, true)
}

fn socket() -> (Arc<OwnedFd>, SocketAddr) {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let address = socket.local_addr().unwrap();
    (Arc::new(socket.into()), address)
}

fn listener(state: State) -> (TcpListener, SocketAddr, Drain) {
    let drain = Drain::new();
    let core = core(state, &drain);
    let (fd, address) = socket();
    core.add(fd, Address::Inet(address), 0);
    (Listener::new(core, &ListenOptions::new()), address, drain)
}

fn connect(address: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(LONG)).unwrap();
    client
}

async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(LONG, future).await.expect("it should have happened by now")
}

/// Whether a future is pending when it is polled once.
async fn pending<F: Future>(future: Pin<&mut F>) -> bool {
    let mut future = future;
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
}

/// Lets the runtime's epoll deliver what is there: a connection elsewhere comes through it.
async fn let_epoll_turn() {
    let other = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = other.local_addr().unwrap();
    for _ in 0..3 {
        let (accepted, _) =
            soon(async { tokio::join!(other.accept(), tokio::net::TcpStream::connect(address)).0 })
                .await
                .unwrap();
        drop(accepted);
    }
}

#[tokio::test]
async fn before_our_turn_accept_is_pending_and_then_the_queue_is_served() {
    let (listener, address, drain) = listener(State::Waiting);
    let client = connect(address);
    let mut accept = pin!(listener.accept());
    assert!(pending(accept.as_mut()).await);
    let_epoll_turn().await;
    assert!(pending(accept.as_mut()).await);
    listener.core().open();
    let conn = soon(accept).await.unwrap().unwrap();
    assert_eq!(*conn.peer_addr(), client.local_addr().unwrap());
    assert!(conn.nodelay().unwrap());
    assert_eq!(conn.guard().listener(), listener.name());
    assert_eq!(drain.active(), 1);
    drop(conn);
    assert_eq!(drain.active(), 0);
}

struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_parked_listener_is_out_of_epoll_open_and_not_woken() {
    let (listener, address, drain) = listener(State::Open);
    let core = Arc::clone(listener.core());
    let count = Arc::new(Count(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&count));
    let poll = || {
        let mut context = Context::from_waker(&waker);
        core.poll_io(&mut context, &mut |source| core.accept_one(source))
    };
    assert!(poll().is_pending());
    assert!(core.lock().members[0].is_registered());
    assert!(core.park().is_none());
    assert!(!core.lock().members[0].is_registered());
    assert!(poll().is_pending());
    let before = count.0.load(Ordering::SeqCst);
    let clients: Vec<TcpStream> = (0..50).map(|_| connect(address)).collect();
    assert!(core.lock().members[0].has_queued(), "open, and connections queue");
    let_epoll_turn().await;
    assert!(poll().is_pending());
    assert_eq!(count.0.load(Ordering::SeqCst), before, "nothing woke us");
    assert_eq!(drain.accepted(), 0);
    core.resume();
    for _ in &clients {
        assert!(soon(listener.accept()).await.unwrap().is_some());
    }
}

#[test]
fn after_a_roll_back_the_acceptor_registers_in_its_own_runtime() {
    let (listener, address, _drain) = listener(State::Open);
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let second = runtime();
    let accepts = |runtime: &tokio::runtime::Runtime| {
        let listener = listener.clone();
        runtime.block_on(async move {
            let mut accept = pin!(listener.accept());
            // What epoll reported earlier is used up: the next connection must come through it.
            assert!(pending(accept.as_mut()).await);
            let _client = connect(address);
            soon(accept).await.unwrap().is_some()
        })
    };
    assert!(accepts(&first));
    assert!(accepts(&second), "the first runtime is alive, but nobody drives it");
    assert!(accepts(&first));
    drop(first);
    assert!(accepts(&second), "the first runtime has ended");
    let _ = listener.core().park();
    listener.core().resume();
    assert!(accepts(&second));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_that_are_cancelled_at_random_lose_no_connection() {
    const CLIENTS: usize = 300;
    let (listener, address, _drain) = listener(State::Open);
    let served = Arc::new(AtomicUsize::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for seed in 0..16u32 {
        let (listener, served) = (listener.clone(), Arc::clone(&served));
        tasks.spawn(async move {
            let mut random = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
            loop {
                random ^= random << 13;
                random ^= random >> 17;
                random ^= random << 5;
                // Polled a few times, then dropped and begun anew.
                let mut left = random % 3;
                let mut accept = pin!(listener.accept());
                let next = poll_fn(|cx| match accept.as_mut().poll(cx) {
                    Poll::Ready(next) => Poll::Ready(Some(next)),
                    Poll::Pending if left == 0 => Poll::Ready(None),
                    Poll::Pending => {
                        left -= 1;
                        Poll::Pending
                    }
                })
                .await;
                match next {
                    Some(Ok(Some(mut conn))) => {
                        served.fetch_add(1, Ordering::SeqCst);
                        tokio::io::AsyncWriteExt::write_all(&mut conn, b"x").await.unwrap();
                    }
                    Some(other) => return assert!(other.unwrap().is_none()),
                    None => tokio::task::yield_now().await,
                }
            }
        });
    }
    let clients = tokio::task::spawn_blocking(move || {
        for _ in 0..CLIENTS {
            let mut answer = [0];
            connect(address).read_exact(&mut answer).unwrap();
        }
    });
    soon(clients).await.unwrap();
    assert_eq!(served.load(Ordering::SeqCst), CLIENTS);
    listener.core().close();
    while let Some(task) = soon(tasks.join_next()).await {
        task.unwrap();
    }
}

#[tokio::test]
async fn a_removed_listener_serves_its_queue_before_it_is_closed() {
    let (listener, address, drain) = listener(State::Open);
    let acceptor = listener.clone();
    let clients: Vec<TcpStream> = (0..50).map(|_| connect(address)).collect();
    let mut remove = pin!(listener.remove());
    assert!(pending(remove.as_mut()).await);
    assert_eq!(drain.active(), 1, "the queue keeps the drain from ending");
    let mut held = Vec::new();
    while let Some(conn) = soon(acceptor.accept()).await.unwrap() {
        held.push(conn);
    }
    assert_eq!(held.len(), clients.len());
    soon(remove).await;
    assert_eq!(drain.active(), 50);
    assert!(TcpStream::connect(address).is_err(), "closed");
    assert!(soon(acceptor.accept()).await.unwrap().is_none(), "for good");
}

#[tokio::test]
async fn a_wait_for_a_connection_ends_with_the_listener() {
    for end in [Core::close, Core::end] {
        let (listener, _, _) = listener(State::Open);
        let mut accept = pin!(listener.accept());
        assert!(pending(accept.as_mut()).await);
        end(listener.core());
        assert!(soon(accept).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn a_queue_that_nobody_will_serve_holds_nothing_up() {
    let (listener, address, drain) = listener(State::Open);
    let _client = connect(address);
    let core = Arc::clone(listener.core());
    drop(listener);
    core.close();
    assert_eq!((core.state(), drain.active()), (State::Ended, 0));
}

#[tokio::test]
async fn no_member_of_a_group_starves() {
    let drain = Drain::new();
    let core = core(State::Open, &drain);
    let (busy, busy_address) = socket();
    let (calm, calm_address) = socket();
    core.add(busy, Address::Inet(busy_address), 0);
    core.add(calm, Address::Inet(calm_address), 1);
    let listener = TcpListener::new(core, &ListenOptions::new());
    let _busy: Vec<TcpStream> = (0..20).map(|_| connect(busy_address)).collect();
    let calm = connect(calm_address);
    let calm_peer = calm.local_addr().unwrap();
    let mut peers = Vec::new();
    for _ in 0..21 {
        let conn = soon(listener.accept()).await.unwrap().unwrap();
        peers.push(*conn.peer_addr());
    }
    let turn = peers.iter().position(|peer| *peer == calm_peer).unwrap();
    assert!(turn <= 2, "served in turn {turn} beside a queue of 20");
}

#[tokio::test(start_paused = true)]
async fn a_shortage_is_waited_out_and_never_ends_the_loop() {
    let (listener, address, _drain) = listener(State::Open);
    let _client = connect(address);
    let begun = tokio::time::Instant::now();
    let mut tries = 0;
    let result = listener
        .core()
        .next(
            &mut |_| {
                tries += 1;
                if tries < 4 { Err(io::Error::from_raw_os_error(libc::EMFILE)) } else { Ok(7) }
            },
            "accept",
        )
        .await;
    assert_eq!(result.unwrap(), Some(7));
    assert!(begun.elapsed() >= Duration::from_millis(70), "10, 20 and 40 ms");
    let fatal = listener
        .core()
        .next::<()>(&mut |_| Err(io::Error::from_raw_os_error(libc::EINVAL)), "accept")
        .await;
    assert_eq!(fatal.unwrap_err().kind(), ErrorKind::Io);
}

#[tokio::test(start_paused = true)]
async fn a_back_off_ends_with_the_listener() {
    let (listener, address, _drain) = listener(State::Open);
    let _client = connect(address);
    let core = Arc::clone(listener.core());
    let tries = AtomicUsize::new(0);
    let mut op = |_: super::member::Source<'_>| -> io::Result<()> {
        tries.fetch_add(1, Ordering::SeqCst);
        Err(io::Error::from_raw_os_error(libc::ENFILE))
    };
    let mut next = pin!(core.next(&mut op, "accept"));
    while tries.load(Ordering::SeqCst) == 0 {
        assert!(pending(next.as_mut()).await);
        tokio::task::yield_now().await;
    }
    core.end();
    let begun = tokio::time::Instant::now();
    assert_eq!(next.await.unwrap(), None);
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn a_stream_of_connections_ends_with_the_listener() {
    let (listener, address, drain) = listener(State::Open);
    let core = Arc::clone(listener.core());
    let mut incoming = pin!(listener.incoming());
    let mut client = connect(address);
    let mut conn = soon(poll_fn(|cx| incoming.as_mut().poll_next(cx))).await.unwrap().unwrap();
    client.write_all(b"hello").unwrap();
    let mut text = [0; 5];
    soon(conn.read_exact(&mut text)).await.unwrap();
    assert_eq!(&text, b"hello");
    let (stream, guard) = conn.into_parts();
    drop(stream);
    assert_eq!(drain.active(), 1);
    drop(guard);
    core.close();
    assert!(soon(poll_fn(|cx| incoming.as_mut().poll_next(cx))).await.is_none());
}

#[test]
fn accepting_without_a_runtime_is_an_error_and_no_panic() {
    let (listener, _, _) = listener(State::Open);
    let core = Arc::clone(listener.core());
    let mut context = Context::from_waker(Waker::noop());
    let polled = core.poll_io(&mut context, &mut |source| core.accept_one(source));
    assert!(matches!(polled, Poll::Ready(Err(_))));
}

#[test]
fn handles_cross_threads() {
    fn travels<T: Send + Sync + 'static>() {}
    fn moves<T: Send + 'static>(_: T) {}
    travels::<TcpListener>();
    travels::<UdpSocket>();
    travels::<Conn<tokio::net::TcpStream>>();
    let (listener, _, _) = listener(State::Open);
    let clone = listener.clone();
    moves(async move { clone.accept().await.map(drop) });
    moves(listener.clone().incoming());
    assert!(format!("{listener:?}").contains("http"));
    assert!(listener.core().first().unwrap().as_fd().try_clone_to_owned().is_ok());
}
