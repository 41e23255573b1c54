//! The control socket: what it answers, whom, and that nobody can make it harm the service.

pub(crate) mod crowds;
pub(crate) mod holds;
pub(crate) mod moments;
pub(crate) mod paths;

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use heirloom::control::{Accepting, News, Started, Stop, Upgrade, UpgradeView, When};
use heirloom::{DrainOutcome, ErrorKind, Event, Role, UpgradeOutcome, UpgradePhase};
use nix::sys::signal::Signal;

use crate::support::operator::{kind, last_words};
use crate::support::release::Start;
use crate::support::wait::{PATIENCE, until};
use crate::support::{Load, Operator, Release, Server, Socket};

trials![
    p12_a_status_shows_every_live_generation,
    p12_an_upgrade_that_is_waited_for_ends_in_its_report,
    p12_an_upgrade_that_fails_is_told_with_its_cause,
    an_upgrade_that_is_queued_is_followed_to_whoever_runs_it,
    a_busy_service_says_so,
    an_operator_commits_and_aborts,
    a_command_that_does_not_fit_the_moment_is_refused,
    p3_the_predecessor_answers_until_the_verdict_and_the_successor_from_then_on,
    p1_the_path_never_disappears,
    a_pause_outlives_an_upgrade_and_a_roll_back,
    p3_one_that_owns_again_keeps_to_what_was_said_to_the_owner,
    a_drain_empties_the_service_and_a_resume_takes_it_back,
    a_stop_gives_notice_and_ends_with_a_report,
    a_forced_stop_cuts_what_is_left,
    p7_a_forced_stop_waits_neither_for_elders_nor_for_a_notice,
    a_watcher_goes_on_over_an_upgrade,
    p9_a_second_instance_gets_a_clear_error_and_harms_nothing,
    p9_what_is_not_a_dead_socket_of_ours_is_never_touched,
    p9_a_dead_socket_is_replaced,
    p9_another_user_is_refused,
    p9_garbage_half_frames_and_silence_delay_no_upgrade,
    a_client_that_goes_away_takes_nothing_back,
    an_elder_that_is_asked_sends_its_client_to_the_owner,
];

const LONG: Duration = Duration::from_secs(3_600);

fn release() -> Release {
    Release { control: true, ..Release::default() }
}

fn start(release: Release) -> (Server, Operator) {
    let server = Server::start(release);
    let operator = Operator::of(server.directory());
    (server, operator)
}

/// Generation 1 serves in a probation that would last an hour.
fn in_probation(release: Release) -> (Server, Operator) {
    let (server, operator) = start(Release { probation: LONG, ..release });
    let begun = operator.run(operator.client.upgrade(Upgrade::new())).unwrap();
    assert_eq!(begun, Started::Begun);
    operator.until_probation();
    (server, operator)
}

fn p12_a_status_shows_every_live_generation() {
    let (server, operator) = start(Release { drain: LONG, ..release() });
    let mut held = server.client("main");
    held.ask("hold");
    server.next_release(|next| next.version = "2.0".into());
    assert_eq!(operator.upgrade().unwrap().outcome, UpgradeOutcome::Committed);
    server.next_release(|next| (next.version, next.probation) = ("3.0".into(), LONG));
    let status = operator.until_status("the elder's own words", |status| {
        status.generations.len() == 2 && status.generations[1].version.is_some()
    });
    assert_eq!(status.owner.get(), 1);
    let [owner, elder] = &status.generations[..] else { panic!("{status:?}") };
    assert_eq!((owner.role, owner.version.as_deref()), (Role::Owner, Some("2.0")));
    assert_eq!((elder.role, elder.version.as_deref()), (Role::Elder, Some("1.0")));
    assert_eq!(elder.pid, Some(server.pid(0)));
    assert_eq!(elder.by_listener, [("main".parse().unwrap(), 1)]);
    assert!(elder.oldest.is_some() && elder.age.unwrap() < PATIENCE);
    assert!(owner.resident_bytes.unwrap() > 100_000);
    assert!(status.ready && status.upgrade.is_none());
    // Generation 1 has the probation of its own release.
    operator.run(operator.client.upgrade(Upgrade::new())).unwrap();
    operator.until_status("the third generation", |status| status.owner.get() == 2);
}

