//! The list of the files that are checked, and their parsed sources.

use super::texts::Source;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The documents that people read, besides those in the directories below.
const DOCUMENTS: [&str; 5] =
    ["README.md", "ARCHITECTURE.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md"];
/// Directories whose files are documents; those below them belong to others.
const DIRECTORIES: [&str; 3] = ["host/man", "wit", "units"];
/// Directories below which all files of a kind are documents.
const DEEPER: [(&str, &str); 3] =
    [("host", ".varlink"), ("plugins", ".varlink"), ("plugins", ".md")];

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(top().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The entries of a directory, as paths from the top.
fn listed(directory: &str) -> Vec<String> {
    let entries = fs::read_dir(top().join(directory));
    let entries = entries.unwrap_or_else(|error| panic!("{directory}: {error}"));
    let names = entries.map(|entry| entry.expect("the directory can be listed").file_name());
    let mut paths: Vec<_> =
        names.map(|name| format!("{directory}/{}", name.to_string_lossy())).collect();
    paths.sort();
    paths
}

/// All files below a directory whose names end with this extension.
pub(crate) fn below(directory: &str, extension: &str) -> Vec<String> {
    let mut files = Vec::new();
    for path in listed(directory) {
        if top().join(&path).is_dir() {
            files.extend(below(&path, extension));
        } else if path.ends_with(extension) {
            files.push(path);
        }
    }
    files
}

pub(crate) fn documents() -> Vec<String> {
    let files = |directory: &&str| {
        let listed = listed(directory).into_iter();
        listed.filter(|path| top().join(path).is_file()).collect::<Vec<_>>()
    };
    let beside = DIRECTORIES.iter().flat_map(files);
    let deeper = DEEPER.iter().flat_map(|(directory, extension)| below(directory, extension));
    DOCUMENTS.map(str::to_owned).into_iter().chain(beside).chain(deeper).collect()
}

/// The sources of the programs and plugins, whose messages and documentation are read.
pub(crate) fn sources() -> Vec<String> {
    let crates = ["host", "plugins"].into_iter().flat_map(listed);
    let sources = crates.map(|path| format!("{path}/src"));
    sources.filter(|path| top().join(path).is_dir()).flat_map(|path| below(&path, ".rs")).collect()
}

/// Where a module in a file of its own is, or is below, given the file that declares it.
fn module_prefix(declares: &str, module: &str) -> String {
    let path = Path::new(declares);
    let directory = match path.file_stem().and_then(|stem| stem.to_str()) {
        Some("mod" | "lib" | "main") => path.with_file_name(""),
        _ => path.with_extension(""),
    };
    directory.join(module).display().to_string()
}

/// Parses sources given as `(path, text)`. The file that declares a module says whether it is made for tests only.
pub(crate) fn parsed(files: &[(String, String)]) -> Vec<(&str, Source)> {
    let parse = |path: &str, text: &str, in_tests| {
        Source::read(text, in_tests).unwrap_or_else(|error| panic!("{path}: {error}"))
    };
    let mut parsed: Vec<_> =
        files.iter().map(|(path, text)| (path.as_str(), parse(path, text, false))).collect();
    let prefixes = |(path, source): &(&str, Source)| {
        let modules = source.test_modules.iter();
        modules.map(|module| module_prefix(path, module)).collect::<Vec<_>>()
    };
    let for_tests: Vec<_> = parsed.iter().flat_map(prefixes).collect();
    for ((path, source), (_, text)) in parsed.iter_mut().zip(files) {
        let is_below = |prefix: &String| {
            let rest = path.strip_prefix(prefix.as_str());
            rest.is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        };
        if for_tests.iter().any(is_below) {
            *source = parse(path, text, true);
        }
    }
    parsed
}
