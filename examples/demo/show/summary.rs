//! The figures behind the table and the drawing, worked out once from the book.

use std::time::Duration;

use crate::fleet::{End, Fleet};
use crate::ledger::{Answer, Counts, Kind, Ledger, Miss};
use crate::options::Options;
use crate::upgrades::Upgrade;

/// Everything there is to tell.
#[derive(Debug)]
pub(crate) struct Summary {
    /// The upgrades that were asked for on the command line.
    pub(crate) asked: usize,
    /// Whether somebody ended the demo before its time.
    pub(crate) interrupted: bool,
    /// The upgrades that were begun.
    pub(crate) upgrades: Vec<Upgrade>,
    /// Every generation that answered.
    pub(crate) lives: Vec<Life>,
    /// Each kind of client.
    pub(crate) rows: Vec<Row>,
    /// All kinds together.
    pub(crate) total: Row,
    /// From the signal to the first answer by the new generation.
    pub(crate) first_answers: Spread,
    /// From the signal to the commit.
    pub(crate) commits: Spread,
    /// When the clients stopped asking: gaps are looked for until then, and drawings end there.
    pub(crate) closing: Duration,
    /// Every answer, in order of time.
    pub(crate) answers: Vec<Answer>,
    /// Every failure.
    pub(crate) misses: Vec<Miss>,
    /// Echo sessions that ended as the server asked.
    pub(crate) drained: u64,
    /// Echo sessions that ended in any other way.
    pub(crate) cut: u64,
    /// Keep-alive connections that were told `Connection: close`.
    pub(crate) told: u64,
    /// Keep-alive connections that were closed while nothing was asked.
    pub(crate) idle_closed: u64,
    /// The most by which the demo's own clock was late.
    pub(crate) stall: Duration,
    /// Processes of the server that never answered, and how they ended.
    pub(crate) strangers: Vec<(i32, End)>,
}

/// One generation, as it is seen from outside.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    /// Its number.
    pub(crate) generation: u64,
    /// Its process.
    pub(crate) pid: i32,
    /// When it was asked for.
    pub(crate) born: Duration,
    /// Its first answer.
    pub(crate) answered: Duration,
    /// When it owned.
    pub(crate) committed: Option<Duration>,
    /// When the next one owned.
    pub(crate) succeeded: Option<Duration>,
    /// How and when it ended.
    pub(crate) end: Option<End>,
}

/// The figures of one kind of client.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// What it is called.
    pub(crate) label: &'static str,
    /// Answers.
    pub(crate) answers: usize,
    /// Failures.
    pub(crate) missed: usize,
    /// Latency.
    pub(crate) latency: Spread,
    /// The longest time between two successive answers.
    pub(crate) gap: Duration,
}

/// Median, 99th percentile and maximum.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spread {
    /// Half are below.
    pub(crate) p50: Duration,
    /// All but one in a hundred are below.
    pub(crate) p99: Duration,
    /// None is above.
    pub(crate) max: Duration,
}

impl Spread {
    /// Of these times, in any order; all zero if there are none.
    pub(crate) fn of(times: impl IntoIterator<Item = Duration>) -> Self {
        let mut times: Vec<Duration> = times.into_iter().collect();
        times.sort_unstable();
        let last = times.len().saturating_sub(1);
        let at = |part: f64| {
            let rank = (last as f64 * part).ceil() as usize;
            times.get(rank).copied().unwrap_or_default()
        };
        Self { p50: at(0.5), p99: at(0.99), max: at(1.0) }
    }
}