fn p12_an_upgrade_that_is_waited_for_ends_in_its_report() {
    let (server, operator) = start(release());
    server.next_release(|next| next.version = "2.0".into());
    let mut phases = Vec::new();
    let mut started = None;
    let waiting = operator.client.upgrade_and_wait(Upgrade::new(), |news| match news {
        News::Phase { phase, .. } => phases.push(*phase),
        News::Started { from, to } => started = Some((from.get(), to.get())),
        _ => {}
    });
    let report = operator.run(waiting).unwrap();
    assert_eq!(report.outcome, UpgradeOutcome::Committed);
    assert_eq!(report.successor_version.as_deref(), Some("2.0"));
    assert_eq!(started, Some((0, 1)));
    for phase in [UpgradePhase::Spawn, UpgradePhase::Probation, UpgradePhase::Commit] {
        assert!(phases.contains(&phase), "{phase} in {phases:?}");
    }
    assert!(phases.is_sorted(), "{phases:?}");
    assert_eq!(operator.status().owner.get(), 1);
}

fn p12_an_upgrade_that_fails_is_told_with_its_cause() {
    let (server, operator) = start(release());
    server.next_release(|next| next.start = Start::Fail("no licence".into()));
    let report = operator.upgrade().unwrap();
    assert_eq!(report.outcome, UpgradeOutcome::Failed);
    assert!(report.cause.unwrap().contains("no licence"));
    let history = operator.run(operator.client.history()).unwrap();
    assert_eq!(history.len(), 1);
    assert_eq!(history[0].outcome, UpgradeOutcome::Failed);
}

fn an_upgrade_that_is_queued_is_followed_to_whoever_runs_it() {
    let (server, operator) = start(Release { probation: LONG, ..release() });
    server.next_release(|next| next.probation = Duration::from_millis(50));
    operator.begin_probation();
    let mut news = Vec::new();
    let second = Operator::of(server.directory());
    let report = operator.run(async {
        let follow = operator.client.upgrade_and_wait(Upgrade::new(), |told| {
            news.push(told.clone());
        });
        let commit = async {
            // As soon as it is queued.
            loop {
                if second.client.status().await.unwrap().queued {
                    return second.client.commit().await.unwrap();
                }
                tokio::task::yield_now().await;
            }
        };
        let (report, committed) = tokio::join!(follow, commit);
        assert_eq!(committed.to.get(), 1);
        report
    });
    let report = report.unwrap();
    assert_eq!((report.from.get(), report.to.get()), (1, 2), "{report}");
    assert_eq!(report.outcome, UpgradeOutcome::Committed);
    assert!(matches!(news.first(), Some(News::Queued { owner }) if owner.get() == 0), "{news:?}");
}

fn a_busy_service_says_so() {
    let (_server, operator) = in_probation(release());
    let at_once = || Upgrade::new().when(When::AtOnce);
    let waiting = operator.client.upgrade_and_wait(at_once(), |_| {});
    assert_eq!(kind(operator.run(waiting)), ErrorKind::Busy);
    assert_eq!(kind(operator.run(operator.client.upgrade(at_once()))), ErrorKind::Busy);
    let other = Upgrade::new().executable("/bin/true");
    assert_eq!(kind(operator.run(operator.client.upgrade(other))), ErrorKind::Busy);
    assert_eq!(kind(operator.run(operator.client.pause())), ErrorKind::Busy);
    let queued = operator.run(operator.client.upgrade(Upgrade::new())).unwrap();
    assert_eq!(queued, Started::Queued);
    assert!(operator.status().queued);
}

fn an_operator_commits_and_aborts() {
    let (server, operator) = in_probation(release());
    let status = operator.status();
    let upgrade = status.upgrade.unwrap();
    assert_eq!((upgrade.to.get(), upgrade.phase), (1, UpgradePhase::Probation));
    assert_eq!(status.generations[0].role, Role::Successor);
    assert_eq!(status.generations[0].pid, Some(server.pid(1)));
    let report = operator.run(operator.client.abort("the dashboards are red")).unwrap();
    assert_eq!(report.outcome, UpgradeOutcome::RolledBack);
    assert!(report.cause.unwrap().contains("the dashboards are red"));
    let report = operator.upgrade_and_commit();
    assert_eq!(report.outcome, UpgradeOutcome::Committed);
    server.until_owner(2);
    assert_eq!(operator.status().owner.get(), 2);
}

