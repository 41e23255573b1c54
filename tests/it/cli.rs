//! The program `heirloom`: what it prints, and how it ends.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use heirloom::control::{Accepting, Overview};
use heirloom::{Report, UpgradeOutcome};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::release::Start;
use crate::support::wait::{pause, until};
use crate::support::{Load, Operator, Release, Server, process};

trials![
    every_end_has_its_exit_code,
    what_is_done_ends_with_zero,
    a_rejected_release_ends_with_its_code,
    json_is_what_the_client_knows,
    p12_an_upgrade_shows_its_phases_and_ends_with_the_report,
    a_watcher_prints_what_changes_until_the_service_ends,
    a_watcher_whose_reader_has_gone_ends,
    whoever_names_no_service_is_told_how,
    a_service_is_looked_for_by_its_name_where_systemd_has_it_too,
    nothing_is_coloured_on_a_pipe,
    an_answer_that_could_not_be_written_is_none,
    a_deadline_that_no_clock_reaches_is_one_too,
    completions_and_the_manual_are_printed,
    p2_a_killed_command_leaves_the_service_as_it_should_be,
    p2_a_command_killed_at_any_of_fifty_moments_takes_nothing_back,
    p2_a_killed_pause_or_drain_is_done_or_not_asked_for,
];

const LONG: Duration = Duration::from_secs(3_600);

fn start(release: Release) -> Server {
    Server::start(Release { control: true, ..release })
}

fn command(server: &Server, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_heirloom"));
    command.arg("--socket").arg(server.path("control.sock")).args(arguments);
    command
}

fn run(server: &Server, arguments: &[&str]) -> Output {
    command(server, arguments).output().unwrap()
}

