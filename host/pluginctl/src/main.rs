//! The operator's and the author's tool for plugind.

mod client;
mod columns;
mod completion;
#[cfg(test)]
mod fixtures;
mod inspect;
mod list;
mod live;
mod log_level;
mod print;
mod problem;
mod reload;
mod restart;
mod since;
mod status;

use clap::{CommandFactory, Parser, Subcommand};
use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

/// The exit status for wrong arguments (sysexits.h).
const EX_USAGE: u8 = 64;

/// Looks after plugind and its plugins.
#[derive(Parser)]
#[command(version, about, long_about = None)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Lists the plugins of the running daemon
    List(list::List),
    /// Shows how the running daemon is, or one of its plugins
    Status(status::Status),
    /// Has the daemon read its directories anew and take over what changed
    Reload(reload::Reload),
    /// Replaces all instances of plugins by new ones
    Restart(restart::Restart),
    /// Sets the least important entries that the daemon keeps in the log
    LogLevel(log_level::LogLevel),
    /// Says what components are, what they import, and how they would be served
    Inspect {
        /// The components
        #[arg(required = true, value_name = "FILE")]
        components: Vec<PathBuf>,
    },
    /// Prints what a shell needs to complete command lines
    Completion(completion::Completion),
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Where it cannot be printed, the exit status still tells.
            error.print().ok();
            return if error.use_stderr() { ExitCode::from(EX_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let done = match arguments.command {
        Command::List(list) => list.run(),
        Command::Status(status) => status.run(),
        Command::Reload(reload) => reload.run(),
        Command::Restart(restart) => restart.run(),
        Command::LogLevel(level) => level.run(),
        Command::Inspect { components } => return inspect_all(&components),
        Command::Completion(completion) => completion.run(Arguments::command()),
    };
    done.unwrap_or_else(|problem| {
        if problem.is_worth_telling() {
            print::complain(&problem.to_string());
        }
        ExitCode::from(problem.status())
    })
}

fn inspect_all(components: &[PathBuf]) -> ExitCode {
    let mut status = ExitCode::SUCCESS;
    for component in components {
        let written = match inspect::inspect(component) {
            Ok(told) => io::stdout().write_all(told.as_bytes()),
            Err(why) => {
                status = ExitCode::FAILURE;
                writeln!(io::stderr(), "{why}")
            }
        };
        if written.is_err() {
            return ExitCode::FAILURE;
        }
    }
    status
}
