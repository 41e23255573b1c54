//! `glue serve FRAMEWORK ADDRESS DIRECTORY` is a server; `glue loss [FRAMEWORK ...]` measures what
//! upgrades lose.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["serve", framework, address, directory] => {
            tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
            glue::server::main(framework.to_owned(), address.to_owned(), directory.into())
        }
        ["loss", ref names @ ..] => glue::loss::main(names),
        _ => {
            eprintln!("usage: glue loss [FRAMEWORK ...]");
            ExitCode::from(2)
        }
    }
}
