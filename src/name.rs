//! The name under which a descriptor is handed over.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};

/// The name of a descriptor or a service: 1 to 255 printable ASCII characters other than `:`.
///
/// The rule is that of `sd_listen_fds_with_names(3)`, so every name can also come from, or go to,
/// a service manager.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// The longest name, in bytes (`FDNAME=` in `sd_pid_notify_with_fds(3)`).
pub(crate) const MAX_NAME: usize = 255;

impl Name {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |why: &str| {
            Error::new(
                ErrorKind::Config,
                format!(
                    "name {text:?}: {why}; use 1 to {MAX_NAME} printable ASCII characters without ':'"
                ),
            )
        };
        if text.is_empty() {
            return Err(wrong("it is empty"));
        }
        if text.len() > MAX_NAME {
            return Err(wrong("it is too long"));
        }
        if !text.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b':') {
            return Err(wrong("it holds a character that a service manager would refuse"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Name {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_a_service_manager_accepts() {
        for good in ["http", "a b", "x", &"n".repeat(255)] {
            assert_eq!(good.parse::<Name>().unwrap().as_str(), good);
        }
        for bad in ["", "a:b", "tab\t", "ümlaut", &"n".repeat(256)] {
            let error = bad.parse::<Name>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{bad:?}");
        }
    }
}
