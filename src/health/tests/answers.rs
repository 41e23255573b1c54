//! What counts as an answer.

use std::io;

use super::*;

#[tokio::test]
async fn a_good_status_passes_and_no_counter_knows_of_it() {
    let service = Service::answering(OK);
    assert_eq!(service.round(http()).await, passed());
    let progress = service.drain.progress();
    assert_eq!((progress.active, progress.accepted, progress.by_listener.len()), (0, 0, 0));
}

#[tokio::test]
async fn the_status_that_is_wanted_is_the_status_that_passes() {
    let service = Service::answering("HTTP/1.1 418 I'm a teapot\r\n\r\n");
    assert_eq!(service.round(http().expect_status(418..=418)).await, passed());
    assert_eq!(service.round(http().expect_status(400..500)).await, passed());
    assert_eq!(service.round(http().expect_status(..)).await, passed());
    let failure = service.failure(http()).await;
    assert_eq!(failure, Failure::wrong("status 418 instead of 200 to 299"));
}

#[tokio::test]
async fn a_wrong_answer_is_named() {
    for (answer, text) in [
        ("", "the server closed the connection without an answer"),
        ("HTTP/1.1 200 OK\r\n", "the server closed the connection in its answer's head"),
        ("220 mail", "the answer is not HTTP/1: \"220 mail\""),
    ] {
        let service = Service::answering(answer);
        assert_eq!(service.failure(http()).await, Failure::wrong(text));
    }
}

#[tokio::test]
async fn a_request_is_complete_and_says_who_asks() {
    let mut service = Service::new();
    let listener = service.tcp("main");
    let address = listener.local_addr().unwrap();
    service.open();
    let (sender, mut requests) = mpsc::channel(1);
    service.tasks.spawn(async move {
        while let Some(mut conn) = listener.accept().await.unwrap() {
            let mut question = vec![0; 1024];
            let length = conn.read(&mut question).await.unwrap();
            question.truncate(length);
            sender.send(String::from_utf8(question).unwrap()).await.unwrap();
            conn.write_all(OK.as_bytes()).await.unwrap();
        }
    });
    assert_eq!(service.round(http()).await, passed());
    let request = requests.recv().await.unwrap();
    assert!(request.starts_with("GET /healthz HTTP/1.1\r\n") && request.ends_with("\r\n\r\n"));
    assert!(request.contains(&format!("\r\nHost: {address}\r\n")), "{request}");
    let check = http().host("example.org").header("X-Probe", "1");
    assert_eq!(service.round(check).await, passed());
    let request = requests.recv().await.unwrap();
    assert!(request.contains("\r\nHost: example.org\r\n"), "{request}");
    assert!(request.contains("\r\nX-Probe: 1\r\n"), "{request}");
}

#[tokio::test]
async fn a_bare_connect_proves_nothing() {
    let service = Service::new();
    let _nobody_accepts = service.tcp("main");
    service.open();
    let failure = service.failure(http().timeout(SHORT)).await;
    assert_eq!(failure.cause, Cause::Silent(Reached::Queue), "{failure:?}");
}

#[tokio::test]
async fn what_accepts_and_does_not_answer_is_told_from_what_does_not_accept() {
    let mut service = Service::new();
    let listener = service.tcp("main");
    service.open();
    service.tasks.spawn(async move {
        let mut held = Vec::new();
        while let Some(conn) = listener.accept().await.unwrap() {
            held.push(conn);
        }
    });
    let failure = service.failure(http().timeout(SHORT)).await;
    assert_eq!(failure.cause, Cause::Silent(Reached::Server));
    assert_eq!(failure.text, "no answer within 300ms (the connection was accepted)");
}

#[tokio::test]
async fn half_an_answer_is_not_silence() {
    let mut service = Service::new();
    let listener = service.tcp("main");
    service.open();
    service.tasks.spawn(async move {
        let mut held = Vec::new();
        while let Some(mut conn) = listener.accept().await.unwrap() {
            conn.write_all(b"HTTP/1.1 200 O").await.unwrap();
            held.push(conn);
        }
    });
    let failure = service.failure(http().timeout(SHORT)).await;
    assert_eq!(failure, Failure::wrong("the answer is not complete after 300ms"));
}

#[tokio::test]
async fn a_refused_connection_is_wrong() {
    let service = Service::new();
    let listener = service.tcp("main");
    service.open();
    let subject = Arc::new(service.subject());
    listener.remove().await;
    let mut rounds = Rounds::new(http(), subject, service.announce.clone());
    let Round::Failed(failure) = rounds.next().await else { panic!("nobody is there") };
    assert_eq!(failure.cause, Cause::Wrong);
    assert!(failure.text.contains("refused"), "{}", failure.text);
}

