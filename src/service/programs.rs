//! The programs of this generation and of the one before it, and those that have failed.

use std::ffi::OsString;
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

use super::Previous;

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
    pub hold_off: HoldOff,
}

impl Programs {
    /// To be called early: descriptors with low numbers are cheaper to start from.
    pub(crate) fn new(
        program: &Program,
        generation: Generation,
        version: &str,
        hold_off: HoldOff,
        inherited: Inherited,
    ) -> Self {
        let running = Executable::of_this_process(program, generation, version)
            .inspect_err(|error| {
                tracing::debug!(error = %chain(error), "nobody can roll back to this executable");
            })
            .ok();
        let mut older = None;
        let mut previous = None;
        for (record, file) in inherited.executables {
            let of = record.of;
            match Executable::adopt(record, file) {
                Ok(executable) if of == Which::Running => previous = Some(executable),
                Ok(executable) => older = Some(executable),
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "an executable is not taken over");
                }
            }
        }
        // To roll back to the very same program would change nothing.
        if let (Some(running), Some(theirs)) = (&running, &previous)
            && running.is_same_start(theirs)
        {
            previous = older;
        }
        let failures = Arc::new(Mutex::new(Failures::remembered(inherited.failures)));
        Self { running, previous, failures, hold_off }
    }

    /// What a successor is given: this generation's program, and the one before it.
    pub(super) fn offered(&self) -> Vec<Offered> {
        let running = self.running.iter().map(|executable| (Which::Running, executable));
        let previous = self.previous.iter().map(|executable| (Which::Previous, executable));
        let all = running.chain(previous);
        all.filter_map(|(of, executable)| {
            Some(Offered { record: executable.record(of)?, file: executable.file() })
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
        tokio::spawn(async move {
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
        let path = path.to_owned();
        tokio::spawn(async move {
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
            tracing::debug!(target: "heirloom::handoff", step = "identified", ?path);
        }
        Err(error) => tracing::warn!(error = %chain(&error), "it cannot be identified"),
    }
}

/// What an upgrade starts.
pub(super) enum Next {
    /// What stands at the path.
    Release,
    /// What ran before this generation, deleted or not.
    Previous(Executable),
}

impl Next {
    pub(super) fn program(&self, release: &Program) -> Program {
        match self {
            Self::Release => release.clone(),
            Self::Previous(executable) => {
                let env: Vec<(OsString, OsString)> = release.env.clone();
                executable.program(env)
            }
        }
    }

    /// Which program that is, if it can be told.
    pub(super) fn identity(&self, release: &Program) -> Option<Identity> {
        match self {
            Self::Release => Identity::of_path(&release.exe).ok(),
            Self::Previous(executable) => Some(executable.identity()),
        }
    }
}
