//! What could make a parent lose its server, or its server lose work.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{PROGRAM, exit_code, start, under, until_kept, until_no_zombie};
use crate::support::release::{Action, Habit, Side};
use crate::support::server::Program;
use crate::support::wait::until;
use crate::support::{Load, Release, Server, Socket, process, shortage};

const LONG: Duration = Duration::from_secs(3600);

/// P7. The stop went to a main process that slept through its own end, and is an elder when it
/// wakes: what was meant is the service.
pub(super) fn stop_meets_hand_over() {
    let release = Release {
        probation: Duration::from_millis(300),
        silence: Duration::from_secs(2),
        commit: Duration::from_secs(1),
        ..Release::default()
    };
    let (server, parent) = start(release, "");
    server.fault(Side::Predecessor, "probation", Action::Stop);
    let first = server.pid(0);
    server.signal(parent, Signal::SIGHUP);
    server.until_owner(1);
    server.signal(parent, Signal::SIGTERM);
    // It waits for the one that sleeps.
    until_taken(parent, Signal::SIGTERM);
    server.signal(first, Signal::SIGCONT);
    assert_eq!(exit_code(parent), 0);
    assert!(process::born_in(server.directory()).is_empty());
}

/// Until a signal has been delivered.
fn until_taken(pid: i32, signal: Signal) {
    until("the signal to be taken", || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let pending = status.lines().filter_map(|line| {
            line.strip_prefix("ShdPnd:").or_else(|| line.strip_prefix("SigPnd:"))
        });
        let bit = 1_u64 << (signal as i32 - 1);
        let waits = |mask: &str| u64::from_str_radix(mask.trim(), 16).unwrap() & bit != 0;
        (!pending.into_iter().any(waits)).then_some(())
    });
}

/// P6. A terminal sends it to the parent and to the server: it means one stop, not two, and what is
/// in flight finishes.
pub(super) fn control_c() {
    let server = Server::prepare(Release { drain: LONG, ..Release::default() });
    let terminal = nix::pty::openpty(None, None).unwrap();
    let parent = server.launch_on(Stdio::from(terminal.slave), |directory| {
        let mut command = Command::new("setsid");
        command.args(["--ctty", PROGRAM.unwrap(), "run", "--"]).arg(directory.join("server"));
        command
    });
    server.until_owner(0);
    let mut held = server.client("main");
    assert_eq!(held.ask("hold"), "held 0");
    // The parent hears of it when the server has heeded it already.
    server.signal(parent, Signal::SIGSTOP);
    fs::File::from(terminal.master.try_clone().unwrap()).write_all(b"\x03").unwrap();
    server.until_role(0, "stopping");
    server.signal(parent, Signal::SIGCONT);
    until_taken(parent, Signal::SIGINT);
    // A second wish would be heeded within milliseconds.
    assert_eq!(held.receive_within(Duration::from_millis(300)), None);
    assert_eq!(held.ask("release"), "released 0");
    assert_eq!(exit_code(parent), 0);
}

/// P1. A new version of the command is installed while an old one runs.
pub(super) fn parent_replaced() {
    let server = Server::prepare(Release::default());
    let program = server.path("heirloom");
    assert!(Command::new("cp").arg(PROGRAM.unwrap()).arg(&program).status().unwrap().success());
    let parent = server.launch(|directory| {
        let mut command = Command::new(directory.join("heirloom"));
        command.arg("run").arg("--").arg(directory.join("server"));
        command
    });
    server.until_owner(0);
    until_kept(parent, 1);
    fs::remove_file(program).unwrap();
    kill_and_be_answered(&server, parent);
}

/// The main process is killed; whoever connects is answered by the next one.
fn kill_and_be_answered(server: &Server, parent: i32) {
    let main = server.owner();
    server.signal(main, Signal::SIGKILL);
    server.until_gone(main);
    let load = Load::start(&[server.address("main")], 1);
    load.until_answered(5);
    load.finish().assert_unharmed();
    assert!(process::lives(parent));
}

