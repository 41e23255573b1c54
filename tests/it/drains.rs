//! Drains of HTTP connections that hang elsewhere, through real processes.

use std::time::Duration;

use heirloom::DrainReport;

use crate::support::release::Web;
use crate::support::visitor::{Visitor, get, http2_request};
use crate::support::wait::until;
use crate::support::{Release, Server, Socket};

trials![
    p7_connections_that_never_end_end_at_the_deadline_and_are_named,
    p7_a_window_closes_idle_connections_one_after_the_other,
];

/// What the elder says of its drain.
fn drained(server: &Server) -> DrainReport {
    let elder = server.pid(0);
    let mut outcome = server.until_entry("outcome", |entry| entry.pid == elder);
    let report = outcome.data["Ok"]["handed_over"].take();
    serde_json::from_value(report).unwrap()
}

/// P7. TLS is spoken on the TCP socket, plain HTTP on the Unix socket; nothing moves.
fn p7_connections_that_never_end_end_at_the_deadline_and_are_named() {
    let deadline = Duration::from_millis(1_000);
    let server = Server::start(Release {
        web: Some(Web { stays: true, tls: true, ..Web::default() }),
        drain: deadline,
        ..Release::with([Socket::tcp("private"), Socket::unix("plain")])
    });
    let mut silent = Visitor::connect(&server.address("private"));
    let plain = || Visitor::connect(&server.address("plain"));
    let mut partial = plain();
    partial.get("/").unwrap();
    partial.send("GET /never HTTP/1.1\r\nhos").unwrap();
    let mut events = plain();
    events.send(get("/events")).unwrap();
    events.head().unwrap();
    let mut unacknowledged = plain();
    unacknowledged.send(http2_request("/")).unwrap();
    unacknowledged.some();

    server.upgrade_well();
    let report = drained(&server);
    assert_eq!((report.drained, report.moved, report.cut_count, report.left), (0, 0, 4, 0));
    assert!(report.elapsed >= deadline, "{report:?}");
    assert!(report.elapsed < 3 * deadline, "{report:?}");
    let mut named: Vec<_> = report
        .cut
        .iter()
        .map(|held| {
            assert!(held.age >= deadline, "{held}");
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            (held.listener.as_str(), text(&held.name), text(&held.reason))
        })
        .collect();
    named.sort();
    let expected = [
        ("plain", "HTTP/1.1 GET /", "waits for the rest of a request's head"),
        ("plain", "HTTP/1.1 GET /events", "streams a response"),
        ("plain", "HTTP/2 GET /", "has not acknowledged the GOAWAY"),
        ("private", "TLS", "TLS handshake"),
    ];
    for (named, (listener, name, reason)) in named.iter().zip(expected) {
        assert_eq!((named.0, named.1.as_str(), named.2.as_str()), (listener, name, reason));
    }
    server.until_gone(server.pid(0));
    for visitor in [&mut silent, &mut partial, &mut events] {
        assert!(visitor.is_closed());
    }
}

/// Those who have to come back do not come back all at once.
fn p7_a_window_closes_idle_connections_one_after_the_other() {
    const CLIENTS: usize = 200;
    let spread = Duration::from_millis(1_500);
    let server = Server::start(Release {
        web: Some(Web { stays: true, spread, ..Web::default() }),
        ..Release::default()
    });
    let mut visitors: Vec<Visitor> =
        (0..CLIENTS).map(|_| Visitor::connect(&server.address("main"))).collect();
    visitors.iter_mut().for_each(|visitor| _ = visitor.get("/").unwrap());
    server.upgrade_well();
    // Seen from outside: at some moment some of them are closed, and many are not.
    until("some of them to be closed", || {
        let closed = visitors.iter().filter(|visitor| visitor.has_been_closed()).count();
        (closed > CLIENTS / 10 && closed < CLIENTS * 9 / 10).then_some(())
    });
    for mut visitor in visitors {
        assert!(visitor.is_closed());
    }
    let report = drained(&server);
    assert_eq!((report.drained, report.cut_count), (CLIENTS as u64, 0));
    assert!(report.elapsed >= spread * 9 / 10, "{report:?}");
}
