//! The program `plugind`: arguments in, exit status out, and nothing else.

use clap::Parser;
use plugind::{
    base::{error_chain::ErrorChain, panics, text::Escaped},
    cli::Arguments,
    config::{SearchPath, settings},
    daemon::{self, DaemonConfig},
    journal::{self, messages},
    link_check::{LinkCheck, LinkCheckError},
    plugin::compiler::{Compiler, CompilerLocation},
    runtime::executors::{self, Executors},
    systemd::{
        directories::{self, Environment},
        directory_use::DirectoryUse,
        environment::Systemd,
        process,
        state_lock::StateLock,
    },
    world::{
        broker::Broker, granted::GrantDirectories, host_runtime::PendingHostRuntime,
        movable_clock::MovableClock, state_limit::StateUsages,
    },
};
use std::{
    fmt::Display,
    io::{self, Write},
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};
use tracing::{error, info, warn};

/// The exit status for wrong arguments (sysexits.h).
const EX_USAGE: u8 = 64;
/// The exit status for what only a change of files or arguments can fix (sysexits.h).
const EX_CONFIG: u8 = 78;

/// The time to wait for the lock of the state directory: `pluginctl` has it for a moment when it changes the state of a
/// daemon that does not run.
const LOCK_WAIT: Duration = Duration::from_secs(1);

/// The files that this process has open. By their paths there, the runtime opens compiled files.
const OWN_FILES: &str = "/proc/self/fd";

