//! `heirloom`: the command beside the library.

mod run;

use std::io::Write as _;
use std::process::ExitCode;

/// Arguments that make no sense, `EX_USAGE` of sysexits(3).
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|command| command == "run") {
        return run::main(arguments.collect());
    }
    // If standard error is closed there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "heirloom: use heirloom run -- SERVER; see run --help");
    ExitCode::from(USAGE)
}
