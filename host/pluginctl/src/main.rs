//! The operator's and the author's tool for plugind.

use clap::{Parser, Subcommand};
use plugind::plugin::offers::{Offers, Preview};
use std::{
    fmt::Write as _,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
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
    let Command::Inspect { components } = arguments.command;
    let mut status = ExitCode::SUCCESS;
    for component in components {
        let written = match inspect(&component) {
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

fn inspect(path: &Path) -> Result<String, String> {
    let bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let offers = Offers::of(&bytes).map_err(|error| format!("{} {error}", path.display()))?;
    let mut told = format!("{}\n", path.display());
    let mut line = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        writeln!(told, "  {name:<9} {value}").ok();
    };
    line("served", &served(&offers));
    line(
        "lifecycle",
        if offers.lifecycle { "its own" } else { "none: ready once it is instantiated" },
    );
    for (name, interfaces) in [("imports", &offers.imports), ("exports", &offers.exports)] {
        for (nth, interface) in interfaces.iter().enumerate() {
            line(if nth == 0 { name } else { "" }, interface);
        }
    }
    Ok(told)
}

fn served(offers: &Offers) -> String {
    match (offers.http, offers.run) {
        (Some(Preview::P3), _) => {
            "HTTP, by wasi:http 0.3; instances are shared by requests".to_owned()
        }
        (Some(Preview::P2), _) => {
            "HTTP, by wasi:http 0.2; every request has a fresh instance".to_owned()
        }
        (None, Some(_)) => "not at all: it is a background program".to_owned(),
        (None, None) => "not at all: it only has a life".to_owned(),
    }
}
