//! `pluginctl wit`: the package `plugind:plugin`, for bindings in a language that has no project.

use crate::{print::print, problem::Problem};
use clap::Args;
use include_dir::{Dir, include_dir};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// The WIT of plugind and of the packages that plugins may need.
pub(crate) static WIT: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/../../wit");

/// The items that a toolchain without async functions cannot import. An item `blocking-…` replaces each interface.
const ASYNC_ITEMS: [&str; 6] = [
    "interface connections {",
    "interface connection-handler {",
    "interface websockets {",
    "interface websocket-handler {",
    "world connection-plugin {",
    "world websocket-plugin {",
];

/// The package, and where to write it.
#[derive(Args)]
pub(crate) struct WitArgs {
    /// Write no async functions, for a toolchain that cannot read them
    #[arg(long)]
    sync: bool,
    /// Create this directory in an existing one, and write the package plugind:plugin into it
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// Why the package is not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WitError {
    #[error("{} exists already; choose another directory", .0.display())]
    Exists(PathBuf),
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

impl WitArgs {
    /// Writes the package.
    pub(crate) fn run(&self) -> Result<ExitCode, Problem> {
        let files = package().map(|(path, text)| {
            let text = if self.sync { without_async(text) } else { text.to_owned() };
            (path.to_owned(), text)
        });
        let directory = &self.directory;
        match fs::create_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(Problem::failed(WitError::Exists(directory.clone())));
            }
            created => created.map_err(|source| WitError::write(directory, source))?,
        }
        write_files(directory, files.collect())
            .map_err(|(path, source)| WitError::write(&path, source))?;
        print(&format!("{} has the package plugind:plugin\n", directory.display()))?;
        Ok(ExitCode::SUCCESS)
    }
}

impl WitError {
    fn write(path: &Path, source: io::Error) -> Problem {
        Problem::failed(Self::Write { path: path.to_owned(), source })
    }
}

/// The files of the package `plugind:plugin`, with their names.
pub(crate) fn package() -> impl Iterator<Item = (&'static Path, &'static str)> {
    let is_wit =
        |file: &&include_dir::File<'_>| file.path().extension().is_some_and(|it| it == "wit");
    let files = WIT.files().filter(is_wit);
    files.map(|file| (file.path(), file.contents_utf8().unwrap_or_default()))
}

/// Writes files below an existing directory.
///
/// # Errors
/// The path that cannot be written.
pub(crate) fn write_files(
    directory: &Path,
    files: BTreeMap<PathBuf, String>,
) -> Result<(), (PathBuf, io::Error)> {
    for (path, text) in files {
        let path = directory.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|error| (parent.to_owned(), error))?;
        }
        fs::write(&path, text).map_err(|error| (path, error))?;
    }
    Ok(())
}

/// The text of a file without async functions: an export is an ordinary function, which the host calls as well, and an
/// interface that would be imported is left out, since its functions must have the type that the host gives them.
fn without_async(text: &str) -> String {
    let mut written = String::new();
    let mut comment = String::new();
    let mut is_left_out = false;
    for line in text.lines().map(|line| format!("{line}\n")) {
        if line.starts_with("///") {
            comment.push_str(&line);
            continue;
        }
        is_left_out |= ASYNC_ITEMS.contains(&line.trim_end());
        if !is_left_out {
            written.push_str(&comment);
            written.push_str(&line.replace(": async func(", ": func("));
        }
        comment.clear();
        is_left_out &= line != "}\n";
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_without_async_functions_has_each_other_item_with_its_comment() {
        for (path, text) in package() {
            let written = without_async(text);
            assert!(!written.contains(": async"), "{}", path.display());
            let items = |text: &str| {
                let is_item = |line: &&str| line.ends_with('{') && !line.starts_with([' ', '/']);
                text.lines().filter(is_item).map(str::to_owned).collect::<Vec<_>>()
            };
            let mut expected = items(text);
            expected.retain(|item| !ASYNC_ITEMS.contains(&item.as_str()));
            assert_eq!(items(&written), expected, "{}", path.display());
        }
        let file = WIT.get_file("websockets.wit").and_then(|file| file.contents_utf8()).unwrap();
        let written = without_async(file);
        assert!(written.starts_with("\n/// WebSockets for a language whose bindings"), "{written}");
    }
}
