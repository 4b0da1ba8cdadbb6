//! Proves that an installation is whole: what lies where, in which form, and that systemd takes its units.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// The type of an ELF section that has symbols.
const SHT_SYMTAB: u32 = 2;

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Installs what was built below a directory of its own.
fn install(prefix: Option<&str>) -> TempDir {
    let root = tempfile::tempdir().expect("there is room for temporary files");
    let mut install = Command::new(top().join("tests/install"));
    install.env("DESTDIR", root.path()).env_remove("PREFIX");
    if let Some(prefix) = prefix {
        install.env("PREFIX", prefix);
    }
    let installed = install.output().expect("tests/install can be run");
    assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    root
}

/// What lies below `root`: `MODE PATH`, with a slash behind directories that are empty.
fn listed(root: &Path) -> Vec<String> {
    let (mut listed, mut left) = (Vec::new(), vec![root.to_owned()]);
    while let Some(directory) = left.pop() {
        let entries = fs::read_dir(&directory).expect("what was installed can be read");
        let paths: Vec<_> = entries.map(|entry| entry.expect("as above").path()).collect();
        let shown = |path: &Path, end| {
            let mode = path.metadata().expect("as above").permissions().mode() & 0o7777;
            let path = path.strip_prefix(root).expect("it lies below").display();
            format!("{mode:o} {path}{end}")
        };
        if paths.is_empty() {
            listed.push(shown(&directory, "/"));
        }
        for path in paths {
            match path.is_dir() {
                true => left.push(path),
                false => listed.push(shown(&path, "")),
            }
        }
    }
    listed.sort_by(|one, other| one.split(' ').nth(1).cmp(&other.split(' ').nth(1)));
    listed
}

/// Whether an ELF file of 64 bits has symbols, which only debuggers read.
fn has_symbols(path: &Path) -> bool {
    let file = fs::read(path).expect("a program can be read");
    let number = |place: usize, length: usize| {
        let bytes = file[place..place + length].iter().rev();
        bytes.fold(0_usize, |number, byte| number << 8 | usize::from(*byte))
    };
    assert_eq!(&file[..5], b"\x7fELF\x02", "{} is no program", path.display());
    let (sections, size, count) = (number(0x28, 8), number(0x3a, 2), number(0x3c, 2));
    assert!(count > 0, "{} has no sections", path.display());
    (0..count).any(|nth| number(sections + nth * size + 4, 4) == SHT_SYMTAB as usize)
}

/// Puts beside an installation what every machine with systemd has, and has systemd judge a unit of it.
fn verify(root: &Path, prefix: &str, unit: &str) -> String {
    let units = root.join("usr/lib/systemd/system");
    fs::create_dir_all(&units).expect("the directory is writable");
    for target in ["sysinit", "basic", "shutdown", "network", "multi-user"] {
        fs::write(units.join(format!("{target}.target")), "[Unit]\nDescription=Target\n")
            .expect("the directory is writable");
    }
    fs::create_dir_all(root.join("bin")).expect("the directory is writable");
    let some_program = root.join(&prefix[1..]).join("bin/plugind");
    fs::copy(some_program, root.join("bin/kill")).expect("the directory is writable");
    let judged = Command::new("systemd-analyze")
        .args(["verify", "--man=no", "--root"])
        .arg(root)
        .arg(root.join(&prefix[1..]).join("lib/systemd/system").join(unit))
        .output()
        .expect("systemd-analyze is there: tests/setup test");
    let said = [judged.stdout, judged.stderr].concat();
    format!("{}{}", String::from_utf8_lossy(&said), judged.status.code().unwrap_or(-1))
}

#[test]
fn an_installation_has_everything_in_its_place() {
    let root = install(None);
    assert_eq!(
        listed(root.path()),
        [
            "755 etc/plugind/plugins/",
            "755 usr/bin/pluginctl",
            "755 usr/bin/plugind",
            "755 usr/lib/plugind/plugins/",
            "755 usr/lib/plugind/root/dev/",
            "755 usr/lib/plugind/root/etc/",
            "755 usr/lib/plugind/root/proc/",
            "755 usr/lib/plugind/root/run/",
            "755 usr/lib/plugind/root/sys/",
            "755 usr/lib/plugind/root/tmp/",
            "755 usr/lib/plugind/root/usr/",
            "755 usr/lib/plugind/root/var/",
            "644 usr/lib/systemd/system/plugind.service",
            "755 usr/libexec/plugind/plugind-compile",
            "644 usr/share/doc/plugind/CHANGELOG.md",
            "644 usr/share/doc/plugind/LICENSE-APACHE",
            "644 usr/share/doc/plugind/LICENSE-MIT",
            "644 usr/share/doc/plugind/README.md",
            "644 usr/share/man/man1/pluginctl.1",
            "644 usr/share/man/man5/plugind-plugin.5",
            "644 usr/share/man/man8/plugind.8",
        ]
    );
    for program in ["usr/bin/plugind", "usr/bin/pluginctl", "usr/libexec/plugind/plugind-compile"] {
        assert!(!has_symbols(&root.path().join(program)), "{program} is not stripped");
    }
    assert!(has_symbols(&plugind_tests::program("plugind")), "nothing has symbols");
    let told = Command::new(root.path().join("usr/bin/plugind")).arg("--version").output();
    assert!(told.expect("it can be run").status.success());
}

#[test]
fn systemd_has_nothing_to_say_about_the_units_whatever_the_prefix() {
    for (given, prefix) in [(None, "/usr"), (Some("/usr/local"), "/usr/local")] {
        let root = install(given);
        assert_eq!(verify(root.path(), prefix, "plugind.service"), "0", "{prefix}");
        let unit = root.path().join(&prefix[1..]).join("lib/systemd/system/plugind.service");
        let unit = fs::read_to_string(unit).expect("it was installed");
        assert!(unit.contains(&format!("\nExecStart={prefix}/bin/plugind ")), "{unit}");
        // Where the daemon looks for plugins is the same everywhere.
        assert!(root.path().join("usr/lib/plugind/plugins").is_dir());
        assert!(root.path().join(&prefix[1..]).join("share/man/man8/plugind.8").exists());
    }
}

#[test]
fn each_manual_page_that_a_unit_names_is_installed() {
    let root = install(None);
    let unit = root.path().join("usr/lib/systemd/system/plugind.service");
    let unit = fs::read_to_string(unit).expect("it was installed");
    let named = unit.lines().filter_map(|line| line.strip_prefix("Documentation="));
    let pages: Vec<_> = named.flat_map(str::split_whitespace).collect();
    assert!(!pages.is_empty());
    for page in pages {
        let known = page.strip_prefix("man:").and_then(|page| page.strip_suffix(')'));
        let (name, section) =
            known.and_then(|page| page.split_once('(')).expect("man:NAME(SECTION)");
        let path = format!("usr/share/man/man{section}/{name}.{section}");
        assert!(root.path().join(&path).exists(), "{path}");
    }
}
