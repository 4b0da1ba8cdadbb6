//! Where the tested programs and guests are. They are built before the tests.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// The program of plugind with this name.
///
/// # Panics
/// When it was not built.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    existing(programs().join(name))
}

/// Copies the program of plugind with this name to `to`, from where a test starts it.
///
/// # Panics
/// When it was not built or cannot be copied.
pub fn copy_program(name: &str, to: &Path) {
    // Not by this process: a child that another test starts at that moment would have the copy open for writing, and
    // Linux runs no such file (ETXTBSY, execve(2)).
    let copied = Command::new("cp").arg(program(name)).arg(to).status();
    assert!(copied.is_ok_and(|status| status.success()), "cannot copy {name} to {}", to.display());
}

/// The directory of these programs, which `tests/install` needs in its variable `PROGRAMS`: the variable
/// `PLUGIND_TEST_PROGRAMS` names it. Without it, they are the ones built with the profile of the test that runs.
#[must_use]
pub fn programs() -> PathBuf {
    env::var_os("PLUGIND_TEST_PROGRAMS").map_or_else(|| above_test(2), PathBuf::from)
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

/// A program of another language's toolchain, which tests/setup puts into a directory of its own.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn tools(name: &str) -> PathBuf {
    let path = target().join("tools/python/bin").join(name);
    assert!(path.exists(), "{} does not exist; run `tests/setup e2e`", path.display());
    path
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

/// A Debian package of the built programs, made in `directory`, which is empty. It is neither compressed nor accompanied
/// by debug symbols.
///
/// # Panics
/// When it cannot be made.
#[must_use]
pub fn debian_package(directory: &Path, version: &str) -> PathBuf {
    debian_packages(directory, version, "noautodbgsym").remove(0)
}

/// The Debian packages that are made with these `DEB_BUILD_OPTIONS`, sorted by name.
///
/// # Panics
/// As [`debian_package`].
#[must_use]
pub fn debian_packages(directory: &Path, version: &str, options: &str) -> Vec<PathBuf> {
    let made = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("deb"))
        .env("OUT", directory)
        .env("VERSION", version)
        .env("PROGRAMS", programs())
        .env("DEB_BUILD_OPTIONS", options)
        .env("COMPRESSION", "none")
        .output()
        .expect("tests/deb can be run");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let made = fs::read_dir(directory).expect("the directory is there");
    let mut made: Vec<_> =
        made.map(|entry| entry.expect("the directory is readable").path()).collect();
    made.sort();
    made
}

/// The directory into which `tests/install` has installed the built programs, for the machines that this process boots.
///
/// # Panics
/// When it fails.
pub(crate) fn installed() -> &'static str {
    static INSTALLED: OnceLock<String> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let all = temporary().join("installed");
        // A process cannot remove its own, because nothing runs at the end of a process of tests.
        for left in fs::read_dir(&all).into_iter().flatten().flatten() {
            let owner = Path::new("/proc").join(left.file_name());
            if !owner.exists() {
                // Another process may be removing it.
                drop(fs::remove_dir_all(left.path()));
            }
        }
        let own = all.join(std::process::id().to_string());
        if own.exists() {
            fs::remove_dir_all(&own).expect("it is of an earlier process with the same number");
        }
        // The modes of its directories become those of the machine.
        let made = Command::new("sh")
            .args(["-c", "umask 022 && exec \"$0\""])
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("install"))
            .env("DESTDIR", &own)
            .env("PREFIX", "/usr")
            .env("PROGRAMS", programs())
            .output()
            .expect("tests/install can be run");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        own.into_os_string().into_string().expect("the name of the target directory is UTF-8")
    })
}

/// Where tests may leave something for the next ones.
pub(crate) fn temporary() -> PathBuf {
    target().join("tmp")
}

fn existing(path: PathBuf) -> PathBuf {
    let advice = "run `make build guests`, or `make e2e`, which builds what it tests";
    assert!(path.exists(), "{} does not exist; {advice}", path.display());
    path
}

/// Cargo's target directory.
fn target() -> PathBuf {
    above_test(3)
}

/// A directory above the test that runs, which is `target/PROFILE/deps/TEST`.
fn above_test(levels: usize) -> PathBuf {
    let test = env::current_exe().expect("a test knows where it is");
    test.ancestors().nth(levels).map(Path::to_owned).expect("a test is in target/PROFILE/deps")
}
