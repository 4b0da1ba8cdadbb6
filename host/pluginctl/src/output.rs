//! The output of a command, and its exit status.

use plugind::base::text::Escaped;
use rustix::process::geteuid;
use std::{
    io::{self, Write},
    process::ExitCode,
};

/// The exit status for a mistake that only a change of plugind.toml or of directories can fix (sysexits.h).
const EX_CONFIG: u8 = 78;

/// The error of the system for a file that this user cannot read.
const DENIED: &str = "Permission denied (os error 13)";
const UNREADABLE: &str = "the user who runs pluginctl cannot read all files, and the daemon may be able to; run pluginctl as root";

/// The texts for each stream, and the exit status.
#[derive(Default)]
pub(crate) struct Output {
    /// The result, for standard output.
    pub(crate) reported: String,
    /// Mistakes, for standard error, one line each.
    pub(crate) mistakes: Vec<String>,
    /// Further notes, for standard error, one line each.
    pub(crate) notes: Vec<String>,
    /// The signal that ended it, if one did.
    pub(crate) signal: Option<u8>,
    /// The mistakes are in the daemon's own configuration: plugins can be fixed only after that.
    pub(crate) is_configuration: bool,
}

impl Output {
    /// That of a command that cannot find the configuration.
    pub(crate) fn of_configuration(mistake: String) -> Self {
        Self { mistakes: vec![mistake], is_configuration: true, ..Self::default() }
    }

    /// Prints everything, and returns the exit status.
    pub(crate) fn print(&self) -> ExitCode {
        // Files that the daemon may be able to read.
        let is_denied = self.mistakes.iter().any(|mistake| mistake.contains(DENIED));
        let note = (is_denied && !geteuid().is_root()).then(|| UNREADABLE.to_owned());
        let aside = self.mistakes.iter().chain(&self.notes).chain(&note);
        let aside: String = aside.map(|line| format!("{}\n", Escaped(line))).collect();
        let printed = io::stdout()
            .write_all(self.reported.as_bytes())
            .and_then(|()| io::stderr().write_all(aside.as_bytes()));
        match printed {
            _ if self.signal.is_some() => ExitCode::from(128 + self.signal.unwrap_or_default()),
            _ if self.is_configuration => ExitCode::from(EX_CONFIG),
            Ok(()) if self.mistakes.is_empty() => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        }
    }
}
