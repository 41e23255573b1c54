//! What follows a fault from outside: who sleeps is woken, what lacks is given back.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::fault::{Case, Fault, LACKING, UNBORN};
use crate::support::journal::now_us;
use crate::support::release::Side;
use crate::support::traffic::Death;
use crate::support::wait::{pause, until};
use crate::support::{Server, process, shortage};

/// How long a process sleeps whose sleep nobody can notice yet.
const UNNOTICED: Duration = Duration::from_millis(300);

/// How long a brief sleep is.
const NAP: Duration = Duration::from_millis(100);

/// The fault as the journal has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blow {
    pub at_us: u64,
    /// Whom it struck.
    pub pid: i32,
    /// Who owned as the handoff began.
    pub predecessor: i32,
    /// Which upgrade it happened in: so many had been reported in the journal before.
    pub upgrade: usize,
}

impl Blow {
    /// The generation that the first generation was handing over to.
    pub(crate) fn successor(&self) -> u64 {
        self.upgrade as u64 + 1
    }
}

/// Does it; returns who died of the fault.
pub(crate) fn up(server: &Server, case: Case, blow: &Blow) -> Vec<Death> {
    match case.fault {
        Fault::Kill => {
            server.until_gone(blow.pid);
            return vec![Death { pid: blow.pid, at_us: blow.at_us, gone_us: now_us() }];
        }
        Fault::StopBriefly => {
            until_asleep(blow);
            pause(NAP);
            server.signal(blow.pid, Signal::SIGCONT);
        }
        Fault::StopLong => {
            until_asleep(blow);
            until_decided(server, case, blow, case.side);
            server.signal(blow.pid, Signal::SIGCONT);
        }
        Fault::StopBoth { first } => {
            until_asleep(blow);
            let second = match first {
                Side::Predecessor => Side::Successor,
                Side::Successor => Side::Predecessor,
            };
            wake(server, blow, first);
            until_decided(server, case, blow, second);
            wake(server, blow, second);
        }
        Fault::NoThread | Fault::NoProcess => {
            drop(server.until_report(blow.upgrade));
            // The process takes back by itself what it gave up.
            shortage::until_over(blow.pid);
        }
        Fault::NoRoom => {
            drop(server.until_report(blow.upgrade));
            process::born_in(server.directory()).into_iter().for_each(shortage::end);
        }
        fault if fault.is_shortage() => {
            pause(LACKING);
            // A successor has inherited the limit.
            process::born_in(server.directory()).into_iter().for_each(shortage::end);
        }
        _ => {}
    }
    Vec::new()
}

fn until_asleep(blow: &Blow) {
    until("the sleep", || process::is_stopped(blow.pid).then_some(()));
}

fn wake(server: &Server, blow: &Blow, side: Side) {
    for pid in process::born_in(server.directory()) {
        if (pid == blow.predecessor) == (side == Side::Predecessor) {
            server.signal(pid, Signal::SIGCONT);
        }
    }
}

/// Waits until the other side has acted on the silence of the one that sleeps, if it can.
fn until_decided(server: &Server, case: Case, blow: &Blow, asleep: Side) {
    let unnoticed = match asleep {
        Side::Predecessor => UNBORN.contains(&case.step),
        Side::Successor => ["committed", "owner", "commit"].contains(&case.step),
    };
    if unnoticed {
        return pause(UNNOTICED);
    }
    until(&format!("a decision while the {asleep:?} sleeps"), || {
        let decided = match asleep {
            Side::Successor => server.reports().len() > blow.upgrade,
            Side::Predecessor => {
                server.owners().iter().any(|(_, pid)| *pid != blow.predecessor)
                    || process::born_in(server.directory()) == [blow.predecessor]
            }
        };
        decided.then_some(())
    });
}