/// P1. What is missing comes back, and so does the server; meanwhile its clients wait.
pub(super) fn shortage_at_restart() {
    let (server, parent) = start(Release::default(), "");
    until_kept(parent, 1);
    process::limit_descriptors(parent, 3);
    let main = server.pid(0);
    server.signal(main, Signal::SIGKILL);
    server.until_gone(main);
    let load = Load::start(&[server.address("main")], 1);
    until("a try that failed", || {
        let said = fs::read_to_string(server.path("output.log")).unwrap();
        said.contains("could not be started").then_some(())
    });
    shortage::end(parent);
    load.until_answered(5);
    load.finish().assert_unharmed();
}

/// P5. The parent may need more descriptors than a server; the server keeps its own limit.
pub(super) fn limits() {
    let server = Server::prepare(Release::default());
    let parent = server.launch(|directory| {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "ulimit -S -n 200; exec \"$0\" run -- \"$1\"", PROGRAM.unwrap()]);
        command.arg(directory.join("server"));
        command
    });
    server.until_owner(0);
    until_kept(parent, 1);
    kill_and_be_answered(&server, parent);
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.owner())).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(files.split_whitespace().nth(3), Some("200"), "{files}");
}

/// P9. Its server says what makes no sense, and names processes that are not its own.
pub(super) fn nonsense() {
    let habits = vec![Habit::TellsNonsense];
    let (server, parent) = start(Release { habits, ..Release::default() }, "");
    for generation in 1..=2 {
        server.until_entry("told", |told| told.generation == Some(generation - 1));
        server.signal(parent, Signal::SIGHUP);
        server.until_owner(generation);
    }
    server.until_entry("told", |told| told.generation == Some(2));
    server.signal(parent, Signal::SIGTERM);
    assert_eq!(exit_code(parent), 0);
}

/// P9, P4. Strangers can reach the socket, and are not heard, however loud they are.
pub(super) fn strangers() {
    let (server, parent) = start(Release::default(), "");
    let address = environment(server.pid(0)).remove("NOTIFY_SOCKET").unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for text in
            ["MAINPID=1\nSTOPPING=1", "FDSTORE=1\nFDNAME=main", "FDSTOREREMOVE=1\nFDNAME=main"]
        {
            let (address, over) = (&address, &over);
            scope.spawn(move || {
                let socket = UnixDatagram::unbound().unwrap();
                let name = address.strip_prefix('@').unwrap();
                let address = SocketAddr::from_abstract_name(name).unwrap();
                socket.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
                while !over.load(Ordering::Relaxed) {
                    let _ = socket.send_to_addr(text.as_bytes(), &address);
                }
            });
        }
        server.signal(parent, Signal::SIGHUP);
        server.until_owner(1);
        over.store(true, Ordering::Relaxed);
    });
    until_kept(parent, 1);
    kill_and_be_answered(&server, parent);
}

/// P3. `comm` of a process ends after 15 bytes, which may be in the middle of a character.
pub(super) fn name_that_is_no_text() {
    let server = Server::prepare(Release::default());
    let name = "сервердлинный";
    std::os::unix::fs::symlink("server", server.path(name)).unwrap();
    let parent = server.launch(|directory| {
        let mut command = Command::new(PROGRAM.unwrap());
        command.arg("run").arg("--").arg(directory.join(name));
        command
    });
    server.until_owner(0);
    for generation in 1..=2 {
        server.signal(parent, Signal::SIGHUP);
        server.until_owner(generation);
    }
    // Only whom it knows gets this.
    server.signal(parent, Signal::SIGTERM);
    assert_eq!(exit_code(parent), 0);
}

