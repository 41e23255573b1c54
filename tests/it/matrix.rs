//! The fault matrix: each side suffers each fault at each step of a handoff, under traffic of new
//! and kept connections. Whatever happens, one generation owns afterwards, everything that can be
//! seen from outside names the same one, and nobody fails but those whose process was killed.
//!
//! By default kills and long sleeps come at every step, the rest at four steps of each kind.
//! `HEIRLOOM_MATRIX=1` does it all and prints the table.

mod cell;
pub(crate) mod fault;
pub(crate) mod follow;

use std::fmt;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use heirloom::UpgradeOutcome;

use self::cell::Row;
use self::fault::{Case, Fault};
use crate::support::release::{Release, Side};
use crate::support::{Server, Traffic, disk, traffic};

trials![
    p3_one_owner_whichever_side_is_killed,
    p3_one_owner_whichever_side_is_stopped_and_woken_late,
    p3_one_owner_whichever_side_is_stopped_and_woken_early,
    p3_one_owner_when_both_sides_are_stopped,
    p3_one_owner_when_the_application_blocks_the_runtime,
    p3_one_owner_when_the_link_breaks,
    p3_one_owner_when_descriptors_run_out,
    p2_an_upgrade_that_cannot_be_started_leaves_the_service_as_it_was,
    p2_a_full_disk_fails_the_upgrade_before_it_matters,
    p2_a_state_that_does_not_fit_fails_the_upgrade_before_it_matters,
    p9_a_successor_of_another_user_is_refused,
    p3_one_owner_whatever_happens_to_a_successor_that_cannot_be_signalled,
];

/// So many cells of a table run at once; they mostly wait.
const AT_ONCE: usize = 3;

/// The steps of the default run: around what is moved, promised and decided.
const CHOSEN: [&str; 7] = ["spawn", "offer", "ready", "permit", "adopted", "serving", "committed"];

/// P3.
fn p3_one_owner_whichever_side_is_killed() {
    table(every_step(&[Fault::Kill]));
}

/// P3.
fn p3_one_owner_whichever_side_is_stopped_and_woken_late() {
    table(every_step(&[Fault::StopLong]));
}

/// P3.
fn p3_one_owner_whichever_side_is_stopped_and_woken_early() {
    table(chosen_steps(&[Fault::StopBriefly]));
}

/// P3.
fn p3_one_owner_when_both_sides_are_stopped() {
    table(chosen_steps(&[
        Fault::StopBoth { first: Side::Predecessor },
        Fault::StopBoth { first: Side::Successor },
    ]));
}

/// P3.
fn p3_one_owner_when_the_application_blocks_the_runtime() {
    table(chosen_steps(&[Fault::BlockDriver, Fault::BlockWorkers, Fault::BlockWorkersBriefly]));
}

/// P3.
fn p3_one_owner_when_the_link_breaks() {
    table(chosen_steps(&[Fault::CutLink, Fault::Garbage]));
}

/// P3, P1.
fn p3_one_owner_when_descriptors_run_out() {
    table(chosen_steps(&[Fault::NoDescriptors]));
}

/// P2. Two of these limits hold for no process of root's, so root's rights are needed to give them
/// up.
fn p2_an_upgrade_that_cannot_be_started_leaves_the_service_as_it_was() {
    let faults = [Fault::NoMemory, Fault::NoThread, Fault::NoProcess];
    let possible = faults.into_iter().filter(|fault| is_root() || !fault.needs_another_user());
    let possible: Vec<Fault> = possible.collect();
    let of_predecessor = |case: &Case| case.side == Side::Predecessor;
    table(every_step(&possible).into_iter().filter(of_predecessor).collect());
}

/// P2. Needs the right to mount.
fn p2_a_full_disk_fails_the_upgrade_before_it_matters() {
    if disk::is_possible() {
        table(chosen_steps(&[Fault::FullDisk]));
    }
}

/// P2.
fn p2_a_state_that_does_not_fit_fails_the_upgrade_before_it_matters() {
    table(chosen_steps(&[Fault::NoRoom]));
}

