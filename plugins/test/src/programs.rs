//! The programs of plugind.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
};

/// The programs that the test has chosen.
static CHOSEN: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();

/// Uses these programs, `plugind` and `pluginctl`, in this process from now on. Only the first call has an effect.
pub fn use_programs(plugind: &Path, pluginctl: &Path) {
    CHOSEN.get_or_init(|| (plugind.to_owned(), pluginctl.to_owned()));
}

/// The daemon.
pub(crate) fn plugind() -> PathBuf {
    CHOSEN.get().map_or_else(|| found("plugind", "PLUGIND"), |(plugind, _)| plugind.clone())
}

/// Its client.
pub(crate) fn client() -> PathBuf {
    CHOSEN.get().map_or_else(|| found("pluginctl", "PLUGINCTL"), |(_, client)| client.clone())
}

/// A program: the one that the variable names, or the one in `PATH`.
fn found(name: &str, variable: &str) -> PathBuf {
    env::var_os(variable).map_or_else(|| PathBuf::from(name), PathBuf::from)
}

/// Runs `pluginctl`, which must succeed, and returns its standard output.
#[track_caller]
pub(crate) fn pluginctl(arguments: impl Fn(&mut Command) -> &mut Command) -> String {
    let mut command = Command::new(client());
    arguments(&mut command);
    let Output { status, stdout, stderr } = command.output().unwrap_or_else(|error| {
        panic!("cannot run pluginctl: {error}; install it, or set PLUGINCTL")
    });
    let stderr = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{command:?} failed ({status}): {stderr}");
    String::from_utf8_lossy(&stdout).into_owned()
}

/// Builds the project in a directory as `pluginctl build` does, and returns the component.
///
/// # Panics
/// When it cannot be built.
#[track_caller]
#[must_use]
pub fn build(project: impl AsRef<Path>) -> PathBuf {
    let built = pluginctl(|command| command.arg("build").arg(project.as_ref()));
    built.lines().last().expect("pluginctl build prints the path of the component").into()
}
