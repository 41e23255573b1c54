//! Chaos: upgrade after upgrade under traffic, in each of which something random goes wrong. After
//! each there is one owner, nothing has leaked, and nobody has failed but those whose process died.
//!
//! `HEIRLOOM_CHAOS=500` says how many upgrades, `HEIRLOOM_SEED=42` with which seed (it is printed
//! otherwise), `HEIRLOOM_SEED=42:17` begins with round 17 of that seed. What a round does depends
//! on seed and round alone.

mod plan;

use std::collections::BTreeMap;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use nix::sys::signal::Signal;

use self::plan::Plan;
use crate::matrix::fault::{Case, Fault};
use crate::matrix::follow::{self, Blow};
use crate::support::client::{Address, Client};
use crate::support::journal::{Entry, now_us};
use crate::support::outside::{self, Owner};
use crate::support::process::{self, Counts};
use crate::support::release::{Ailment, Habit};
use crate::support::traffic::{self, Call, Death};
use crate::support::wait::until;
use crate::support::{Release, Server, Socket, Traffic, disk, shortage};

/// Without `HEIRLOOM_CHAOS`.
const FEW: u64 = 15;
const USUAL_SEED: u64 = 1;

/// Connections of the traffic, and one more that one of them is about to open or close.
const OF_TRAFFIC: usize = 4;

pub(crate) fn trials() -> Vec<Trial> {
    vec![Trial::test("chaos::p3_one_owner_and_no_loss_whatever_happens_in_a_row", || {
        p3_one_owner_and_no_loss_whatever_happens_in_a_row();
        Ok(())
    })]
}

/// P3, P5, P6.
fn p3_one_owner_and_no_loss_whatever_happens_in_a_row() {
    let asked = std::env::var("HEIRLOOM_CHAOS").ok();
    let rounds = asked.as_ref().map_or(FEW, |rounds| rounds.parse().unwrap());
    let (seed, first) = seed(asked.is_some());
    if asked.is_some() {
        say(&format!("\n{rounds} upgrades with HEIRLOOM_SEED={seed}\n"));
    }
    let begun = Instant::now();
    let mut chaos = Chaos::start();
    for round in first..first + rounds {
        let plan = Plan::of_round(seed, round, chaos.disk);
        let played = catch_unwind(AssertUnwindSafe(|| chaos.play(&plan)));
        if let Err(panic) = played {
            say(&format!("\nHEIRLOOM_SEED={seed}:{round} failed: {plan}\n"));
            resume_unwind(panic);
        }
    }
    let figures = chaos.finish();
    if asked.is_some() {
        say(&format!("{figures}in {:.0?}\n", begun.elapsed()));
    }
}

/// The seed and the first round.
fn seed(random: bool) -> (u64, u64) {
    match std::env::var("HEIRLOOM_SEED") {
        Ok(text) => {
            let (seed, first) = text.split_once(':').unwrap_or((&text, "0"));
            (seed.parse().unwrap(), first.parse().unwrap())
        }
        Err(_) if random => (now_us(), 0),
        Err(_) => (USUAL_SEED, 0),
    }
}

fn say(text: &str) {
    std::io::stdout().write_all(text.as_bytes()).unwrap();
}

/// The service and what is known of it.
struct Chaos {
    server: Server,
    traffic: Traffic,
    addresses: Vec<Address>,
    /// Whether the PID file is on a disk that can be filled.
    disk: bool,
    owner: Owner,
    /// What an owner holds without traffic.
    usual: Counts,
    deaths: Vec<Death>,
    failures: Vec<Call>,
    seen: Seen,
}

/// What the figures are made of.
#[derive(Default)]
struct Seen {
    calls: usize,
    /// For each kind of fault: rounds, commits, failed calls, the longest times.
    kinds: BTreeMap<String, Kind>,
    missed: usize,
}

#[derive(Default)]
struct Kind {
    rounds: usize,
    commits: usize,
    failures: usize,
    again: Duration,
    gap: Duration,
}

