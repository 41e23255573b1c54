//! `heirloom run`: a small stable parent, also as process 1 of a PID namespace.

mod attacks;

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::support::client::Failure;
use crate::support::release::Start;
use crate::support::wait::until;
use crate::support::{Client, Load, Release, Server, Socket, process};

/// The command, which is there with the feature `cli`.
const PROGRAM: Option<&str> = option_env!("CARGO_BIN_EXE_heirloom");

pub(crate) fn trials() -> Vec<libtest_mimic::Trial> {
    let all: [(&str, fn(), bool); 24] = [
        ("p1_the_parent_stays_while_generations_come_and_go", twenty, false),
        ("p1_a_crashed_server_is_started_again_and_nobody_was_refused", crash, false),
        ("p1_an_owner_that_dies_beside_its_elder_is_followed_by_it", owner_dies, false),
        ("p1_sockets_that_the_parent_binds_are_claimed", listen, false),
        ("p7_a_stop_ends_with_the_servers_exit_code", stop, false),
        ("p7_a_server_that_does_not_end_is_killed_after_the_grace", grace, false),
        ("p7_a_server_that_was_never_ready_is_not_started_again", never_ready, false),
        ("p5_a_parent_of_a_server_that_starts_helpers_leaves_nobody_behind", helpers, false),
        ("p12_readiness_is_told_to_a_descriptor", ready_fd, false),
        ("p5_as_process_1_of_a_pid_namespace", process_1, true),
        ("p7_a_stop_that_meets_a_hand_over_ends_both", attacks::stop_meets_hand_over, false),
        ("p6_control_c_is_one_wish_to_stop", attacks::control_c, false),
        ("p1_a_parent_whose_file_is_gone_starts_its_server_again", attacks::parent_replaced, false),
        ("p1_a_start_that_fails_is_tried_again", attacks::shortage_at_restart, true),
        ("p5_a_server_keeps_its_own_limit_of_files", attacks::limits, false),
        ("p9_nonsense_from_the_server_is_not_heeded", attacks::nonsense, false),
        ("p9_strangers_are_not_heard", attacks::strangers, false),
        ("p3_a_server_is_followed_whatever_its_name", attacks::name_that_is_no_text, false),
        ("p4_a_signal_that_comes_early_is_held", attacks::early_signal, false),
        ("p7_a_stop_in_the_back_off_ends_at_once", attacks::stop_in_back_off, false),
        ("p5_a_thousand_orphans", attacks::orphans, false),
        ("p1_every_kind_of_address_is_claimed", attacks::every_address, false),
        (
            "p9_an_outer_managers_words_stay_outside",
            attacks::environment_of_an_outer_manager,
            false,
        ),
        ("p12_odd_surroundings", attacks::odd_surroundings, false),
    ];
    let root = nix::unistd::Uid::effective().is_root();
    all.into_iter()
        .map(|(name, test, needs_root)| {
            let run = move || {
                test();
                Ok(())
            };
            let ignored = PROGRAM.is_none() || needs_root && !root;
            libtest_mimic::Trial::test(format!("parent::{name}"), run).with_ignored_flag(ignored)
        })
        .collect()
}

fn under(options: &str) -> impl FnOnce(&Path) -> Command {
    let options = options.to_owned();
    move |directory| {
        let mut command = Command::new(PROGRAM.unwrap());
        command.arg("run").args(options.split_whitespace()).arg("--").arg(directory.join("server"));
        command
    }
}

/// A server under a parent, and the parent's pid.
fn start(release: Release, options: &str) -> (Server, i32) {
    let server = Server::prepare(release);
    let parent = server.launch(under(options));
    server.until_owner(0);
    (server, parent)
}

/// The exit code as a shell says it.
fn exit_code(parent: i32) -> i32 {
    until("the end of the parent", || {
        match waitpid(Pid::from_raw(parent), Some(nix::sys::wait::WaitPidFlag::WNOHANG)).unwrap() {
            WaitStatus::Exited(_, code) => Some(code),
            WaitStatus::StillAlive => None,
            other => panic!("{other:?}"),
        }
    })
}

