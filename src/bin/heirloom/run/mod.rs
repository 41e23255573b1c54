//! `heirloom run`: a small stable parent. What it does is the library's `parent`.

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs until the server ends; its exit code.
pub(crate) fn main(arguments: Vec<OsString>) -> ExitCode {
    heirloom::parent::main(arguments)
}
