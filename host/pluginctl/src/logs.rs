//! `pluginctl logs`: the entries of and about one plugin, as journalctl finds them.

use crate::problem::Problem;
use plugind::base::name::PluginName;
use std::{
    io::{self, ErrorKind},
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, ExitCode},
};

/// The socket that exists where a journal accepts entries.
const JOURNAL: &str = "/run/systemd/journal/socket";

#[derive(clap::Args)]
pub(crate) struct LogsArgs {
    /// Show the log entries of this plugin, and those of the daemon about it
    #[arg(value_name = "NAME")]
    name: PluginName,
    /// Show the last entries, and then new entries as they are logged
    #[arg(short, long)]
    follow: bool,
    /// Show only the last NUMBER entries
    #[arg(short = 'n', long, value_name = "NUMBER")]
    lines: Option<u32>,
    /// Print JSON: an object with all fields for each entry
    #[arg(long)]
    json: bool,
}

/// Why there is no log to show.
#[derive(Debug, thiserror::Error)]
enum LogsError {
    #[error(
        "this machine has no journal: {JOURNAL} does not exist. Without it, plugind writes its log to standard error"
    )]
    NoJournal,
    #[error("journalctl must be installed to read the journal")]
    NoJournalctl,
    #[error("cannot run journalctl: {0}")]
    Run(#[source] io::Error),
}

impl LogsArgs {
    pub(crate) fn run(self) -> Result<ExitCode, Problem> {
        if !Path::new(JOURNAL).exists() {
            return Err(Problem::failed(LogsError::NoJournal));
        }
        // It replaces this program, so its exit status is the one that a shell sees.
        let error = Command::new("journalctl").args(self.arguments()).exec();
        Err(Problem::failed(match error.kind() {
            ErrorKind::NotFound => LogsError::NoJournalctl,
            _ => LogsError::Run(error),
        }))
    }

    fn arguments(&self) -> Vec<String> {
        let name = &self.name;
        let mut arguments = Vec::new();
        arguments.extend(self.follow.then(|| "--follow".to_owned()));
        arguments.extend(self.lines.map(|lines| format!("--lines={lines}")));
        arguments.extend(self.json.then(|| "--output=json".to_owned()));
        // Values of one field are alternatives, and other programs may have a field with this name.
        arguments.extend([
            format!("PLUGIN={name}"),
            "SYSLOG_IDENTIFIER=plugind".to_owned(),
            format!("SYSLOG_IDENTIFIER=plugind/{name}"),
        ]);
        arguments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn journalctl_is_asked_for_the_entries_of_a_plugin_and_about_it() {
        let name: PluginName = "hello".parse().unwrap();
        let plain = LogsArgs { name: name.clone(), follow: false, lines: None, json: false };
        let matches =
            ["PLUGIN=hello", "SYSLOG_IDENTIFIER=plugind", "SYSLOG_IDENTIFIER=plugind/hello"];
        assert_eq!(plain.arguments(), matches);
        let all = LogsArgs { name, follow: true, lines: Some(5), json: true };
        let options = ["--follow", "--lines=5", "--output=json"];
        assert_eq!(all.arguments(), [&options[..], &matches].concat());
    }
}
