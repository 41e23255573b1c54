//! A real HAProxy in front of the service: its agent checks are answered, so it sends nobody to a
//! service that is about to pause or to stop.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::client::{Address, Client};
use crate::support::wait::until;
use crate::support::{Load, Operator, Release, Server, Socket};

trials![a_balancer_is_told_before_the_service_pauses_and_when_it_is_back];

/// One HAProxy with one server behind it.
struct Balancer {
    process: Child,
    address: SocketAddr,
    directory: tempfile::TempDir,
}

impl Balancer {
    fn start(server: &Server) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (Address::Inet(main), Address::Inet(agent)) =
            (server.address("main"), server.address("agent"))
        else {
            panic!("not TCP");
        };
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let admin = directory.path().join("admin");
        let config = format!(
            "global\n stats socket {} level admin\n\
             defaults\n mode tcp\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n\
             listen main\n bind {free}\n server one {main} check inter 100ms \
             agent-check agent-inter 50ms agent-addr {} agent-port {}\n",
            admin.display(),
            agent.ip(),
            agent.port()
        );
        let path = directory.path().join("haproxy.cfg");
        fs::write(&path, config).unwrap();
        let process = Command::new("haproxy")
            .args(["-db", "-f"])
            .arg(path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let balancer = Self { process, address: free, directory };
        until("HAProxy", || UnixStream::connect(balancer.directory.path().join("admin")).ok());
        balancer
    }

    /// What it says of the server, in the column `status` of its statistics.
    fn status(&self) -> String {
        let mut admin = UnixStream::connect(self.directory.path().join("admin")).unwrap();
        admin.write_all(b"show stat -1 4 -1\n").unwrap();
        let mut text = String::new();
        admin.read_to_string(&mut text).unwrap();
        let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
        let head = lines.next().unwrap();
        let column = head.iter().position(|name| *name == "status").unwrap();
        lines.next().map_or_else(String::new, |row| row[column].to_owned())
    }

    fn until_status(&self, begins: &str) {
        until(begins, || self.status().starts_with(begins).then_some(()));
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn a_balancer_is_told_before_the_service_pauses_and_when_it_is_back() {
    if Command::new("haproxy").arg("-v").output().is_err() {
        // Not on this machine.
        return;
    }
    let sockets = vec![Socket::tcp("main"), Socket::tcp("agent")];
    let stop_notice = Duration::from_millis(1_500);
    let server =
        Server::start(Release { sockets, stop_notice, control: true, ..Release::default() });
    let operator = Operator::of(server.directory());
    let balancer = Balancer::start(&server);
    balancer.until_status("UP");
    let front = Address::Inet(balancer.address);
    let load = Load::start(std::slice::from_ref(&front), 2);
    load.until_answered(20);
    // An upgrade is nothing that it should know of.
    operator.upgrade().unwrap();
    assert!(balancer.status().starts_with("UP"));
    load.until_answered(20);
    load.finish().assert_unharmed();
    let mut held = Client::connect(&front).unwrap();
    assert!(held.ask("who").starts_with("1 "));
    let directory = server.directory().to_owned();
    let drain = std::thread::scope(|scope| {
        let draining = scope.spawn(|| {
            let operator = Operator::of(&directory);
            operator.run(operator.client.drain(|_| {}))
        });
        // It knows while connections are still accepted, and those that it has go on.
        balancer.until_status("DRAIN");
        assert!(server.ask("who").starts_with("1 "));
        assert!(held.ask("who").starts_with("1 "));
        drop(held);
        draining.join().unwrap()
    });
    assert_eq!(drain.unwrap().cut_count, 0);
    operator.run(operator.client.resume()).unwrap();
    balancer.until_status("UP");
    assert!(Client::connect(&front).unwrap().ask("who").starts_with("1 "));
}
