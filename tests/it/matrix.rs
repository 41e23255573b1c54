//! The kill matrix: each side is killed, or stopped and woken late, at each step of a handoff,
//! under load. Whatever happens, one generation owns afterwards, and everything that can be seen
//! from outside names the same one.
//!
//! `HEIRLOOM_MATRIX=1` prints the table.

use std::fmt;
use std::io::Write;
use std::time::Duration;

use heirloom::UpgradeOutcome;
use nix::sys::signal::Signal;

use crate::support::client::Failure;
use crate::support::journal::Entry;
use crate::support::load::Tally;
use crate::support::release::{Action, Side};
use crate::support::wait::{pause, until};
use crate::support::{Client, Load, Release, Server, Socket, process};

trials![
    p3_one_owner_whichever_step_the_predecessor_is_killed_at,
    p3_one_owner_whichever_step_the_successor_is_killed_at,
    p3_one_owner_whichever_step_the_predecessor_sleeps_at,
    p3_one_owner_whichever_step_the_successor_sleeps_at,
];

/// The steps as the library logs them: each is logged before it is done.
const OF_PREDECESSOR: [&str; 11] = [
    "requested",
    "spawn",
    "hello",
    "offer",
    "start",
    "ready",
    "park",
    "yield",
    "probation",
    "permit",
    "commit",
];
const OF_SUCCESSOR: [&str; 7] =
    ["hello", "welcome", "adopted", "ready", "serving", "committed", "owner"];

/// How long a process sleeps whose sleep nobody can notice yet.
const UNNOTICED: Duration = Duration::from_millis(300);

/// On a busy machine a deadline may pass before the step is reached; then once more.
const ATTEMPTS: u64 = 5;

/// So many cells run at once; they mostly wait.
const AT_ONCE: usize = 3;

/// P3.
fn p3_one_owner_whichever_step_the_predecessor_is_killed_at() {
    matrix(Side::Predecessor, Action::Kill, &OF_PREDECESSOR);
}

/// P3.
fn p3_one_owner_whichever_step_the_successor_is_killed_at() {
    matrix(Side::Successor, Action::Kill, &OF_SUCCESSOR);
}

/// P3.
fn p3_one_owner_whichever_step_the_predecessor_sleeps_at() {
    matrix(Side::Predecessor, Action::Stop, &OF_PREDECESSOR);
}

/// P3.
fn p3_one_owner_whichever_step_the_successor_sleeps_at() {
    matrix(Side::Successor, Action::Stop, &OF_SUCCESSOR);
}

/// One row of the table: what was done, and what was seen.
struct Row {
    side: Side,
    action: Action,
    step: &'static str,
    owner: Option<u64>,
    /// None if there was no survivor that could have served.
    tally: Tally,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let done = match self.action {
            Action::Kill => "SIGKILL",
            _ => "SIGSTOP, SIGCONT",
        };
        let owner = self.owner.map_or_else(
            || String::from("nobody lives"),
            |generation| format!("generation {generation}"),
        );
        let side = format!("{:?}", self.side).to_lowercase();
        let failures = self.tally.failures.len();
        let gap = self.tally.longest_gap().as_millis();
        write!(
            f,
            "| {side:<11} | {:<9} | {done:<16} | {owner:<12} | {failures:>8} | {gap:>6} ms |",
            self.step
        )
    }
}

