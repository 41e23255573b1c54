//! The exit codes. They are stable: scripts and service managers rest on them.

use std::fmt::Write;
use std::process::ExitCode;

use heirloom::{ErrorKind, Report, UpgradeOutcome};

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
    NobodyThere = 3,
    Refused = 4,
    Busy = 5,
    FailedBeforeYield = 6,
    RolledBack = 7,
    TimedOut = 8,
}

impl Exit {
    pub(crate) const ALL: [Self; 9] = [
        Self::Done,
        Self::Failed,
        Self::Usage,
        Self::NobodyThere,
        Self::Refused,
        Self::Busy,
        Self::FailedBeforeYield,
        Self::RolledBack,
        Self::TimedOut,
    ];

    pub(crate) const fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done: what was asked for is done, the upgrade has committed",
            Self::Failed => "anything else went wrong; whether it was done is not known",
            Self::Usage => "the command line, or where the socket is, cannot be understood",
            Self::NobodyThere => "nobody answers at the socket",
            Self::Refused => {
                "the service refused: this user, this command at this moment, one more client, or not \
                 ready"
            }
            Self::Busy => "another upgrade runs",
            Self::FailedBeforeYield => {
                "the upgrade failed before the successor served: nothing has changed"
            }
            Self::RolledBack => "the successor served, and was taken back",
            Self::TimedOut => "no answer in time; what was asked for goes on",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl From<ErrorKind> for Exit {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Config => Self::Usage,
            ErrorKind::NobodyThere => Self::NobodyThere,
            ErrorKind::Credentials
            | ErrorKind::NotNow
            | ErrorKind::NotReady
            | ErrorKind::Crowded
            | ErrorKind::Stopping
            | ErrorKind::Protocol => Self::Refused,
            ErrorKind::Busy => Self::Busy,
            ErrorKind::Timeout => Self::TimedOut,
            ErrorKind::RolledBack => Self::RolledBack,
            // Whatever may be added later is none of the above.
            _ => Self::Failed,
        }
    }
}

impl From<&Report> for Exit {
    fn from(report: &Report) -> Self {
        match report.outcome {
            UpgradeOutcome::Committed => Self::Done,
            UpgradeOutcome::Failed => Self::FailedBeforeYield,
            UpgradeOutcome::RolledBack => Self::RolledBack,
            // Whatever may be added later is no success.
            _ => Self::Failed,
        }
    }
}

/// For `--help`.
pub(crate) fn help() -> String {
    let mut text = String::from("Exit codes:\n");
    for exit in Exit::ALL {
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {}  {}", exit as u8, exit.meaning());
    }
    text
}

/// For the manual page, in roff.
pub(crate) fn manual() -> String {
    let mut text = String::from(".SH \"EXIT STATUS\"\n");
    for exit in Exit::ALL {
        let _ = writeln!(text, ".TP\n{}\n{}", exit as u8, exit.meaning());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_what_they_always_were() {
        let codes: Vec<u8> = Exit::ALL.iter().map(|exit| *exit as u8).collect();
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 7, 8]);
        for (kind, code) in [
            (ErrorKind::Config, 2),
            (ErrorKind::NobodyThere, 3),
            (ErrorKind::Credentials, 4),
            (ErrorKind::NotNow, 4),
            (ErrorKind::NotReady, 4),
            (ErrorKind::Crowded, 4),
            (ErrorKind::Busy, 5),
            (ErrorKind::RolledBack, 7),
            (ErrorKind::Timeout, 8),
            (ErrorKind::Link, 1),
        ] {
            assert_eq!(Exit::from(kind) as u8, code, "{kind:?}");
        }
    }

    #[test]
    fn help_and_manual_name_every_code() {
        for exit in Exit::ALL {
            assert!(help().contains(exit.meaning()) && manual().contains(exit.meaning()));
        }
    }
}
