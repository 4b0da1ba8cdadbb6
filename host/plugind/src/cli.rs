//! What the daemon is told on its command line; here, so that its completions can be made without it.

use crate::{
    base::{
        name::SocketName,
        priority::Priority,
        quantity::{Bytes, Span},
    },
    config::settings::{COMPILE_MEMORY_MIN, COMPILE_TIMEOUT_MIN},
    listen::sockets::{Address, Listen},
    plugin::compiler::CompilerLocation,
};
use clap::{
    Parser,
    builder::{PossibleValuesParser, TypedValueParser},
};
use std::{fmt::Display, path::PathBuf, str::FromStr};

/// Hosts WebAssembly components as if each were a small systemd service.
#[derive(Parser)]
#[command(version, about, long_about = None)]
pub struct Arguments {
    /// Opens a socket, http=ADDRESS:PORT or control=/PATH; may be given more than once
    #[arg(long, value_name = "NAME=ADDRESS:PORT", value_parser = parse_listen)]
    pub listen: Vec<Listen>,
    /// Serves the plugins in this directory, and no others
    #[arg(long, value_name = "DIR")]
    pub plugins: Option<PathBuf>,
    /// Takes every path (/usr/lib/plugind, /run/plugind, /etc/plugind, /var/cache/plugind) below this directory
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// The program that compiles components, or unix:PATH, the socket of a service that does
    #[arg(long, value_name = "PATH")]
    pub compiler: Option<CompilerLocation>,
    /// How long compiling one component may take
    #[arg(long, value_name = "TIME", value_parser = at_least(COMPILE_TIMEOUT_MIN))]
    pub compile_timeout: Option<Span>,
    /// How much address space compiling one component may take
    #[arg(long, value_name = "SIZE", value_parser = at_least(COMPILE_MEMORY_MIN))]
    pub compile_memory_max: Option<Bytes>,
    /// The least important entries that are kept
    #[arg(long, value_name = "PRIORITY", value_parser = priorities())]
    pub log: Option<Priority>,
}

/// Takes the names of priorities.
#[must_use]
pub fn priorities() -> impl TypedValueParser<Value = Priority> {
    PossibleValuesParser::new(Priority::ALL.map(|(name, _)| name)).try_map(|chosen| {
        let mut all = Priority::ALL.into_iter();
        all.find_map(|(name, priority)| (name == chosen).then_some(priority)).ok_or("unknown")
    })
}

/// Takes what is not less than `least`.
fn at_least<T>(least: T) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync
where
    T: FromStr<Err: Display> + Display + PartialOrd + Copy + Send + Sync,
{
    move |text| {
        let value: T = text.parse().map_err(|error: T::Err| error.to_string())?;
        if value < least { Err(format!("it is at least {least}")) } else { Ok(value) }
    }
}

fn parse_listen(text: &str) -> Result<Listen, String> {
    let (name, address) =
        text.split_once('=').ok_or("write a name, = and an address, as in http=127.0.0.1:8080")?;
    let name: SocketName = name.parse().map_err(|error| format!("{name:?}: {error}"))?;
    let address = match address.starts_with(['/', '.']) {
        true => Address::Unix(PathBuf::from(address)),
        false => Address::Tcp(address.parse().map_err(|_| {
            format!(
                "{address:?} is no address with a port, as in 127.0.0.1:8080 or [::1]:8080, and no path, as in \
                 /run/plugind/control"
            )
        })?),
    };
    Ok(Listen { name, address })
}
