//! What a service manager has told this process of itself: `sd_notify(3)`,
//! `sd_watchdog_enabled(3)`, `FDSTORE` of `systemd.exec(5)`.

use std::ffi::OsString;
use std::time::Duration;

use super::{Process, number};

/// Where the manager listens.
pub(crate) const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

/// How long it waits between two signs of life. A successor gets it as well: the watchdog is the
/// service's. `WATCHDOG_PID`, which names one process, it does not get.
pub(crate) const WATCHDOG_USEC: &str = "WATCHDOG_USEC";

/// The service manager of this process, as far as its environment tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Supervisor {
    /// The address on which it takes notifications, as it stands there.
    pub(crate) notify: Option<OsString>,
    /// How long it waits between two signs of life; none if it does not.
    pub(crate) watchdog: Option<Duration>,
    /// How many descriptors it would store.
    pub(crate) store: usize,
}

/// Reads it. What makes no sense is said in the log and taken as absent: a server that nobody
/// hears can serve.
pub(crate) fn supervisor() -> Supervisor {
    let pid = std::process::id().cast_signed();
    supervisor_of(&Process { pid, parent: 0 }, |name| std::env::var_os(name))
}

pub(super) fn supervisor_of(
    process: &Process,
    lookup: impl Fn(&str) -> Option<OsString>,
) -> Supervisor {
    let number = |name: &str| {
        number(name, &lookup).unwrap_or_else(|error| {
            crate::log::warn!(error = %error.chain(), "ignored");
            None
        })
    };
    let meant = number("WATCHDOG_PID").is_none_or(|pid| u64::try_from(process.pid) == Ok(pid));
    let watchdog = number(WATCHDOG_USEC).filter(|usec| meant && *usec > 0);
    Supervisor {
        notify: lookup(NOTIFY_SOCKET).filter(|address| !address.is_empty()),
        watchdog: watchdog.map(Duration::from_micros),
        store: number("FDSTORE").and_then(|most| usize::try_from(most).ok()).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(variables: &[(&str, &str)]) -> Supervisor {
        supervisor_of(&Process { pid: 42, parent: 1 }, |name| {
            let found = variables.iter().find(|(other, _)| *other == name);
            found.map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn a_manager_is_known_by_what_it_says() {
        assert_eq!(told(&[]), Supervisor::default());
        let all = told(&[
            ("NOTIFY_SOCKET", "/run/systemd/notify"),
            ("WATCHDOG_USEC", "20000000"),
            ("WATCHDOG_PID", "42"),
            ("FDSTORE", "512"),
        ]);
        assert_eq!(all.notify.unwrap(), "/run/systemd/notify");
        assert_eq!(all.watchdog, Some(Duration::from_secs(20)));
        assert_eq!(all.store, 512);
        // A successor gets no WATCHDOG_PID, which would name its predecessor.
        assert_eq!(told(&[("WATCHDOG_USEC", "1")]).watchdog, Some(Duration::from_micros(1)));
    }

    #[test]
    fn p9_a_watchdog_of_another_process_and_nonsense_are_no_watchdog() {
        for (usec, pid) in [("1000", "43"), ("0", "42"), ("-1", "42"), ("1s", "42"), ("1", "")] {
            let told = told(&[("WATCHDOG_USEC", usec), ("WATCHDOG_PID", pid)]);
            let expected = (pid.is_empty() && usec == "1").then_some(Duration::from_micros(1));
            assert_eq!(told.watchdog, expected, "{usec:?} {pid:?}");
        }
        assert_eq!(told(&[("FDSTORE", "many"), ("NOTIFY_SOCKET", "")]), Supervisor::default());
    }
}
