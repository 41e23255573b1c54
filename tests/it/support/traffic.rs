//! Traffic: clients with a new connection for each question, and clients that keep theirs.
//!
//! Nobody tries again. Each question is written down with its times and with who was known to have
//! accepted the connection, so that a failure can be laid at the door of one process.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::client::{Address, Answerer, Client, Failure};
use super::journal::now_us;
use super::wait::{pause, until};

/// Between two questions of one client.
const THINKING: Duration = Duration::from_millis(1);

/// One question.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// Which client asked.
    pub client: usize,
    /// Before the connection was made or, on a kept one, the question sent; by the wall clock.
    pub begun_us: u64,
    pub ended_us: u64,
    /// Who had answered on this connection before; none if it is new.
    pub kept_by: Option<Answerer>,
    pub answer: Result<Answerer, Failure>,
}

/// A process that was killed or ended by its own fault.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Death {
    pub pid: i32,
    /// When the fault was written down, right before it happened.
    pub at_us: u64,
    /// When it was seen to be gone.
    pub gone_us: u64,
}

/// Clients that run until they are told to stop.
pub(crate) struct Traffic {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// New connections that were answered.
    answered: AtomicUsize,
    calls: Mutex<Vec<Call>>,
}

impl Traffic {
    /// For each address one client of either kind.
    pub(crate) fn start(addresses: &[Address]) -> Self {
        let shared = Arc::<Shared>::default();
        let clients = addresses.iter().cycle().take(2 * addresses.len()).enumerate();
        let clients = clients.map(|(number, address)| {
            let client = Asker { number, address: address.clone(), shared: Arc::clone(&shared) };
            let keeps = number >= addresses.len();
            std::thread::spawn(move || if keeps { client.keep() } else { client.come_and_go() })
        });
        Self { clients: clients.collect(), shared }
    }

    /// Waits until so many more new connections have been answered.
    pub(crate) fn until_answered(&self, more: usize) {
        let target = self.shared.answered.load(Ordering::Relaxed) + more;
        until(&format!("{more} more answers"), || {
            (self.shared.answered.load(Ordering::Relaxed) >= target).then_some(())
        });
    }

    /// What was asked since the last time, in the order of the ends.
    pub(crate) fn take(&self) -> Vec<Call> {
        let mut calls = self.shared.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let mut calls = std::mem::take(&mut *calls);
        calls.sort_by_key(|call| call.ended_us);
        calls
    }

    /// Ends it; what was asked since the last [`take`](Self::take).
    pub(crate) fn finish(mut self) -> Vec<Call> {
        self.stop();
        self.take()
    }

    fn stop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            // A client that panicked has said so.
            let _ = client.join();
        }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Asker {
    number: usize,
    address: Address,
    shared: Arc<Shared>,
}

impl Asker {
    fn come_and_go(&self) {
        while self.goes_on() {
            drop(self.open());
        }
    }

    fn keep(&self) {
        while self.goes_on() {
            let Some((mut client, by)) = self.open() else { continue };
            while self.goes_on() && !client.told_to_go {
                let begun_us = now_us();
                let answer = client.who();
                let failed = answer.is_err();
                self.write(begun_us, Some(by), answer);
                if failed {
                    break;
                }
            }
        }
    }

    /// A new connection and its first answer.
    fn open(&self) -> Option<(Client, Answerer)> {
        let begun_us = now_us();
        let opened = Client::connect(&self.address)
            .and_then(|mut client| client.who().map(|by| (client, by)));
        self.write(begun_us, None, opened.as_ref().map(|(_, by)| *by).map_err(Clone::clone));
        opened.ok()
    }

    fn write(&self, begun_us: u64, kept_by: Option<Answerer>, answer: Result<Answerer, Failure>) {
        if kept_by.is_none() && answer.is_ok() {
            self.shared.answered.fetch_add(1, Ordering::Relaxed);
        }
        let call = Call { client: self.number, begun_us, ended_us: now_us(), kept_by, answer };
        self.shared.calls.lock().unwrap_or_else(PoisonError::into_inner).push(call);
        pause(THINKING);
    }

    fn goes_on(&self) -> bool {
        !self.shared.stop.load(Ordering::Relaxed)
    }
}

impl Call {
    pub(crate) fn is_new(&self) -> bool {
        self.kept_by.is_none()
    }

    /// Whether the death explains the failure.
    ///
    /// A connection on which a process has answered is that process's, and fails with no other. One
    /// that nobody had answered on could be anybody's: it must have been there at the moment of the
    /// death, that is, begun before the process was gone and failed after the fault.
    fn died_with(&self, death: &Death) -> bool {
        let soft = matches!(self.answer, Err(Failure::Reset | Failure::Closed));
        let its = match self.kept_by {
            Some(by) => by.pid == death.pid,
            None => self.begun_us <= death.gone_us,
        };
        soft && its && self.ended_us >= death.at_us
    }
}

/// The failures that no death explains. A client has one connection at a time, so each death
/// explains one failure of each client at most.
pub(crate) fn unexplained(calls: &[Call], deaths: &[Death]) -> Vec<Call> {
    let mut spent = Vec::new();
    let failed = calls.iter().filter(|call| call.answer.is_err());
    let left = failed.filter(|call| {
        let free = |death: &&Death| !spent.contains(&(death.pid, call.client));
        let death = deaths.iter().filter(|death| call.died_with(death)).find(free);
        death.map(|death| spent.push((death.pid, call.client))).is_none()
    });
    left.cloned().collect()
}

/// After the fault: how long until a new connection was answered, and the longest time in which
/// none was. An answer of the struck process to a connection that it had before does not count.
pub(crate) fn accepting_again(
    calls: &[Call],
    at_us: u64,
    struck: i32,
) -> Option<(Duration, Duration)> {
    let counts = |call: &&Call| {
        let by_another = call.answer.as_ref().is_ok_and(|by| by.pid != struck);
        let since = call.begun_us >= at_us || (by_another && call.ended_us >= at_us);
        call.is_new() && call.answer.is_ok() && since
    };
    let ends = calls.iter().filter(counts).map(|call| call.ended_us);
    let (mut last, mut first, mut longest) = (at_us, None, 0);
    for end in ends {
        first.get_or_insert(end - at_us);
        longest = longest.max(end - last);
        last = end;
    }
    Some((Duration::from_micros(first?), Duration::from_micros(longest)))
}

/// How often a client that came and went was answered by another generation than before: each turn
/// of a handoff is one.
pub(crate) fn most_turns(calls: &[Call]) -> usize {
    let mut last = std::collections::BTreeMap::new();
    let mut turns = std::collections::BTreeMap::<usize, usize>::new();
    for call in calls.iter().filter(|call| call.is_new()) {
        if let Ok(by) = &call.answer
            && last.insert(call.client, by.pid).is_some_and(|before| before != by.pid)
        {
            *turns.entry(call.client).or_default() += 1;
        }
    }
    turns.into_values().max().unwrap_or(0)
}
