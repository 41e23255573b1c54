//! What becomes of the control socket's path while the service runs.

use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;

use super::{LONG, release, start};
use crate::support::wait::until;
use crate::support::{Operator, Release, Server};

trials![
    a_path_that_was_removed_is_back_after_the_next_upgrade,
    p9_what_has_come_to_the_path_is_not_touched,
    one_that_owns_again_is_reached_at_a_path_that_is_another_ones,
];

fn upgrade_by_signal(server: &Server, generation: u64) {
    server.signal(server.pid(generation), Signal::SIGHUP);
    server.until_owner(generation + 1);
}

fn until_answered(operator: &Operator, generation: u64) {
    until("an answer of the owner", || {
        let status = operator.run(operator.client.status()).ok()?;
        (status.owner.get() == generation).then_some(())
    });
}

/// A job that cleans temporary directories removes sockets too.
fn a_path_that_was_removed_is_back_after_the_next_upgrade() {
    let (server, operator) = start(release());
    let path = server.path("control.sock");
    std::fs::remove_file(&path).unwrap();
    upgrade_by_signal(&server, 0);
    until_answered(&operator, 1);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    // It is inherited, and removed at the end, like the one before it.
    upgrade_by_signal(&server, 1);
    until_answered(&operator, 2);
    server.stop();
    assert!(!path.exists());
}

/// P9. Neither by an upgrade nor by the end of the service.
fn p9_what_has_come_to_the_path_is_not_touched() {
    let (server, operator) = start(release());
    let path = server.path("control.sock");
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "a file").unwrap();
    upgrade_by_signal(&server, 0);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "a file");
    assert!(server.ask("who").starts_with("1 "));
    // The next owner tries again.
    std::fs::remove_file(&path).unwrap();
    upgrade_by_signal(&server, 1);
    until_answered(&operator, 2);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "another").unwrap();
    server.stop();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "another");
}

/// The owner that had put its own socket there dies; its elder answers.
fn one_that_owns_again_is_reached_at_a_path_that_is_another_ones() {
    let (server, operator) = start(Release { drain: LONG, ..release() });
    let mut held = server.client("main");
    held.ask("hold");
    std::fs::remove_file(server.path("control.sock")).unwrap();
    upgrade_by_signal(&server, 0);
    until_answered(&operator, 1);
    server.signal(server.pid(1), Signal::SIGKILL);
    until_answered(&operator, 0);
    assert!(server.client("main").who().is_ok());
}
