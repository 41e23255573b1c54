//! What a server tells its manager that makes no sense.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use serde_json::json;

use super::fixture::Fixture;
use super::wait::until;

/// As soon as the process owns: then it is heard.
pub(crate) fn tell(fixture: &Fixture) {
    let name = std::env::var("NOTIFY_SOCKET").unwrap();
    let parent = name.split('/').nth(1).unwrap();
    let address = SocketAddr::from_abstract_name(name.strip_prefix('@').unwrap()).unwrap();
    let socket = UnixDatagram::unbound().unwrap();
    let own = fixture.generation.wait();
    until("the turn", || {
        let journal = super::journal::Journal::read(&fixture.directory);
        let owns = journal.iter().any(|entry| {
            entry.event == "status"
                && entry.generation == Some(*own)
                && entry.data["role"] == "owner"
        });
        owns.then_some(())
    });
    let cut = format!("X={}\nMAINPID={}", "x".repeat(8180), u32::MAX);
    let nonsense = [
        cut.as_str(),
        &format!("MAINPID={parent}"),
        &format!("MAINPID={}", nix::unistd::gettid()),
        "MAINPID=1",
        "MAINPID=0",
        "MAINPID=-1",
        "MAINPID=4294967297",
        "EXTEND_TIMEOUT_USEC=18446744073709551615",
        "FDSTORE=1\nFDNAME=a:b",
        "FDSTOREREMOVE=1\nFDNAME=",
        "BARRIER=1",
        "READY=1\nREADY=0\0\n==\n",
        "\n",
    ];
    for text in nonsense {
        socket.send_to_addr(text.as_bytes(), &address).unwrap();
    }
    // Not text, and not even a line.
    socket.send_to_addr(&[0xff; 4096], &address).unwrap();
    fixture.write("told", json!({}));
}