/// P4. What asks for an upgrade would end a server that has no handler yet.
pub(super) fn early_signal() {
    let server = Server::prepare(Release::default());
    server.install(Program::Script("echo waits >&2; read line <go; exec \"$SERVER\""));
    assert!(Command::new("mkfifo").arg(server.path("go")).status().unwrap().success());
    let parent = server.launch(under(""));
    until("the server's first steps", || {
        let said = fs::read_to_string(server.path("output.log")).unwrap();
        said.contains("waits").then_some(())
    });
    server.signal(parent, Signal::SIGHUP);
    until_taken(parent, Signal::SIGHUP);
    server.install(Program::Server);
    fs::write(server.path("go"), "now\n").unwrap();
    // It is held back until the server can hear it, and then it counts.
    server.until_owner(1);
    assert!(process::lives(parent));
}

/// P7. While it waits to start the server anew, and whatever is due in the same moment.
pub(super) fn stop_in_back_off() {
    let (server, parent) = start(Release::default(), "");
    let mut main = server.pid(0);
    for round in 1..=3 {
        until_kept(parent, 1);
        server.signal(main, Signal::SIGKILL);
        server.until_gone(main);
        if round < 3 {
            main = until("the next one", || {
                let owners = server.owners();
                owners.last().map(|(_, pid)| *pid)
            });
        }
    }
    server.signal(parent, Signal::SIGTERM);
    server.signal(parent, Signal::SIGTERM);
    // As the server ended, which was killed, or as it was told to end.
    assert!([0, 137].contains(&exit_code(parent)));
    assert!(process::born_in(server.directory()).is_empty());
}

/// P5. Of children that are gone; and what is left of them at the end is ended.
pub(super) fn orphans() {
    let server = Server::prepare(Release::default());
    let script = [
        "i=0; while [ $i -lt 1000 ]; do (true &) ; i=$((i+1)); done",
        "i=0; while [ $i -lt 300 ]; do (sleep 900 &) ; i=$((i+1)); done; exec \"$SERVER\"",
    ];
    let script = script.join("\n");
    server.install(Program::Script(&script));
    let parent = server.launch(|directory| {
        let mut command = Command::new("/bin/sh");
        // Fewer descriptors than processes.
        command.args(["-c", "ulimit -n 100; exec \"$0\" run -- \"$1\"", PROGRAM.unwrap()]);
        command.arg(directory.join("server"));
        command
    });
    server.until_owner(0);
    until_no_zombie(parent);
    assert_eq!(process::children_of(parent).len(), 301);
    server.signal(parent, Signal::SIGTERM);
    assert_eq!(exit_code(parent), 0);
    assert!(process::born_in(server.directory()).is_empty());
}

/// P1. Each kind of address, claimed by name, and not bound a second time.
pub(super) fn every_address() {
    let free = std::net::TcpListener::bind("[::1]:0").unwrap().local_addr().unwrap();
    let sockets = [
        Socket::tcp("six").at(free.to_string()),
        Socket::unix("path"),
        Socket::abstract_unix("hidden"),
    ];
    let server = Server::prepare(Release::with(sockets));
    let parent = server.launch(|directory| {
        let shown = directory.display();
        let mut command = Command::new(PROGRAM.unwrap());
        command.arg("run").arg(format!("--listen=six={free}"));
        command.arg(format!("--listen=path={shown}/path.sock"));
        command.arg(format!("--listen=hidden=@{shown}/hidden"));
        command.arg("--").arg(directory.join("server"));
        command
    });
    server.until_owner(0);
    for _ in 0..2 {
        for name in ["six", "path", "hidden"] {
            assert!(server.client(name).who().is_ok(), "{name}");
        }
        server.upgrade_well();
    }
    until_kept(parent, 3);
    let log = fs::read_to_string(server.path("trace.log")).unwrap();
    assert!(!log.contains("drift"), "{log}");
}