fn code(server: &Server, arguments: &[&str]) -> i32 {
    run(server, arguments).status.code().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn every_end_has_its_exit_code() {
    let server = Server::prepare(Release { control: true, ..Release::default() });
    assert_eq!(code(&server, &["status"]), 3, "nobody there");
    server.launch(|directory| Command::new(directory.join("server")));
    server.until_owner(0);
    let operator = Operator::of(server.directory());
    assert_eq!(code(&server, &["status"]), 0, "done");
    assert_eq!(code(&server, &["improve"]), 2, "usage");
    let long = format!("/tmp/{}", "a".repeat(108));
    assert_eq!(code(&server, &["status", "--socket", &long]), 2, "usage");
    assert_eq!(code(&server, &["status", "--timeout", "soon"]), 2, "usage");
    assert_eq!(code(&server, &["commit"]), 4, "refused");
    server.next_release(|next| next.start = Start::Fail("no licence".into()));
    assert_eq!(code(&server, &["upgrade", "--wait"]), 6, "failed before yield");
    server.next_release(|next| (next.start, next.probation) = (Start::Well, LONG));
    assert_eq!(code(&server, &["upgrade", "--wait"]), 0, "done");
    assert_eq!(code(&server, &["upgrade", "--wait", "--timeout", "300ms"]), 8, "timed out");
    operator.until_probation();
    assert_eq!(code(&server, &["upgrade", "--no-queue"]), 5, "busy");
    let waiting = command(&server, &["upgrade", "--wait"]).stdout(Stdio::piped()).spawn().unwrap();
    operator.until_status("the queued one", |status| status.queued);
    server.signal(operator.status().generations[0].pid.unwrap(), Signal::SIGKILL);
    // The upgrade that was queued runs now, and its successor is taken back as well.
    operator.until_status("the next upgrade", |status| !status.queued);
    operator.until_probation();
    assert_eq!(code(&server, &["abort"]), 0);
    assert_eq!(waiting.wait_with_output().unwrap().status.code(), Some(7), "rolled back");
    let owner = server.owner();
    server.signal(owner, Signal::SIGSTOP);
    // On a busy machine that takes a while.
    until("the owner to be stopped", || process::is_stopped(owner).then_some(()));
    assert_eq!(code(&server, &["status", "--timeout", "200ms"]), 8, "timed out");
    server.signal(owner, Signal::SIGCONT);
}

fn what_is_done_ends_with_zero() {
    let server = start(Release::default());
    for arguments in [
        &["status"][..],
        &["check"],
        &["pause"],
        &["resume"],
        &["drain"],
        &["resume"],
        &["upgrade", "--wait"],
        &["history"],
    ] {
        let output = run(&server, arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
        assert!(output.stderr.is_empty(), "{output:?}");
    }
    assert_eq!(code(&server, &["pause"]), 0);
    assert_eq!(code(&server, &["check"]), 4, "not ready");
    let owner = server.owner();
    assert_eq!(code(&server, &["stop"]), 0);
    server.until_gone(owner);
}

fn a_rejected_release_ends_with_its_code() {
    let server = start(Release { probation: LONG, ..Release::default() });
    let operator = Operator::of(server.directory());
    let waiting = command(&server, &["upgrade", "--wait"]).stdout(Stdio::piped()).spawn().unwrap();
    operator.until_probation();
    assert_eq!(code(&server, &["rollback", "--generation", "0"]), 4);
    let back = run(&server, &["rollback", "--generation", "1"]);
    assert_eq!(back.status.code(), Some(0), "{back:?}");
    assert_eq!(waiting.wait_with_output().unwrap().status.code(), Some(7));
    assert_eq!(server.until_report(0).outcome, UpgradeOutcome::RolledBack);
    // The same program runs as before: there is nothing to go back to.
    assert_eq!(code(&server, &["rollback"]), 4);
}

fn json_is_what_the_client_knows() {
    let server = start(Release::default());
    let status = run(&server, &["status", "--json"]);
    let overview: Overview = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(overview.generations[0].pid, Some(server.pid(0)));
    let upgrade = text(&run(&server, &["--json", "upgrade", "--wait"]));
    let lines: Vec<Value> =
        upgrade.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["news"], "started");
    let report: Report = serde_json::from_value(lines.last().unwrap()["report"].clone()).unwrap();
    assert_eq!(report.outcome, UpgradeOutcome::Committed);
    let refused: Value =
        serde_json::from_slice(&run(&server, &["commit", "--json"]).stdout).unwrap();
    assert_eq!(refused["error"]["kind"], "NotNow");
    let verbs =
        ["status", "history", "metrics", "check", "pause", "drain", "resume", "abort", "stop"];
    for verb in verbs {
        let shown = text(&run(&server, &["--json", verb]));
        assert!(!shown.is_empty(), "{verb}");
        for line in shown.lines() {
            let document = serde_json::from_str::<Value>(line);
            assert!(document.is_ok_and(|document| document.is_object()), "{verb}: {line}");
        }
    }
}

fn p12_an_upgrade_shows_its_phases_and_ends_with_the_report() {
    let server = start(Release::default());
    let shown = text(&run(&server, &["upgrade", "--wait"]));
    let at = |word: &str| shown.find(word).unwrap_or_else(|| panic!("{word} in {shown}"));
    assert!(at("starts generation 1") < at("spawn") && at("spawn") < at("probation"));
    assert!(at("probation") < at("upgrade fixture-1"), "{shown}");
    assert!(shown.contains("longest accept gap"), "{shown}");
    let status = text(&run(&server, &["status"]));
    assert!(status.contains("accepting, ready") && status.contains("owner"), "{status}");
}

fn a_watcher_prints_what_changes_until_the_service_ends() {
    let server = start(Release::default());
    let mut watcher = command(&server, &["watch"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watcher.stdout.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    assert!(first.starts_with("fixture: accepting"), "{first}");
    assert_eq!(code(&server, &["upgrade", "--wait"]), 0);
    assert_eq!(code(&server, &["stop"]), 0);
    let shown: Vec<String> = lines.map(Result::unwrap).collect();
    assert!(shown.iter().any(|line| line.contains("committed after")), "{shown:#?}");
    assert_eq!(shown.last().unwrap(), "the service has ended");
    assert_eq!(watcher.wait().unwrap().code(), Some(0));
}

/// As with `watch | head -1`: nothing more changes, and nobody would read it.
fn a_watcher_whose_reader_has_gone_ends() {
    let server = start(Release::default());
    for arguments in [&["watch"][..], &["watch", "--json"]] {
        let mut watcher = command(&server, arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(watcher.stdout.take().unwrap()).lines();
        assert!(lines.next().unwrap().unwrap().contains("fixture"));
        drop(lines);
        let ended = until("the watcher to end", || watcher.try_wait().unwrap());
        assert_eq!(ended.code(), Some(0), "{arguments:?}");
    }
}

fn whoever_names_no_service_is_told_how() {
    for socket in [None, Some("")] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_heirloom"));
        command.arg("status").env_remove("HEIRLOOM_SOCKET");
        if let Some(socket) = socket {
            command.env("HEIRLOOM_SOCKET", socket);
        }
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("--socket PATH, or set HEIRLOOM_SOCKET"), "{said}");
    }
}

fn a_service_is_looked_for_by_its_name_where_systemd_has_it_too() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_heirloom"));
    command.args(["status", "--service", "no-such-service"]);
    let bare = command.env_remove("RUNTIME_DIRECTORY").env_remove("XDG_RUNTIME_DIR");
    let output = bare.output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("/run/no-such-service/no-such-service.sock"), "{said}");
}

