//! The programs of generations: kept so that they can be started again, known by what they hold,
//! remembered when they fail, and checked before they are started.

mod failures;
mod hash;
mod identity;
mod preflight;

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{AccessFlags, eaccess};
use tokio::sync::OnceCell;

pub(crate) use self::failures::{Failures, HeldOff, HoldOff};
pub use self::preflight::Preflight;
pub(crate) use self::preflight::preflight;
use crate::error::{Error, ErrorKind, Result};
use crate::generation::Generation;
use crate::spawn::Program;
use crate::wire::{ExecutableRecord, Hash, Identity, Which};

/// The file that this process runs, whatever has become of its name (`proc_pid_exe(5)`).
const RUNNING: &str = "/proc/self/exe";

/// The program of a generation, whose file can be opened: it can be started again when the file has
/// been deleted or another one stands at its path.
///
/// A deleted file takes its room on the disk for as long as this is held, or its process lives.
#[derive(Clone, Debug)]
pub(crate) struct Executable(Arc<Held>);

#[derive(Debug)]
struct Held {
    /// None: it is what this process runs, and the kernel holds it.
    file: Option<Arc<OwnedFd>>,
    record: ExecutableRecord,
    /// The hash of what the file held when [`ExecutableRecord::identity`] was taken.
    hash: OnceCell<Hash>,
}

impl Executable {
    /// The program that this process runs, also if its file has been deleted. `program` says how it
    /// was started.
    ///
    /// The kernel keeps the file of a process, so no descriptor of it stays open here: it is opened
    /// when it is wanted, also if its name leads elsewhere by then.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] if `/proc` is not there or the program's file may not be read.
    pub(crate) fn of_this_process(
        program: &Program,
        generation: Generation,
        version: &str,
    ) -> Result<Self> {
        let wrong = |error: std::io::Error| {
            let text = format!("executable {:?}: open the running file for reading", program.exe);
            Error::new(ErrorKind::Io, text).with_source(error)
        };
        let identity = Identity::of_path(Path::new(RUNNING)).map_err(wrong)?;
        eaccess(RUNNING, AccessFlags::R_OK).map_err(|error| wrong(error.into()))?;
        let record = ExecutableRecord {
            of: Which::Running,
            generation,
            version: version.to_owned(),
            path: program.exe.clone(),
            args: program.args.clone(),
            cwd: program.cwd.clone(),
            identity,
        };
        Ok(Self::held(record, None))
    }

    /// Takes over what a predecessor offers. Whether the file is still what the record says is
    /// [verified](Self::verify) when it is to be started.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Descriptor`] if it is not a regular file that is open for reading alone, or if
    /// its path is not absolute.
    pub(crate) fn adopt(record: ExecutableRecord, file: OwnedFd) -> Result<Self> {
        let path = &record.path;
        let wrong = |what: &str| {
            Error::new(ErrorKind::Descriptor, format!("executable {path:?}: its descriptor {what}"))
        };
        Identity::of_file(&file)
            .map_err(|error| wrong("is not the file of a program").with_source(error))?;
        let flags = fcntl(&file, FcntlArg::F_GETFL)
            .map_err(|error| wrong("cannot be asked how it is open").with_source(error))?;
        let flags = OFlag::from_bits_retain(flags);
        // One that is open for writing would keep the kernel from executing the file.
        if flags & OFlag::O_ACCMODE != OFlag::O_RDONLY || flags.contains(OFlag::O_PATH) {
            return Err(wrong("is not open for reading alone"));
        }
        if !path.is_absolute() {
            return Err(wrong("comes with a path that is not absolute"));
        }
        Ok(Self::held(record, Some(file)))
    }

    fn held(record: ExecutableRecord, file: Option<OwnedFd>) -> Self {
        let hash = OnceCell::new_with(record.identity.hash);
        Self(Arc::new(Held { file: file.map(Arc::new), record, hash }))
    }

    /// The path by which it was started.
    pub(crate) fn path(&self) -> &Path {
        &self.0.record.path
    }

    /// The generation that ran it.
    pub(crate) fn generation(&self) -> Generation {
        self.0.record.generation
    }

    /// The application's version, for people.
    pub(crate) fn version(&self) -> &str {
        &self.0.record.version
    }

    /// What the file was when its generation began, with the hash if that is known by now.
    pub(crate) fn identity(&self) -> Identity {
        Identity { hash: self.0.hash.get().copied(), ..self.0.record.identity.clone() }
    }

    /// Whether both are the same program, started in the same way.
    pub(crate) fn is_same_start(&self, other: &Self) -> bool {
        let same = self.identity().is_same_program(&other.identity());
        same && self.0.record.args == other.0.record.args && self.0.record.cwd == other.0.record.cwd
    }

    /// Believes the other's hash if it is of the very same file, as last written: a program that
    /// runs cannot be written to, and to read it again would take processors from the clients.
    pub(crate) fn learn_from(&self, other: &Self) {
        let (ours, theirs) = (&self.0.record.identity, other.identity());
        let same = (ours.dev, ours.ino, ours.size, ours.mtime)
            == (theirs.dev, theirs.ino, theirs.size, theirs.mtime);
        if let Some(hash) = theirs.hash.filter(|_| same) {
            // If it is known already it is the same.
            let _ = self.0.hash.set(hash);
        }
    }

