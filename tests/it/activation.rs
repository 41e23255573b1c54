//! Sockets from a service manager (`sd_listen_fds(3)`).

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::client::Address;
use crate::support::process;
use crate::support::release::Habit;
use crate::support::{Load, Release, Server, Socket};

trials![
    p1_an_activated_listener_is_claimed_by_name_and_handed_on,
    p9_an_activated_descriptor_of_the_wrong_kind_is_named,
    p9_sockets_meant_for_another_process_are_left_alone,
    p9_sockets_meant_for_nobody_are_taken_only_by_who_says_so,
];

/// What a service manager does: the socket is number 3, and the variables name the new process.
fn activated(pid: &str, directory: &Path) -> Command {
    let script = format!(
        "exec 3<&0 </dev/null; export LISTEN_PID={pid} LISTEN_FDS=1 LISTEN_FDNAMES=main; exec \"$0\""
    );
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(script).arg(directory.join("server"));
    command
}

fn handed(socket: impl Into<OwnedFd>) -> Stdio {
    Stdio::from(socket.into())
}

/// P1. The port is the manager's, in each generation; nobody is refused while they follow.
fn p1_an_activated_listener_is_claimed_by_name_and_handed_on() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::Inet(listener.local_addr().unwrap());
    let server = Server::prepare(Release::default());
    server.launch_on(handed(listener), |directory| activated("$$", directory));
    server.until_owner(0);
    assert_eq!(server.address("main"), address);
    let load = Load::start(std::slice::from_ref(&address), 1);
    for _ in 0..3 {
        load.until_answered(5);
        server.upgrade_well();
        assert_eq!(server.address("main"), address);
    }
    load.finish().assert_unharmed();
}

/// P9. It is named, with what it is, and the program ends with an error.
fn p9_an_activated_descriptor_of_the_wrong_kind_is_named() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let server = Server::prepare(Release::with([Socket::tcp("main")]));
    let pid = server.launch_on(handed(socket), |directory| activated("$$", directory));
    assert!(process::ends(pid));
    let said = fs::read_to_string(server.path("output.log")).unwrap();
    assert!(said.contains("\"main\"") && said.contains("UDP"), "{said}");
}

/// P9. With another process's number in `LISTEN_PID` nothing is taken over: the port is our own.
fn p9_sockets_meant_for_another_process_are_left_alone() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let foreign = Address::Inet(listener.local_addr().unwrap());
    let server = Server::prepare(Release::default());
    server.launch_on(handed(listener), |directory| activated("1", directory));
    server.until_owner(0);
    assert_ne!(server.address("main"), foreign);
    server.upgrade_well();
}

/// P9. `systemfd --no-pid` passes them so; a successor has its own from its predecessor.
fn p9_sockets_meant_for_nobody_are_taken_only_by_who_says_so() {
    for (habits, takes) in [(vec![], false), (vec![Habit::TakesUnnamed], true)] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let passed = Address::Inet(listener.local_addr().unwrap());
        let server = Server::prepare(Release { habits, ..Release::default() });
        server.launch_on(handed(listener), |directory| {
            let mut command = Command::new("/bin/sh");
            let script =
                "exec 3<&0 </dev/null; export LISTEN_FDS=1 LISTEN_FDNAMES=main; exec \"$0\"";
            command.arg("-c").arg(script).arg(directory.join("server"));
            command
        });
        server.until_owner(0);
        assert_eq!(server.address("main") == passed, takes);
        server.upgrade_well();
        assert_eq!(server.address("main") == passed, takes);
    }
}