fn an_answer_that_could_not_be_written_is_none() {
    let server = start(Release::default());
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    for verb in ["status", "metrics", "history"] {
        let exit = command(&server, &[verb]).stdout(full()).status().unwrap();
        assert_eq!(exit.code(), Some(1), "{verb}");
    }
    // That is done, whoever reads of it.
    assert_eq!(
        command(&server, &["upgrade", "--wait"]).stdout(full()).status().unwrap().code(),
        Some(0)
    );
    for argument in [&["completions", "bash"][..], &["man"]] {
        let mut program = Command::new(env!("CARGO_BIN_EXE_heirloom"));
        assert_eq!(program.args(argument).stdout(full()).status().unwrap().code(), Some(1));
    }
}

fn a_deadline_that_no_clock_reaches_is_one_too() {
    let server = start(Release::default());
    let status = run(&server, &["--timeout", "99999999999999999h", "status"]);
    assert_eq!(status.status.code(), Some(0), "{status:?}");
    let upgrade = run(&server, &["--timeout", "99999999999999999h", "upgrade", "--wait"]);
    assert_eq!(upgrade.status.code(), Some(0), "{upgrade:?}");
}

fn nothing_is_coloured_on_a_pipe() {
    let server = start(Release::default());
    assert!(!text(&run(&server, &["status"])).contains('\u{1b}'));
    assert!(!text(&run(&server, &["upgrade", "--wait"])).contains('\u{1b}'));
    assert!(text(&run(&server, &["--color", "always", "status"])).contains('\u{1b}'));
}

fn completions_and_the_manual_are_printed() {
    let program = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_heirloom")).args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        text(&output)
    };
    for shell in ["bash", "zsh", "fish"] {
        assert!(program(&["completions", shell]).contains("rollback"), "{shell}");
    }
    let manual = program(&["man"]);
    assert!(manual.contains("EXIT STATUS") && manual.contains("taken back"), "{manual}");
    // One page, with the options of each command.
    for option in ["no\\-queue", "generation", "reason", "force", "HEIRLOOM_SOCKET"] {
        assert!(manual.contains(option), "{option} in {manual}");
    }
    assert!(!manual.contains("heirloom\\-status"), "{manual}");
    assert!(program(&["--help"]).contains("Exit codes:"));
}

