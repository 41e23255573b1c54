//! Who asked for an upgrade, as it travels.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// A word, and the numbers that some words come with. Whatever word a later version has for
/// somebody, these fields keep their types.
#[derive(Serialize, Deserialize)]
pub(crate) struct Who {
    who: Cow<'static, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
}

impl Who {
    /// An operator's word.
    pub(crate) const OPERATOR: &'static str = "operator";

    /// Somebody of whom the word says all.
    pub(crate) const fn called(word: &'static str) -> Self {
        Self { who: Cow::Borrowed(word), uid: None, pid: None }
    }

    /// An operator.
    pub(crate) const fn operator(uid: u32, pid: i32) -> Self {
        Self { who: Cow::Borrowed(Self::OPERATOR), uid: Some(uid), pid: Some(pid) }
    }

    /// The word.
    pub(crate) fn word(&self) -> &str {
        &self.who
    }

    /// What is said of an operator: the user's number and the process.
    ///
    /// # Errors
    ///
    /// The name of what is missing.
    pub(crate) fn numbers(&self) -> Result<(u32, i32), &'static str> {
        Ok((self.uid.ok_or("missing field `uid`")?, self.pid.ok_or("missing field `pid`")?))
    }
}
