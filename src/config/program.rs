//! Settings for the program of the next generation.

use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;

use super::Config;
use crate::error::{Error, ErrorKind, Result};

impl Config {
    /// The program of the next generation. Default: the one that runs now, looked up again by the
    /// path it was started by, symbolic links followed at the time of the upgrade.
    pub fn executable(mut self, path: impl Into<PathBuf>) -> Self {
        self.program.executable = Some(path.into());
        self
    }

    /// The arguments of the next generation, the program's name included. Default: ours.
    pub fn arguments<S: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.program.arguments = Some(arguments.into_iter().map(Into::into).collect());
        self
    }

    /// Sets a variable in the environment of the next generation, which otherwise is ours as it
    /// was at the start.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        let pair = (name.as_ref().to_owned(), Some(value.as_ref().to_owned()));
        self.program.environment.push(pair);
        self
    }

    /// Removes a variable from the environment of the next generation.
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.program.environment.push((name.as_ref().to_owned(), None));
        self
    }

    /// The working directory of the next generation. Default: the path of ours at the start.
    pub fn current_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.program.directory = Some(path.into());
        self
    }

    /// Passes a descriptor to each next generation under the given number (4 or more; 3 is the
    /// link's). Nothing else but the standard streams is inherited.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] if the number is below 4 or taken; [`ErrorKind::Io`] if the
    /// descriptor cannot be duplicated.
    pub fn pass_descriptor(mut self, descriptor: impl AsFd, number: i32) -> Result<Self> {
        if number < 4 || self.pass.iter().any(|(_, taken)| *taken == number) {
            return Err(Error::new(
                ErrorKind::Config,
                format!("descriptor number {number} cannot be passed: use a free one from 4 on"),
            ));
        }
        let descriptor = descriptor.as_fd().try_clone_to_owned().map_err(|error| {
            Error::new(ErrorKind::Io, format!("descriptor to pass as {number}")).with_source(error)
        })?;
        self.pass.push((Arc::new(descriptor), number));
        Ok(self)
    }
}
