//! One client without a runtime, which asks again and again on new connections.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The pause between two requests: the resolution of what is found.
const PACE: Duration = Duration::from_micros(50);

/// Asks once; tells which process answered.
pub(crate) fn ask(address: SocketAddr, number: u64) -> io::Result<i32> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(
        format!("GET / HTTP/1.1\r\nhost: peers\r\nx-id: {number}\r\nconnection: close\r\n\r\n")
            .as_bytes(),
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    answer
        .split("\r\n")
        .filter_map(|line| line.split_once(": "))
        .find(|(name, _)| name.eq_ignore_ascii_case("x-pid"))
        .and_then(|(_, pid)| pid.trim().parse().ok())
        .ok_or_else(|| io::Error::other("the answer does not say who gave it"))
}

/// What the probe has seen of an upgrade.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// When each answer came, and whose it was.
    answers: Vec<(Instant, i32)>,
    pub(crate) failed: u64,
}

impl Seen {
    /// When somebody answered first who is none of these.
    pub(crate) fn first_new(&self, old: &[i32]) -> Option<Instant> {
        self.answers.iter().find(|(_, pid)| !old.contains(pid)).map(|(at, _)| *at)
    }

    /// When one of these answered a new connection for the last time.
    pub(crate) fn last_old(&self, old: &[i32]) -> Option<Instant> {
        self.answers.iter().rev().find(|(_, pid)| old.contains(pid)).map(|(at, _)| *at)
    }
}

/// Asks until it is told to stop.
pub(crate) fn watch(address: SocketAddr, stop: &AtomicBool) -> Seen {
    let mut seen = Seen::default();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        match ask(address, number) {
            Ok(pid) => seen.answers.push((Instant::now(), pid)),
            Err(_) => seen.failed += 1,
        }
        std::thread::sleep(PACE);
    }
    seen
}
