//! What the owner knows of every live generation.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Shared;
use crate::control::{GenerationView, Overview, UpgradeView};
use crate::generation::Generation;
use crate::report::UpgradePhase;
use crate::status::Role;

/// Of the generations besides this one.
#[derive(Default)]
pub(crate) struct Survey(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    elders: Vec<GenerationView>,
    upgrade: Option<Running>,
}

/// The upgrade that runs.
struct Running {
    successor: GenerationView,
    phase: UpgradePhase,
    begun: Instant,
    entered: Instant,
}

impl Survey {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_elders(&self, elders: Vec<GenerationView>) {
        self.lock().elders = elders;
    }

    pub(super) fn upgrade_begins(&self, successor: Generation) {
        let now = Instant::now();
        let successor = GenerationView::new(successor, Role::Starting);
        let phase = UpgradePhase::Requested;
        self.lock().upgrade = Some(Running { successor, phase, begun: now, entered: now });
    }

    pub(super) fn upgrade_ends(&self) {
        self.lock().upgrade = None;
    }

    pub(super) fn phase(&self, phase: UpgradePhase) {
        if let Some(running) = &mut self.lock().upgrade {
            running.phase = phase;
            running.entered = Instant::now();
            if phase >= UpgradePhase::Serving {
                running.successor.role = Role::Successor;
            }
        }
    }

    pub(super) fn successor_process(&self, pid: i32) {
        if let Some(running) = &mut self.lock().upgrade {
            running.successor.pid = Some(pid);
        }
    }

    /// Connections that it serves, as it says with each pong.
    pub(super) fn successor_serves(&self, connections: u64) {
        if let Some(running) = &mut self.lock().upgrade {
            running.successor.connections = Some(connections);
        }
    }

    pub(super) fn successor_version(&self, version: String) {
        if let Some(running) = &mut self.lock().upgrade {
            running.successor.version = Some(version);
        }
    }
}

impl Shared {
    /// Everything, as it stands now.
    pub(crate) fn overview(&self) -> Overview {
        let status = self.status.borrow().clone();
        let (mut generations, upgrade) = {
            let inner = self.survey.lock();
            let running = inner.upgrade.as_ref();
            let successor = running.map(|running| running.successor.clone());
            let upgrade = running.map(|running| UpgradeView {
                to: running.successor.generation,
                phase: running.phase,
                elapsed: running.begun.elapsed(),
                in_phase: running.entered.elapsed(),
                probation: self.config.deadlines.probation,
                not_yet: status.not_yet.clone(),
            });
            (successor.into_iter().chain(inner.elders.clone()).collect::<Vec<_>>(), upgrade)
        };
        generations.push(self.own_view(status.role));
        for view in &mut generations {
            if let Some(pid) = view.pid {
                (view.resident_bytes, view.age) = (resident_bytes(pid), age(pid));
            }
        }
        generations.sort_by_key(|view| std::cmp::Reverse(view.generation));
        Overview {
            service: self.service.clone(),
            owner: self.generation,
            accepting: *self.accepting.borrow(),
            ready: self.is_ready(),
            queued: status.queued,
            upgrade,
            generations,
        }
    }

    fn own_view(&self, role: Role) -> GenerationView {
        let progress = self.drain.progress();
        let mut view = GenerationView::new(self.generation, role);
        view.pid = i32::try_from(std::process::id()).ok();
        view.version = Some(self.config.version.clone());
        view.connections = Some(progress.active as u64);
        let tallies = progress.by_listener.into_iter();
        view.by_listener = tallies.map(|(name, count)| (name, count as u64)).collect();
        view.oldest = progress.oldest.map(|held| held.age);
        view
    }
}

/// Memory that a process holds, in bytes (`VmRSS` of proc_pid_status(5)).
fn resident_bytes(pid: i32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = field.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// The time since a process started (`starttime` of proc_pid_stat(5), `uptime` of proc_uptime(5)).
fn age(pid: i32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may hold spaces and parentheses.
    let started: u64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
    let uptime: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok()??;
    #[allow(clippy::cast_precision_loss, reason = "a few milliseconds in a hundred years")]
    let seconds = uptime - started as f64 / ticks as f64;
    Duration::try_from_secs_f64(seconds.max(0.0)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_an_age() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(resident_bytes(own).unwrap() > 100_000);
        assert!(age(own).unwrap() < Duration::from_secs(3_600));
        assert_eq!((resident_bytes(-1), age(-1)), (None, None));
    }
}