/// P3. Its predecessor cannot end it. Needs root.
fn p3_one_owner_whatever_happens_to_a_successor_that_cannot_be_signalled() {
    if is_root() {
        let faults =
            [Fault::Kill, Fault::StopBriefly, Fault::StopLong, Fault::BlockWorkers, Fault::CutLink];
        let cases = chosen_steps(&faults).into_iter();
        let of_successor = cases.filter(|case| case.side == Side::Successor);
        table(of_successor.map(|case| Case { foreign: true, ..case }).collect());
    }
}

/// P9, P2. Nothing has moved by then. Needs root.
fn p9_a_successor_of_another_user_is_refused() {
    const USERS: [u32; 2] = [54_321, 54_322];
    if !is_root() {
        return;
    }
    let server = Server::start_as(Release::default(), USERS[0], 0o4755);
    server.next_release(|release| release.born_as = Some(USERS[1]));
    let traffic = Traffic::start(&[server.address("main")]);
    traffic.until_answered(10);
    let report = server.upgrade_badly();
    assert_eq!(report.outcome, UpgradeOutcome::Failed, "{report}");
    let cause = report.cause.as_deref().unwrap_or_default();
    assert!(cause.contains("may not signal"), "{report}");
    assert!(cause.contains("accept_unenforceable"), "the remedy is named: {report}");
    server.until_gone(report.successor_pid.unwrap());
    traffic.until_answered(10);
    let calls = traffic.finish();
    assert!(traffic::unexplained(&calls, &[]).is_empty(), "{calls:?}");
    server.next_release(|release| release.born_as = None);
    server.upgrade_well();
}

fn is_root() -> bool {
    nix::unistd::Uid::effective().is_root()
}

/// Whether the whole table is wanted.
fn is_whole() -> bool {
    std::env::var_os("HEIRLOOM_MATRIX").is_some()
}

fn every_step(faults: &[Fault]) -> Vec<Case> {
    let mut cases = Vec::new();
    for fault in faults {
        for side in [Side::Predecessor, Side::Successor] {
            let steps = fault.steps(side).into_iter();
            cases.extend(steps.map(|step| Case { side, step, fault: *fault, foreign: false }));
        }
    }
    cases
}

fn chosen_steps(faults: &[Fault]) -> Vec<Case> {
    let mut cases = every_step(faults);
    cases.retain(|case| is_whole() || CHOSEN.contains(&case.step));
    cases
}

/// Runs the cells, prints their table if it is wanted, and fails with all that failed.
fn table(cases: Vec<Case>) {
    let left = Mutex::new(cases.into_iter().enumerate());
    let rows = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some((number, case)) = left.lock().unwrap().next() else { return };
                    let row = catch_unwind(AssertUnwindSafe(|| cell::run(case))).map_err(|_| case);
                    rows.lock().unwrap().push((number, row));
                }
            });
        }
    });
    let mut rows = rows.into_inner().unwrap();
    rows.sort_by_key(|(number, _)| *number);
    if is_whole() {
        print(rows.iter().filter_map(|(_, row)| row.as_ref().ok()));
    }
    let failed: Vec<String> =
        rows.iter().filter_map(|(_, row)| Some(format!("{:?}", row.as_ref().err()?))).collect();
    assert!(failed.is_empty(), "{} cells failed:\n  {}", failed.len(), failed.join("\n  "));
}

fn print<'a>(rows: impl Iterator<Item = &'a Row>) {
    let mut text = String::from(
        "\n| who | step | fault | owner after | upgrade | failed, new | failed, kept | accepting \
         again after | longest gap |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    rows.for_each(|row| text.push_str(&format!("{row}\n")));
    std::io::stdout().write_all(text.as_bytes()).unwrap();
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Case { side, step, fault, foreign } = self.case;
        let side = format!("{side:?}").to_lowercase();
        let of_whom = if foreign { " of another user" } else { "" };
        let owner = match self.owner {
            Some(generation) => format!("generation {generation}"),
            None => String::from("nobody lives"),
        };
        let upgrade = if self.committed { "committed" } else { "not committed" };
        let (new, kept) = self.failed;
        write!(
            f,
            "| {side}{of_whom} | {step} | {} | {owner} | {upgrade} | {new} | {kept} |",
            fault.name()
        )?;
        match self.times {
            Some((again, gap)) => write!(f, " {} ms | {} ms |", again.as_millis(), gap.as_millis()),
            None => f.write_str(" – | – |"),
        }
    }
}
