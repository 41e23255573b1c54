//! The programs of this generation and of the one before it, and those that have failed.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use crate::error::chain;
use crate::executable::{Executable, Failures, HeldOff, HoldOff};
use crate::generation::Generation;
use crate::handoff::offer::Program as Offered;
use crate::spawn::Program;
use crate::wire::{ExecutableRecord, FailureRecord, Identity, Which};

use crate::status::Previous;

/// What a predecessor has told of programs.
#[derive(Debug, Default)]
pub(crate) struct Inherited {
    pub executables: Vec<(ExecutableRecord, OwnedFd)>,
    pub failures: Vec<FailureRecord>,
}

/// All that this generation knows of programs.
#[derive(Debug)]
pub(crate) struct Programs {
    /// None where the running file may not be read: then nobody can roll back to it.
    running: Option<Executable>,
    /// The last one that was another program.
    previous: Option<Executable>,
    failures: Arc<Mutex<Failures>>,
    /// Held while it is found out what a program holds that failed.
    one_at_a_time: Arc<tokio::sync::Mutex<()>>,
    pub hold_off: HoldOff,
}

impl Programs {
    pub(crate) fn new(
        program: &Program,
        generation: Generation,
        version: &str,
        hold_off: HoldOff,
        inherited: Inherited,
    ) -> Self {
        let running = Executable::of_this_process(program, generation, version)
            .inspect_err(|error| {
                crate::log::warn!(error = %chain(error), "nobody can roll back to this executable");
            })
            .ok();
        let mut older = None;
        let mut previous = None;
        for (record, file) in inherited.executables {
            let of = record.of;
            // Its descriptor is closed: what a later version gives it for is not known here.
            if of == Which::Other {
                continue;
            }
            match Executable::adopt(record, file) {
                Ok(executable) if of == Which::Running => previous = Some(executable),
                Ok(executable) => older = Some(executable),
                Err(error) => {
                    crate::log::warn!(error = %chain(&error), "an executable is not taken over");
                }
            }
        }
        if let (Some(running), Some(theirs)) = (&running, &previous) {
            running.learn_from(theirs);
        }
        // To roll back to the very same program would change nothing.
        if let (Some(running), Some(theirs)) = (&running, &previous)
            && running.is_same_start(theirs)
        {
            previous = older;
        }
        let failures = Arc::new(Mutex::new(Failures::remembered(inherited.failures)));
        Self { running, previous, failures, one_at_a_time: Arc::default(), hold_off }
    }

    /// What a successor is given: this generation's program, and the one before it. Opens the former,
    /// which may wait.
    pub(super) fn offered(&self) -> Vec<Offered> {
        let running = self.running.iter().map(|executable| (Which::Running, executable));
        let previous = self.previous.iter().map(|executable| (Which::Previous, executable));
        let all = running.chain(previous);
        all.filter_map(|(of, executable)| {
            let file = executable.file().inspect_err(|error| {
                crate::log::debug!(error = %chain(error), "nobody can roll back to this executable");
            });
            Some(Offered { record: executable.record(of)?, file: file.ok()? })
        })
        .collect()
    }

    /// The program before this one, to roll back to.
    pub(super) fn previous(&self) -> Option<Executable> {
        self.previous.clone()
    }

    /// The same, for people.
    pub(super) fn previous_release(&self) -> Option<Previous> {
        self.previous.as_ref().map(|executable| Previous {
            generation: executable.generation(),
            version: executable.version().to_owned(),
            path: executable.path().to_owned(),
        })
    }

    /// Takes note of what the programs hold, once and in the background: this generation's own,
    /// into whose file the kernel lets nobody write while it runs, and the previous one, if its own
    /// generation did not come to it.
    ///
    /// This generation owns: whatever its program did before is forgotten.
    pub(super) fn note_contents(&self) {
        let (running, previous) = (self.running.clone(), self.previous.clone());
        let failures = Arc::clone(&self.failures);
        let proved = move |running: &Executable| {
            let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
            failures.proved(&running.identity());
        };
        crate::task::spawn(async move {
            if let Some(running) = &running {
                proved(running);
                identify(running).await;
                // A copy of it may have failed.
                proved(running);
            }
            if let Some(previous) = &previous {
                identify(previous).await;
            }
        });
    }

