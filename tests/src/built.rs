//! Where the things are that are tested: programs and guests, built before the tests.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
};

/// The program of plugind with this name.
///
/// # Panics
/// When it was not built.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    existing(target().join("release").join(name))
}

/// The component of the test guest or the example plugin with this name.
///
/// # Panics
/// When it was not built.
#[must_use]
pub fn guest(name: &str) -> PathBuf {
    let guests = target().join("wasm32-wasip2/guest");
    let file = format!("{name}.wasm");
    let example = guests.join("examples").join(&file);
    existing(if example.exists() { example } else { guests.join(file) })
}

/// The messages that the daemon marks with MESSAGE_ID=, by the names of the constants.
///
/// # Panics
/// When the sources are not where they are expected.
#[must_use]
pub fn messages() -> BTreeMap<String, String> {
    let source = "../host/plugind/src/journal/messages.rs";
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
    let source = fs::read_to_string(source).expect("the messages are there");
    let constants = source.lines().filter_map(|line| {
        let (name, value) = line.strip_prefix("pub const ")?.split_once(": &str = \"")?;
        Some((name.to_owned(), value.strip_suffix("\";")?.to_owned()))
    });
    constants.collect()
}

/// Where tests may leave something for the next ones.
pub(crate) fn temporary() -> PathBuf {
    target().join("tmp")
}

fn existing(path: PathBuf) -> PathBuf {
    assert!(path.exists(), "there is no {}; run `make build guests`", path.display());
    path
}

/// Cargo's target directory, of which `release/deps` has the test that runs.
fn target() -> PathBuf {
    let test = env::current_exe().expect("a test knows where it is");
    test.ancestors().nth(3).map(Path::to_owned).expect("a test lies in target/release/deps")
}
