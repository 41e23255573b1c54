//! Places, users, words; the rest is shown with real processes.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::message::{Answer, Command, Last, News};
use super::path::{checked, place};
use super::request::Request;
use super::*;
use crate::error::{Error, ErrorKind};

fn default(runtime: Option<&str>, xdg: Option<&str>) -> crate::Result<PathBuf> {
    place("shop", |name| match name {
        "RUNTIME_DIRECTORY" => runtime.map(OsString::from),
        "XDG_RUNTIME_DIR" => xdg.map(OsString::from),
        _ => None,
    })
}

#[test]
fn the_default_place_is_the_runtime_directory() {
    let at = |path: &str| PathBuf::from(path);
    assert_eq!(default(Some("/run/shop"), Some("/run/user/7")).unwrap(), at("/run/shop/shop.sock"));
    assert_eq!(default(Some("/run/a:/run/b"), None).unwrap(), at("/run/a/shop.sock"));
    let second = at("/run/user/7/heirloom/shop.sock");
    assert_eq!(default(None, Some("/run/user/7")).unwrap(), second);
    assert_eq!(default(Some("relative"), Some("/run/user/7")).unwrap(), second);
    assert_eq!(default(None, None).unwrap_err().kind(), ErrorKind::Config);
    assert_eq!(place("a/b", |_| None).unwrap_err().kind(), ErrorKind::Config);
}

#[test]
fn a_directory_that_others_may_write_to_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let inside = home.path().join("run");
    assert_eq!(checked(&inside.join("s")).unwrap(), inside.join("s"), "it is made");
    assert_eq!(fs::metadata(&inside).unwrap().permissions().mode() & 0o777, 0o700);
    fs::set_permissions(&inside, Permissions::from_mode(0o777)).unwrap();
    assert_eq!(checked(&inside.join("s")).unwrap_err().kind(), ErrorKind::Config);
    fs::set_permissions(&inside, Permissions::from_mode(0o1777)).unwrap();
    checked(&inside.join("s")).unwrap();
    fs::write(home.path().join("file"), "").unwrap();
    assert!(checked(&home.path().join("file/s")).is_err());
    symlink("/nowhere", home.path().join("link")).unwrap();
    assert!(checked(&home.path().join("link/s")).is_err());
}

struct Closed;

impl Desk for Closed {
    fn version(&self) -> &'static str {
        "1"
    }

    fn answer(&self, _: Command, _: Peer, _: Teller) -> Reply {
        Box::pin(async { Ok(Answer::Done) })
    }

    fn take_over(&self, _: String, _: Taker) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async {})
    }
}

/// A turn that comes back at once: the task that accepted before is still in epoll(7).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accepting_goes_on_however_soon_after_a_pause() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("s");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    listener.set_nonblocking(true).unwrap();
    let socket = Arc::new(OwnedFd::from(listener));
    let mut answering = Answering::new(Clients::new(Arc::new(Closed), Access::new(&[])));
    let hears = async || {
        let mut client = tokio::net::UnixStream::connect(&path).await.unwrap();
        client.shutdown().await.unwrap();
        let end = tokio::time::timeout(Duration::from_secs(30), client.read(&mut [0])).await;
        assert_eq!(end.expect("nobody accepts").unwrap(), 0);
    };
    for _ in 0..200 {
        answering.pause();
        answering.resume(Arc::clone(&socket));
        hears().await;
    }
}

/// Its process may be gone in the next moment, and the runtime with it.
#[test]
fn who_was_accepted_is_answered_before_the_end() {
    const CLIENTS: usize = 16;
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("s");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    listener.set_nonblocking(true).unwrap();
    let socket = Arc::new(OwnedFd::from(listener.try_clone().unwrap()));
    let clients = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let is_answered = async |path: PathBuf| {
        let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
        let request =
            Request { protocol: crate::wire::SPOKEN, client: "1".into(), command: Command::Check };
        // It may have been closed: then nothing comes back.
        let _ = frame::send(&mut stream, frame::REQUEST, &request, Duration::from_secs(30)).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        !answer.is_empty()
    };
    for round in 0..100 {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let service = builder.worker_threads(2).enable_all().build().unwrap();
        let mut answering = Answering::new(Clients::new(Arc::new(Closed), Access::new(&[])));
        service.block_on(async { answering.resume(Arc::clone(&socket)) });
        let mut asked = tokio::task::JoinSet::new();
        for _ in 0..CLIENTS {
            asked.spawn_on(is_answered(path.clone()), clients.handle());
        }
        assert!(clients.block_on(asked.join_next()).unwrap().unwrap(), "round {round}");
        service.block_on(answering.end());
        drop(service);
        // Those are the next generation's.
        let waiting = std::iter::from_fn(|| listener.accept().ok()).count();
        let answers = clients.block_on(asked.join_all());
        let silent = answers.into_iter().filter(|answered| !answered).count();
        assert_eq!(silent, waiting, "round {round}");
    }
}

#[test]
fn the_overflow_user_is_nobodys_friend() {
    let own = nix::unistd::geteuid().as_raw();
    let access = Access::new(&[65_534, 4_711]);
    assert!(access.allows(0) && access.allows(own) && access.allows(4_711));
    assert!(!access.allows(65_534) && !access.allows(4_712));
}

fn read(json: &str) -> Command {
    serde_json::from_str::<Request>(json).unwrap().command
}

