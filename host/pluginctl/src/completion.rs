//! `pluginctl completion`: completion scripts for the programs of plugind.

use crate::{print::print, problem::Problem};
use clap::{Command, CommandFactory, ValueEnum};
use clap_complete::{Shell, generate};
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct CompletionArgs {
    /// Print the script for this shell
    #[arg(value_name = "SHELL")]
    shell: ShellName,
    /// Complete the command lines of this program
    #[arg(value_name = "PROGRAM", default_value = "pluginctl")]
    program: Program,
}

/// The supported shells.
#[derive(Clone, Copy, ValueEnum)]
enum ShellName {
    Bash,
    Zsh,
    Fish,
}

/// The programs that users run in a shell.
#[derive(Clone, Copy, ValueEnum)]
enum Program {
    Pluginctl,
    Plugind,
}

impl CompletionArgs {
    /// Prints it; `own` is the command line of this program.
    pub(crate) fn run(self, own: Command) -> Result<ExitCode, Problem> {
        let shell = match self.shell {
            ShellName::Bash => Shell::Bash,
            ShellName::Zsh => Shell::Zsh,
            ShellName::Fish => Shell::Fish,
        };
        let (mut command, name) = match self.program {
            Program::Pluginctl => (own, "pluginctl"),
            Program::Plugind => (plugind::cli::Arguments::command(), "plugind"),
        };
        let mut script = Vec::new();
        generate(shell, &mut command, name, &mut script);
        print(&String::from_utf8_lossy(&script))?;
        Ok(ExitCode::SUCCESS)
    }
}