impl Summary {
    /// Works everything out, once the load and the server have ended.
    pub(crate) fn new(
        options: &Options,
        ledger: &Ledger,
        fleet: &Fleet,
        upgrades: Vec<Upgrade>,
        interrupted: bool,
    ) -> Self {
        let (_, answers) = ledger.answers_since(Duration::ZERO);
        let misses = ledger.misses();
        let closing = ledger.closing();
        let since = |upgrade: &Upgrade, to: Option<Duration>| {
            to.map(|to| to.saturating_sub(upgrade.signalled))
        };
        let firsts = upgrades.iter().filter_map(|it| since(it, it.answered.map(|(at, _)| at)));
        let commits = upgrades.iter().filter_map(|it| since(it, it.committed));
        let lives = lives(ledger, fleet, &upgrades);
        let mut strangers = fleet.ended();
        strangers.retain(|pid, _| lives.iter().all(|life| life.pid != *pid));
        let counts = ledger.counts();
        Self {
            asked: options.upgrades,
            interrupted,
            first_answers: Spread::of(firsts),
            commits: Spread::of(commits),
            lives,
            rows: Kind::ALL
                .iter()
                .map(|kind| row(Some(*kind), &answers, &misses, closing))
                .collect(),
            total: row(None, &answers, &misses, closing),
            upgrades,
            closing,
            answers,
            misses,
            drained: Counts::get(&counts.drained),
            cut: Counts::get(&counts.cut),
            told: Counts::get(&counts.told),
            idle_closed: Counts::get(&counts.idle_closed),
            stall: counts.stall(),
            strangers: strangers.into_iter().collect(),
        }
    }

    /// Whether nothing was lost, every upgrade was committed, and every generation exited in order.
    pub(crate) fn flawless(&self) -> bool {
        self.misses.is_empty()
            && self.cut == 0
            && self.committed() == self.asked
            && self.strangers.is_empty()
            && self.lives.iter().all(|life| life.end.as_ref().is_some_and(|end| !end.failed()))
    }

    /// How many upgrades were committed.
    pub(crate) fn committed(&self) -> usize {
        self.upgrades.iter().filter(|upgrade| upgrade.committed.is_some()).count()
    }

    /// From the first answer to the end of the load.
    pub(crate) fn span(&self) -> (Duration, Duration) {
        let first = self.answers.first().map_or(Duration::ZERO, |answer| answer.at);
        (first, self.closing.max(first + Duration::from_millis(1)))
    }

    /// The answers within [`span`](Self::span); later ones are what was still under way.
    pub(crate) fn in_span(&self) -> impl Iterator<Item = &Answer> {
        self.answers.iter().take_while(|answer| answer.at <= self.closing)
    }
}

/// The figures of one kind of client, or of all.
fn row(kind: Option<Kind>, answers: &[Answer], misses: &[Miss], closing: Duration) -> Row {
    let mine = |of: Kind| kind.is_none_or(|kind| kind == of);
    let own: Vec<&Answer> = answers.iter().filter(|answer| mine(answer.kind)).collect();
    let asked = own.iter().take_while(|answer| answer.at <= closing).count();
    let gaps = own.get(..asked).unwrap_or_default().windows(2).map(|pair| match pair {
        [earlier, later] => later.at.saturating_sub(earlier.at),
        _ => Duration::ZERO,
    });
    Row {
        label: kind.map_or("all", Kind::label),
        answers: own.len(),
        missed: misses.iter().filter(|miss| mine(miss.kind)).count(),
        gap: gaps.max().unwrap_or_default(),
        latency: Spread::of(own.iter().map(|answer| answer.latency)),
    }
}

/// Every generation that answered, with what the upgrades and the processes' ends tell of it.
fn lives(ledger: &Ledger, fleet: &Fleet, upgrades: &[Upgrade]) -> Vec<Life> {
    let ends = fleet.ended();
    let upgrade_to = |generation: u64| {
        upgrades.iter().find(|upgrade| upgrade.answered.is_some_and(|(_, of)| of == generation))
    };
    let mut lives: Vec<Life> = Vec::new();
    for (generation, sighting) in ledger.seen() {
        let upgrade = upgrade_to(generation);
        let committed = match upgrade {
            Some(upgrade) => upgrade.committed,
            None => lives.is_empty().then_some(sighting.at),
        };
        if committed.is_some()
            && let Some(owner) = lives.iter_mut().rfind(|life| life.committed.is_some())
        {
            owner.succeeded = committed;
        }
        lives.push(Life {
            generation,
            pid: sighting.pid,
            born: upgrade.map_or(sighting.at, |upgrade| upgrade.signalled),
            answered: sighting.at,
            committed,
            succeeded: None,
            end: ends.get(&sighting.pid).cloned(),
        });
    }
    lives
}