#[tokio::test]
async fn bytes_are_compared_from_the_first_on() {
    let service = Service::answering("+PONG\r\n");
    let ask = |expect: &str| HealthCheck::tcp("main", "PING\r\n", expect).timeout(LONG);
    assert_eq!(service.round(ask("+PONG\r\n")).await, passed());
    assert_eq!(service.round(ask("+P")).await, passed());
    assert_eq!(service.round(ask("")).await, passed(), "any answer will do");
    let failure = service.failure(ask("-PONG")).await;
    let text = "the answer begins with \"+PONG\\r\\n\" instead of \"-PONG\"";
    assert_eq!(failure, Failure::wrong(text));
    let failure = service.failure(ask("+PONG\r\n\r\n")).await;
    assert_eq!(failure, Failure::wrong("the server closed the connection after 7 bytes"));
    let mute = Service::answering("");
    let failure = mute.failure(ask("")).await;
    assert_eq!(failure, Failure::wrong("the server closed the connection after 0 bytes"));
}

#[tokio::test]
async fn a_closure_is_told_whom_it_checks_and_connects_as_a_check() {
    let service = Service::answering("+PONG\r\n");
    let address = service.inventory.door("main").unwrap().address;
    let check = HealthCheck::custom("ping", move |candidate: Candidate| {
        let address = address.clone();
        async move {
            assert_eq!(candidate.generation(), Generation::FIRST.next());
            assert_eq!(candidate.pid(), std::process::id());
            let known: Vec<_> = candidate
                .addresses()
                .map(|(name, at)| (name.to_string(), at.to_string()))
                .collect();
            assert_eq!(known, [("main".to_owned(), address.to_string())]);
            let mut stream = candidate.connect("main").await?;
            stream.write_all(b"PING\r\n").await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            if answer == "+PONG\r\n" { Ok(()) } else { Err(io::Error::other(answer)) }
        }
    });
    assert_eq!(service.round(check.timeout(LONG)).await, passed());
    assert_eq!(service.drain.accepted(), 0);
}

#[tokio::test]
async fn a_closure_fails_by_its_error_a_panic_or_its_timeout() {
    let service = Service::answering(OK);
    let check = HealthCheck::custom("metric", |_| async { Err::<(), _>("the queue is long") });
    assert_eq!(service.failure(check).await, Failure::wrong("the queue is long"));
    let check = HealthCheck::custom("lost", |candidate: Candidate| async move {
        candidate.connect("other").await.map(drop)
    });
    let failure = service.failure(check).await;
    assert_eq!(failure, Failure::wrong("generation 1 serves no listener \"other\""));
    let check = HealthCheck::custom("bug", |_| async {
        let none: Option<()> = None;
        none.ok_or("")?;
        Ok::<(), &str>(())
    });
    assert_eq!(service.failure(check).await, Failure::wrong(""));
    let check = HealthCheck::custom("slow", |_| std::future::pending::<Result<(), String>>());
    let failure = service.failure(check.timeout(SHORT)).await;
    assert_eq!(failure.cause, Cause::Silent(Reached::Unknown));
}

#[tokio::test]
async fn a_closure_that_panics_is_a_failure() {
    let service = Service::answering(OK);
    let check = HealthCheck::custom("bug", |candidate: Candidate| async move {
        assert_eq!(candidate.pid(), 0, "this panic is part of the test");
        Ok::<(), io::Error>(())
    });
    // To print where a panic came from takes long on a busy machine.
    let failure = service.failure(check.timeout(LONG)).await;
    assert_eq!(failure, Failure::wrong("the check itself panicked"));
}

#[test]
fn a_check_that_could_never_work_is_refused_by_name() {
    let policy = |check| Policy { checks: vec![check], ..Policy::default() };
    for check in [
        HealthCheck::http("main", "healthz"),
        HealthCheck::http("", "/"),
        HealthCheck::tcp("a:b", "", ""),
        http().header("Connection", "close"),
        http().expect_status(300..300),
        http().interval(Duration::ZERO),
        http().timeout(Duration::ZERO),
    ] {
        let error = policy(check.name("the one")).validate().unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Config);
        assert!(error.to_string().starts_with("health check the one: "), "{error}");
    }
    policy(http()).validate().unwrap();
    assert_eq!(http().thresholds().name, "http \"main\" /healthz");
}
