//! The operator's and the author's tool for plugind.

mod cat;
mod build;
mod check;
mod clean;
mod client;
mod columns;
mod daemon_state;
mod compile;
mod draining;
mod completion;
#[cfg(test)]
mod fixtures;
mod sandbox_conflict;
mod follow;
mod install;
mod link_check;
mod list;
mod progress_line;
mod log_level;
mod logs;
mod mask;
mod new;
mod observed_daemon;
mod output;
mod own_file;
mod plugin_files;
mod print;
mod problem;
mod profile;
mod progress;
mod project;
mod reload;
mod routes;
mod run;
mod format;
mod relative_time;
mod stale_credentials;
mod stale_directories;
mod status;
mod systemctl;
mod test;
mod top;
mod usage;
mod search_path;
mod unit;
mod verbs;
mod view;
mod wait;
mod wit;

use clap::{CommandFactory, Parser, Subcommand};
use plugind::base::panics;
use std::process::ExitCode;
use verbs::Verb;

/// The exit status for wrong arguments (sysexits.h).
const EX_USAGE: u8 = 64;

/// Control plugind and check its plugins
#[derive(Parser)]
#[command(version, about, long_about = None)]
struct PluginctlArguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the plugins of the running daemon
    List(list::ListArgs),
    /// Show the state of the running daemon or of one plugin
    Status(status::StatusArgs),
    /// Show the resource usage and the load of plugins, updated every 2 seconds
    Top(top::TopArgs),
    /// Reload changed plugins
    Reload(reload::ReloadArgs),
    /// Replace all instances of plugins with new instances
    Restart(verbs::VerbArgs),
    /// Serve the previous version of plugins again
    Rollback(verbs::VerbArgs),
    /// Have plugins keep the version that serves
    Pin(verbs::VerbArgs),
    /// Have plugins use their files again
    Unpin(verbs::VerbArgs),
    /// Start plugins that are stopped or have failed
    Start(verbs::VerbArgs),
    /// Stop plugins until they are started again
    Stop(verbs::VerbArgs),
    /// Remove the data that is kept for plugins: state, compiled code, saved state
    Clean(clean::CleanArgs),
    /// Take the daemon out of service without stopping it
    Drain(draining::DrainArgs),
    /// Put the daemon back into service after drain
    Undrain(draining::DrainArgs),
    /// Wait until a plugin is ready, or is stopped or removed
    Wait(wait::WaitArgs),
    /// Start a plugin and follow it, as the process of plugind-plugin@NAME.service
    Follow(follow::FollowArgs),
    /// Check a component, or a directory of plugins, and install it
    Install(install::InstallArgs),
    /// Remove an installed plugin
    Remove(install::RemoveArgs),
    /// Keep a plugin from starting, or mask it if a package has installed it
    Disable(mask::MaskArgs),
    /// Undo disable
    Enable(mask::MaskArgs),
    /// Set the least important priority of log entries that the daemon keeps
    LogLevel(log_level::LogLevelArgs),
    /// Show the log of one plugin
    Logs(logs::LogsArgs),
    /// Record where a plugin uses the processor
    Profile(profile::ProfileArgs),
    /// Check the configuration, a project, directories of plugins, or components
    Check(check::CheckArgs),
    /// Compile all plugins into a directory, such as the cache of an image
    Compile(compile::CompileArgs),
    /// Compile all plugins with the installed compiler, before the daemon restarts
    Precompile,
    /// Print a merged manifest, or plugind.toml, with the origin of each value
    Cat(cat::CatArgs),
    /// Print all routes of the configuration with their plugins
    Routes(routes::RoutesArgs),
    /// Create a project for a new plugin
    New(new::NewArgs),
    /// Write the interfaces of plugind as WIT
    Wit(wit::WitArgs),
    /// Build the plugin of a project
    Build(build::BuildArgs),
    /// Serve a plugin in this terminal
    Run(run::RunArgs),
    /// Serve the plugin of a project and run its tests
    Test(test::TestArgs),
    /// Print a completion script for a shell
    Completion(completion::CompletionArgs),
}

fn main() -> ExitCode {
    panics::leave_out_contained();
    let arguments = match PluginctlArguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // If it cannot be printed, the exit status still reports it.
            error.print().ok();
            return if error.use_stderr() { ExitCode::from(EX_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let done = match arguments.command {
        Command::List(list) => list.run(),
        Command::Status(status) => status.run(),
        Command::Top(top) => top.run(),
        Command::Reload(reload) => reload.run(),
        Command::Restart(named) => named.run(Verb::Restart),
        Command::Rollback(named) => named.run(Verb::Rollback),
        Command::Pin(named) => named.run(Verb::Pin),
        Command::Unpin(named) => named.run(Verb::Unpin),
        Command::Start(named) => named.run(Verb::Start),
        Command::Stop(named) => named.run(Verb::Stop),
        Command::Clean(clean) => clean.run(),
        Command::Drain(drain) => drain.drain(),
        Command::Undrain(drain) => drain.undrain(),
        Command::Wait(wait) => wait.run(),
        Command::Follow(follow) => follow.run(),
        Command::Install(install) => install.run(),
        Command::Remove(remove) => remove.run(),
        Command::Disable(mask) => mask.disable(),
        Command::Enable(mask) => mask.enable(),
        Command::LogLevel(level) => level.run(),
        Command::Logs(logs) => logs.run(),
        Command::Profile(profile) => profile.run(),
        Command::Check(check) => return check.run().print(),
        Command::Compile(compile) => compile.run(),
        Command::Precompile => compile::precompile(),
        Command::Cat(cat) => return cat.run().print(),
        Command::Routes(routes) => return routes.run().print(),
        Command::New(new) => new.run(),
        Command::Wit(wit) => wit.run(),
        Command::Build(build) => build.run(),
        Command::Run(run) => run.run(),
        Command::Test(test) => test.run(),
        Command::Completion(completion) => completion.run(PluginctlArguments::command()),
    };
    done.unwrap_or_else(|problem| {
        if problem.is_printed() {
            problem.lines().iter().for_each(|line| print::complain(line));
        }
        ExitCode::from(problem.status())
    })
}