impl Chaos {
    fn start() -> Self {
        let disk = disk::is_possible();
        let usual = Release {
            pid_file: true,
            lame_duck: Duration::from_millis(100),
            ..Release::with([Socket::tcp("main"), Socket::unix("path")])
        };
        let mut release = Fault::Kill.release(usual);
        release.probation = Duration::from_millis(400);
        let server = if disk {
            release.habits.push(Habit::OwnDisk);
            Server::start_by(release, disk::command)
        } else {
            Server::start(release)
        };
        let addresses = vec![server.address("main"), server.address("path")];
        // The second generation and all later ones hold the same.
        for _ in 0..2 {
            let before = server.owner();
            server.upgrade_well();
            server.until_gone(before);
        }
        let owner = *server.owners().last().unwrap();
        let usual = until("the second generation to rest", || {
            let (first, second) = (counts(&addresses[0]), counts(&addresses[0]));
            (first == second && first.children == 0 && first.threads <= 3).then_some(second)
        });
        server.forget_all_but(owner.1);
        let traffic = Traffic::start(&addresses);
        let (deaths, failures, seen) = Default::default();
        Self { server, traffic, addresses, disk, owner, usual, deaths, failures, seen }
    }

    /// One upgrade, and everything that must hold after it.
    fn play(&mut self, plan: &Plan) {
        self.traffic.until_answered(5);
        let begun_us = now_us();
        self.server.next_release(|release| plan.release(release));
        if let Plan::Fault(case) = plan {
            self.server.fault(case.side, case.step, case.fault.action());
        }
        self.server.signal(self.owner.1, Signal::SIGHUP);
        let struck = self.strike(plan);
        let owner = self.until_rest();
        let committed = owner.1 != self.owner.1;
        self.owner = owner;
        self.recover(plan);
        self.traffic.until_answered(5);
        outside::agree(&self.server, &self.addresses, owner, &plan.to_string());
        self.nothing_leaked(OF_TRAFFIC);
        self.judge(plan, struck.map_or((begun_us, 0), |blow| (blow.at_us, blow.pid)), committed);
        if struck.is_none() && !matches!(plan, Plan::Well | Plan::Start(_)) {
            self.seen.missed += 1;
        }
        self.server.forget_all_but(owner.1);
    }

    /// Waits for the fault, or for the end of an upgrade that has not come to it.
    fn strike(&mut self, plan: &Plan) -> Option<Blow> {
        let predecessor = self.owner.1;
        let struck = until("the fault, or the end of the upgrade", || {
            let journal = self.server.journal();
            let fault = |entry: &&Entry| entry.event == "fault" || entry.event == "ill";
            let fault = journal.iter().find(fault).map(|entry| (entry.at_us, entry.pid));
            // A successor may still meet its fault on the way from a committed report to ownership.
            let over = journal.iter().any(|entry| {
                let failed = entry.event == "report" && entry.data["outcome"] != "committed";
                let owns = entry.event == "status" && entry.data["role"] == "owner";
                failed || (owns && entry.pid != predecessor)
            });
            fault.map(Some).or(over.then_some(None))
        });
        let (at_us, pid) = struck?;
        let blow = Blow { at_us, pid, predecessor, upgrade: 0 };
        let died = match plan {
            Plan::Fault(case) => follow::up(&self.server, *case, &blow),
            Plan::Ailment(_, Ailment::Abort | Ailment::Exit(_) | Ailment::Panic) => {
                self.server.until_gone(pid);
                vec![Death { pid, at_us, gone_us: now_us() }]
            }
            _ => Vec::new(),
        };
        self.deaths.extend(died);
        Some(blow)
    }

    /// The upgrade is over, one process owns, and no other lives.
    fn until_rest(&self) -> Owner {
        let before = self.owner.1;
        until("one owner and nobody else", || {
            let owners = self.server.owners();
            let [owner] = owners[..] else { return None };
            let journal = self.server.journal();
            let last = |entry: &&Entry| entry.pid == owner.1 && entry.event == "status";
            let calm = journal.iter().rfind(last)?.data["upgrading"] == false;
            let over = owner.1 != before || journal.iter().any(|entry| entry.event == "report");
            let alone = process::born_in(self.server.directory()) == [owner.1];
            (calm && over && alone).then_some(owner)
        })
    }