    /// What a successor is told of failures.
    pub(super) fn failures(&self) -> Vec<FailureRecord> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).records().to_vec()
    }

    /// The program of an upgrade has failed. What it holds is found out in the background, so that
    /// it is known again at any path.
    pub(super) fn failed(&self, identity: &Identity, path: &Path, cause: &str) {
        self.note_failure(identity, cause);
        if identity.hash.is_some() {
            return;
        }
        let (failures, identity) = (Arc::clone(&self.failures), identity.clone());
        let (path, one_at_a_time) = (path.to_owned(), Arc::clone(&self.one_at_a_time));
        crate::task::spawn(async move {
            // It may fail again and again in less time than it takes to read it.
            let _alone = one_at_a_time.lock().await;
            if failures.lock().unwrap_or_else(PoisonError::into_inner).knows(&identity) {
                return;
            }
            // Another one may stand there by now, and has not failed.
            if let Ok(hashed) = Identity::of_path_hashed(&path).await
                && identity.is_same_program(&hashed)
            {
                failures.lock().unwrap_or_else(PoisonError::into_inner).learn(&hashed);
            }
        });
    }

    fn note_failure(&self, identity: &Identity, cause: &str) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.failed(identity, cause, SystemTime::now());
    }

    /// This generation's own program is not wanted any more.
    pub(super) fn own_failed(&self, cause: &str) {
        if let Some(running) = &self.running {
            self.note_failure(&running.identity(), cause);
        }
    }

    /// Whether an automatic retry must not start this program yet.
    pub(crate) fn held_off(&self, identity: &Identity) -> Option<HeldOff> {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.held_off(identity, &self.hold_off, SystemTime::now())
    }
}

/// Finds out what a program holds, and says so.
async fn identify(program: &Executable) {
    match program.hashed().await {
        Ok(_) => {
            let path = program.path();
            crate::log::debug!(target: "heirloom::handoff", step = "identified", ?path);
        }
        Err(error) => crate::log::warn!(error = %chain(&error), "it cannot be identified"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn p8_what_a_later_version_gives_a_program_for_is_nothing_to_roll_back_to() {
        let path = Path::new("/bin/sh");
        let inherited = |of| {
            let record = ExecutableRecord {
                of,
                generation: Generation::FIRST,
                version: "1.0".into(),
                path: path.to_owned(),
                args: vec!["sh".into()],
                cwd: None,
                identity: Identity::of_path(path).unwrap(),
            };
            (record, OwnedFd::from(File::open(path).unwrap()))
        };
        let program = Program::of_this_process().unwrap();
        let ours = Executable::of_this_process(&program, Generation::FIRST, "1.0").unwrap();
        // What the predecessor runs is what this process runs: there is what ran before that.
        let previous = |of: &[Which]| {
            let same =
                (ours.record(Which::Running).unwrap(), ours.file().unwrap().try_clone().unwrap());
            let others = of.iter().copied().map(inherited);
            let executables = std::iter::once(same).chain(others).collect();
            let inherited = Inherited { executables, failures: Vec::new() };
            let next = Generation::FIRST.next();
            Programs::new(&program, next, "1.1", HoldOff::default(), inherited).previous()
        };
        assert!(previous(&[Which::Previous]).is_some());
        assert!(previous(&[Which::Other]).is_none());
        let kept = previous(&[Which::Previous, Which::Other]).unwrap();
        assert_eq!(kept.record(Which::Previous).unwrap().of, Which::Previous);
    }

    fn open_here(path: &Path) -> usize {
        let all = std::fs::read_dir("/proc/self/fd").unwrap();
        all.filter(|fd| std::fs::read_link(fd.as_ref().unwrap().path()).is_ok_and(|to| to == path))
            .count()
    }

    /// P5: a program that fails faster than it can be read is read once.
    #[tokio::test]
    async fn p5_a_program_that_fails_again_and_again_is_looked_at_once() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(64 << 20).unwrap();
        let programs = Programs {
            running: None,
            previous: None,
            failures: Arc::default(),
            one_at_a_time: Arc::default(),
            hold_off: HoldOff::default(),
        };
        let identity = Identity::of_path(file.path()).unwrap();
        for _ in 0..20 {
            programs.failed(&identity, file.path(), "no");
            tokio::task::yield_now().await;
            let open = open_here(file.path());
            assert!(open <= 2, "ours and one more: {open}");
        }
        while Arc::strong_count(&programs.one_at_a_time) > 1 {
            tokio::task::yield_now().await;
        }
        assert!(programs.failures()[0].identity.hash.is_some());
    }
}
