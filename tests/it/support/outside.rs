//! Who owns, as seen from outside: by the word of the processes, by who accepts, by the PID file,
//! and by who runs the next upgrade.

use heirloom::UpgradeOutcome;
use serde_json::Value;

use super::client::{Address, Client};
use super::journal::Entry;
use super::server::Server;
use super::{process, wait};

/// A process with its generation.
pub(crate) type Owner = (u64, i32);

/// The one owner, once everything has come to rest: no upgrade runs, so many have ended if it is
/// the first generation still, and all other processes are gone or drain.
pub(crate) fn until_one_owner(server: &Server, ended: usize, what: &str) -> Owner {
    wait::until(&format!("one owner after {what}"), || {
        let owners = server.owners();
        let [owner] = owners[..] else { return None };
        rests(server, owner, ended).then_some(owner)
    })
}

fn rests(server: &Server, owner: Owner, ended: usize) -> bool {
    let journal = server.journal();
    let last = |pid: i32| journal.iter().rfind(|entry| entry.pid == pid && entry.event == "status");
    let calm = last(owner.1).is_some_and(|entry| entry.data["upgrading"] == false);
    let reports = journal.iter().filter(|entry| entry.event == "report").count();
    let begun = owner.0 > 0 || reports >= ended;
    let mut others = process::born_in(server.directory()).into_iter().filter(|pid| *pid != owner.1);
    let drains = |entry: &Entry| entry.data["role"] == "elder";
    calm && begun && others.all(|pid| last(pid).is_some_and(drains))
}

/// Everybody who is asked names this process.
pub(crate) fn agree(server: &Server, addresses: &[Address], owner: Owner, what: &str) {
    for address in addresses {
        for _ in 0..5 {
            let mut client = Client::connect(address).unwrap();
            let by = client.who().unwrap();
            assert_eq!((by.generation, by.pid), owner, "who accepts after {what}");
            let status: Value = serde_json::from_str(&client.ask("status")).unwrap();
            assert_eq!(status["role"], "owner", "what it says of itself after {what}: {status}");
        }
    }
    let file = server.pid_file(owner.1);
    let pid = std::fs::read_to_string(&file).unwrap();
    assert_eq!(pid.trim(), owner.1.to_string(), "whom the PID file names after {what}");
}

/// The owner can do what an owner does.
pub(crate) fn hands_over(server: &Server, owner: Owner, what: &str) -> Owner {
    let report = server.upgrade();
    assert_eq!(report.from.get(), owner.0, "who runs the next upgrade after {what}");
    assert_eq!(report.outcome, UpgradeOutcome::Committed, "after {what}: {report}");
    (report.to.get(), server.owner())
}
