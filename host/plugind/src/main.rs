//! The program `plugind`: arguments in, exit status out, and nothing else.

use clap::Parser;
use plugind::{
    chain::Chain,
    daemon::{self, Settings},
    doors::{Address, Listen},
    environment::{self, Environment},
    journal::{self, Priority, Target, messages},
    name::SocketName,
    plugin::{compile::Compiler, scan::SearchPath},
    quantity::{Bytes, Span},
    systemd::environment::Systemd,
    world::granted::Places,
};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};
use tracing::{error, warn};

/// The exit status for wrong arguments (sysexits.h).
const EX_USAGE: u8 = 64;
/// The exit status for what only a change of files or arguments can mend (sysexits.h).
const EX_CONFIG: u8 = 78;

/// Hosts WebAssembly components as if each were a small systemd service.
#[derive(Parser)]
#[command(version, about, long_about = None)]
struct Arguments {
    /// Opens a socket, http=ADDRESS:PORT or control=/PATH; may be given more than once
    #[arg(long, value_name = "NAME=ADDRESS:PORT", value_parser = parse_listen)]
    listen: Vec<Listen>,
    /// Serves the plugins in this directory, and no others
    #[arg(long, value_name = "DIR")]
    plugins: Option<PathBuf>,
    /// Takes every path (/usr/lib/plugind, /run/plugind, /etc/plugind, /var/cache/plugind) below this directory
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// The program that compiles components
    #[arg(long, value_name = "PATH")]
    compiler: Option<PathBuf>,
    /// How long compiling one component may take
    #[arg(long, value_name = "TIME", default_value = "2min")]
    compile_timeout: Span,
    /// How much address space compiling one component may take
    #[arg(long, value_name = "SIZE", default_value = "4G")]
    compile_memory_max: Bytes,
    /// The least important entries that are kept
    #[arg(long, value_name = "PRIORITY", default_value = "info", value_parser = parse_priority,
          help = "The least important entries that are kept: crit, err, warning, notice, info or debug")]
    log: Priority,
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

fn parse_priority(text: &str) -> Result<Priority, String> {
    let found = Priority::ALL.iter().find(|(name, _)| *name == text);
    found
        .map(|(_, priority)| *priority)
        .ok_or_else(|| "it is none of crit, err, warning, notice, info, debug".to_owned())
}

fn main() -> ExitCode {
    let environment = Environment::read();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Where it cannot be printed, the exit status still tells.
            error.print().ok();
            return if error.use_stderr() { ExitCode::from(EX_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    // Before there are threads: it reads the environment, and clears it of what is not for others.
    let systemd = Systemd::take();
    let target = systemd.as_ref().map_or(Target::Lines, |systemd| systemd.journal);
    let Ok((journal, writer)) = journal::start(arguments.log, target) else {
        return ExitCode::FAILURE;
    };
    // It fails only if there is another subscriber, and nothing sets one before.
    tracing::subscriber::set_global_default(journal.subscribe()).ok();

    if let Err(error) = environment::raise_open_files() {
        warn!(%error, "the limit of open files stays as it is");
    }
    let root = arguments.root.as_deref();
    let settings = Settings {
        listen: arguments.listen,
        search_path: match arguments.plugins {
            Some(directory) => SearchPath::Only(directory),
            None => SearchPath::below(root.unwrap_or(Path::new("/"))),
        },
        cache: environment.cache(root),
        places: Places {
            state: environment.state(root),
            credentials: environment.credentials(root),
        },
        compiler: Compiler::new(
            arguments.compiler.unwrap_or_else(|| environment.compiler()),
            arguments.compile_timeout.0,
            arguments.compile_memory_max.0,
        ),
    };
    let status = match systemd {
        Ok(systemd) => run(settings, systemd, journal),
        Err(error) => {
            error!(message_id = messages::START_FAILED, error = %Chain(&error), "cannot start");
            ExitCode::FAILURE
        }
    };
    writer.finish();
    status
}

fn run(settings: Settings, systemd: Systemd, journal: journal::Journal) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("executor")
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            error!(%error, "cannot start threads");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(daemon::run(settings, systemd, journal));
    // Guests that did not stop in time are not waited for again.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!(message_id = messages::START_FAILED, error = %Chain(&error), "cannot go on");
            if error.is_configuration() { ExitCode::from(EX_CONFIG) } else { ExitCode::FAILURE }
        }
    }
}
