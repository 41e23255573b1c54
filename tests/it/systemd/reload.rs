//! Reloads: those that succeed, and those that fail.

use std::time::{Duration, Instant};

use super::{assert_main, load, report};
use crate::support::client::Failure;
use crate::support::release::{Ailment, Habit, Health, Start};
use crate::support::server::Program;
use crate::support::unit::Unit;
use crate::support::{Release, Server};

/// It answers on a control socket, where the command of a reload asks.
fn steered() -> Release {
    Release { control: true, probation: Duration::from_millis(500), ..Release::default() }
}

/// The signal of `notify-reload` means nothing to the server then.
fn both_ways() -> String {
    format!("Type=notify-reload\nReloadSignal=SIGURG\n{}", Unit::asks())
}

fn reload_twenty_times(unit: &Unit) {
    let load = load(unit);
    let mut mains = vec![unit.main_pid()];
    let mut longest = Duration::ZERO;
    for _ in 0..20 {
        load.until_answered(5);
        let begun = Instant::now();
        let reloaded = unit.systemctl("reload");
        longest = longest.max(begun.elapsed());
        assert!(reloaded.is_ok(), "{reloaded:?}\n{}", unit.journal());
        // It returns when the next generation serves, and owns.
        let generation = u64::try_from(mains.len()).unwrap();
        assert_eq!(unit.server.client("main").who().unwrap().generation, generation);
        assert_main(unit);
        mains.push(unit.main_pid());
        assert!(unit.show("StatusText").contains(&format!("generation {generation}")));
    }
    mains.dedup();
    assert_eq!(mains.len(), 21);
    let tally = load.finish();
    tally.assert_unharmed();
    unit.assert_one_story();
    let journal = unit.journal();
    let told = ["Reloading ", "Reloaded ", "Stopping "].map(|word| journal.matches(word).count());
    assert_eq!(told, [20, 20, 0], "{journal}");
    report(&format!("20 reloads, the longest {longest:?}: {tally}"));
}

pub(super) fn by_signal() {
    let unit = Unit::start(Release::default(), "Type=notify-reload");
    reload_twenty_times(&unit);
}

pub(super) fn by_command() {
    let unit =
        Unit::start(Release { probation: Duration::from_millis(50), ..steered() }, &Unit::asks());
    reload_twenty_times(&unit);
}

/// An upgrade that fails before the turn, and one that is rolled back.
fn fail_twice(unit: &Unit, reload_fails: bool) {
    let load = load(unit);
    let main = unit.main_pid();
    unit.server.next_release(|release| release.start = Start::Fail("the cache is gone".into()));
    assert_eq!(unit.systemctl("reload").is_err(), reload_fails, "{}", unit.journal());
    assert!(unit.show("StatusText").contains("the cache is gone"));
    unit.server.next_release(|release| {
        release.start = Start::Well;
        release.probation = Duration::from_secs(2);
        release.ailment = Some((Duration::from_millis(10), Ailment::Fail));
    });
    // The predecessor's probation is what counts: the first that succeeds makes it long.
    let _ = unit.systemctl("reload");
    assert_eq!(unit.show("ActiveState"), "active");
    assert_main(unit);
    if unit.main_pid() == main {
        assert!(unit.show("StatusText").contains("told to fail"), "{}", unit.show("StatusText"));
    }
    load.until_answered(5);
    load.finish().assert_unharmed();
    unit.server.next_release(|release| release.ailment = None);
    unit.systemctl("reload").unwrap();
    assert_main(unit);
    assert_eq!(unit.show("NRestarts"), "0");
    assert_eq!(unit.show("ActiveExitTimestampMonotonic"), "0");
}

pub(super) fn failing_command() {
    fail_twice(&Unit::start(steered(), &Unit::asks()), true);
}

/// The protocol has no word for it: the reload succeeds, and the status says what happened.
pub(super) fn failing_signal() {
    let release = Release { probation: Duration::from_millis(500), ..Release::default() };
    let unit = Unit::start(release, "Type=notify-reload");
    fail_twice(&unit, false);
}

pub(super) fn both() {
    fail_twice(&Unit::start(steered(), &both_ways()), true);
}

/// P12. It cannot be started, its trial fails, it does not start, it is unhealthy: `systemctl`
/// says so each time, and the service stays as it is.
pub(super) fn each_failure() {
    for lines in [Unit::asks(), both_ways()] {
        let release = Release {
            preflight: true,
            health: vec![Health::of("main")],
            probation: Duration::from_secs(3),
            ..steered()
        };
        let unit = Unit::start(release, &lines);
        let load = load(&unit);
        let main = unit.main_pid();
        for (cause, breaks) in failures() {
            breaks(&unit.server);
            let failed = unit.systemctl("reload");
            assert!(failed.is_err(), "{cause}: {}", unit.journal());
            let status = unit.show("StatusText");
            assert!(status.contains(cause), "{cause}: {status}");
            assert_eq!((unit.main_pid(), unit.show("ActiveState")), (main, "active".into()));
            assert_eq!(unit.show("ActiveExitTimestampMonotonic"), "0");
            // The command's own words are in the unit's journal, with the cause.
            assert!(unit.journal().contains(cause), "{cause}: {}", unit.journal());
            load.until_answered(5);
            unit.server.install(Program::Server);
            unit.server.next_release(|release| {
                (release.start, release.habits) = (Start::Well, Vec::new());
            });
        }
        let reloaded = unit.systemctl("reload");
        assert!(reloaded.is_ok(), "{reloaded:?}\n{}", unit.journal());
        assert_main(&unit);
        let tally = load.finish();
        // What the unhealthy release answered wrong it did answer.
        let answered = |failure: &Failure| matches!(failure, Failure::Other(_));
        assert!(tally.failed().keys().all(answered), "{tally}");
    }
}

/// A word of what is said about it, and how to make it happen.
type Failing = (&'static str, fn(&Server));

/// What can go wrong.
fn failures() -> [Failing; 4] {
    [
        ("No such file", |server| server.install(Program::Nothing)),
        ("has no name", |server| {
            server.next_release(|next| next.start = Start::Misconfigured);
        }),
        ("no database", |server| {
            server.next_release(|next| next.start = Start::Fail("no database".into()));
        }),
        ("health check", |server| {
            server.next_release(|next| next.habits = vec![Habit::AnswersWrong]);
        }),
    ]
}

/// P4. An upgrade asks for more time as long as it runs.
pub(super) fn long() {
    for lines in ["Type=notify-reload".to_owned(), Unit::asks(), both_ways()] {
        let release = Release { probation: Duration::from_secs(4), ..steered() };
        let unit = Unit::start(release, &format!("TimeoutStartSec=1\n{lines}"));
        let begun = Instant::now();
        let reloaded = unit.systemctl("reload");
        assert!(reloaded.is_ok(), "{reloaded:?}\n{}", unit.journal());
        assert!(begun.elapsed() > Duration::from_secs(4));
        assert_main(&unit);
        unit.assert_one_story();
    }
}