fn a_command_that_does_not_fit_the_moment_is_refused() {
    let (server, operator) = start(release());
    assert_eq!(kind(operator.run(operator.client.commit())), ErrorKind::NotNow);
    assert_eq!(kind(operator.run(operator.client.abort(""))), ErrorKind::NotNow);
    server.stop();
    assert_eq!(kind(operator.run(operator.client.status())), ErrorKind::NobodyThere);
    assert!(!server.path("control.sock").exists());
}

fn p3_the_predecessor_answers_until_the_verdict_and_the_successor_from_then_on() {
    let (server, operator) = in_probation(release());
    assert_eq!(operator.status().owner.get(), 0);
    server.signal(server.pid(1), Signal::SIGKILL);
    until("the roll back", || server.reports().pop());
    assert_eq!(operator.status().owner.get(), 0);
    operator.begin_probation();
    // The successor takes over, and answers, when its predecessor is dead.
    server.signal(server.pid(0), Signal::SIGKILL);
    server.until_owner(2);
    assert_eq!(operator.status().owner.get(), 2);
}

fn p1_the_path_never_disappears() {
    let (server, operator) = start(release());
    let path = server.path("control.sock");
    let before = std::fs::metadata(&path).unwrap();
    assert_eq!(before.permissions().mode() & 0o777, 0o600);
    let load = Load::start(&[server.address("main")], 2);
    for number in 1..=10 {
        let report = operator.upgrade().unwrap();
        assert_eq!(report.outcome, UpgradeOutcome::Committed, "{report}");
        assert_eq!(operator.status().owner.get(), number);
    }
    assert_eq!(std::fs::metadata(&path).unwrap().ino(), before.ino());
    load.finish().assert_unharmed();
}

/// A connection that nobody takes, and one that is answered.
fn is_taken(server: &Server, deadline: Duration) -> bool {
    let mut client = server.client("main");
    client.send("who").unwrap();
    client.receive_within(deadline).is_some()
}

fn a_pause_outlives_an_upgrade_and_a_roll_back() {
    let (server, operator) = start(release());
    operator.run(operator.client.pause()).unwrap();
    let status = operator.status();
    assert_eq!((status.accepting, status.ready), (Accepting::Paused, false));
    assert_eq!(kind(operator.run(operator.client.check())), ErrorKind::NotReady);
    let short = Duration::from_millis(150);
    assert!(!is_taken(&server, short));
    let mut waiting = server.client("main");
    waiting.send("who").unwrap();
    assert_eq!(operator.upgrade().unwrap().outcome, UpgradeOutcome::Committed);
    assert_eq!(operator.status().accepting, Accepting::Paused);
    server.next_release(|next| next.probation = LONG);
    assert_eq!(operator.upgrade().unwrap().outcome, UpgradeOutcome::Committed);
    operator.begin_probation();
    operator.run(operator.client.abort("enough")).unwrap();
    assert!(!is_taken(&server, short));
    operator.run(operator.client.resume()).unwrap();
    assert_eq!(waiting.receive_within(PATIENCE).unwrap().split(' ').next(), Some("2"));
    assert!(is_taken(&server, PATIENCE));
    operator.run(operator.client.check()).unwrap();
}

