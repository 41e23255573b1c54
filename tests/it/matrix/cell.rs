//! One handoff with one fault, under traffic.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use heirloom::CauseKind;
use nix::sys::signal::Signal;

use super::fault::{Case, Fault};
use super::follow::{self, Blow};
use crate::support::client::Address;
use crate::support::journal::Entry;
use crate::support::outside::{self, Owner};
use crate::support::release::{Habit, Side};
use crate::support::traffic::{self, Call, Death};
use crate::support::wait::until;
use crate::support::{Release, Server, Socket, Traffic, disk, process};

/// On a busy machine a deadline may pass before the step is reached; then once more.
const ATTEMPTS: usize = 5;

/// No two cells share a user, whose processes the kernel counts.
static NEXT_USER: AtomicU32 = AtomicU32::new(54_400);

/// What was seen.
pub(crate) struct Row {
    pub case: Case,
    /// None if nobody lives who could.
    pub owner: Option<u64>,
    pub committed: bool,
    /// Failures of new and of kept connections.
    pub failed: (usize, usize),
    /// From the fault to the next new connection's answer, and the longest time without one.
    pub times: Option<(Duration, Duration)>,
}

struct Cell {
    case: Case,
    server: Server,
    addresses: Vec<Address>,
}

/// A request is in flight at the predecessor all the time.
pub(crate) fn run(case: Case) -> Row {
    let server = start(case);
    let addresses = vec![server.address("main"), server.address("path")];
    let cell = Cell { case, server, addresses };
    let predecessor = cell.server.pid(0);
    let mut held = cell.server.client("main");
    assert_eq!(held.ask("hold"), "held 0");
    let traffic = Traffic::start(&cell.addresses);
    traffic.until_answered(10);
    let blow = cell.strike();
    let deaths = follow::up(&cell.server, case, &blow);
    let owner = cell.settle(&blow);
    if owner.is_some() {
        traffic.until_answered(10);
    }
    let calls = traffic.finish();
    if let Some(owner) = owner {
        cell.judge(&calls, &deaths, &blow);
        outside::agree(&cell.server, &cell.addresses, owner, &format!("{case:?}"));
        cell.go_on(owner);
        if deaths.iter().all(|death| death.pid != predecessor) {
            assert_eq!(held.ask("release"), "released 0", "{case:?}");
            // It has been an elder at last, and has not taken the service up again.
            cell.server.until_gone(predecessor);
        }
    }
    let failed = |new: bool| {
        calls.iter().filter(|call| call.answer.is_err() && call.is_new() == new).count()
    };
    Row {
        case,
        owner: owner.map(|(generation, _)| generation),
        committed: owner.is_some_and(|(generation, _)| generation == blow.successor()),
        failed: (failed(true), failed(false)),
        times: owner.and_then(|_| traffic::accepting_again(&calls, blow.at_us, blow.pid)),
    }
}

fn start(case: Case) -> Server {
    let usual =
        Release { pid_file: true, ..Release::with([Socket::tcp("main"), Socket::unix("path")]) };
    let mut release = case.fault.release(usual);
    let user = || NEXT_USER.fetch_add(2, Ordering::Relaxed);
    if case.foreign {
        let user = user();
        release.habits.push(Habit::AcceptsUnenforceable);
        let server = Server::start_as(release, user, 0o4755);
        server.next_release(|release| release.born_as = Some(user + 1));
        return server;
    }
    match case.fault {
        fault if fault.needs_another_user() => Server::start_as(release, user(), 0o755),
        Fault::FullDisk => {
            release.habits.push(Habit::OwnDisk);
            Server::start_by(release, disk::command)
        }
        _ => Server::start(release),
    }
}

impl Cell {
    /// Asks for an upgrade in which the fault happens.
    fn strike(&self) -> Blow {
        let (server, case) = (&self.server, self.case);
        server.fault(case.side, case.step, case.fault.action());
        for upgrade in 0..ATTEMPTS {
            server.signal(server.pid(0), Signal::SIGHUP);
            let fault = until("the step, or the failure of the upgrade", || {
                let journal = server.journal();
                let fault = journal.iter().find(|entry| entry.event == "fault").cloned();
                let failed = |entry: &&Entry| {
                    entry.event == "report" && entry.data["outcome"] != "committed"
                };
                let failures = journal.iter().filter(failed).count();
                fault.map(Some).or((failures > upgrade).then_some(None))
            });
            if let Some(Entry { at_us, pid, .. }) = fault {
                return Blow { at_us, pid, predecessor: server.pid(0), upgrade };
            }
        }
        panic!("no upgrade of {ATTEMPTS} reached the step of {case:?}");
    }

    /// Waits for the end of the handoff; who owns then. None if nobody lives who could.
    fn settle(&self, blow: &Blow) -> Option<Owner> {
        let (server, case) = (&self.server, self.case);
        let nothing_moved = ["requested", "spawn", "hello", "offer"].contains(&case.step);
        if case.fault == Fault::Kill && case.side == Side::Predecessor && nothing_moved {
            until("the end of a successor that has nothing", || {
                process::born_in(server.directory()).is_empty().then_some(())
            });
            return None;
        }
        let owner = outside::until_one_owner(server, blow.upgrade + 1, &format!("{case:?}"));
        if let Some(committed) = case.fault.must_commit(case.side, case.step) {
            assert_eq!(owner.0 == blow.successor(), committed, "who owns after {case:?}");
        }
        if case.fault.hinders_the_start() && case.side == Side::Predecessor {
            let reports = server.reports().into_iter();
            let of_it = reports.skip(blow.upgrade).find(|report| report.cause_kind.is_some());
            let kind = of_it.and_then(|report| report.cause_kind);
            assert_eq!(kind, Some(CauseKind::Predecessor), "who is blamed after {case:?}");
        }
        Some(owner)
    }

    /// A killed process takes with it what it had accepted. Nobody else fails.
    fn judge(&self, calls: &[Call], deaths: &[Death], blow: &Blow) {
        let case = self.case;
        let unexplained = traffic::unexplained(calls, deaths);
        assert!(unexplained.is_empty(), "{case:?}: fault at {}, {unexplained:?}", blow.at_us);
        if case.fault.leaves_nobody_ignorant() {
            // One turn to the successor and one back.
            let turns = traffic::most_turns(calls);
            assert!(turns <= 2 * (blow.upgrade + 1), "{case:?}: {turns} turns");
        }
    }

    /// The owner can do what an owner does.
    fn go_on(&self, owner: Owner) {
        let (server, case) = (&self.server, self.case);
        if case.fault == Fault::FullDisk {
            disk::clear(server.directory(), owner.1);
        }
        // The program is set-user-ID root: this one can be signalled.
        server.next_release(|release| release.born_as = None);
        let next = outside::hands_over(server, owner, &format!("{case:?}"));
        if owner.0 != 0 {
            // The first generation still finishes what it has, and is not the last that lives.
            server.until_gone(owner.1);
        }
        outside::agree(server, &self.addresses, next, &format!("an upgrade after {case:?}"));
    }
}
