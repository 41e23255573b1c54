//! The manual page: one, with all commands.

use std::io::{self, Write};

use clap::{Arg, Command};
use clap_mangen::Man;

use super::exit;

const ENVIRONMENT: &str = "\
.SH ENVIRONMENT
.TP
\\fBHEIRLOOM_SOCKET\\fR
The service's control socket, if neither \\fB\\-\\-service\\fR nor \\fB\\-\\-socket\\fR is given.
.TP
\\fBRUNTIME_DIRECTORY\\fR, \\fBXDG_RUNTIME_DIR\\fR
Where the socket of a \\fB\\-\\-service\\fR is looked for.
.TP
\\fBNO_COLOR\\fR
No colours, unless they are asked for.
";

/// Writes the page in roff.
pub(crate) fn write(command: Command, out: &mut impl Write) -> io::Result<()> {
    let commands = commands(&command);
    // Its exit codes have a section of their own.
    let page = Man::new(command.after_help(""));
    page.render_title(out)?;
    page.render_name_section(out)?;
    page.render_synopsis_section(out)?;
    page.render_description_section(out)?;
    page.render_options_section(out)?;
    for part in [&commands, ENVIRONMENT, &exit::manual()] {
        out.write_all(part.as_bytes())?;
    }
    page.render_version_section(out)
}

/// Each command with its own options.
fn commands(command: &Command) -> String {
    let mut text = String::from(".SH COMMANDS\n");
    for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let (name, about) = (escaped(command.get_name()), escaped(&about));
        text.push_str(&format!(".TP\n\\fB{name}\\fR\n{about}\n"));
        // Those of 'run' stand in its own help.
        let options: Vec<String> =
            command.get_arguments().filter(|arg| arg.get_long().is_some()).map(option).collect();
        if !options.is_empty() {
            text.push_str(&format!(".RS\n{}.RE\n", options.concat()));
        }
    }
    text
}

fn option(argument: &Arg) -> String {
    let long = escaped(&format!("--{}", argument.get_long().unwrap_or_default()));
    let values = argument.get_value_names().filter(|_| argument.get_action().takes_values());
    let value = values.and_then(|names| names.first()).map(|name| format!(" \\fI{name}\\fR"));
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    format!(".TP\n\\fB{long}\\fR{}\n{}\n", value.unwrap_or_default(), escaped(&help))
}

/// Text that roff prints as it is (groff(7)).
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}
