//! What an upgrade starts, and how: nothing here makes a task wait for a program's file.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::Shared;
use crate::control::Taker;
use crate::error::{Error, ErrorKind, Result};
use crate::executable::{self, Executable, Preflight};
use crate::handoff::offer::Program as Offered;
use crate::handoff::upgrade::{Pending, Started};
use crate::report::Purpose;
use crate::spawn::{Extra, Program, beside, spawn};
use crate::wire::Identity;

/// What an upgrade starts.
pub(super) enum Next {
    /// What stands at the path.
    Release,
    /// What stands at another path, started as this generation would be.
    Program(PathBuf),
    /// What ran before this generation, deleted or not.
    Previous(Executable),
    /// Nothing: it runs already, and has asked for the turn.
    Taker(Taker),
}

impl Next {
    /// What starting it is for.
    pub(super) fn purpose(&self) -> Purpose {
        match self {
            Self::Release => Purpose::Release,
            Self::Program(_) => Purpose::Program,
            Self::Previous(_) => Purpose::RollBack,
            Self::Taker(_) => Purpose::TakeOver,
        }
    }

    /// What the report says of it.
    pub(super) fn note(&self) -> Option<String> {
        match self {
            Self::Release | Self::Program(_) => None,
            Self::Previous(executable) => {
                let (generation, version) = (executable.generation(), executable.version());
                Some(format!("rolls back to the program of generation {generation} ({version})"))
            }
            Self::Taker(taker) => {
                Some(format!("takeover: {taker} was started elsewhere and asked for the turn"))
            }
        }
    }

    /// What is tried before the successor is there, and what brings it.
    pub(super) fn begin(
        self,
        program: &Arc<Candidate>,
        shared: &Arc<Shared>,
        extra: &Extra,
    ) -> (Option<Pending<Result<()>>>, Pending<Result<Started>>) {
        let configured = shared.config.preflight.as_ref();
        let offered = {
            let shared = Arc::clone(shared);
            move || shared.programs.offered()
        };
        match self {
            Self::Release | Self::Program(_) | Self::Previous(_) => {
                (program.preflight(configured), program.start(extra.clone(), offered))
            }
            // It has started, which is more than any preflight shows.
            Self::Taker(taker) => (
                None,
                Box::pin(async move {
                    let programs = beside(move |_| Ok(offered())).await?;
                    let (child, link) = taker.welcome()?;
                    Ok(Started { child, link, programs })
                }),
            ),
        }
    }
}

/// The program of an upgrade: found once, by whoever has to know first. That takes as long as a disk
/// takes, so it is for threads [beside] the tasks.
pub(super) struct Candidate {
    /// What is started unless it ran before this generation.
    release: Program,
    previous: Option<Executable>,
    /// Which program that is, where it is known without a look.
    known: Option<Identity>,
    found: OnceLock<Found>,
}

/// A program as it stood when it was looked for.
struct Found {
    program: Program,
    /// What its path led to. None where nothing was there, or its file is held.
    there: Option<Identity>,
}

impl Candidate {
    pub(super) fn new(next: &Next, release: &Program) -> Arc<Self> {
        let (mut release, mut previous, mut known) = (release.clone(), None, None);
        match next {
            Next::Release => {}
            Next::Program(path) => release.exe.clone_from(path),
            Next::Previous(executable) => {
                known = Some(executable.identity());
                previous = Some(executable.clone());
            }
            Next::Taker(taker) => known = taker.program().cloned(),
        }
        Arc::new(Self { release, previous, known, found: OnceLock::new() })
    }

    /// Which program that is, as far as that is known by now.
    pub(super) fn identity(&self) -> Option<Identity> {
        self.known.clone().or_else(|| self.found.get()?.there.clone())
    }

    /// Where it stands, or stood.
    pub(super) fn path(&self) -> &Path {
        self.previous.as_ref().map_or(&self.release.exe, |executable| executable.path())
    }

    fn find(&self) -> &Found {
        self.found.get_or_init(|| {
            let program = match &self.previous {
                Some(executable) => executable.program(self.release.env.clone()),
                None => self.release.clone(),
            };
            let held = program.file.is_some();
            let there = if held { None } else { Identity::of_path(&program.exe).ok() };
            Found { program, there }
        })
    }

    /// What is to be tried before the program is started: for a release what the configuration
    /// says, for what ran before, that it is still the same. What was tried is then what is
    /// started.
    fn preflight(self: &Arc<Self>, configured: Option<&Preflight>) -> Option<Pending<Result<()>>> {
        let (this, last) = (Arc::clone(self), Arc::clone(self));
        if let Some(executable) = self.previous.clone() {
            return Some(Box::pin(async move {
                beside(move |_| {
                    this.find();
                    Ok(())
                })
                .await?;
                executable.verify().await?;
                beside(move |_| last.still_there()).await
            }));
        }
        let preflight = configured?.clone();
        Some(Box::pin(async move {
            let configured = preflight.clone();
            let check = beside(move |_| Ok(configured.program(&this.find().program))).await?;
            executable::preflight(&preflight, check).await?;
            beside(move |_| last.still_there()).await
        }))
    }

    /// Whether the program that was found is still what its path leads to.
    fn still_there(&self) -> Result<()> {
        let Found { program, there } = self.find();
        // Where nothing was there, or its file is held, there is nothing to compare.
        let Some(there) = there else { return Ok(()) };
        if Identity::of_path(&program.exe).is_ok_and(|now| now == *there) {
            return Ok(());
        }
        let text = format!(
            "program {:?}: another file was put in its place while it was tried; ask for the \
             upgrade again, once the release is in place",
            program.exe
        );
        Err(Error::new(ErrorKind::Preflight, text))
    }

    /// Starts it. What it is offered is opened first: whatever waits, nothing has begun by then.
    fn start(
        self: &Arc<Self>,
        extra: Extra,
        offered: impl FnOnce() -> Vec<Offered> + Send + 'static,
    ) -> Pending<Result<Started>> {
        let this = Arc::clone(self);
        Box::pin(beside(move |wanted| {
            let (found, programs) = (this.find(), offered());
            if !wanted() {
                return Err(Error::new(ErrorKind::NotNow, "nobody waits for the start any more"));
            }
            let (child, link) = spawn(&found.program, &extra)?;
            Ok(Started { child, link, programs })
        }))
    }
}