/// A command that is killed as soon as it has printed so many lines.
fn kill_after(mut child: Child, lines: usize) {
    let mut output = BufReader::new(child.stdout.take().unwrap());
    for _ in 0..lines {
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
}

fn p2_a_killed_command_leaves_the_service_as_it_should_be() {
    let server = start(Release { probation: Duration::from_millis(100), ..Release::default() });
    let operator = Operator::of(server.directory());
    for (before, lines) in [1, 2, 4, 6, 8, 10].into_iter().enumerate() {
        let child = command(&server, &["upgrade", "--wait"]).stdout(Stdio::piped()).spawn();
        kill_after(child.unwrap(), lines);
        assert_eq!(server.until_report(before).outcome, UpgradeOutcome::Committed);
        server.until_owner(before as u64 + 1);
    }
    // Killed before it has said what it wants, perhaps: nothing happens, or all of it.
    let mut child = command(&server, &["pause"]).spawn().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    operator.run(operator.client.resume()).unwrap();
    assert!(server.ask("who").starts_with("6 "));
    let child = command(&server, &["stop"]).stdout(Stdio::piped()).spawn().unwrap();
    until("the wish to stop", || {
        operator
            .run(operator.client.status())
            .map_or(Some(()), |status| (!status.ready).then_some(()))
    });
    kill_after(child, 0);
    server.until_gone(server.pid(6));
}

/// At each phase that a client is told, and at moments spread over its life.
fn p2_a_command_killed_at_any_of_fifty_moments_takes_nothing_back() {
    const MOMENTS: u32 = 50;
    let server = start(Release { probation: Duration::from_millis(20), ..Release::default() });
    let operator = Operator::of(server.directory());
    let load = Load::start(&[server.address("main")], 2);
    let begun = Instant::now();
    let whole = command(&server, &["upgrade", "--wait"]).output().unwrap();
    let whole_time = begun.elapsed();
    let lines = String::from_utf8(whole.stdout).unwrap().lines().count();
    let mut committed = 1;
    for moment in 0..MOMENTS {
        let child = command(&server, &["upgrade", "--wait"]).stdout(Stdio::piped()).spawn();
        if moment % 2 == 0 {
            kill_after(child.unwrap(), (moment as usize / 2) % lines.max(1));
        } else {
            // Not to synchronise: any moment is as good.
            pause(whole_time * moment / MOMENTS);
            kill_after(child.unwrap(), 0);
        }
        // What was asked for is done, or nobody asked: nothing is between the two.
        let idle = |status: &Overview| status.upgrade.is_none() && !status.queued;
        let status = operator.until_status("no upgrade to run", idle);
        assert!(status.ready && status.owner.get() >= committed, "{status:?}");
        committed = status.owner.get();
    }
    let reports = operator.run(operator.client.history()).unwrap();
    assert!(reports.iter().all(|report| report.outcome == UpgradeOutcome::Committed));
    let last = operator.status().owner.get();
    assert_eq!(reports.len() as u64, last, "each that was begun has one report");
    assert!(last > u64::from(MOMENTS / 4), "most were told what to do: {last}");
    load.finish().assert_unharmed();
}

fn p2_a_killed_pause_or_drain_is_done_or_not_asked_for() {
    let server = start(Release::default());
    let operator = Operator::of(server.directory());
    let begun = Instant::now();
    assert_eq!(code(&server, &["pause"]), 0);
    let whole_time = begun.elapsed();
    assert_eq!(code(&server, &["resume"]), 0);
    for moment in 0..25 {
        let (verb, state) =
            [("pause", Accepting::Paused), ("drain", Accepting::Drained)][moment as usize % 2];
        let child = command(&server, &[verb]).stdout(Stdio::piped()).spawn();
        // Not to synchronise: any moment is as good.
        pause(whole_time * moment / 20);
        kill_after(child.unwrap(), 0);
        let status = operator.status();
        let open = status.accepting == Accepting::Open;
        assert!(open || status.accepting == state, "{verb}: {status:?}");
        assert_eq!(status.ready, open, "{verb}: {status:?}");
        let accepts = |status: &Overview| status.accepting == Accepting::Open;
        until("the service to accept again", || {
            // What the killed command has asked for may come after this.
            assert_eq!(code(&server, &["resume"]), 0);
            accepts(&operator.status()).then_some(())
        });
        assert!(server.ask("who").starts_with("0 "));
    }
}