/// P3. The owner dies each time while the first generation still drains.
fn p3_one_that_owns_again_keeps_to_what_was_said_to_the_owner() {
    let (server, operator) = start(Release { drain: LONG, ..release() });
    let mut held = server.client("main");
    held.ask("hold");
    let elder = server.pid(0);
    let mut hears = |ready: &str| {
        until("the elder to hear of it", || (held.ask("ready") == ready).then_some(()));
    };
    let dies = |generation: u64| {
        server.signal(server.pid(generation), Signal::SIGKILL);
        until("the elder to own", || (server.owners().last()?.1 == elder).then_some(()));
    };
    operator.upgrade().unwrap();
    operator.run(operator.client.pause()).unwrap();
    hears("false");
    dies(1);
    let paused = operator.until_status("answers", |status| status.owner.get() == 0);
    assert_eq!(paused.accepting, Accepting::Paused);
    assert!(!is_taken(&server, Duration::from_millis(150)));
    // Paused when it handed over, and resumed by its successor.
    operator.upgrade().unwrap();
    operator.run(operator.client.resume()).unwrap();
    hears("true");
    dies(2);
    assert!(is_taken(&server, PATIENCE));
    operator.run(operator.client.check()).unwrap();
}

fn a_drain_empties_the_service_and_a_resume_takes_it_back() {
    let (server, operator) = start(Release { drain: Duration::from_millis(200), ..release() });
    let mut held = server.client("main");
    held.ask("hold");
    let report = operator.run(operator.client.drain(|_| {})).unwrap();
    assert_eq!((report.outcome, report.cut_count), (DrainOutcome::Cut, 1));
    let status = operator.status();
    assert_eq!((status.accepting, status.ready), (Accepting::Drained, false));
    assert!(!is_taken(&server, Duration::from_millis(150)));
    operator.run(operator.client.resume()).unwrap();
    assert!(is_taken(&server, PATIENCE));
    assert!(operator.status().ready);
    // A resume in the middle ends it.
    let mut held = server.client("main");
    held.ask("hold");
    server.next_release(|next| next.drain = LONG);
    assert_eq!(operator.upgrade().unwrap().outcome, UpgradeOutcome::Committed);
    let mut held = server.client("main");
    held.ask("hold");
    let second = Operator::of(server.directory());
    let drained = operator.run(async {
        let drain = operator.client.drain(|_| {});
        let resume = async {
            while second.client.status().await.unwrap().accepting != Accepting::Drained {
                tokio::task::yield_now().await;
            }
            second.client.resume().await.unwrap();
        };
        tokio::join!(drain, resume).0
    });
    assert_eq!(kind(drained), ErrorKind::NotNow);
    assert!(is_taken(&server, PATIENCE));
}

fn a_stop_gives_notice_and_ends_with_a_report() {
    let notice = Duration::from_millis(300);
    let (server, operator) = start(Release { stop_notice: notice, ..release() });
    let owner = server.pid(0);
    let mut answer = String::new();
    let begun = Instant::now();
    let second = Operator::of(server.directory());
    let report = operator.run(async {
        let stop = operator.client.stop(Stop::Gracefully, |_| {});
        let look = async {
            loop {
                let status = second.client.status().await.unwrap();
                if status.accepting == Accepting::Stopping {
                    assert!(!status.ready);
                    break;
                }
                tokio::task::yield_now().await;
            }
            answer = server.ask("who");
        };
        tokio::join!(stop, look).0
    });
    assert_eq!(report.unwrap().outcome, DrainOutcome::Drained);
    assert!(begun.elapsed() >= notice);
    assert!(answer.starts_with("0 "), "it accepts while it gives notice: {answer}");
    server.until_gone(owner);
}

/// P7. Everything that would be waited for lasts an hour here.
fn p7_a_forced_stop_waits_neither_for_elders_nor_for_a_notice() {
    let (server, operator) = start(Release { drain: LONG, ..release() });
    let mut held = server.client("main");
    assert_eq!(held.ask("hold"), "held 0");
    let elder = server.pid(0);
    server.upgrade_well();
    operator.run(operator.client.stop(Stop::Force, |_| {})).unwrap();
    server.until_gone(elder);
    server.until_gone(server.pid(1));
    let (server, operator) = start(Release { stop_notice: LONG, probation: LONG, ..release() });
    let owner = server.pid(0);
    server.signal(owner, Signal::SIGHUP);
    let probation = |upgrade: &UpgradeView| upgrade.phase == UpgradePhase::Probation;
    operator.until_status("probation", |status| status.upgrade.as_ref().is_some_and(probation));
    operator.run(operator.client.stop(Stop::Force, |_| {})).unwrap();
    server.until_gone(owner);
}