/// The resident memory of a process, in kB.
fn resident(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

fn zombies(parent: i32) -> usize {
    process::children_of(parent).into_iter().filter(|pid| process::is_zombie(*pid)).count()
}

fn until_no_zombie(parent: i32) {
    until("no zombie", || (zombies(parent) == 0).then_some(()));
}

/// P1, P5. By SIGHUP to the parent, which passes it on to whoever is main.
fn twenty() {
    let (server, parent) = start(Release::default(), "");
    let load = Load::start(&[server.address("main")], 2);
    for generation in 1..=20 {
        load.until_answered(3);
        server.signal(parent, Signal::SIGHUP);
        server.until_owner(generation);
    }
    load.finish().assert_unharmed();
    assert!(process::lives(parent));
    until_no_zombie(parent);
    let kb = resident(parent);
    assert!(kb < 8 * 1024, "{kb} kB");
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("  {kb} kB\n").as_bytes());
}

/// P1. Again and again, with a back-off that grows.
fn crash() {
    let sockets = [Socket::tcp("main"), Socket::unix("admin")];
    let (server, parent) = start(Release::with(sockets), "");
    let addresses = [server.address("main"), server.address("admin")];
    server.signal(parent, Signal::SIGHUP);
    let mut main = server.until_owner(1);
    // The parent has both once the new owner has stored them.
    until_kept(parent, 2);
    for _ in 0..3 {
        server.signal(main, Signal::SIGKILL);
        server.until_gone(main);
        let load = Load::start(&addresses, 1);
        load.until_answered(10);
        let tally = load.finish();
        tally.assert_unharmed();
        let next = tally.answers.last().unwrap().by.pid;
        assert_ne!(next, main);
        main = next;
        until_kept(parent, 2);
    }
    until_no_zombie(parent);
}

/// Until the parent holds so many sockets besides its own.
fn until_kept(parent: i32, many: usize) {
    until("the sockets to be stored", || {
        let descriptors = process::descriptors(parent);
        let sockets = descriptors.values().filter(|target| target.starts_with("socket:")).count();
        (sockets == many + 1).then_some(())
    });
}

/// P1, P3. The elder owns again, says so, and is heard.
fn owner_dies() {
    let (server, parent) = start(Release::default(), "");
    let mut held = server.client("main");
    assert_eq!(held.ask("hold"), "held 0");
    let first = server.pid(0);
    server.signal(parent, Signal::SIGHUP);
    let second = server.until_owner(1);
    let load = Load::start(&[server.address("main")], 1);
    load.until_answered(3);
    server.signal(second, Signal::SIGKILL);
    server.until_gone(second);
    load.until_answered(20);
    // Only what was in flight.
    assert!(load.finish().failures.len() <= 1);
    server.signal(parent, Signal::SIGHUP);
    server.until_owner(2);
    assert_eq!(server.until_report(1).from.get(), 0);
    assert_eq!(held.ask("release"), "released 0");
    server.until_gone(first);
}

/// P1. Bound before the server is there: who comes early waits.
fn listen() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (server, _) = start(Release::default(), &format!("--listen main={free}"));
    assert_eq!(server.address("main").inet(), free);
    server.upgrade_well();
    assert_eq!(server.address("main").inet(), free);
}

/// P7. Of an orderly end, and of one that was not.
fn stop() {
    let (server, parent) = start(Release::default(), "");
    server.upgrade_well();
    server.signal(parent, Signal::SIGTERM);
    assert_eq!(exit_code(parent), 0);
    assert!(process::born_in(server.directory()).is_empty());

    let (server, parent) = start(Release::default(), "--restart never");
    server.signal(server.pid(0), Signal::SIGKILL);
    assert_eq!(exit_code(parent), 137);

    let (server, parent) = start(Release::default(), "--restart never");
    let _ = server.client("main").send("exit 7");
    assert_eq!(exit_code(parent), 7);
}