#[test]
fn a_request_reads_over_versions() {
    let upgrade = r#"{"protocol":{"min":1,"max":1},"command":"upgrade","colour":"blue"}"#;
    let plain = Command::Upgrade { executable: None, unless_busy: false, wait: false };
    assert_eq!(read(upgrade), plain);
    assert_eq!(read(r#"{"protocol":{"min":1,"max":3},"command":"migrate"}"#), Command::Unknown);
    let command = Command::Abort { reason: "no \"good\"".into() };
    let request = Request { protocol: crate::wire::SPOKEN, client: "1".into(), command };
    let text = serde_json::to_string(&request).unwrap();
    assert_eq!(read(&text), request.command);
    let unknown: News = serde_json::from_str(r#"{"news":"eclipse","of":"the sun"}"#).unwrap();
    assert_eq!(unknown, News::Unknown);
}

#[test]
fn an_error_keeps_its_kind_and_loses_what_could_steer_a_terminal() {
    let error = Error::new(ErrorKind::Busy, "one \u{1b}[31mruns");
    let text = serde_json::to_string(&Last::from(Err(error))).unwrap();
    let last: Last = serde_json::from_str(&text).unwrap();
    let back = crate::Result::<Answer>::from(last).unwrap_err();
    assert_eq!((back.kind(), back.to_string().as_str()), (ErrorKind::Busy, "one  [31mruns"));
}

fn generation() -> crate::generation::Generation {
    crate::generation::Generation::FIRST.next()
}

fn overview() -> Box<Overview> {
    let mut view = GenerationView::new(generation(), crate::status::Role::Owner);
    view.pid = Some(4_711);
    view.version = Some("1.4.0".into());
    view.age = Some(Duration::from_millis(61_500));
    view.resident_bytes = Some(12_345_678);
    view.connections = Some(3);
    view.by_listener = vec![("http".parse().unwrap(), 3)];
    view.oldest = Some(Duration::from_secs(9));
    Box::new(Overview {
        service: "shop".parse().unwrap(),
        owner: generation(),
        accepting: Accepting::Open,
        ready: true,
        queued: false,
        upgrade: Some(UpgradeView {
            to: generation().next(),
            phase: crate::report::UpgradePhase::Start,
            elapsed: Duration::from_millis(70),
            in_phase: Duration::from_millis(20),
            probation: Duration::from_secs(5),
            not_yet: Some("db: connection refused".into()),
        }),
        generations: vec![view],
    })
}

/// P8: a client of another release is understood, and understands.
#[test]
fn requests_are_as_released() {
    let all = [
        ("request-status", Command::Status),
        (
            "request-upgrade",
            Command::Upgrade {
                executable: Some("/srv/shop".into()),
                unless_busy: true,
                wait: true,
            },
        ),
        ("request-follow", Command::Follow { after: generation() }),
        ("request-commit", Command::Commit),
        ("request-roll-back", Command::RollBack { of: Some(generation()) }),
        ("request-abort", Command::Abort { reason: "red".into() }),
        ("request-drain", Command::Drain),
        ("request-pause", Command::Pause),
        ("request-resume", Command::Resume),
        ("request-stop", Command::Stop { force: true }),
        ("request-watch", Command::Watch),
        ("request-history", Command::History),
        ("request-metrics", Command::Metrics),
        ("request-check", Command::Check),
    ];
    let request = |command| Request {
        protocol: crate::wire::version::Range { min: 1, max: 1 },
        client: "0.1.0".into(),
        command,
    };
    let all = all.into_iter().map(|(name, command)| (name, request(command))).collect();
    crate::report::golden::is_as_released("control-v1", all);
}

#[test]
fn answers_are_as_released() {
    let report = || Box::new(crate::report::tests::released());
    let drained = crate::drain::DrainReport {
        outcome: crate::drain::DrainOutcome::Cut,
        drained: 4,
        moved: 1,
        cut_count: 2,
        cuts: crate::drain::CutCounts::default(),
        cut: Vec::new(),
        left: 0,
        hurried: true,
        elapsed: Duration::from_secs(3),
    };
    let mut summary = crate::report::Summary::default();
    (summary.committed, summary.mean_back) = (7, Duration::from_millis(3));
    let probation = Duration::from_secs(5);
    crate::report::golden::is_as_released(
        "control-v1",
        vec![
            ("news-started", News::Started { from: generation(), to: generation().next() }),
            ("news-queued", News::Queued { owner: generation() }),
            (
                "news-phase",
                News::Phase { phase: crate::report::UpgradePhase::Probation, probation },
            ),
            ("news-not-yet", News::NotYet { reason: "db".into() }),
            ("news-draining", News::Draining { progress: crate::drain::Progress::default() }),
            ("news-event", News::Event { event: Box::new(crate::status::Event::AloneAtLast) }),
            ("news-overview", News::Overview { overview: overview() }),
            ("news-report", News::Report { report: report() }),
            ("news-summary", News::Summary { summary: Box::new(summary) }),
        ],
    );
    crate::report::golden::is_as_released(
        "control-v1",
        vec![
            ("answer-done", Last::Ok(Answer::Done)),
            ("answer-overview", Last::Ok(Answer::Overview { overview: overview() })),
            ("answer-upgrade", Last::Ok(Answer::Upgrade { started: Started::Queued })),
            ("answer-report", Last::Ok(Answer::Report { report: report() })),
            ("answer-drained", Last::Ok(Answer::Drained { report: Box::new(drained) })),
            ("answer-text", Last::Ok(Answer::Text { text: "# EOF".into() })),
            ("answer-error", Last::from(Err(Error::new(ErrorKind::Busy, "another one runs")))),
        ],
    );
}