fn matrix(side: Side, action: Action, steps: &[&'static str]) {
    let mut table = String::from(
        "\n| who         | step      | what             | owner after  | failures |  longest  |\n\
         | ----------- | --------- | ---------------- | ------------ | -------- | --------- |\n",
    );
    for steps in steps.chunks(AT_ONCE) {
        let rows = std::thread::scope(|scope| {
            let cells: Vec<_> =
                steps.iter().map(|step| scope.spawn(|| cell(side, action, step))).collect();
            cells.into_iter().map(|cell| cell.join().unwrap()).collect::<Vec<_>>()
        });
        rows.iter().for_each(|row| table.push_str(&format!("{row}\n")));
    }
    if std::env::var_os("HEIRLOOM_MATRIX").is_some() {
        std::io::stdout().write_all(table.as_bytes()).unwrap();
    }
}

fn release() -> Release {
    let millis = Duration::from_millis;
    Release {
        gap: millis(500),
        silence: millis(800),
        probation: millis(300),
        hello: millis(2_000),
        adopt: millis(2_000),
        ready: millis(2_000),
        commit: millis(500),
        pid_file: true,
        ..Release::with([Socket::tcp("main"), Socket::unix("path")])
    }
}

/// One handoff with one blow. A request is in flight at the predecessor all the time.
fn cell(side: Side, action: Action, step: &'static str) -> Row {
    let server = Server::start(release());
    let predecessor = server.pid(0);
    let mut held = server.client("main");
    assert_eq!(held.ask("hold"), "held 0");
    let load = Load::start(&[server.address("main"), server.address("path")], 1);
    load.until_answered(10);
    let blow = strike(&server, side, step, action);
    let struck = blow.pid;
    if action == Action::Stop {
        until_noticed(&server, side, step, &blow);
        server.signal(struck, Signal::SIGCONT);
    } else {
        server.until_gone(struck);
    }
    let owner = settle(&server, side, action, step, blow.successor);
    if owner.is_some() {
        load.until_answered(10);
    }
    let tally = load.finish();
    if let Some(owner) = owner {
        let killed = action == Action::Kill;
        assert_unharmed(&tally, killed, step);
        agree(&server, owner);
        if struck != predecessor || !killed {
            assert_eq!(held.ask("release"), "released 0", "at {step}");
        }
    }
    Row { side, action, step, owner: owner.map(|(generation, _)| generation), tally }
}

/// What was done to whom.
struct Blow {
    pid: i32,
    /// The generation that the predecessor was handing over to.
    successor: u64,
}

/// Asks for an upgrade in which the fault happens.
fn strike(server: &Server, side: Side, step: &str, action: Action) -> Blow {
    server.fault(side, step, action);
    for successor in 1..=ATTEMPTS {
        server.signal(server.pid(0), Signal::SIGHUP);
        let pid = until("the step, or the failure of the upgrade", || {
            let journal = server.journal();
            let fault = journal.iter().find(|entry| entry.event == "fault");
            let failed =
                |entry: &&Entry| entry.event == "report" && entry.data["outcome"] != "committed";
            let failures = journal.iter().filter(failed).count() as u64;
            fault.map(|entry| Some(entry.pid)).or((failures >= successor).then_some(None))
        });
        if let Some(pid) = pid {
            return Blow { pid, successor };
        }
    }
    panic!("no upgrade of {ATTEMPTS} reached the step {step}");
}

/// Waits until the other side has acted on the silence of the one that sleeps, if it can.
fn until_noticed(server: &Server, side: Side, step: &str, blow: &Blow) {
    until("the sleep", || process::is_stopped(blow.pid).then_some(()));
    match (side, step) {
        (Side::Successor, "committed" | "owner") => pause(UNNOTICED),
        (Side::Successor, _) => drop(server.until_report(index(blow))),
        (Side::Predecessor, "requested" | "spawn") => pause(UNNOTICED),
        (Side::Predecessor, "hello" | "offer") => until("the successor to give up", || {
            (process::born_in(server.directory()) == [blow.pid]).then_some(())
        }),
        (Side::Predecessor, _) => _ = server.until_owner(blow.successor),
    }
}

/// Which of all reports is that of the upgrade with the blow.
fn index(blow: &Blow) -> usize {
    usize::try_from(blow.successor - 1).unwrap()
}

/// Waits for the end of the handoff; who owns then. None if nobody lives who could.
fn settle(
    server: &Server,
    side: Side,
    action: Action,
    step: &str,
    successor: u64,
) -> Option<(u64, i32)> {
    let must_be = match (side, action) {
        (Side::Successor, Action::Kill) => Some(0),
        (Side::Predecessor, Action::Kill) => {
            if ["requested", "spawn", "hello", "offer"].contains(&step) {
                until("the end of a successor that has nothing", || {
                    process::born_in(server.directory()).is_empty().then_some(())
                });
                return None;
            }
            Some(successor)
        }
        _ => None,
    };
    let owner = until(&format!("one owner after {action:?} of {side:?} at {step}"), || {
        let owners = server.owners();
        let [owner] = owners[..] else { return None };
        settled(server, owner, successor).then_some(owner)
    });
    if let Some(must_be) = must_be {
        assert_eq!(owner.0, must_be, "{action:?} of {side:?} at {step}");
    }
    Some(owner)
}

/// Whether the handoff is over for everybody: the owner says that none runs, and the others are
/// gone or drain.
fn settled(server: &Server, owner: (u64, i32), successor: u64) -> bool {
    let journal = server.journal();
    let last = |pid: i32| journal.iter().rfind(|entry| entry.pid == pid && entry.event == "status");
    let calm = last(owner.1).is_some_and(|entry| entry.data["upgrading"] == false);
    let reports = journal.iter().filter(|entry| entry.event == "report").count() as u64;
    let begun = owner.0 > 0 || reports >= successor;
    let others = process::born_in(server.directory()).into_iter().filter(|pid| *pid != owner.1);
    let mut others = others.map(|pid| last(pid).is_some_and(|entry| entry.data["role"] == "elder"));
    calm && begun && others.all(|drains| drains)
}

/// Who accepts, whom the PID file names, and who runs the next upgrade: all the same.
fn agree(server: &Server, owner: (u64, i32)) {
    for name in ["main", "path"] {
        for _ in 0..5 {
            let by = Client::connect(&server.address(name)).unwrap().who().unwrap();
            assert_eq!((by.generation, by.pid), owner, "who accepts on {name}");
        }
    }
    let pid = std::fs::read_to_string(server.path("pid")).unwrap();
    assert_eq!(pid.trim(), owner.1.to_string(), "whom the PID file names");
    let report = server.upgrade();
    assert_eq!(report.from.get(), owner.0, "who runs the next upgrade");
    assert_eq!(report.outcome, UpgradeOutcome::Committed, "{report}");
}

/// A killed process takes with it what it had accepted, one connection of our one client at most.
/// A process that sleeps harms nobody.
fn assert_unharmed(tally: &Tally, killed: bool, step: &str) {
    let soft = |failure: &Failure| matches!(failure, Failure::Reset | Failure::Closed);
    let allowed = if killed { 1 } else { 0 };
    assert!(tally.failures.len() <= allowed, "at {step}: {tally}");
    assert!(tally.failures.iter().all(soft), "at {step}: {tally}");
}