/// P9. Nothing of what an outer manager meant for the parent reaches the server, in no generation.
pub(super) fn environment_of_an_outer_manager() {
    let server = Server::prepare(Release::default());
    let outer = [
        ("NOTIFY_SOCKET", "/nowhere"),
        ("FDSTORE", "7"),
        ("WATCHDOG_USEC", "1000"),
        ("WATCHDOG_PID", "1"),
        ("LISTEN_PIDFDID", "1"),
        ("LISTEN_FDS", "1"),
        ("LISTEN_FDNAMES", "x"),
        ("HEIRLOOM_LINK", "3:1:1:1"),
        ("HEIRLOOM_EXECUTED", "1:1:/x"),
    ];
    let parent = server.launch(|directory| {
        let mut script = String::from("LISTEN_PID=$$");
        for (name, value) in outer {
            script.push_str(&format!(" {name}={value}"));
        }
        script.push_str("; export LISTEN_PID ");
        script.push_str(&outer.map(|(name, _)| name).join(" "));
        script.push_str("; exec \"$0\" run -- \"$1\"");
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &script, PROGRAM.unwrap()]).arg(directory.join("server"));
        command
    });
    for generation in 0..=1 {
        let pid = server.until_owner(generation);
        let told = environment(pid);
        assert!(told["NOTIFY_SOCKET"].starts_with("@heirloom-run/"), "{told:?}");
        assert_eq!(told["FDSTORE"], "1024", "{told:?}");
        let ours: &[&str] =
            if generation == 0 { &[] } else { &["HEIRLOOM_LINK", "HEIRLOOM_EXECUTED"] };
        for (name, value) in &outer[2..] {
            let leaked = told.get(*name).is_some_and(|told| told == value || !ours.contains(name));
            assert!(!leaked, "generation {generation}: {name}: {told:?}");
        }
        assert!(!told.contains_key("LISTEN_PID"), "{told:?}");
        server.signal(parent, Signal::SIGHUP);
    }
}

/// The environment that a process was started with; a name that it has twice is a failure.
fn environment(pid: i32) -> BTreeMap<String, String> {
    let bytes = fs::read(format!("/proc/{pid}/environ")).unwrap();
    let mut found = BTreeMap::new();
    for text in bytes.split(|byte| *byte == 0).filter(|text| !text.is_empty()) {
        let text = String::from_utf8(text.to_vec()).unwrap();
        let (name, value) = text.split_once('=').unwrap();
        assert!(found.insert(name.to_owned(), value.to_owned()).is_none(), "{name} twice");
    }
    found
}

/// P12. Streams that are closed, a limit below what it needs, no `/proc`: it serves or says why not.
pub(super) fn odd_surroundings() {
    let server = Server::prepare(Release::default());
    let launch = |script: &str| {
        server.launch(|directory: &Path| {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", script, PROGRAM.unwrap()]).arg(directory.join("server"));
            command.process_group(0);
            command
        })
    };
    let parent = launch("exec \"$0\" run -- \"$1\" 0<&- 1>&- 2>&-");
    server.until_owner(0);
    server.signal(parent, Signal::SIGTERM);
    assert_eq!(exit_code(parent), 0);
    let parent = launch("exec \"$0\" run --grace 1e19 -- \"$1\"");
    until("another owner", || server.owners().first().copied());
    server.signal(parent, Signal::SIGTERM);
    assert_eq!(exit_code(parent), 0);
    assert_eq!(exit_code(launch("exec \"$0\" run --ready-fd 9 -- \"$1\"")), 64);
    let said = fs::read_to_string(server.path("output.log")).unwrap();
    assert!(said.contains("--ready-fd 9"), "{said}");
    if nix::unistd::Uid::effective().is_root() {
        let hidden = launch(
            "exec unshare --mount sh -c 'mount -t tmpfs none /proc; exec \"$0\" run -- \"$1\"' \
             \"$0\" \"$1\"",
        );
        assert_eq!(exit_code(hidden), 126);
        let said = fs::read_to_string(server.path("output.log")).unwrap();
        assert!(said.contains("/proc"), "{said}");
    }
}
