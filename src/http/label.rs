//! What a report says of a connection that is still there: what it is, and what it waits for.
//!
//! It is said only while a drain runs, for nobody asks before.

use hyper::header::HeaderValue;

use super::ledger::Ledger;
use crate::drain::DrainPhase;

/// What was said last, so that it is said once.
#[derive(Default)]
pub(super) struct Label(Option<(usize, &'static str)>);

impl Label {
    /// Says what an HTTP/1 connection is busy with.
    pub(super) fn http1(&mut self, ledger: &Ledger) {
        // An upgraded one has said what it is.
        if !ledger.is_upgrading() {
            self.say(ledger, "HTTP/1.1", http1(ledger));
        }
    }

    /// Says what an HTTP/2 connection is busy with.
    pub(super) fn http2(&mut self, ledger: &Ledger, told: bool) {
        let open = ledger.in_flight();
        let said = (open, if told { "told" } else { "not told" });
        if self.0.replace(said) == Some(said) {
            return;
        }
        name(ledger, "HTTP/2");
        ledger.guard.set_reason(match (open, told) {
            (0, true) => String::from("has not acknowledged the GOAWAY"),
            (0, false) => String::from("waits for a first request"),
            (1, _) => String::from("1 stream open"),
            (open, _) => format!("{open} streams open"),
        });
    }

    /// Says that hands are shaken.
    pub(super) fn handshake(&mut self, ledger: &Ledger) {
        self.say(ledger, "TLS", "TLS handshake");
    }

    /// Says that the client has yet to close its side. In steady state nobody asks.
    pub(super) fn part(&mut self, ledger: &Ledger) {
        if ledger.phase() > DrainPhase::Serving {
            let protocol = if ledger.speaks_http2() { "HTTP/2" } else { "HTTP/1.1" };
            self.say(ledger, protocol, "waits for the client to close");
        }
    }

    fn say(&mut self, ledger: &Ledger, protocol: &str, reason: &'static str) {
        let said = (ledger.begun(), reason);
        if self.0.replace(said) != Some(said) {
            name(ledger, protocol);
            ledger.guard.set_reason(reason);
        }
    }
}

/// Says what a stream that leaves HTTP has become, at once: nobody looks at it afterwards.
pub(super) fn upgraded(ledger: &Ledger, protocol: Option<&HeaderValue>) {
    name(ledger, "HTTP/1.1");
    let protocol = protocol.and_then(|protocol| protocol.to_str().ok()).unwrap_or("tunnel");
    ledger.guard.set_reason(format!("upgraded: {protocol}"));
}

/// `HTTP/1.1 GET /slow`, by the last request.
fn name(ledger: &Ledger, protocol: &str) {
    ledger.guard.set_name(match ledger.last() {
        Some(last) => format!("{protocol} {last}"),
        None => protocol.to_owned(),
    });
}

fn http1(ledger: &Ledger) -> &'static str {
    if ledger.streaming() > 0 {
        "streams a response"
    } else if ledger.reads_body() {
        "reads a request's body"
    } else if ledger.in_flight() > 0 {
        "waits for the application's answer"
    } else if !ledger.is_idle() {
        "sends the rest of a response"
    } else if ledger.head() {
        "waits for the rest of a request's head"
    } else if ledger.is_fresh() {
        "waits for a first request"
    } else {
        "idle between requests"
    }
}
