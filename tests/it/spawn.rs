//! How the next generation is started: with what, from where, and by whom.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use heirloom::UpgradeOutcome;
use nix::sys::signal::Signal;

use crate::support::journal::Journal;
use crate::support::release::{Habit, Start};
use crate::support::server::Program;
use crate::support::wait::until;
use crate::support::{Release, Server, Socket, process};

trials![
    p5_a_successor_starts_with_standard_streams_and_the_link,
    p5_a_listed_descriptor_goes_along_and_nothing_else,
    p1_a_named_descriptor_goes_from_generation_to_generation,
    p1_a_service_that_gave_up_root_keeps_its_port,
    p1_a_service_in_its_own_runtime_upgrades,
    p5_helpers_started_during_upgrades_hold_no_descriptor_of_a_handoff,
    p9_a_wrapper_that_forks_is_refused_with_the_remedy,
    p3_a_wrapper_that_closes_the_link_does_not_split_the_service,
    p9_a_grandchild_that_inherits_the_environment_is_fresh,
    p2_a_successor_that_may_open_too_few_descriptors_says_so,
    p2_a_deleted_working_directory_is_named,
    p12_a_relative_program_is_found_from_another_directory,
    p12_a_program_on_the_path_is_found_again,
    p12_arguments_that_are_no_text_are_handed_on,
    p12_a_link_to_the_current_release_is_followed_at_the_upgrade,
    p12_a_program_that_was_replaced_on_disk_is_the_next_one,
];

/// P5. Its parent has a descriptor that a C library forgot.
fn p5_a_successor_starts_with_standard_streams_and_the_link() {
    let server = Server::start(Release {
        habits: vec![Habit::StrayDescriptor],
        ..Release::with([Socket::tcp("main"), Socket::unix("path")])
    });
    for generation in 1..=2 {
        let pid = server.upgrade_well();
        let born = server.until_entry("born", |entry| entry.pid == pid);
        let descriptors = born.data["descriptors"].as_object().unwrap();
        let mut numbers: Vec<&str> = descriptors.keys().map(String::as_str).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, ["0", "1", "2", "3"], "generation {generation}: {descriptors:?}");
        assert!(descriptors["3"].as_str().unwrap().starts_with("socket:"));
    }
}

/// P5.
fn p5_a_listed_descriptor_goes_along_and_nothing_else() {
    let server = Server::start(Release {
        habits: vec![Habit::StrayDescriptor, Habit::PassesDescriptor],
        ..Release::default()
    });
    for _ in 1..=2 {
        let pid = server.upgrade_well();
        let born = server.until_entry("born", |entry| entry.pid == pid);
        let descriptors = born.data["descriptors"].as_object().unwrap();
        let mut numbers: Vec<&str> = descriptors.keys().map(String::as_str).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, ["0", "1", "2", "3", "7"], "{descriptors:?}");
        assert_eq!(descriptors["7"], "/dev/zero");
    }
}

/// P1. Whatever it is: here it is a file that nobody else can open.
fn p1_a_named_descriptor_goes_from_generation_to_generation() {
    let server = Server::start(Release { habits: vec![Habit::KeepsNote], ..Release::default() });
    server.upgrade_well();
    server.next_release(|release| release.version = String::from("2.0"));
    let pid = server.upgrade_well();
    let note = server.until_entry("note", |entry| entry.pid == pid);
    assert_eq!(note.data, "0 1 2 ");
}

/// P1. It could not bind it again. Needs root.
fn p1_a_service_that_gave_up_root_keeps_its_port() {
    const NOBODY_ELSE: u32 = 54_321;
    let exe = std::env::current_exe().unwrap();
    let reachable = |path: &Path| {
        path.metadata().is_ok_and(|found| found.permissions().mode() & 0o005 == 0o005)
    };
    if !nix::unistd::Uid::effective().is_root() || !exe.ancestors().all(reachable) {
        return;
    }
    let server = Server::prepare(Release {
        user: Some(NOBODY_ELSE),
        ..Release::with([Socket::tcp("main").at("127.77.0.1:81")])
    });
    let open = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    open(server.directory());
    server.launch(|directory| Command::new(directory.join("server")));
    server.until_owner(0);
    for name in ["events.jsonl", "trace.log", "output.log"] {
        open(&server.path(name));
    }
    for _ in 0..2 {
        let pid = server.upgrade_well();
        assert_eq!(process::user(pid), Some(NOBODY_ELSE));
        assert_eq!(server.address("main").inet().port(), 81);
    }
}

