//! Findings over time, and what the predecessor knows of itself.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

use super::*;
use crate::health::saturation::Past;

const OFTEN: Duration = Duration::from_millis(10);

fn policy(checks: Vec<HealthCheck>) -> Policy {
    Policy { checks, min_healthy_time: Duration::ZERO }
}

fn watched(service: &Service, policy: &Policy, baseline: &Baseline, figures: [Load; 2]) -> Watch {
    let [before, now] = figures;
    let (told, mut now) = watch::channel(now);
    now.mark_changed();
    drop(told);
    Watch::begin(policy, service.subject(), baseline, before, &now, &service.announce)
}

async fn next(watch: &mut Watch) -> Finding {
    tokio::time::timeout(LONG, watch.next()).await.expect("something is found")
}

/// Skips what has been found before.
async fn until(watch: &mut Watch, wanted: impl Fn(&Finding) -> bool) -> Finding {
    loop {
        let finding = next(watch).await;
        if wanted(&finding) {
            return finding;
        }
    }
}

#[tokio::test]
async fn a_service_that_falls_sick_is_found_healthy_ailing_and_unhealthy() {
    let mut service = Service::new();
    let listener = service.tcp("main");
    service.open();
    let sick = Arc::new(AtomicBool::new(false));
    let fall_sick = Arc::clone(&sick);
    service.tasks.spawn(async move {
        while let Some(mut conn) = listener.accept().await.unwrap() {
            assert!(conn.read(&mut [0; 1024]).await.unwrap() > 0);
            let status = if sick.load(Ordering::Acquire) { "500 Oh" } else { "200 OK" };
            conn.write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes()).await.unwrap();
        }
    });
    let policy = policy(vec![http().interval(OFTEN)]);
    let mut watch = watched(&service, &policy, &Baseline::default(), Default::default());
    let begins = "health check http \"main\" /healthz: no round is over yet";
    assert_eq!(next(&mut watch).await, Finding::Ailing(begins.into()));
    assert_eq!(next(&mut watch).await, Finding::Healthy);
    fall_sick.store(true, Ordering::Release);
    let why = "status 500 instead of 200 to 299";
    for failures in 1..=2 {
        let text =
            format!("health check http \"main\" /healthz failed {failures} of 3 times: {why}");
        assert_eq!(next(&mut watch).await, Finding::Ailing(text));
    }
    let text =
        format!("health check http \"main\" /healthz failed 3 times in a row, at last: {why}");
    assert_eq!(next(&mut watch).await, Finding::Unhealthy(text));
    assert_eq!(service.drain.accepted(), 0);
}

#[tokio::test]
async fn a_minimum_healthy_time_is_waited_for() {
    let service = Service::answering(OK);
    let mut policy = policy(vec![http().interval(OFTEN)]);
    policy.min_healthy_time = SHORT;
    let began = tokio::time::Instant::now();
    let mut watch = watched(&service, &policy, &Baseline::default(), Default::default());
    let waited = until(&mut watch, |finding| *finding == Finding::Healthy);
    waited.await;
    assert!(began.elapsed() >= SHORT);
}

#[tokio::test]
async fn without_checks_a_service_is_healthy() {
    let service = Service::answering(OK);
    let policy = policy(Vec::new());
    let mut watch = watched(&service, &policy, &Baseline::default(), Default::default());
    assert_eq!(next(&mut watch).await, Finding::Healthy);
}

#[tokio::test]
async fn nothing_is_asked_any_more_when_the_watch_is_dropped() {
    let mut service = Service::new();
    let listener = service.tcp("main");
    service.open();
    let (sender, mut ended) = mpsc::channel::<()>(1);
    service.tasks.spawn(async move {
        while let Some(mut conn) = listener.accept().await.unwrap() {
            let sender = sender.clone();
            // Ends when the client, who waits for an answer, closes.
            while conn.read(&mut [0; 1024]).await.unwrap_or(0) > 0 {}
            sender.send(()).await.unwrap();
        }
    });
    let policy = policy(vec![http()]);
    let mut watch = watched(&service, &policy, &Baseline::default(), Default::default());
    assert!(matches!(next(&mut watch).await, Finding::Ailing(_)), "nothing is known yet");
    let quiet = tokio::time::timeout(SHORT, watch.next()).await;
    assert!(quiet.is_err(), "it waits for an answer: {quiet:?}");
    drop(watch);
    tokio::time::timeout(LONG, ended.recv()).await.expect("the connection is closed").unwrap();
}