fn a_forced_stop_cuts_what_is_left() {
    let (server, operator) = start(Release { drain: LONG, ..release() });
    let mut held = server.client("main");
    held.ask("hold");
    let owner = server.pid(0);
    let report = operator.run(operator.client.stop(Stop::Force, |_| {})).unwrap();
    assert_eq!((report.outcome, report.cut_count), (DrainOutcome::Cut, 1));
    server.until_gone(owner);
}

fn a_watcher_goes_on_over_an_upgrade() {
    let (server, operator) = start(release());
    let second = Operator::of(server.directory());
    operator.run(async {
        let mut watch = operator.client.watch().await.unwrap();
        let first = watch.next().await.unwrap();
        assert!(matches!(first, News::Overview { overview } if overview.owner.get() == 0));
        let report = second.client.upgrade_and_wait(Upgrade::new(), |_| {}).await.unwrap();
        assert_eq!(report.outcome, UpgradeOutcome::Committed);
        let (mut ended, mut next) = (false, false);
        while !(ended && next) {
            match watch.next().await.unwrap() {
                News::Event { event } => {
                    ended |= matches!(*event, Event::UpgradeEnded(_));
                }
                News::Overview { overview } => next |= overview.owner.get() == 1,
                other => panic!("{other:?}"),
            }
        }
    });
}

fn p9_a_second_instance_gets_a_clear_error_and_harms_nothing() {
    let (server, operator) = start(release());
    let before = server.journal().len();
    let second = server.launch(|directory| Command::new(directory.join("server")));
    server.until_gone(second);
    let output = std::fs::read_to_string(server.path("output.log")).unwrap();
    assert!(output.contains("a process has a socket there"), "{output}");
    assert_eq!(operator.status().owner.get(), 0);
    assert_eq!(operator.upgrade().unwrap().outcome, UpgradeOutcome::Committed);
    assert!(server.journal().len() > before);
}

/// A service whose socket cannot be had does not start; what it has written about it.
fn refused(prepare: impl FnOnce(&Server)) -> (Server, String) {
    let server = Server::prepare(release());
    prepare(&server);
    let pid = server.launch(|directory| Command::new(directory.join("server")));
    server.until_gone(pid);
    let output = std::fs::read_to_string(server.path("output.log")).unwrap();
    (server, output)
}

fn p9_what_is_not_a_dead_socket_of_ours_is_never_touched() {
    let (server, output) = refused(|server| {
        std::fs::write(server.path("control.sock"), "a file").unwrap();
    });
    assert!(output.contains("no socket"), "{output}");
    assert_eq!(std::fs::read_to_string(server.path("control.sock")).unwrap(), "a file");
    let (server, output) = refused(|server| {
        drop(UnixListener::bind(server.path("elsewhere.sock")).unwrap());
        symlink(server.path("elsewhere.sock"), server.path("control.sock")).unwrap();
    });
    assert!(output.contains("symbolic link"), "{output}");
    assert!(server.path("elsewhere.sock").exists());
    let mut foreign = None;
    let (server, output) = refused(|server| {
        foreign = Some(UnixListener::bind(server.path("control.sock")).unwrap());
    });
    assert!(output.contains("a process has a socket there"), "{output}");
    UnixStream::connect(server.path("control.sock")).unwrap();
}

fn p9_a_dead_socket_is_replaced() {
    let server = Server::prepare(release());
    drop(UnixListener::bind(server.path("control.sock")).unwrap());
    server.launch(|directory| Command::new(directory.join("server")));
    server.until_owner(0);
    let operator = Operator::of(server.directory());
    assert_eq!(operator.status().owner.get(), 0);
    // One that was killed leaves its socket to the next.
    let owner = server.pid(0);
    server.signal(owner, Signal::SIGKILL);
    server.until_gone(owner);
    assert_eq!(kind(operator.run(operator.client.status())), ErrorKind::NobodyThere);
    let again = server.launch(|directory| Command::new(directory.join("server")));
    let status = until("the next instance", || operator.run(operator.client.status()).ok());
    assert_eq!(status.generations[0].pid, Some(again));
}

