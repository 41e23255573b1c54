//! `heirloom`: steers a running service over its control socket, and runs one as its parent.

mod args;
mod commands;
mod exit;
mod manual;
mod print;
mod progress;
mod run;
mod watch;

use std::io::Write;
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
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Args::command(), "heirloom", &mut script);
            written(std::io::stdout().lock().write_all(&script))
        }
        Verb::Man => man(),
        _ => steer(&args),
    };
    exit.into()
}

fn man() -> Exit {
    written(manual::write(Args::command(), &mut std::io::stdout().lock()))
}

fn written(result: std::io::Result<()>) -> Exit {
    result.map_or(Exit::Failed, |()| Exit::Done)
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
        // What was done is done, whoever reads of it; an answer that was lost is none.
        Ok(Exit::Done) if args.verb.only_asks() && printer.has_lost_text() => {
            printer.complain("the answer could not be written");
            Exit::Failed
        }
        Ok(exit) => exit,
        Err(error) => {
            printer.error(&error);
            Exit::from(error.kind())
        }
    }
}
