use std::time::Instant;

use super::*;
use crate::report::builder::ReportBuilder;
use crate::report::{UpgradeOutcome, UpgradePhase};

fn generation(number: u64) -> Generation {
    (0..number).fold(Generation::FIRST, |generation, _| generation.next())
}

fn report(to: u64) -> Report {
    let numbers = (generation(to - 1), generation(to));
    let mut builder = ReportBuilder::new(format!("s-{to}"), numbers, "1", Instant::now());
    builder.enter(UpgradePhase::Commit, Instant::now());
    builder.finish(UpgradeOutcome::Committed, None, Instant::now())
}

fn served(accepted: u64) -> Tally {
    Tally { accepted, ..Tally::default() }
}

#[test]
fn the_last_words_of_one_that_has_ended_are_read_and_its_file_is_let_go() {
    let elder = Journal::default();
    let ours = handed(&elder, 1, &[]);
    let file = Arc::downgrade(&ours.lock().sources[0].file);
    elder.merge(generation(1), served(7));
    ours.forget(generation(1));
    assert_eq!(ours.totals().1, served(7));
    assert_eq!(file.strong_count(), 0);
}

#[test]
fn a_drain_that_is_over_is_told_to_whoever_owns_by_then_and_counts_once() {
    let first = Journal::default();
    let second = handed(&first, 0, &[]);
    first.record(&report(1));
    let third = handed(&second, 1, &[generation(0)]);
    let drained = Drained { cut: 3, ..Drained::default() };
    first.drained(generation(1), &drained);
    first.drained(generation(1), &Drained { cut: 9, ..Drained::default() });
    for journal in [&first, &second, &third] {
        assert_eq!(journal.reports()[0].drain, Some(drained.clone()));
        let summary = journal.totals().0.summary();
        assert_eq!((summary.committed, summary.interrupted, summary.cut), (1, 1, 3));
    }
}

fn handed(from: &Journal, us: u64, elders: &[Generation]) -> Journal {
    let files = from.hand_on(generation(us), elders).unwrap();
    let copies = files.into_iter().map(|(writer, file)| (writer, file.try_clone().unwrap()));
    Journal::inherit(copies.collect())
}

#[test]
fn counts_go_on_over_generations_and_nothing_counts_twice() {
    let first = Journal::default();
    first.merge(generation(0), served(5));
    let second = handed(&first, 0, &[]);
    assert_eq!(second.totals().1, served(5));
    // It serves on until the verdict, and drains after it.
    first.merge(generation(0), served(7));
    first.record(&report(1));
    second.merge(generation(1), served(2));
    assert_eq!(second.totals().1, served(9));
    assert_eq!(second.reports(), first.reports());
    let third = handed(&second, 1, &[generation(0)]);
    first.merge(generation(0), Tally { accepted: 8, drained: 3, ..Tally::default() });
    second.merge(generation(1), served(4));
    second.record(&report(2));
    let sum = Tally { accepted: 12, drained: 3, ..Tally::default() };
    assert_eq!(third.totals().1, sum);
    assert_eq!(third.totals().1, sum, "however often it is read");
    assert_eq!(third.totals().0.committed(), 2);
    assert_eq!(third.reports().len(), 2);
}

#[test]
fn a_hundred_generations_are_folded_and_none_is_lost() {
    let mut journal = Journal::default();
    for number in 0..100 {
        journal.merge(generation(number), served(1));
        let next = handed(&journal, number, &[]);
        journal.record(&report(number + 1));
        journal = next;
    }
    let (totals, tally) = journal.totals();
    assert_eq!((totals.committed(), tally), (100, served(100)));
    assert_eq!(journal.reports().len(), REPORTS);
    journal.merge(generation(0), served(1));
    assert_eq!(journal.totals().1, served(100), "one that was folded is not counted again");
}

#[test]
fn an_owner_counts_on_however_many_successors_it_has_taken_back() {
    let owner = Journal::default();
    owner.merge(generation(0), served(1));
    for number in 1..=100 {
        drop(handed(&owner, 0, &[]));
        owner.merge(generation(number), served(1));
        owner.take_back();
    }
    owner.merge(generation(0), served(8));
    assert_eq!(owner.totals().1, served(108));
    assert_eq!(handed(&owner, 0, &[]).totals().1, served(108));
}

#[test]
fn a_long_file_is_read_to_its_end_and_holds_nothing_twice() {
    let file = memfd::create(c"journal").unwrap();
    let copy = File::from(file.try_clone().unwrap());
    let journal = Journal::inherit(vec![(generation(3), file)]);
    let mut line = vec![b'x'; 1 << 20];
    line.push(b'\n');
    let length = line.len() as u64;
    let lines = MAX_READ / length + 2;
    (0..lines).for_each(|at| copy.write_all_at(&line, at * length).unwrap());
    copy.write_all_at(b"{\"tally\":[3,{\"accepted\":4}]}\n", lines * length).unwrap();
    drop(journal.totals());
    assert_eq!(journal.totals().1, served(4), "at the second look");
    let next = handed(&journal, 4, &[]);
    let written = || journal.lock().target.as_ref().unwrap().written;
    journal.merge(generation(4), served(2));
    let before = written();
    journal.merge(generation(4), served(2));
    assert_eq!(written(), before, "nothing has changed");
    assert_eq!(next.totals().1, served(6));
}

#[test]
fn half_a_line_and_nonsense_are_skipped() {
    let file = memfd::create(c"journal").unwrap();
    let copy = File::from(file.try_clone().unwrap());
    let journal = Journal::inherit(vec![(generation(3), file)]);
    copy.write_all_at(b"nonsense\n{\"eclipse\":1}\n{\"tally\":[3,{\"accep", 0).unwrap();
    assert_eq!(journal.totals().1, Tally::default());
    let half = "nonsense\n{\"eclipse\":1}\n{\"tally\":[3,{\"accep".len() as u64;
    copy.write_all_at(b"ted\":4,\"new\":1}]}\n", half).unwrap();
    assert_eq!(journal.totals().1, served(4));
}

/// P8: a successor of another release reads what this one has written.
#[test]
fn what_is_handed_on_is_as_released() {
    let mut known = Known::default();
    known.record(crate::report::tests::released());
    known.record(report(2));
    for report in &mut known.reports {
        report.started = std::time::SystemTime::UNIX_EPOCH;
        report.elapsed = std::time::Duration::from_millis(12);
        report.phases.iter_mut().for_each(|(_, time)| *time = std::time::Duration::from_millis(4));
    }
    known.totals = Totals::default();
    known.reports.iter().for_each(|report| known.totals.add(report));
    let (accepted, succeeded, failed, cuts) = (7, 5, 1, CutCounts::default());
    let tally = Tally { accepted, succeeded, failed, drained: 2, cut: 3, cuts, moved: 4 };
    assert!(known.merge(generation(1), tally, &[]));
    crate::report::golden::is_as_released(
        "journal-v1",
        vec![
            ("known", Line::Known(Box::new(known))),
            ("report", Line::Report(Box::new(crate::report::tests::released()))),
            ("tally", Line::Tally(generation(3), tally)),
            ("drained", Line::Drained(generation(3), crate::report::tests::drained())),
        ],
    );
}
