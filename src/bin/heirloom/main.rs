//! `heirloom`: steers a running service over its control socket, and runs one as its parent.

mod args;
mod commands;
mod exit;
mod manual;
mod print;
mod progress;
mod run;
mod watch;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use self::args::{Args, Verb};
use self::exit::Exit;
use self::print::Printer;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|command| command == "run") {
        // What follows is another program's, `--` included.
        return run::main(arguments.collect());
    }
    let args = Args::parse();
    let exit = match &args.verb {
        Verb::Completions { shell } => {
            clap_complete::generate(
                *shell,
                &mut Args::command(),
                "heirloom",
                &mut std::io::stdout(),
            );
            Exit::Done
        }
        Verb::Man => man(),
        _ => steer(&args),
    };
    exit.into()
}

fn man() -> Exit {
    let written = manual::write(Args::command(), &mut std::io::stdout().lock());
    written.map_or(Exit::Failed, |()| Exit::Done)
}

fn steer(args: &Args) -> Exit {
    let printer = Printer::new(args);
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match built {
        Ok(runtime) => runtime,
        Err(error) => {
            printer.complain(&format!("no runtime: {error}"));
            return Exit::Failed;
        }
    };
    match runtime.block_on(commands::run(args, &printer)) {
        Ok(exit) => exit,
        Err(error) => {
            printer.error(&error);
            Exit::from(error.kind())
        }
    }
}
