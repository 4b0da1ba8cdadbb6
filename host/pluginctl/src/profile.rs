//! `pluginctl profile`: records where the instances of a plugin use the processor.

use crate::{
    client::CallMethod,
    observed_daemon::ObservedDaemon,
    print::{complain, line, print},
    problem::{Problem, unless_interrupted, wait_for},
};
use clap::builder::RangedU64ValueParser;
use plugind::{
    api::{self, PROFILE_SECONDS_MAX},
    base::name::PluginName,
};
use rustix::{
    fs::{Access, access},
    io::Errno,
};
use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

#[derive(clap::Args)]
pub(crate) struct ProfileArgs {
    /// Record this plugin
    #[arg(value_name = "NAME")]
    name: PluginName,
    /// Record for this many seconds
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 10,
        value_parser = RangedU64ValueParser::<u64>::new().range(1..=PROFILE_SECONDS_MAX)
    )]
    seconds: u64,
    /// Write the profile to this file, or to standard output if it is "-" (default: NAME.profile.json)
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    daemon: ObservedDaemon,
}

/// Why a profile is lost.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {source}", path.display())]
struct ProfileWriteError {
    path: PathBuf,
    source: io::Error,
}

impl ProfileArgs {
    pub(crate) fn run(self) -> Result<ExitCode, Problem> {
        self.check_output()?;
        wait_for(unless_interrupted(async {
            let mut client = self.daemon.connect()?;
            let (name, seconds) = (self.name.to_string(), self.seconds);
            let asked = CallMethod::Profile(api::ProfileRequest { name, seconds });
            let recorded: api::Profile = client.call(asked).await?;
            if recorded.samples == 0 {
                complain(&format!(
                    "{}: no samples: no instance ran long enough; send it work, or use --seconds",
                    self.name
                ));
            }
            self.write(&recorded)
        }))
    }

    /// Where the profile is written.
    fn path(&self) -> PathBuf {
        let usual = || PathBuf::from(format!("{}.profile.json", self.name));
        self.output.clone().unwrap_or_else(usual)
    }

    /// Fails if the profile cannot be written, before anything is recorded.
    fn check_output(&self) -> Result<(), Problem> {
        let path = self.path();
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let checked = match path.metadata() {
            _ if path == Path::new("-") => Ok(()),
            Ok(metadata) if metadata.is_dir() => Err(Errno::ISDIR),
            Ok(_) => access(&path, Access::WRITE_OK),
            Err(_) => access(directory.unwrap_or(Path::new(".")), Access::WRITE_OK),
        };
        let failed = |errno: Errno| ProfileWriteError { path: path.clone(), source: errno.into() };
        checked.map_err(|errno| Problem::failed(failed(errno)))
    }

    fn write(&self, recorded: &api::Profile) -> Result<ExitCode, Problem> {
        let path = self.path();
        if path == Path::new("-") {
            print(&line(&recorded.profile))?;
            return Ok(ExitCode::SUCCESS);
        }
        fs::write(&path, &recorded.profile)
            .map_err(|source| Problem::failed(ProfileWriteError { path: path.clone(), source }))?;
        let samples = recorded.samples;
        let s = if samples == 1 { "" } else { "s" };
        let written = format!(
            "{}: {samples} sample{s} written to {}; open it with https://profiler.firefox.com",
            self.name,
            path.display()
        );
        print(&line(&written))?;
        Ok(ExitCode::SUCCESS)
    }
}
