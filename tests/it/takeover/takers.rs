//! What can go wrong with a takeover: either side dies, is a stranger, or talks nonsense.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::time::{Duration, Instant};

use heirloom::UpgradeOutcome;
use nix::sys::signal::Signal;

use super::{another, exit_code, release, said};
use crate::support::fixture::TAKER;
use crate::support::release::{Action, Side};
use crate::support::wait::until;
use crate::support::{Load, Release, Server, process, taker};

trials![
    p3_one_owns_whichever_step_kills_the_taker,
    p3_one_owns_whichever_step_kills_whom_it_takes_over_from,
    p9_another_user_takes_nothing_over,
    p9_a_taker_that_is_silent_or_talks_nonsense_harms_nobody,
    p9_nobody_starts_beside_somebody_who_does_not_hand_over,
];

/// P3. The first serves on, and can be taken over from.
fn p3_one_owns_whichever_step_kills_the_taker() {
    let server = Server::start(release());
    let first = server.owner();
    for step in ["hello", "welcome", "adopted", "ready", "serving"] {
        server.fault(Side::Successor, step, Action::Kill);
        let before = server.reports().len();
        assert_eq!(exit_code(another(&server)), -(Signal::SIGKILL as i32), "at {step}");
        let report = server.until_report(before);
        assert_ne!(report.outcome, UpgradeOutcome::Committed, "at {step}: {report}");
        let load = Load::start(&[server.address("main")], 2);
        load.until_answered(10);
        load.finish().assert_unharmed();
        assert_eq!(server.owner(), first, "after {step}");
    }
    // From the verdict on it is the owner that dies: the first has it back.
    server.fault(Side::Successor, "committed", Action::Kill);
    let mut held = server.client("main");
    held.ask("hold");
    assert_eq!(exit_code(another(&server)), -(Signal::SIGKILL as i32));
    until("the first one again", || (server.owners().last()?.1 == first).then_some(()));
    assert_eq!(server.ask("echo x"), "x");
    let last = another(&server);
    until("the takeover", || (server.owners().last()?.1 == last).then_some(()));
    assert_eq!(held.ask("release"), "released 0");
    assert_eq!(exit_code(first), 0);
}

/// P3. The taker owns: it has taken over, or nobody was there any more.
fn p3_one_owns_whichever_step_kills_whom_it_takes_over_from() {
    let steps = ["requested", "hello", "offer", "start", "ready", "park", "yield", "probation"];
    for step in steps.into_iter().chain(["permit", "commit"]) {
        let server = Server::start(release());
        let first = server.owner();
        server.fault(Side::Predecessor, step, Action::Kill);
        let taker = another(&server);
        assert_eq!(exit_code(first), -(Signal::SIGKILL as i32), "at {step}");
        until(&format!("the taker after {step}"), || {
            (server.owners().last()?.1 == taker).then_some(())
        });
        assert_eq!(server.owners().len(), 1, "after {step}");
        assert_eq!(server.client("main").who().unwrap().pid, taker, "after {step}");
        let file = std::fs::read_to_string(server.path("pid")).unwrap();
        assert_eq!(file.trim(), taker.to_string(), "after {step}");
        server.upgrade_well();
    }
}

/// P9. Both sides ask the kernel who the other is.
fn p9_another_user_takes_nothing_over() {
    if !nix::unistd::geteuid().is_root() {
        let _ = writeln!(std::io::stderr(), "skipped: only root can become another user");
        return;
    }
    let (friend, stranger) = (4_711, 4_712);
    let server = Server::prepare(Release {
        control_users: vec![friend, 65_534],
        pid_file: false,
        ..release()
    });
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(server.directory(), open).unwrap();
    let first = another(&server);
    server.until_owner(0);
    for user in [stranger, 65_534] {
        server.next_release(|next| next.born_as = Some(user));
        assert_eq!(exit_code(another(&server)), 1);
        let refused = format!("user {user} may not give commands");
        assert!(said(&server).contains(&refused), "{}", said(&server));
    }
    assert!(server.reports().is_empty());
    server.next_release(|next| next.born_as = Some(friend));
    let second = another(&server);
    assert_eq!(server.until_owner(1), second);
    assert_eq!(exit_code(first), 0);
    // Root may ask, and could not be ended by who owns now.
    server.next_release(|next| next.born_as = None);
    assert_eq!(exit_code(another(&server)), 1);
    assert!(said(&server).contains("may not signal the one that asks"), "{}", said(&server));
    assert_eq!(server.owner(), second);
}

/// Somebody who asks for the turn and then does this.
fn misbehaving(server: &Server, how: &str) -> i32 {
    server.launch(|directory| {
        let mut command = Command::new("env");
        command.arg(format!("{TAKER}={how}")).arg(directory.join("server"));
        command
    })
}

/// P9, P12. It has a report of its own, and is ended; whoever asks next has the turn.
fn p9_a_taker_that_is_silent_or_talks_nonsense_harms_nobody() {
    let server = Server::start(Release { hello: Duration::from_secs(1), ..release() });
    let load = Load::start(&[server.address("main")], 2);
    for how in ["silent", "garbage", "half", "go"] {
        let before = server.reports().len();
        misbehaving(&server, how);
        let report = server.until_report(before);
        assert_eq!(report.outcome, UpgradeOutcome::Failed, "{how}: {report}");
    }
    for how in ["mistaken", "go early"] {
        let before = said(&server).len();
        let code = exit_code(misbehaving(&server, how));
        assert_eq!(code, i32::from(how == "mistaken"), "{how}: {}", &said(&server)[before..]);
    }
    assert!(said(&server).contains("this is the service fixture"), "{}", said(&server));
    load.until_answered(20);
    load.finish().assert_unharmed();
    let taker = another(&server);
    until("the takeover", || (server.owners().last()?.1 == taker).then_some(()));
}

/// P3, P9. Whoever is there may serve: silence, nonsense and a broken word are errors, and soon.
fn p9_nobody_starts_beside_somebody_who_does_not_hand_over() {
    let millis = Duration::from_millis;
    let server = Server::prepare(Release {
        take_over_deadline: millis(800),
        hello: millis(400),
        ..release()
    });
    let listener = UnixListener::bind(server.path("control.sock")).unwrap();
    let turn = taker::turn();
    let words: [&[u8]; 4] = [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", &turn, b"HLRM"];
    for word in words {
        let begun = Instant::now();
        let pid = another(&server);
        // It looks first whether anybody is there.
        drop(listener.accept().unwrap());
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(word).unwrap();
        assert_eq!(exit_code(pid), 1, "{}", said(&server));
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }
    let said = said(&server);
    assert!(said.contains("somebody is there, and does not answer"), "{said}");
    assert!(said.contains("does not speak heirloom's protocol"), "{said}");
    assert!(said.contains("did not send its whole offer in time"), "{said}");
    assert!(server.journal().iter().all(|entry| entry.event != "starting"));
    assert!(!process::born_in(server.directory()).iter().any(|pid| process::lives(*pid)));
}