/// P7.
fn grace() {
    let (server, parent) = start(
        Release { drain: std::time::Duration::from_secs(3600), ..Release::default() },
        "--grace 0.3",
    );
    server.ask("stuck");
    let mut held = server.client("main");
    assert_eq!(held.ask("hold"), "held 0");
    // The server asks for more time, and gets it: only one that hangs is killed.
    server.signal(server.pid(0), Signal::SIGSTOP);
    server.signal(parent, Signal::SIGTERM);
    assert_eq!(exit_code(parent), 137);
    assert_eq!(held.receive().unwrap_err(), Failure::Closed);
}

/// P7, P12. A container that cannot start says so by ending.
fn never_ready() {
    let server =
        Server::prepare(Release { start: Start::Fail("no database".into()), ..Release::default() });
    let parent = server.launch(under("--restart always"));
    assert_eq!(exit_code(parent), 1);
    let said = fs::read_to_string(server.path("output.log")).unwrap();
    assert!(said.contains("no database"), "{said}");
    server.install(crate::support::server::Program::Nothing);
    let parent = server.launch(under(""));
    assert_eq!(exit_code(parent), 126);
}

/// P5. Orphans are reaped; what is left at the end is ended.
fn helpers() {
    let script = "(sleep 0.01 &) ; (sleep 3600 &) ; exec \"$SERVER\"";
    let server = Server::prepare(Release::default());
    server.install(crate::support::server::Program::Script(script));
    let parent = server.launch(under(""));
    server.until_owner(0);
    until("one orphan", || (process::children_of(parent).len() == 2).then_some(()));
    until_no_zombie(parent);
    server.signal(parent, Signal::SIGTERM);
    assert_eq!(exit_code(parent), 0);
    assert!(process::born_in(server.directory()).is_empty());
}

/// P12. As s6 wants it: a line, once.
fn ready_fd() {
    let server = Server::prepare(Release::default());
    let parent = server.launch(|directory| {
        let script =
            format!("exec 4>'{}/ready' \"$0\" run --ready-fd 4 -- \"$1\"", directory.display());
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &script, PROGRAM.unwrap()]).arg(directory.join("server"));
        command
    });
    server.until_owner(0);
    let told = || fs::read_to_string(server.path("ready")).unwrap();
    until("the line", || (told() == "\n").then_some(()));
    server.upgrade_well();
    assert_eq!(told(), "\n");
    assert!(process::lives(parent));
}

/// P1, P5, P7. Twenty upgrades, a crash, a stop, seen from outside the namespace.
fn process_1() {
    let server = Server::prepare(Release::default());
    let outer = server.launch(|directory| {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]);
        command.arg(PROGRAM.unwrap()).arg("run").arg("--").arg(directory.join("server"));
        command
    });
    // Pids in the journal are those of the namespace.
    server.until_role(0, "owner");
    let init = until("process 1", || process::children_of(outer).first().copied());
    let load = Load::start(&[server.address("main")], 1);
    let mut longest = 0;
    for generation in 1..=20 {
        load.until_answered(3);
        server.signal(init, Signal::SIGHUP);
        server.until_role(generation, "owner");
        longest = longest.max(zombies(init));
    }
    load.finish().assert_unharmed();
    until_kept(init, 1);
    let main = until("the last one alone", || match process::children_of(init)[..] {
        [one] => Some(one),
        _ => None,
    });
    process::signal(main, Signal::SIGKILL);
    let load = Load::start(&[server.address("main")], 1);
    load.until_answered(10);
    load.finish().assert_unharmed();
    until_no_zombie(init);
    let text = format!("  process 1: {} kB, zombies at most {longest}\n", resident(init));
    let _ = std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes());
    process::signal(init, Signal::SIGTERM);
    assert_eq!(exit_code(outer), 0);
    assert!(Client::connect(&server.address("main")).is_err());
}
