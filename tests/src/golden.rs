//! The cases of `golden/`, each made into a tree as a machine would have it.

use std::{
    fs::{self, File},
    os::unix::{ffi::OsStringExt, fs::symlink},
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// The directories of all cases, sorted by name.
///
/// # Panics
/// When they cannot be listed.
#[must_use]
pub fn cases() -> Vec<PathBuf> {
    let all = fs::read_dir(directory()).expect("golden/ can be listed");
    let all = all.map(|entry| entry.expect("golden/ can be listed").path());
    let mut cases: Vec<_> =
        all.filter(|path| path.is_dir() && !path.ends_with("components")).collect();
    cases.sort();
    cases
}

/// The component of `golden/components` with this name.
///
/// # Panics
/// When there is none, or it is no WebAssembly.
#[must_use]
pub fn component(name: &str) -> Vec<u8> {
    let path = directory().join("components").join(name).with_extension("wat");
    wat::parse_file(&path).unwrap_or_else(|error| panic!("{error}"))
}

/// A case's tree, with all that its list `files` adds.
///
/// # Panics
/// When the case is wrong.
#[must_use]
pub fn tree(case: &Path) -> TempDir {
    let root = tempfile::tempdir().expect("there is room for temporary files");
    for part in ["usr", "run", "etc"] {
        if case.join(part).is_dir() {
            copy(&case.join(part), &root.path().join(part));
        }
    }
    let files = case.join("files");
    if files.exists() {
        let list = fs::read_to_string(files).expect("the list is text");
        for line in list.lines() {
            add(root.path(), line);
        }
    }
    root
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the tree is writable");
    for entry in fs::read_dir(from).expect("a case can be listed") {
        let entry = entry.expect("a case can be listed");
        let to = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).expect("the tree is writable")),
        }
    }
}

/// Adds what one line of a list says.
fn add(root: &Path, line: &str) {
    let words: Vec<_> = line.splitn(2, ' ').collect();
    let [kind, rest] = words.as_slice() else { panic!("{line:?} says nothing") };
    let (argument, path) = match *kind {
        "component" | "link" | "sparse" => rest.split_once(' ').expect("it has an argument"),
        // The number of bytes and the component.
        "cut" => {
            let end = rest.match_indices(' ').nth(1).expect("it has two arguments").0;
            (&rest[..end], &rest[end + 1..])
        }
        _ => ("", *rest),
    };
    let path = root.join(decoded(path));
    fs::create_dir_all(path.parent().expect("it is below the root")).expect("the tree is writable");
    match *kind {
        "component" => fs::write(path, component(argument)).expect("the tree is writable"),
        "cut" => {
            let (length, name) = argument.split_once(' ').expect("it has two arguments");
            let length: usize = length.parse().expect("the length is a number");
            fs::write(path, &component(name)[..length]).expect("the tree is writable");
        }
        "empty" => fs::write(path, "").expect("the tree is writable"),
        "directory" => fs::create_dir_all(path).expect("the tree is writable"),
        "link" => symlink(argument, path).expect("nothing is in its place"),
        "fifo" => {
            let made = Command::new("mkfifo").arg(path).status().expect("mkfifo can be run");
            assert!(made.success());
        }
        "sparse" => {
            let length = argument.parse().expect("the length is a number");
            let file = File::create(path).expect("the tree is writable");
            file.set_len(length).expect("a file may have holes");
        }
        other => panic!("there is no kind {other:?} of files"),
    }
}

/// A path in which `%0A` stands for a byte.
fn decoded(path: &str) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = path;
    while let Some((before, behind)) = rest.split_once('%') {
        bytes.extend(before.bytes());
        bytes.push(u8::from_str_radix(&behind[..2], 16).expect("two digits stand behind %"));
        rest = &behind[2..];
    }
    bytes.extend(rest.bytes());
    std::ffi::OsString::from_vec(bytes).into()
}
