//! What the HTTP wing costs in steady state: requests a second beside plain hyper.
//!
//! ```text
//! cargo bench --features http --bench http
//! cargo bench --features http --bench http -- --rounds 40 --connections 64
//! ```
//!
//! Three servers with one service run in one runtime: the wing, hyper with its defaults and a
//! timer, and hyper without a timer. Clients in a runtime of their own load one after the other, in
//! rounds of 250 ms, so that what else the machine does meets all three. The ratios are those of
//! neighbouring rounds; their median is what counts.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use heirloom::http::Body;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder as RuntimeBuilder, Runtime};

const ROUND: Duration = Duration::from_millis(250);
const ANSWER: &str = "hello from the bench\n";
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: bench\r\nuser-agent: bench\r\naccept: */*\r\n\r\n";

type Failure = Box<dyn Error + Send + Sync>;

struct Options {
    rounds: usize,
    connections: usize,
}

fn main() -> ExitCode {
    let Some(options) = options() else {
        say("usage: http [--rounds N] [--connections N]");
        return ExitCode::from(2);
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("failed: {error}"));
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::print_stdout, reason = "that is what a benchmark is for")]
fn say(line: &str) {
    println!("{line}");
}

fn options() -> Option<Options> {
    let mut options = Options { rounds: 20, connections: 32 };
    // cargo itself adds `--bench`.
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    while let Some(flag) = args.next() {
        let value = args.next()?.parse().ok()?;
        match flag.as_str() {
            "--rounds" => options.rounds = value,
            "--connections" => options.connections = value,
            _ => return None,
        }
    }
    Some(options)
}

fn runtime() -> io::Result<Runtime> {
    RuntimeBuilder::new_multi_thread().worker_threads(1).enable_all().build()
}

fn run(options: &Options) -> Result<(), Failure> {
    let (servers, clients) = (runtime()?, runtime()?);
    let wing = servers.block_on(wing())?;
    let timed = servers.block_on(plain(true))?;
    let untimed = servers.block_on(plain(false))?;
    let load = |address| clients.block_on(load(address, options.connections));
    let mut ratios = [Vec::new(), Vec::new()];
    let mut rates = Vec::new();
    for round in 0..=options.rounds {
        let (first, plain) = (load(wing)?, load(timed)?);
        let (second, bare) = (load(wing)?, load(untimed)?);
        // The first round warms up.
        if round > 0 {
            ratios[0].push(first / plain);
            ratios[1].push(second / bare);
            rates.push(first);
        }
    }
    let connections = options.connections;
    say(&format!("{connections} keep-alive connections, {} rounds", options.rounds));
    say(&format!("the wing                   {:>9.0} requests/s", median(&mut rates)));
    say(&format!("over hyper                 {:>9.3}", median(&mut ratios[0])));
    say(&format!("over hyper without a timer {:>9.3}", median(&mut ratios[1])));
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// The wing, as an application uses it.
async fn wing() -> Result<SocketAddr, Failure> {
    let config = heirloom::Config::new("bench").upgrade_signal(None).stop_signals([]);
    let start = config.start().await?;
    let listener = start.tcp("http", "127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let running = start.ready().await?;
    running.serve(listener, heirloom::http(service_fn(hello::<Body>)));
    Ok(address)
}

/// hyper and a listener.
async fn plain(timer: bool) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let mut builder = Builder::new();
    if timer {
        builder.timer(TokioTimer::new());
    }
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            let connection = builder
                .serve_connection(TokioIo::new(stream), service_fn(hello::<hyper::body::Incoming>));
            tokio::spawn(connection.with_upgrades());
        }
    });
    Ok(address)
}

async fn hello<B>(_: Request<B>) -> Result<Response<String>, Infallible> {
    Ok(Response::new(ANSWER.to_owned()))
}

/// Requests a second of one round.
async fn load(address: SocketAddr, connections: usize) -> Result<f64, Failure> {
    let answered = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let mut streams = Vec::new();
    for _ in 0..connections {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        streams.push(stream);
    }
    let began = Instant::now();
    let clients: Vec<_> = streams
        .into_iter()
        .map(|stream| tokio::spawn(ask(stream, Arc::clone(&answered), Arc::clone(&stop))))
        .collect();
    tokio::time::sleep(ROUND).await;
    stop.store(true, Ordering::Relaxed);
    let elapsed = began.elapsed();
    let total = answered.load(Ordering::Relaxed);
    for client in clients {
        client.await??;
    }
    Ok(total as f64 / elapsed.as_secs_f64())
}

/// Asks on one connection until it is told to stop.
async fn ask(
    mut stream: TcpStream,
    answered: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
) -> io::Result<()> {
    let mut answer = [0; 1024];
    while !stop.load(Ordering::Relaxed) {
        stream.write_all(REQUEST).await?;
        let mut read = 0;
        while !answer[..read].ends_with(ANSWER.as_bytes()) {
            match stream.read(&mut answer[read..]).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                more => read += more,
            }
        }
        answered.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
