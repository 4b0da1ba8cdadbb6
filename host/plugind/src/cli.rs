//! The command line of the daemon. It is part of the library, because `pluginctl completion` reads it.

use crate::{
    base::{
        name::SocketName,
        priority::Priority,
        quantity::{Bytes, Span},
    },
    config::settings::{COMPILE_MEMORY_MIN, COMPILE_TIMEOUT_MIN},
    listen::sockets::{AddressError, Listen},
    plugin::compiler::CompilerLocation,
};
use clap::{
    Parser,
    builder::{PossibleValuesParser, TypedValueParser},
};
use std::{fmt::Display, fs, path::PathBuf, str::FromStr};

/// The usage line. The generated one would not show all forms of the values.
const USAGE: &str = "\
plugind [--listen NAME=[udp:]ADDRESS:PORT|NAME=[unix:|unixgram:]/PATH]...
               [--plugins DIR] [--root DIR] [--user]
               [--compiler PATH|unix:PATH] [--compiler-cache DIR]
               [--compile-timeout TIME] [--compile-memory-max SIZE]
               [--log PRIORITY] [--movable-clock]
               [--check [COMPONENT]] [--cache DIR]";

/// Host WebAssembly components like small systemd services
#[derive(Parser)]
#[command(version, about, long_about = None, override_usage = USAGE)]
pub struct Arguments {
    /// Open a socket, such as http=ADDRESS:PORT, control=/PATH or NAME=udp:ADDRESS:PORT; may be given more than once
    #[arg(long, value_name = "NAME=ADDRESS:PORT", value_parser = parse_listen)]
    pub listen: Vec<Listen>,
    /// Serve the plugins in this directory only (default: the directories in plugind(8))
    #[arg(long, value_name = "DIR")]
    pub plugins: Option<PathBuf>,
    /// Use this directory as the root of the default paths, such as /etc/plugind and /var/cache/plugind (default: /)
    #[arg(long, value_name = "DIR", value_parser = existing_directory)]
    pub root: Option<PathBuf>,
    /// Use the configuration of this user, in $XDG_RUNTIME_DIR/plugind and $XDG_CONFIG_HOME/plugind
    #[arg(long, conflicts_with = "root")]
    pub user: bool,
    /// Use this compiler: the program plugind-compile, or unix:PATH, the socket of its service
    #[arg(long, value_name = "PATH")]
    pub compiler: Option<CompilerLocation>,
    /// Read the compiled files of the service unix:PATH in this directory, without asking it
    #[arg(long, value_name = "DIR", requires = "compiler")]
    pub compiler_cache: Option<PathBuf>,
    /// Limit the processor time for compiling one component, at least 1s (default: from plugind.toml, 5min)
    #[arg(long, value_name = "TIME", value_parser = at_least(COMPILE_TIMEOUT_MIN))]
    pub compile_timeout: Option<Span>,
    /// Limit the address space for compiling one component, at least 64M (default: from plugind.toml, 4G)
    #[arg(long, value_name = "SIZE", value_parser = at_least(COMPILE_MEMORY_MIN))]
    pub compile_memory_max: Option<Bytes>,
    /// Compile and link the plugins, or this component, print those that fail as JSON, and exit
    #[arg(long, value_name = "COMPONENT", num_args = 0..=1, conflicts_with_all = ["listen", "log"])]
    pub check: Option<Option<PathBuf>>,
    /// Keep the files that --check compiles in this directory, which is created
    #[arg(long, value_name = "DIR", requires = "check")]
    pub cache: Option<PathBuf>,
    /// Discard log entries that are less important than this priority (default: from plugind.toml, info)
    #[arg(long, value_name = "PRIORITY", value_parser = priorities())]
    pub log: Option<Priority>,
    /// Let the control socket move the clocks that plugins see; for tests of plugins only
    #[arg(long, conflicts_with = "check")]
    pub movable_clock: bool,
}

/// Takes the names of priorities.
#[must_use]
pub fn priorities() -> impl TypedValueParser<Value = Priority> {
    PossibleValuesParser::new(Priority::ALL.map(|(name, _)| name)).try_map(|chosen| {
        let mut all = Priority::ALL.into_iter();
        all.find_map(|(name, priority)| (name == chosen).then_some(priority)).ok_or("unknown")
    })
}

/// Takes the path of a directory. A root that does not exist would look like one without plugins.
///
/// # Errors
/// If there is no directory at this path.
pub fn existing_directory(text: &str) -> Result<PathBuf, String> {
    match fs::metadata(text) {
        Ok(metadata) if metadata.is_dir() => Ok(PathBuf::from(text)),
        Ok(_) => Err("it must be a directory".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Parses a value that must be at least `least`.
fn at_least<T>(least: T) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync
where
    T: FromStr<Err: Display> + Display + PartialOrd + Copy + Send + Sync,
{
    move |text| {
        let value: T = text.parse().map_err(|error: T::Err| error.to_string())?;
        if value < least {
            Err(format!("it must be at least {least}, not {value}"))
        } else {
            Ok(value)
        }
    }
}

fn parse_listen(text: &str) -> Result<Listen, String> {
    let (name, address) =
        text.split_once('=').ok_or("write a name, = and an address, as in http=127.0.0.1:8080")?;
    let name: SocketName = name.parse().map_err(|error| format!("{name:?}: {error}"))?;
    let address = address.parse().map_err(|error: AddressError| error.to_string())?;
    Ok(Listen { name, address })
}