/// P1. The expert's path, with threads before birth.
fn p1_a_service_in_its_own_runtime_upgrades() {
    let server = Server::start(Release { habits: vec![Habit::OwnRuntime], ..Release::default() });
    for _ in 0..3 {
        server.upgrade_well();
    }
    server.next_release(|release| release.start = Start::Fail("not today".into()));
    let report = server.upgrade_badly();
    assert_eq!(report.outcome, UpgradeOutcome::Failed, "{report}");
    server.stop();
}

/// P5. Both generations start them one after the other, all the time.
fn p5_helpers_started_during_upgrades_hold_no_descriptor_of_a_handoff() {
    let sockets = (0..20).map(|number| Socket::unix(&format!("s{number}")));
    let server = Server::start(Release {
        habits: vec![Habit::StartsHelpers],
        ..Release::with(sockets.chain([Socket::tcp("main")]))
    });
    let helpers = || {
        let journal = server.journal().into_iter();
        journal.filter(|entry| entry.event == "helper").collect::<Vec<_>>()
    };
    for _ in 0..5 {
        let before = helpers().len();
        until("more helpers", || (helpers().len() > before + 5).then_some(()));
        server.upgrade_well();
    }
    for helper in helpers() {
        let descriptors: Vec<String> = helper.read();
        assert_eq!(descriptors.len(), 3, "{descriptors:?}");
        assert!(!descriptors.iter().any(|target| target.starts_with("socket:")), "{descriptors:?}");
    }
}

/// P9. The process that says hello is not the one that was started.
fn p9_a_wrapper_that_forks_is_refused_with_the_remedy() {
    let server =
        Server::start(Release { commit: Duration::from_millis(500), ..Release::default() });
    server.install(Program::Script("\"$SERVER\" \"$@\"; true"));
    let report = server.upgrade_badly();
    assert_eq!(report.outcome, UpgradeOutcome::Failed);
    let cause = report.cause.clone().unwrap();
    assert!(cause.contains("a wrapper has to 'exec' the server"), "{report}");
    assert!(server.ask("who").starts_with("0 "));
    until("nobody but generation 0", || {
        (process::born_in(server.directory()) == [server.pid(0)]).then_some(())
    });
    server.install(Program::Script("exec \"$SERVER\" \"$@\""));
    server.upgrade_well();
}

/// P3. Going on as a fresh service would be a second owner.
fn p3_a_wrapper_that_closes_the_link_does_not_split_the_service() {
    let server =
        Server::start(Release { commit: Duration::from_millis(500), ..Release::default() });
    server.install(Program::Script("exec 3<&-\nexec \"$SERVER\" \"$@\""));
    let report = server.upgrade_badly();
    assert_eq!(report.outcome, UpgradeOutcome::Failed, "{report}");
    server.until_gone(report.successor_pid.unwrap());
    assert_eq!(server.owners(), [(0, server.pid(0))]);
    let said = fs::read_to_string(server.path("output.log")).unwrap();
    assert!(said.contains("wrapper"), "the remedy is not named: {said:?}");
}

/// P9. Everything that made its parent a successor is in its environment, too.
fn p9_a_grandchild_that_inherits_the_environment_is_fresh() {
    let server = Server::start(Release::default());
    server.upgrade_well();
    let other = Server::prepare(Release::default());
    let command = format!("grandchild {}", other.directory().display());
    let pid: i32 = server.ask(&command).parse().unwrap();
    assert_eq!(other.until_owner(0), pid);
    assert!(server.ask("who").starts_with("1 "));
    assert!(other.ask("who").starts_with("0 "));
    server.upgrade_well();
    other.upgrade_well();
}

/// P2, P9. The kernel drops descriptors that do not fit, with no more than a flag.
fn p2_a_successor_that_may_open_too_few_descriptors_says_so() {
    let sockets = (0..60).map(|number| Socket::unix(&format!("s{number}")));
    let server = Server::start(Release::with(sockets.chain([Socket::tcp("main")])));
    server.install(Program::Script("ulimit -n 32\nexec \"$SERVER\" \"$@\""));
    let report = server.upgrade_badly();
    assert_eq!(report.outcome, UpgradeOutcome::Failed, "{report}");
    let cause = report.cause.clone().unwrap();
    assert!(cause.contains("RLIMIT_NOFILE"), "{report}");
    assert!(server.ask("who").starts_with("0 "));
    for number in 0..60 {
        assert_eq!(server.client(&format!("s{number}")).who().unwrap().generation, 0);
    }
    server.install(Program::Server);
    server.upgrade_well();
}