#[tokio::test]
async fn a_successor_that_accepts_nothing_is_sick() {
    let service = Service::new();
    let _nobody_accepts = service.tcp("main");
    service.open();
    let policy = policy(vec![http().interval(OFTEN).timeout(SHORT)]);
    let before = Load { active: 40, accepted: 900, ended: 860 };
    let figures = [before, Load::default()];
    let mut watch = watched(&service, &policy, &Baseline::default(), figures);
    let last = until(&mut watch, |finding| !matches!(finding, Finding::Ailing(_))).await;
    let Finding::Unhealthy(text) = last else { panic!("{last:?}") };
    assert!(text.ends_with("no answer within 300ms (the connection was not accepted)"), "{text}");
}

#[tokio::test]
async fn a_successor_at_its_limit_is_saturated_and_healthy_once_it_has_answered() {
    let mut service = Service::new();
    let listener = service.tcp("main");
    service.open();
    let limit = Arc::new(tokio::sync::Semaphore::new(0));
    let room = Arc::clone(&limit);
    service.tasks.spawn(async move {
        loop {
            room.acquire().await.unwrap().forget();
            let Some(mut conn) = listener.accept().await.unwrap() else { return };
            let _gone = conn.read(&mut [0; 1024]).await;
            let _gone = conn.write_all(OK.as_bytes()).await;
        }
    });
    let policy = policy(vec![http().interval(OFTEN).timeout(SHORT)]);
    let before = Load { active: 40, accepted: 900, ended: 860 };
    let now = Load { active: 40, accepted: 70, ended: 30 };
    let mut watch = watched(&service, &policy, &Baseline::default(), [before, now]);
    assert!(matches!(next(&mut watch).await, Finding::Ailing(_)), "nothing is known yet");
    for _ in 0..4 {
        let finding = until(&mut watch, |finding| matches!(finding, Finding::Ailing(_))).await;
        let Finding::Ailing(text) = finding else { unreachable!() };
        assert!(text.contains("saturated: no answer"), "{text}");
    }
    limit.add_permits(1_000);
    assert_eq!(until(&mut watch, |finding| !matches!(finding, Finding::Ailing(_))).await, {
        Finding::Healthy
    });
}

#[tokio::test]
async fn the_predecessor_knows_what_its_own_checks_give() {
    let mut service = Service::new();
    let all = ["good", "bad", "busy"].map(|name| service.tcp(name));
    service.open();
    let [good, bad, _busy] = all;
    service.answer(good, OK);
    service.answer(bad, "HTTP/1.1 503 Down\r\n\r\n");
    let ask = |name: &str| HealthCheck::http(name, "/");
    let policy = policy(vec![
        ask("good").timeout(LONG),
        ask("bad").timeout(LONG),
        ask("busy").timeout(SHORT),
        ask("none").timeout(LONG),
    ]);
    let asked = baseline_of_ourselves(&policy, Generation::FIRST, &service.inventory);
    let baseline = tokio::time::timeout(LONG, asked).await.unwrap();
    assert_eq!(baseline.past(0), Past::Passed);
    assert_eq!(baseline.past(1), Past::Failed("status 503 instead of 200 to 299".into()));
    assert_eq!(baseline.past(2), Past::Silent);
    assert_eq!(baseline.past(3), Past::Failed("generation 0 serves no listener \"none\"".into()));
    assert_eq!(baseline.past(4), Past::Unknown);
    assert_eq!(service.drain.accepted(), 0, "its own checks are not counted either");
}

#[tokio::test]
async fn what_the_predecessor_did_not_answer_its_successor_need_not() {
    let service = Service::new();
    let _nobody_accepts = service.tcp("main");
    service.open();
    let policy = policy(vec![http().interval(OFTEN).timeout(SHORT)]);
    let baseline = baseline_of_ourselves(&policy, Generation::FIRST, &service.inventory).await;
    let mut watch = watched(&service, &policy, &baseline, Default::default());
    assert!(matches!(next(&mut watch).await, Finding::Ailing(_)), "nothing is known yet");
    let Finding::Note(text) = next(&mut watch).await else { panic!("it is saturated") };
    assert!(text.ends_with("nor had the predecessor before it yielded"), "{text}");
    for _ in 0..5 {
        assert!(matches!(next(&mut watch).await, Finding::Ailing(_)));
    }
}
