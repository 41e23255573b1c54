//! Load: clients that connect, ask once, close, and never try again.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::client::{Address, Answerer, Client, Failure};
use super::journal::now_us;
use super::wait::{pause, until};

/// Between two connections of one client. Two of them leave the machine to the servers.
const THINKING: Duration = Duration::from_millis(1);

/// Clients that run until they are told to stop.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Tally>>,
}

/// What the clients saw.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// By whom, and when, by the wall clock.
    pub answers: Vec<Answer>,
    pub failures: Vec<Failure>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub by: Answerer,
    pub ended_us: u64,
}

impl Load {
    /// So many clients, each on every address in turn.
    pub(crate) fn start(addresses: &[Address], clients: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicUsize::new(0));
        let clients = (0..clients)
            .map(|_| {
                let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
                let addresses = addresses.to_vec();
                std::thread::spawn(move || run(&addresses, &stop, &answered))
            })
            .collect();
        Self { stop, answered, clients }
    }

    /// Waits until so many more connections have been answered.
    pub(crate) fn until_answered(&self, more: usize) {
        let target = self.answered.load(Ordering::Relaxed) + more;
        until(&format!("{more} more answers"), || {
            (self.answered.load(Ordering::Relaxed) >= target).then_some(())
        });
    }

    pub(crate) fn finish(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let mut whole = Tally::default();
        for client in self.clients {
            let tally = client.join().unwrap();
            whole.answers.extend(tally.answers);
            whole.failures.extend(tally.failures);
        }
        whole.answers.sort_by_key(|answer| answer.ended_us);
        whole
    }
}

fn run(addresses: &[Address], stop: &AtomicBool, answered: &AtomicUsize) -> Tally {
    let mut tally = Tally::default();
    for address in addresses.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        match Client::connect(address).and_then(|mut client| client.who()) {
            Ok(by) => {
                tally.answers.push(Answer { by, ended_us: now_us() });
                answered.fetch_add(1, Ordering::Relaxed);
            }
            Err(failure) => tally.failures.push(failure),
        }
        pause(THINKING);
    }
    tally
}

impl Tally {
    /// Nobody was refused, reset, cut off or left waiting.
    pub(crate) fn assert_unharmed(&self) {
        assert!(self.failures.is_empty(), "clients failed: {self}");
        assert!(!self.answers.is_empty(), "no client was answered");
    }

    /// Failures by kind.
    pub(crate) fn failed(&self) -> BTreeMap<Failure, usize> {
        let mut failed = BTreeMap::new();
        for failure in &self.failures {
            *failed.entry(failure.clone()).or_default() += 1;
        }
        failed
    }

    /// The longest time in which no client was answered.
    pub(crate) fn longest_gap(&self) -> Duration {
        let pairs = self.answers.windows(2);
        let longest = pairs.map(|pair| pair[1].ended_us.saturating_sub(pair[0].ended_us)).max();
        Duration::from_micros(longest.unwrap_or(0))
    }

    /// The generations that answered, in the order of their first answers.
    pub(crate) fn generations(&self) -> Vec<u64> {
        let mut generations = Vec::new();
        for answer in &self.answers {
            if !generations.contains(&answer.by.generation) {
                generations.push(answer.by.generation);
            }
        }
        generations
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} answered by {:?}, failed {:?}, longest gap {:?}",
            self.answers.len(),
            self.generations(),
            self.failed(),
            self.longest_gap()
        )
    }
}