/// What this user is told, who says nothing.
fn told_as(server: &Server, user: u32) -> String {
    let script = "import socket, sys\n\
        s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n\
        sys.stdout.write(s.makefile('rb').read().decode('utf-8', 'replace'))";
    let path = server.path("control.sock");
    let mut command = Command::new("python3");
    command.args(["-c", script]).arg(path).uid(user).gid(user);
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    format!("{}{error}", String::from_utf8_lossy(&output.stdout))
}

fn p9_another_user_is_refused() {
    if !nix::unistd::geteuid().is_root() {
        let _ = writeln!(std::io::stderr(), "skipped: only root can become another user");
        return;
    }
    const FRIEND: u32 = 4_711;
    let (server, operator) = start(release());
    let open = |mode: u32| {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(server.directory(), permissions).unwrap();
    };
    open(0o755);
    let told = told_as(&server, FRIEND);
    assert!(told.contains("Permission denied"), "{told}");
    // With a list of users the kernel's word alone decides.
    server.stop();
    server.next_release(|next| next.control_users = vec![FRIEND, 65_534]);
    server.launch(|directory| Command::new(directory.join("server")));
    until("the next instance", || operator.run(operator.client.status()).ok());
    let told = told_as(&server, FRIEND + 1);
    assert!(told.contains("user 4712 may not give commands"), "{told}");
    let told = told_as(&server, 65_534);
    assert!(told.contains("user 65534 may not give commands"), "{told}");
    let told = told_as(&server, FRIEND);
    assert!(told.contains("no request came within"), "{told}");
}

fn p9_garbage_half_frames_and_silence_delay_no_upgrade() {
    let (server, operator) = start(release());
    let load = Load::start(&[server.address("main")], 2);
    let idle: Vec<UnixStream> = (0..20).map(|_| operator.connect()).collect();
    let half: Vec<UnixStream> = (0..20)
        .map(|_| {
            let mut stream = operator.connect();
            stream.write_all(b"HLRM\xff\x00\x00\x00\x40\x00\x00\x00{\"comm").unwrap();
            stream
        })
        .collect();
    for garbage in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], &[0; 4096], &[0xff; 4096]] {
        let mut stream = operator.connect();
        stream.write_all(garbage).unwrap();
        assert!(last_words(stream).contains("does not speak heirloom's protocol"));
    }
    let begun = Instant::now();
    for _ in 0..3 {
        assert_eq!(operator.upgrade().unwrap().outcome, UpgradeOutcome::Committed);
    }
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    // They are cut by their deadline.
    for stream in half.into_iter().chain(idle) {
        last_words(stream);
    }
    load.finish().assert_unharmed();
}

fn a_client_that_goes_away_takes_nothing_back() {
    let (server, operator) = start(release());
    server.next_release(|next| next.start_delay = Duration::from_millis(100));
    operator.run(async {
        let mut begun = false;
        let waiting = operator.client.upgrade_and_wait(Upgrade::new(), |_| begun = true);
        let _ = tokio::time::timeout(Duration::from_millis(30), waiting).await;
    });
    server.until_owner(1);
    assert_eq!(server.until_report(0).outcome, UpgradeOutcome::Committed);
}

fn an_elder_that_is_asked_sends_its_client_to_the_owner() {
    let (server, operator) = start(Release { sockets: vec![Socket::tcp("main")], ..release() });
    let mut held = server.client("main");
    held.ask("hold");
    // Accepted by generation 0, which is an elder when the command comes.
    let mut early = operator.connect();
    operator.status();
    assert_eq!(operator.upgrade().unwrap().outcome, UpgradeOutcome::Committed);
    let request = br#"{"protocol":{"min":1,"max":1},"command":"pause"}"#;
    let mut frame = b"HLRM".to_vec();
    frame.extend_from_slice(&u32::try_from(request.len()).unwrap().to_le_bytes());
    frame.extend_from_slice(b"\x40\x00\x00\x00");
    frame.extend_from_slice(request);
    early.write_all(&frame).unwrap();
    let told = last_words(early);
    assert!(told.contains("passed-on"), "{told}");
    assert_eq!(operator.status().accepting, Accepting::Open);
    held.ask("release");
    server.stop();
}
