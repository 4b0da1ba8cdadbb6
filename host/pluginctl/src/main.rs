//! The operator's and the author's tool for plugind.

mod columns;
mod inspect;

use clap::{Parser, Subcommand};
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
    /// Says what components are, what they import, and how they would be served
    Inspect {
        /// The components
        #[arg(required = true, value_name = "FILE")]
        components: Vec<PathBuf>,
    },
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
    match arguments.command {
        Command::Inspect { components } => inspect_all(&components),
    }
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