fn main() -> ExitCode {
    process::reset_inherited();
    panics::leave_out_contained();
    let environment = Environment::read();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // If it cannot be printed, the exit status still reports it.
            error.print().ok();
            return if error.use_stderr() { ExitCode::from(EX_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let environment = match arguments.user {
        true => environment.of_user(),
        false => Ok(environment),
    };
    let environment = match environment {
        Ok(environment) => environment,
        Err(error) => {
            // If it cannot be printed, the exit status still reports it.
            writeln!(io::stderr(), "{error}").ok();
            return ExitCode::from(EX_CONFIG);
        }
    };
    let root = arguments.root.as_deref();
    let search_path = match arguments.user {
        true => SearchPath::of_user(
            environment.xdg_runtime_directory.as_deref(),
            environment.user_config().as_deref(),
        ),
        false => SearchPath::below(root.unwrap_or(Path::new("/"))),
    };
    // The daemon reports mistakes in the settings later, when there is a log.
    let own = settings::read(&search_path);
    let settings::Settings { log_level, compile, engine, messaging, .. } =
        own.as_ref().map(Clone::clone).unwrap_or_default();
    let is_service = matches!(arguments.compiler, Some(CompilerLocation::Socket(_)));
    if arguments.compiler_cache.is_some() && !is_service {
        // If it cannot be printed, the exit status still reports it.
        writeln!(io::stderr(), "--compiler-cache can only be used with --compiler unix:PATH").ok();
        return ExitCode::from(EX_USAGE);
    }
    let compiler = Compiler::new(
        arguments.compiler.unwrap_or_else(|| CompilerLocation::Program(environment.compiler())),
        arguments.compile_timeout.map_or(compile.timeout, |time| time.0),
        arguments.compile_memory_max.unwrap_or(compile.memory_max).0,
    );
    // Plugins in another directory may have the names of installed ones, whose kept versions must stay.
    let keep_versions = arguments.plugins.is_none();
    let search_path = match arguments.plugins {
        Some(directory) => search_path.with_only_plugins(directory),
        None => search_path,
    };
    if let Some(component) = arguments.check {
        // Below another root they may not exist yet, as in an image.
        let credentials =
            environment.credentials(root).filter(|path| root.is_none() || path.exists());
        // Another tree may come from anywhere, and its compiled files are native code.
        let cache = root.is_none().then(|| environment.cache(None));
        let keep = arguments.cache;
        // A component alone is for a daemon whose settings are unknown.
        let has_broker = component.is_some() || messaging.is_some();
        return check(LinkCheck {
            search_path,
            component,
            compiler,
            engine,
            cache,
            keep,
            credentials,
            has_broker,
        });
    }
    // Before there are threads: it reads the environment, and removes variables that are not for children.
    let systemd = Systemd::take();
    let started = journal::start(arguments.log.unwrap_or(log_level), systemd.journal);
    let (journal, writer) = match started {
        Ok(started) => started,
        Err(error) => {
            // If it cannot be printed, the exit status still reports it.
            writeln!(io::stderr(), "cannot start threads: {error}").ok();
            return ExitCode::FAILURE;
        }
    };
    // It fails only if there is another subscriber, and nothing sets one before.
    tracing::subscriber::set_global_default(journal.subscribe()).ok();

    // Early, since it takes longest. Without a thread for it the daemon tries again, and reports that.
    let host = own.as_ref().ok();
    let clock = movable_clock(arguments.movable_clock);
    let host = host.and_then(|own| PendingHostRuntime::start(engine, own.pool, clock.clone()).ok());
    if let Err(error) = directories::raise_open_files() {
        warn!(%error, "cannot raise limit of open files");
    }
    // Both are held until the process ends. The use of the cache begins first: it locks the directory above the cache for
    // a moment, and that may be the state directory.
    let cache = environment.cache(root);
    let cache_use = DirectoryUse::begin(&cache);
    let state = environment.state(root);
    let state_lock = StateLock::wait_for(&state, LOCK_WAIT);
    if state_lock.is_err() {
        let remedy = "give each daemon a directory of its own: --root, or STATE_DIRECTORY";
        warn!(path = %state.display(), remedy, "state directory in use by another daemon");
    }
    if cache_use.as_ref().is_some_and(DirectoryUse::is_shared) {
        info!(path = %cache.display(), "cache shared with another daemon");
    }
    let settings = DaemonConfig {
        listen: arguments.listen,
        search_path,
        cache,
        service_cache: arguments.compiler_cache,
        places: GrantDirectories {
            state,
            credentials: environment.credentials(root),
            state_usages: StateUsages::default(),
            stores: Arc::default(),
            broker: Broker::default(),
            has_broker: own.as_ref().is_ok_and(|own| own.messaging.is_some()),
        },
        traces: environment.traces.clone(),
        compiler,
        clock,
        keep_versions,
        own,
        host,
    };
    let status = run(settings, systemd, journal);
    writer.finish();
    drop((state_lock, cache_use));
    status
}

/// Clocks that are not those of the system, for tests.
fn movable_clock(wanted: bool) -> Option<MovableClock> {
    wanted.then(|| {
        warn!(remedy = "use --movable-clock only in tests", "clocks of plugins can be moved");
        MovableClock::default()
    })
}

fn check(check: LinkCheck) -> ExitCode {
    let failed = match check.run() {
        Ok(failed) => failed,
        Err(error) => {
            // If it cannot be printed, the exit status still says it.
            writeln!(io::stderr(), "{}", Escaped(&ErrorChain(&error).to_string())).ok();
            return match error {
                LinkCheckError::Interrupted(signal) => ExitCode::from(128 + signal),
                _ => ExitCode::FAILURE,
            };
        }
    };
    let printed = serde_json::to_string(&failed).map_err(io::Error::from);
    match printed.and_then(|json| writeln!(io::stdout(), "{json}")) {
        Ok(()) if failed.is_empty() => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn run(settings: DaemonConfig, systemd: Systemd, journal: journal::Journal) -> ExitCode {
    if !Path::new(OWN_FILES).is_dir() {
        startup_failed(&"/proc must be mounted: compiled files are opened through /proc/self/fd");
        return ExitCode::FAILURE;
    }
    // The control socket and systemd's calls have a thread of their own, which no guest can block.
    let control = executors::check_threads(1).and_then(|()| {
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .worker_threads(1)
            .thread_name("control")
            .build()
    });
    let started = control.and_then(|control| Ok((control, Executors::start()?)));
    let (control, (executors, running)) = match started {
        Ok(started) => started,
        Err(error) => {
            error!(%error, "cannot start threads");
            return ExitCode::FAILURE;
        }
    };
    let ended = control.block_on(daemon::run(settings, systemd, journal, executors));
    // Guests that did not stop in time are not waited for again.
    drop(running);
    control.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let configuration = error.is_configuration();
            let was_ready = error.was_ready();
            let error = ErrorChain(&error);
            if was_ready {
                error!(message_id = messages::DAEMON_FAILED, %error, "daemon failed");
            } else {
                startup_failed(&error);
            }
            if configuration { ExitCode::from(EX_CONFIG) } else { ExitCode::FAILURE }
        }
    }
}

fn startup_failed(error: &dyn Display) {
    error!(message_id = messages::STARTUP_FAILED, %error, "startup failed");
}
