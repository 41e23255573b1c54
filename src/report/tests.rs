use std::sync::{Arc, Mutex};
use std::time::Instant;

use tracing_subscriber::fmt::MakeWriter;

use super::builder::{MAX_NOTES, ReportBuilder};
use super::*;
use crate::drain::CutCounts;

const FIRST: Generation = Generation::FIRST;

fn builder(now: Instant) -> ReportBuilder {
    ReportBuilder::new("u-7", (FIRST, FIRST.next()), "1.4.0", now)
}

fn rolled_back() -> Report {
    let start = Instant::now();
    let at = |micros| start + Duration::from_micros(micros);
    let mut builder = builder(start);
    builder.asked(AskedBy::Operator { uid: 1000, pid: 4711 }, Purpose::Release);
    builder.enter(UpgradePhase::Spawn, at(20));
    builder.successor_pid(812);
    builder.enter(UpgradePhase::Hello, at(433));
    builder.successor_version("1.5.0");
    builder.enter(UpgradePhase::Probation, at(58_433));
    builder.gap(Duration::from_micros(700));
    builder.gap(Duration::from_millis(2));
    builder.gap(Duration::from_millis(1));
    builder.sockets(2, 1, 3);
    builder.note("listener \"http\": backlog 128 asked for, 4096 inherited");
    let window = |failed| Window { length: Duration::from_millis(12_358), requests: 90, failed };
    builder.requests(window(3), Some(window(1)));
    builder.blame(CauseKind::Health);
    builder.back(Duration::from_micros(412));
    let cause = "health check \"db\": \u{1b}[31mno\nanswer".to_owned();
    builder.finish(UpgradeOutcome::RolledBack, Some(cause), at(12_358_433))
}

/// The report that golden files have, with everything in it.
pub(crate) fn released() -> Report {
    let mut report = rolled_back();
    report.started = SystemTime::UNIX_EPOCH + Duration::new(1_795_400_000, 5_000);
    report.accepted = Some(7);
    report.drain = Some(drained());
    report
}

/// What became of the connections in it.
pub(crate) fn drained() -> Drained {
    let group = CutGroup {
        listener: "http".parse().unwrap(),
        protocol: Some("HTTP/1.1".into()),
        count: 2,
        oldest: Duration::from_secs(90),
        youngest: Duration::from_millis(31_500),
        cause: None,
    };
    let elapsed = Duration::from_secs(30);
    let cuts = CutCounts::default();
    Drained { drained: 40, moved: 3, cut: 2, cuts, cut_by: vec![group], elapsed }
}

#[test]
fn the_operator_reads_what_happened() {
    assert_eq!(
        rolled_back().to_string(),
        "upgrade u-7 from generation 0 (1.4.0) to 1 (1.5.0, pid 812): \
         rolled back in phase probation after 12.4 s\n  \
         asked for by user 1000, pid 4711\n  \
         cause: health check \"db\": \\u{1b}[31mno\\nanswer\n  \
         times: requested 20 µs, spawn 413 µs, hello 58 ms, probation 12.3 s\n  \
         longest accept gap: 2 ms\n  \
         sockets: 2 claimed, 1 unclaimed, 3 bound\n  \
         requests: 3 of 90 requests failed in 12.4 s; before: 1 of 90 requests failed in 12.4 s\n  \
         back after: 412 µs\n  \
         note: listener \"http\": backlog 128 asked for, 4096 inherited"
    );
}

#[test]
fn a_commit_is_told_in_a_few_lines() {
    let start = Instant::now();
    let mut builder = builder(start);
    builder.enter(UpgradePhase::Owner, start);
    let report = builder.finish(UpgradeOutcome::Committed, None, start);
    assert_eq!(report.phase, UpgradePhase::Owner);
    assert_eq!(
        report.to_string(),
        "upgrade u-7 from generation 0 (1.4.0) to 1 (version unknown, not started): \
         committed after 0 µs\n  \
         asked for by nobody who is known\n  \
         times: requested 0 µs, owner 0 µs\n  \
         longest accept gap: 0 µs\n  \
         sockets: 0 claimed, 0 unclaimed, 0 bound"
    );
}

#[test]
fn a_report_survives_its_serialisation() {
    let report = rolled_back();
    let text = serde_json::to_string(&report).unwrap();
    assert!(text.contains(r#""outcome":"rolled_back","phase":"probation""#), "{text}");
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
}

#[test]
fn the_times_of_the_phases_add_up() {
    let report = rolled_back();
    assert_eq!(report.phases.iter().map(|(_, time)| *time).sum::<Duration>(), report.elapsed);
}

#[test]
fn notes_are_bounded() {
    let now = Instant::now();
    let mut builder = builder(now);
    (0..MAX_NOTES + 5).for_each(|note| builder.note(note.to_string()));
    let report = builder.finish(UpgradeOutcome::Failed, None, now);
    assert_eq!(report.notes.len(), MAX_NOTES);
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[test]
fn the_log_has_one_span_and_one_line_for_each_phase() {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(lines.clone())
        .without_time()
        .with_ansi(false)
        .finish();
    tracing::subscriber::with_default(subscriber, rolled_back);
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 6, "{text}");
    let asked = lines.remove(1);
    assert!(asked.contains("by=user 1000, pid 4711"), "{asked}");
    for (line, step) in lines.iter().zip(["requested", "spawn", "hello", "probation"]) {
        assert!(line.contains(&format!("step=\"{step}\"")), "{line}");
        assert!(line.contains("heirloom::handoff"), "{line}");
    }
    assert!(lines[3].contains("successor_pid=812 successor_version=1.5.0"), "{text}");
    assert!(lines[4].contains("WARN") && lines[4].contains("outcome=rolled back"), "{text}");
}

#[test]
fn what_is_written_to_a_file_is_as_released() {
    #[derive(serde::Serialize, serde::Deserialize, Debug)]
    struct Line(serde_json::Value);
    let line = |entry: file::Entry| {
        let mut line = serde_json::to_value(file::Line::new(7, "shop", &entry)).unwrap();
        let fields = line.as_object_mut().unwrap();
        assert_eq!(fields.remove("unix_ms"), Some(7.into()));
        assert_eq!(fields.remove("service"), Some("shop".into()));
        Line(line)
    };
    let generation = FIRST.next();
    golden::is_as_released(
        "journal-v1",
        vec![
            ("file-upgrade", line(file::Entry::Upgrade(Box::new(released())))),
            ("file-drained", line(file::Entry::Drained { to: generation, drain: drained() })),
            ("file-stopped", line(file::Entry::Stopped { generation, drain: drained() })),
        ],
    );
}