    /// Takes back what the plan may have left.
    fn recover(&self, plan: &Plan) {
        self.server.no_fault();
        shortage::end(self.owner.1);
        if let Plan::Fault(Case { fault: Fault::FullDisk, .. }) = plan {
            disk::clear(self.server.directory(), self.owner.1);
        }
    }

    /// The owner has no zombie, and no descriptor and no thread beyond the usual but so many.
    fn nothing_leaked(&self, more: usize) {
        let mut last = None;
        let at_rest = std::panic::catch_unwind(AssertUnwindSafe(|| {
            until("the owner to hold what owners hold", || {
                let now = counts(&self.addresses[0]);
                let rests = now.descriptors <= self.usual.descriptors + more
                    && now.threads <= self.usual.threads
                    && (now.zombies, now.children) == (0, 0);
                last = Some(now);
                rests.then_some(())
            });
        }));
        assert!(at_rest.is_ok(), "the owner holds {last:?}, usually {:?}", self.usual);
    }

    fn judge(&mut self, plan: &Plan, (at_us, struck): (u64, i32), committed: bool) {
        let calls = self.traffic.take();
        self.seen.calls += calls.len();
        let failed: Vec<Call> = calls.iter().filter(|call| call.answer.is_err()).cloned().collect();
        let kind = match plan {
            Plan::Fault(case) => format!("{}, {:?}", case.fault.name(), case.side),
            Plan::Start(start) => format!("{start:?} before ready"),
            Plan::Ailment(_, ailment) => format!("{ailment:?} after ready"),
            Plan::Well => String::from("nothing"),
        };
        let kind = self.seen.kinds.entry(kind).or_default();
        kind.rounds += 1;
        kind.commits += usize::from(committed);
        kind.failures += failed.len();
        if let Some((again, gap)) = traffic::accepting_again(&calls, at_us, struck) {
            kind.again = kind.again.max(again);
            kind.gap = kind.gap.max(gap);
        }
        // A client may learn of a death a little later than we do: those before count as well.
        self.failures.extend(failed);
        let unexplained = traffic::unexplained(&self.failures, &self.deaths);
        assert!(unexplained.is_empty(), "{unexplained:?}, deaths {:?}", self.deaths);
    }

    /// Without traffic the owner holds exactly what the second generation held.
    fn finish(mut self) -> String {
        self.seen.calls += self.traffic.finish().len();
        let addresses = self.addresses.clone();
        let last = until("the owner to hold what the second generation held", || {
            let now = counts(&addresses[0]);
            let same = now.descriptors == self.usual.descriptors;
            (same && now.threads <= self.usual.threads && now.children == 0).then_some(now)
        });
        self.seen.print(&self.usual, &last, self.failures.len(), self.deaths.len())
    }
}

fn counts(address: &Address) -> Counts {
    let mut client = Client::connect(address).unwrap();
    serde_json::from_str(&client.ask("counts")).unwrap()
}

impl Seen {
    fn print(&self, second: &Counts, last: &Counts, failures: usize, deaths: usize) -> String {
        let mut text = String::from(
            "\n| what went wrong | upgrades | committed | failed in killed processes | accepting \
             again after, at most | longest gap |\n| --- | --- | --- | --- | --- | --- |\n",
        );
        for (name, kind) in &self.kinds {
            text.push_str(&format!(
                "| {name} | {} | {} | {} | {} ms | {} ms |\n",
                kind.rounds,
                kind.commits,
                kind.failures,
                kind.again.as_millis(),
                kind.gap.as_millis()
            ));
        }
        text.push_str(&format!(
            "\n{} questions, {failures} failed, all in {deaths} processes that died; {} faults \
             did not come about\nsecond generation: {second:?}\nlast generation:   {last:?}\n",
            self.calls, self.missed
        ));
        text
    }
}
