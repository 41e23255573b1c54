//! A report as people read it.

use std::fmt;
use std::time::Duration;

use super::{Purpose, Report, UpgradeOutcome};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "upgrade {} from generation {} ({})", self.id, self.from, Plain(&self.version))?;
        write!(f, " to {}", self.to)?;
        let version = self.successor_version.as_deref().unwrap_or("version unknown");
        match self.successor_pid {
            Some(pid) => write!(f, " ({}, pid {pid})", Plain(version))?,
            None => write!(f, " ({}, not started)", Plain(version))?,
        }
        write!(f, ": {}", self.outcome)?;
        if self.outcome != UpgradeOutcome::Committed {
            write!(f, " in phase {}", self.phase)?;
        }
        write!(f, " after {}", Time(self.elapsed))?;
        write!(f, "\n  asked for by {}", self.asked_by)?;
        if self.purpose != Purpose::Release {
            write!(f, ": {}", self.purpose)?;
        }
        if let Some(cause) = &self.cause {
            write!(f, "\n  cause: {}", Plain(cause))?;
        }
        f.write_str("\n  times:")?;
        for (index, (phase, time)) in self.phases.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma} {phase} {}", Time(*time))?;
        }
        write!(f, "\n  longest accept gap: {}", Time(self.longest_gap))?;
        write!(
            f,
            "\n  sockets: {} claimed, {} unclaimed, {} bound",
            self.claimed, self.unclaimed, self.bound
        )?;
        if let Some(accepted) = self.accepted {
            write!(f, "\n  accepted by the successor: {accepted} connections")?;
        }
        if let Some(window) = &self.window {
            write!(f, "\n  requests: {window}")?;
            if let Some(before) = &self.before {
                write!(f, "; before: {before}")?;
            }
        }
        if let Some(time) = self.back_after {
            write!(f, "\n  back after: {}", Time(time))?;
        }
        if let Some(drain) = &self.drain {
            write!(f, "\n  connections of generation {}: {drain}", self.from)?;
        }
        self.notes.iter().try_for_each(|note| write!(f, "\n  note: {}", Plain(note)))
    }
}

/// Text from elsewhere on one line, without anything that a terminal would obey.
pub(super) struct Plain<'a>(pub(super) &'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for char in self.0.chars() {
            if char.is_control() {
                write!(f, "{}", char.escape_default())?;
            } else {
                fmt::Write::write_char(f, char)?;
            }
        }
        Ok(())
    }
}

/// A time with as many digits as a reader wants: `413 µs`, `58 ms`, `12.3 s`.
pub(super) struct Time(pub(super) Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_micros() {
            micros @ 0..1_000 => write!(f, "{micros} µs"),
            1_000..10_000_000 => write!(f, "{} ms", self.0.as_millis()),
            _ => write!(f, "{:.1} s", self.0.as_secs_f64()),
        }
    }
}