    /// The file, to hand on together with its [record](Self::record). May wait for whoever is asked
    /// before it is opened.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] if it is what this process runs, and cannot be opened for reading.
    pub(crate) fn file(&self) -> Result<Arc<OwnedFd>> {
        if let Some(file) = &self.0.file {
            return Ok(Arc::clone(file));
        }
        let file = File::open(RUNNING).map_err(|error| self.unreadable(error))?;
        Ok(Arc::new(file.into()))
    }

    /// What to say of it in an offer. None, with a line in the log, if it is too long to be said:
    /// then it is not handed on, and a successor cannot roll back to it.
    pub(crate) fn record(&self, of: Which) -> Option<ExecutableRecord> {
        let record =
            ExecutableRecord { of, identity: self.identity(), ..self.0.record.clone() }.sendable();
        if record.is_none() {
            crate::log::warn!(
                path = ?self.path(), generation = %self.generation(),
                "the executable is not handed on: its arguments or paths are too long"
            );
        }
        record
    }

    /// Takes the hash of the file, once; what it then is, [`identity`](Self::identity) knows, too.
    /// Until then only size and time tell whether the file was overwritten.
    ///
    /// Opens and reads the whole file, on a thread of its own.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] if it cannot be read or no thread can be had; [`ErrorKind::Spawn`] if it
    /// has been overwritten.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the next call begins anew.
    pub(crate) async fn hashed(&self) -> Result<Hash> {
        let hashed = self.0.hash.get_or_try_init(|| {
            self.beside(|this, wanted| {
                let hash = this.hash_now(wanted)?;
                // Before and after: what was read is what the generation began with.
                if this.looks_unchanged()? { Ok(hash) } else { Err(this.overwritten()) }
            })
        });
        hashed.await.copied()
    }

    /// Whether the open file still holds what its generation ran: its size is the same, and its
    /// hash or, where that is not known, the time when it was last written.
    ///
    /// A file that was replaced by renaming another onto it is unchanged; one that was written over
    /// is not, and to start it would be to start something else.
    ///
    /// Looks at it on a thread of its own.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Spawn`] if it has been overwritten; [`ErrorKind::Io`] if it cannot be read or
    /// no thread can be had.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it changes nothing.
    pub(crate) async fn verify(&self) -> Result<()> {
        let verified = self.beside(|this, wanted| {
            let unchanged = match this.0.hash.get() {
                Some(_) if this.found()?.size != this.0.record.identity.size => false,
                Some(hash) => this.hash_now(wanted)? == *hash,
                None => this.looks_unchanged()?,
            };
            if unchanged { Ok(()) } else { Err(this.overwritten()) }
        });
        verified.await
    }

    /// The program as it was started, to be started again with this environment: by its path if
    /// that still leads to this very file, else by its descriptor. May wait for the disk.
    pub(crate) fn program(&self, env: Vec<(OsString, OsString)>) -> Program {
        let ExecutableRecord { path, args, cwd, .. } = &self.0.record;
        let there = std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
        let held = self.found().ok().map(|found| (found.dev, found.ino));
        let gone = there.is_none() || there != held;
        // What cannot be opened can be started by its path alone, which then says what is missing.
        let file = gone.then(|| self.file().ok()).flatten();
        // The kernel wants at least the name.
        let name = args.is_empty().then(|| path.clone().into_os_string());
        let args = args.iter().cloned().chain(name).collect();
        Program { exe: path.clone(), file, args, env, cwd: cwd.clone() }
    }

    /// What the open file is now.
    fn found(&self) -> Result<Identity> {
        let found = match &self.0.file {
            Some(file) => Identity::of_file(file),
            None => Identity::of_path(Path::new(RUNNING)),
        };
        found.map_err(|error| self.unreadable(error))
    }

    fn looks_unchanged(&self) -> Result<bool> {
        let (found, then) = (self.found()?, &self.0.record.identity);
        Ok((found.size, found.mtime) == (then.size, then.mtime))
    }

    fn hash_now(&self, wanted: &dyn Fn() -> bool) -> Result<Hash> {
        hash::hash(self.file()?, wanted).map_err(|error| self.unreadable(error))
    }

    /// Looks at the file on a thread of its own, as long as what is found is wanted.
    async fn beside<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Self, &dyn Fn() -> bool) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let this = self.clone();
        let looked = crate::task::beside(hash::THREAD, move |wanted| look(&this, wanted));
        looked.await.map_err(|error| self.unreadable(error))?
    }

    fn unreadable(&self, error: std::io::Error) -> Error {
        let text = format!("executable {:?}: read its open file", self.path());
        Error::new(ErrorKind::Io, text).with_source(error)
    }

    fn overwritten(&self) -> Error {
        let (path, generation) = (self.path(), self.generation());
        Error::new(
            ErrorKind::Spawn,
            format!(
                "executable {path:?}: the file that generation {generation} ran was overwritten \
                 in place and cannot be started any more; write a release beside the old one and \
                 rename it into place"
            ),
        )
    }
}

#[cfg(test)]
mod tests;