/// P2. The error says that it is the directory, not the program.
fn p2_a_deleted_working_directory_is_named() {
    let server = Server::prepare(Release::default());
    let directory = server.path("work");
    fs::create_dir(&directory).unwrap();
    server.launch(|path| {
        let mut command = Command::new(path.join("server"));
        command.current_dir(path.join("work"));
        command
    });
    server.until_owner(0);
    fs::remove_dir(&directory).unwrap();
    let report = server.upgrade_badly();
    let cause = report.cause.clone().unwrap();
    assert!(cause.contains("working directory") && cause.contains("work"), "{report}");
    fs::create_dir(&directory).unwrap();
    let pid = server.upgrade_well();
    let born = server.until_entry("born", |entry| entry.pid == pid);
    assert_eq!(born.data["directory"].as_str(), directory.to_str());
}

/// The path was relative to a directory that the process has left.
fn p12_a_relative_program_is_found_from_another_directory() {
    let server =
        Server::start_by(Release { directory: Some("/".into()), ..Release::default() }, |_| {
            Command::new("./server")
        });
    assert_eq!(server.ask("directory"), "\"/\"");
    let pid = server.upgrade_well();
    let born = server.until_entry("born", |entry| entry.pid == pid);
    assert_eq!(born.data["directory"].as_str(), server.directory().to_str());
    server.upgrade_well();
}

/// The first argument has no slash.
fn p12_a_program_on_the_path_is_found_again() {
    let server = Server::start_by(Release::default(), |directory| {
        let mut command = Command::new("/bin/sh");
        let script = format!("PATH={}:$PATH; export PATH; exec server", directory.display());
        command.args(["-c", &script]);
        command
    });
    server.upgrade_well();
    server.upgrade_well();
}

/// Bytes that are no UTF-8 go through as they are.
fn p12_arguments_that_are_no_text_are_handed_on() {
    let words: [&[u8]; 3] = [b"--name=\xff\xfe", b"", b"two words"];
    let server = Server::start_by(Release::default(), |directory| {
        let mut command = Command::new(directory.join("server"));
        command.args(words.map(OsStr::from_bytes));
        command.arg0("own-name");
        command
    });
    let arguments = |pid: i32| -> Vec<Vec<u8>> {
        let born = server.until_entry("born", |entry| entry.pid == pid);
        serde_json::from_value(born.data["arguments"].clone()).unwrap()
    };
    let first = arguments(server.pid(0));
    assert_eq!(first[0], b"own-name");
    assert_eq!(first[1..], words);
    assert_eq!(arguments(server.upgrade_well()), first);
    assert_eq!(arguments(server.upgrade_well()), first);
}

/// `current` is looked up when the upgrade comes, not when the server started.
fn p12_a_link_to_the_current_release_is_followed_at_the_upgrade() {
    let server = Server::prepare(Release::default());
    let real = std::env::current_exe().unwrap();
    for release in ["v1", "v2"] {
        fs::create_dir(server.path(release)).unwrap();
    }
    symlink(&real, server.path("v1/server")).unwrap();
    let script = format!("#!/bin/sh\nexec '{}' from-v2\n", real.display());
    fs::write(server.path("v2/server"), script).unwrap();
    fs::set_permissions(server.path("v2/server"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("v1", server.path("current")).unwrap();
    server.launch(|directory| Command::new(directory.join("current/server")));
    server.until_owner(0);
    server.upgrade_well();
    symlink("v2", server.path("next")).unwrap();
    fs::rename(server.path("next"), server.path("current")).unwrap();
    let pid = server.upgrade_well();
    let born = server.until_entry("born", |entry| entry.pid == pid);
    let arguments: Vec<Vec<u8>> = serde_json::from_value(born.data["arguments"].clone()).unwrap();
    assert_eq!(arguments.last().unwrap(), b"from-v2");
}

/// `/proc/self/exe` says '(deleted)' after a deploy.
fn p12_a_program_that_was_replaced_on_disk_is_the_next_one() {
    let server = Server::prepare(Release::default());
    let real = std::env::current_exe().unwrap();
    fs::copy(&real, server.path("program")).unwrap();
    server.launch(|directory| Command::new(directory.join("program")));
    server.until_owner(0);
    fs::copy(&real, server.path("new")).unwrap();
    fs::rename(server.path("new"), server.path("program")).unwrap();
    let exe = fs::read_link(format!("/proc/{}/exe", server.pid(0))).unwrap();
    assert!(exe.to_string_lossy().ends_with("(deleted)"), "{exe:?}");
    server.next_release(|release| release.start = Start::Exit(1));
    server.upgrade_badly();
    server.next_release(|release| release.start = Start::Well);
    let pid = server.upgrade_well();
    let exe = fs::read_link(format!("/proc/{pid}/exe")).unwrap();
    assert_eq!(exe, server.path("program"));
    server.signal(pid, Signal::SIGTERM);
    server.until_gone(pid);
    assert!(Journal::read(server.directory()).iter().any(|entry| entry.event == "end"));
}
