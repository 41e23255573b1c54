//! A small stable parent for a server, where there is no service manager: `heirloom run`.
//!
//! **Contract:** its pid stays while generations come and go; what the server stores with it is
//! open as long as it lives, so a server that crashes is started again with the same sockets and
//! nobody was refused; every orphan is reaped; it ends as the server ends.
//!
//! It speaks the manager's side of `sd_notify(3)`, so a server needs nothing for it that it does
//! not need under systemd. One thread, no runtime: it sleeps in `poll(2)`.

mod heard;
mod household;
mod options;
mod start;
mod state;
mod store;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use self::options::{Options, Wanted};
use self::state::Parent;
use crate::sys::socket;

/// The first argument of the process that becomes the server: it names itself in `LISTEN_PID`,
/// which nobody can do for it before it exists, and executes the server.
pub(crate) const BECOME: &str = "--become";

/// Cannot be started as asked.
const USAGE: u8 = 64;
/// The server could not be started.
const CANNOT_START: u8 = 126;

/// `heirloom run` with these arguments, the command's own name left out, until the server ends.
///
/// The exit code is the server's; 128 and the signal's number if a signal ended it; 64 for
/// arguments that make no sense, 126 if the server could not be started.
#[must_use]
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    if arguments.first().is_some_and(|first| first == BECOME) {
        let error = start::become_server(&arguments[1..]);
        say(&error.to_string());
        return ExitCode::from(CANNOT_START);
    }
    let options = match Options::parse(arguments) {
        Ok(Wanted::Run(options)) => options,
        Ok(Wanted::Help) => {
            // If standard output is closed there is nobody to help.
            let _ = std::io::stdout().write_all(options::HELP.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(text) => {
            say(&text);
            return ExitCode::from(USAGE);
        }
    };
    // Looked at before we open anything under that number ourselves.
    if let Some(number) = options.ready
        && !i32::try_from(number).is_ok_and(socket::is_open)
    {
        say(&format!("--ready-fd {number}: nothing is open there"));
        return ExitCode::from(USAGE);
    }
    match Parent::new(options).and_then(Parent::run) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            say(&error.chain());
            ExitCode::from(CANNOT_START)
        }
    }
}

/// A line for whoever reads the container's log.
fn say(text: &str) {
    // If standard error is closed there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "heirloom run: {text}");
}
