//! The server, and the ways in which a release of it can be bad.

use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use heirloom::{Config, Conn, ErrorBudget, Guard, HealthCheck, Requests};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;

use crate::trial::now;

/// Set for a server; its value is the directory in which its release is described.
pub(crate) const VARIABLE: &str = "HEIRLOOM_PROBATION";

/// How long after ready a bad release begins to be bad.
const WELL_FOR: Duration = Duration::from_millis(500);

/// How often the predecessor looks at the health of its successor, and how long it waits.
pub(crate) const INTERVAL: Duration = Duration::from_millis(100);
pub(crate) const TIMEOUT: Duration = Duration::from_millis(100);

/// What a release does half a second after it was ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Its process ends.
    Crash,
    /// It answers 500.
    Errors,
    /// It accepts and never answers.
    Hang,
    /// It serves, and says at `/health` that it should not.
    Health,
}

impl Fault {
    pub(crate) const ALL: [Self; 4] = [Self::Crash, Self::Errors, Self::Hang, Self::Health];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Crash => "crashes",
            Self::Errors => "answers 500",
            Self::Hang => "never answers",
            Self::Health => "is unhealthy",
        }
    }
}

/// What an application writes to be taken back when it is bad.
fn config(watched: bool) -> Config {
    let config = Config::new("probation").drain_deadline(Duration::from_secs(2));
    if !watched {
        return config.probation(Duration::ZERO);
    }
    config
        .probation(Duration::from_secs(3))
        .health_check(
            HealthCheck::http("http", "/health")
                .interval(INTERVAL)
                .timeout(TIMEOUT)
                .unhealthy_threshold(
                    std::num::NonZeroU32::MIN, // one failure is enough
                ),
        )
        .error_budget(ErrorBudget::new(0.02).minimum(50))
}

/// A generation.
pub(crate) fn main(directory: PathBuf) -> ExitCode {
    // One that the example has lost ends by itself.
    nix::unistd::alarm::set(60);
    let watched = directory.join("watched").exists();
    let fault = read(&directory.join("fault"))
        .and_then(|name| Fault::ALL.into_iter().find(|fault| fault.name() == name));
    heirloom::run(config(watched), async move |start| -> Result<_, crate::Failure> {
        let http = start.tcp("http", "127.0.0.1:0").await?;
        write(&directory, "address", &http.local_addr()?.to_string());
        let running = start.ready().await?;
        let server = Arc::new(Server {
            generation: running.generation().get(),
            requests: running.requests(),
            fault,
            bad: AtomicBool::new(false),
            directory: directory.clone(),
        });
        write(&directory, &format!("serving-{}", server.generation), "");
        tokio::spawn(go_bad(Arc::clone(&server)));
        running.accept_loop_with(http, server, serve);
        Ok(running.finished().await?)
    })
}

struct Server {
    generation: u64,
    requests: Requests,
    fault: Option<Fault>,
    bad: AtomicBool,
    directory: PathBuf,
}

/// Half a second of good service, then the fault.
async fn go_bad(server: Arc<Server>) {
    let Some(fault) = server.fault else { return };
    tokio::time::sleep(WELL_FOR).await;
    write(&server.directory, "went-bad", &now().as_nanos().to_string());
    if fault == Fault::Crash {
        std::process::abort();
    }
    server.bad.store(true, Ordering::Release);
}

async fn serve(server: Arc<Server>, conn: Conn<TcpStream>) {
    let (stream, guard) = conn.into_parts();
    let service = service_fn(|request| answer(&server, &guard, request));
    // Whoever fails to speak HTTP has gone.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer<B>(
    server: &Server,
    guard: &Guard,
    request: Request<B>,
) -> Result<Response<String>, Infallible> {
    let bad = server.fault.filter(|_| server.bad.load(Ordering::Acquire));
    let health = request.uri().path() == "/health";
    let status = match bad {
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Errors) if !health => StatusCode::INTERNAL_SERVER_ERROR,
        Some(Fault::Health) if health => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::OK,
    };
    // The one line that an error budget needs. Health checks are not clients.
    match status.is_server_error() {
        _ if guard.is_health_check() => {}
        true => server.requests.failed(),
        false => server.requests.succeeded(),
    }
    let mut response = Response::new(String::from("hello\n"));
    *response.status_mut() = status;
    response.headers_mut().insert("x-generation", HeaderValue::from(server.generation));
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    Ok(response)
}

/// Renamed into place: nobody reads half of it.
pub(crate) fn write(directory: &Path, name: &str, text: &str) {
    let temporary = directory.join(format!(".{name}"));
    let written =
        fs::write(&temporary, text).and_then(|()| fs::rename(&temporary, directory.join(name)));
    if let Err(error) = written {
        eprintln!("{name}: {error}");
    }
}

pub(crate) fn read(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok()
}
