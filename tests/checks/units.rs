//! Proves that an installation is complete: each file is in its place and has the right form, and systemd accepts
//! the units.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// The type of an ELF section that has symbols.
const SHT_SYMTAB: u32 = 2;

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The installation of what was built, below `root`.
fn installation(root: &Path) -> Command {
    let mut install = Command::new(top().join("tests/install"));
    install.env("DESTDIR", root).env_remove("PREFIX");
    install.env("PROGRAMS", plugind_tests::programs());
    install
}

/// Installs what was built below a directory of its own.
fn install(prefix: Option<&str>) -> TempDir {
    let root = tempfile::tempdir().expect("there is room for temporary files");
    let mut install = installation(root.path());
    if let Some(prefix) = prefix {
        install.env("PREFIX", prefix);
    }
    let installed = install.output().expect("tests/install can be run");
    assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    root
}

/// The paths of the libraries and the loader of a program, as it names them.
fn libraries(program: &str) -> BTreeSet<String> {
    let listed = Command::new("ldd").arg(plugind_tests::program(program)).output();
    let listed = listed.expect("ldd is a part of libc").stdout;
    let listed = String::from_utf8(listed).expect("these paths are ASCII");
    let paths = listed.split_whitespace().filter(|word| word.starts_with('/'));
    let paths: BTreeSet<_> = paths.map(str::to_owned).collect();
    assert!(paths.len() > 1, "{listed}");
    paths
}

/// The directories of the files to which these paths lead.
fn directories(paths: &BTreeSet<String>) -> BTreeSet<String> {
    let files = paths.iter().map(|path| Path::new(path).canonicalize().expect("ldd found it"));
    files.map(|file| file.parent().expect("it is a file").display().to_string()).collect()
}

/// The words of all settings of an installed unit with this name, without the paths of the programs.
fn words(root: &Path, unit: &str, setting: &str) -> BTreeSet<String> {
    let unit = root.join("usr/lib/systemd/system").join(unit);
    let text = fs::read_to_string(unit).expect("it was installed");
    assert!(!text.contains("LIBRARIES@"), "{text}");
    let values = text.lines().filter_map(|line| line.strip_prefix(setting)?.strip_prefix('='));
    let words = values.flat_map(str::split_whitespace).filter(|word| !word.contains("plugin"));
    words.map(str::to_owned).collect()
}

/// Lists the files below `root`: `MODE PATH`, with a slash behind empty directories, and `link PATH -> TARGET`.
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
            if let Ok(target) = path.read_link() {
                let path = path.strip_prefix(root).expect("it lies below").display();
                listed.push(format!("link {path} -> {}", target.display()));
                continue;
            }
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

/// The names of the units in `units/` with one of these endings.
fn units(endings: &[&str]) -> Vec<String> {
    let entries = fs::read_dir(top().join("units")).expect("the units are there");
    let names = entries.map(|entry| entry.expect("as above").file_name());
    let names = names.map(|name| name.into_string().expect("the name is ASCII"));
    let mut names: Vec<_> = names
        .filter(|name| name.rsplit_once('.').is_some_and(|(_, ending)| endings.contains(&ending)))
        .collect();
    names.sort();
    names
}

/// Puts beside an installation what every machine with systemd has, and has systemd verify all its units. Returns what
/// it says, without the places, and its exit status.
fn verify(root: &Path, prefix: &str) -> (BTreeSet<String>, Option<i32>) {
    let stand_ins = root.join("usr/lib/systemd/system");
    fs::create_dir_all(&stand_ins).expect("the directory is writable");
    for target in ["sysinit", "basic", "shutdown", "network", "multi-user", "sockets", "paths"] {
        fs::write(
            stand_ins.join(format!("{target}.target")),
            "[Unit]\nDescription=Target\nDefaultDependencies=no\n",
        )
        .expect("the directory is writable");
    }
    let some_program = root.join(&prefix[1..]).join("bin/plugind");
    fs::create_dir_all(root.join("usr/bin")).expect("the directory is writable");
    for program in ["sleep", "systemctl"] {
        fs::copy(&some_program, root.join("usr/bin").join(program))
            .expect("the directory is writable");
    }
    let installed = root.join(&prefix[1..]).join("lib/systemd/system");
    let outcome = Command::new("systemd-analyze")
        .args(["verify", "--man=no", "--root"])
        .arg(root)
        .args(
            units(&["service", "socket", "path", "target"]).iter().map(|unit| installed.join(unit)),
        )
        .output()
        .expect("systemd-analyze is there: tests/setup test");
    let said = [outcome.stdout, outcome.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let said = said.lines().map(|line| line.split_once(": ").map_or(line, |(_, said)| said));
    (said.map(str::to_owned).collect(), outcome.status.code())
}

#[test]
fn an_installation_has_everything_in_its_place() {
    let root = install(None);
    let (interfaces, others): (Vec<_>, Vec<_>) = listed(root.path())
        .into_iter()
        .partition(|line| line.starts_with("644 usr/share/plugind/wit/"));
    let sources = listed(&top().join("wit")).into_iter();
    let sources: Vec<_> = sources
        .filter_map(|line| Some(format!("644 usr/share/plugind/wit/{}", line.split_once(' ')?.1)))
        .collect();
    assert_eq!(interfaces, sources);
    // Another test has those of the libraries.
    let of_libraries = |line: &String| {
        let path =
            line.split(' ').nth(1).and_then(|path| path.strip_prefix("usr/lib/plugind/root/"));
        path.is_some_and(|path| path.contains("linux"))
    };
    let others: Vec<_> = others.into_iter().filter(|line| !of_libraries(line)).collect();
    assert_eq!(
        others,
        [
            "755 etc/plugind/plugins/",
            "755 usr/bin/pluginctl",
            "755 usr/bin/plugind",
            "755 usr/lib/plugind/plugins/",
            "link usr/lib/plugind/root/bin -> usr/bin",
            "755 usr/lib/plugind/root/dev/",
            "444 usr/lib/plugind/root/etc/hosts",
            "444 usr/lib/plugind/root/etc/nsswitch.conf",
            "755 usr/lib/plugind/root/etc/plugind/",
            "444 usr/lib/plugind/root/etc/resolv.conf",
            "link usr/lib/plugind/root/lib -> usr/lib",
            "link usr/lib/plugind/root/lib64 -> usr/lib64",
            "755 usr/lib/plugind/root/proc/",
            "755 usr/lib/plugind/root/root/",
            "755 usr/lib/plugind/root/run/credentials/",
            "755 usr/lib/plugind/root/run/host/.os-release-stage/",
            "444 usr/lib/plugind/root/run/host/notify",
            "link usr/lib/plugind/root/run/host/os-release -> .os-release-stage/os-release",
            "755 usr/lib/plugind/root/run/plugind-compile/",
            "755 usr/lib/plugind/root/run/plugind/",
            "755 usr/lib/plugind/root/run/systemd/incoming/",
            "755 usr/lib/plugind/root/run/systemd/journal/",
            "444 usr/lib/plugind/root/run/systemd/notify",
            "755 usr/lib/plugind/root/run/systemd/resolve/",
            "755 usr/lib/plugind/root/sys/",
            "755 usr/lib/plugind/root/tmp/",
            "444 usr/lib/plugind/root/usr/bin/pluginctl",
            "444 usr/lib/plugind/root/usr/bin/plugind",
            "755 usr/lib/plugind/root/usr/lib/plugind/",
            "755 usr/lib/plugind/root/var/lib/plugind/",
            "755 usr/lib/plugind/root/var/tmp/",
            "644 usr/lib/systemd/catalog/plugind.catalog",
            "644 usr/lib/systemd/system/plugind-compile.socket",
            "644 usr/lib/systemd/system/plugind-compile@.service",
            "644 usr/lib/systemd/system/plugind-control.socket",
            "644 usr/lib/systemd/system/plugind-enabled.target",
            "644 usr/lib/systemd/system/plugind-http.socket",
            "644 usr/lib/systemd/system/plugind-job@.service",
            "644 usr/lib/systemd/system/plugind-metrics.socket",
            "644 usr/lib/systemd/system/plugind-plugin@.service",
            "644 usr/lib/systemd/system/plugind-reload.path",
            "644 usr/lib/systemd/system/plugind-reload.service",
            "644 usr/lib/systemd/system/plugind-report.socket",
            "644 usr/lib/systemd/system/plugind-socket@.service",
            "644 usr/lib/systemd/system/plugind.service",
            "644 usr/lib/systemd/system/plugind.target",
            "644 usr/lib/systemd/user/plugind-control.socket",
            "644 usr/lib/systemd/user/plugind-enabled.target",
            "644 usr/lib/systemd/user/plugind-http.socket",
            "644 usr/lib/systemd/user/plugind.service",
            "755 usr/libexec/plugind/plugind-compile",
            "644 usr/share/bash-completion/completions/pluginctl",
            "644 usr/share/bash-completion/completions/plugind",
            "644 usr/share/doc/plugind/CHANGELOG.md",
            "644 usr/share/doc/plugind/LICENSE-APACHE",
            "644 usr/share/doc/plugind/LICENSE-MIT",
            "644 usr/share/doc/plugind/README.md",
            "644 usr/share/doc/plugind/authors.md",
            "644 usr/share/doc/plugind/examples/plugind-alerts.yml",
            "644 usr/share/doc/plugind/examples/plugind-dashboard.json",
            "644 usr/share/doc/plugind/examples/plugind-network.conf",
            "644 usr/share/doc/plugind/examples/plugind-nginx.conf",
            "644 usr/share/doc/plugind/examples/plugind-survive.conf",
            "644 usr/share/doc/plugind/reference.md",
            "644 usr/share/doc/plugind/third-party-licenses.txt",
            "644 usr/share/fish/vendor_completions.d/pluginctl.fish",
            "644 usr/share/fish/vendor_completions.d/plugind.fish",
            "644 usr/share/man/man1/pluginctl.1",
            "644 usr/share/man/man5/plugind-plugin.5",
            "644 usr/share/man/man5/plugind.toml.5",
            "644 usr/share/man/man7/plugind-metrics.7",
            "644 usr/share/man/man7/plugind-sockets.7",
            "644 usr/share/man/man8/plugind-compile.8",
            "644 usr/share/man/man8/plugind.8",
            "644 usr/share/zsh/site-functions/_pluginctl",
            "644 usr/share/zsh/site-functions/_plugind",
        ]
    );
    for program in ["usr/bin/plugind", "usr/bin/pluginctl", "usr/libexec/plugind/plugind-compile"] {
        assert!(!has_symbols(&root.path().join(program)), "{program} is not stripped");
    }
    assert!(has_symbols(&plugind_tests::program("plugind")), "nothing has symbols");
    let reported = Command::new(root.path().join("usr/bin/plugind")).arg("--version").output();
    assert!(reported.expect("it can be run").status.success());
}

#[test]
fn the_units_have_the_libraries_that_the_programs_load_and_no_others() {
    let root = install(None);
    let (daemon, compiler) = ("plugind.service", "plugind-compile@.service");
    let named = &libraries("plugind") | &libraries("pluginctl");
    let expected = directories(&named);
    let bound = |directory: &String| format!("{directory}:{directory}:norbind");
    let binds = words(root.path(), daemon, "BindReadOnlyPaths");
    let binds: BTreeSet<_> = binds.into_iter().filter(|word| word.contains("norbind")).collect();
    assert_eq!(binds, expected.iter().map(bound).collect());
    let executable = |directory: &String| format!("+{directory}");
    assert_eq!(words(root.path(), daemon, "ExecPaths"), expected.iter().map(executable).collect());
    let expected = directories(&libraries("plugind-compile"));
    assert_eq!(words(root.path(), compiler, "ExecPaths"), expected);
    // In the root directory of the daemon, each path leads to a mount point or by links into one.
    let view = root.path().join("usr/lib/plugind/root").canonicalize().expect("it was installed");
    let mounts = directories(&named);
    for path in named {
        let seen = Command::new("realpath").arg("-m").arg(view.join(&path[1..])).output();
        let seen = String::from_utf8(seen.expect("realpath is there").stdout).expect("it is ASCII");
        let seen = Path::new(seen.trim()).strip_prefix(&view).expect("links do not lead out");
        let directory = seen.parent().expect("it is a file");
        assert!(view.join(directory).is_dir(), "{path}: {}", seen.display());
        assert!(
            mounts.contains(&format!("/{}", directory.display())),
            "{path}: {}",
            seen.display()
        );
    }
}

/// A directory with an `ldd` that prints this, and exits with 1 if this is nothing.
fn other_ldd(output: &str) -> TempDir {
    let directory = tempfile::tempdir().expect("there is room for temporary files");
    let script = directory.path().join("script");
    let lines = format!("#!/bin/sh\necho '{output}' | grep .\n");
    fs::write(&script, lines).expect("the directory is writable");
    // By another process, as the copies of `copy_program`: what runs must not be open for writing in a child of a test.
    let ldd = directory.path().join("ldd");
    let installed = Command::new("install").arg("-m0755").args([&script, &ldd]).status();
    assert!(installed.is_ok_and(|status| status.success()), "cannot write {}", ldd.display());
    directory
}

#[test]
fn libraries_are_bound_from_wherever_a_distribution_has_them() {
    let path = |ldd: &TempDir| {
        format!("{}:{}", ldd.path().display(), std::env::var("PATH").expect("there is a PATH"))
    };
    // As on Nix: the directories have no fixed names, and links lead to none of them.
    let nix = "libc.so.6 => /nix/store/a-glibc/lib/libc.so.6 (0x1)
        libgcc_s.so.1 => /nix/store/b-gcc/lib/libgcc_s.so.1 (0x1)
        /nix/store/a-glibc/lib/ld.so => /nix/store/a-glibc/lib/ld.so (0x1)";
    let root = tempfile::tempdir().expect("there is room for temporary files");
    let (ldd, mut install) = (other_ldd(nix), installation(root.path()));
    assert!(install.env("PATH", path(&ldd)).status().is_ok_and(|status| status.success()));
    let executable = words(root.path(), "plugind.service", "ExecPaths");
    let expected = ["+/nix/store/a-glibc/lib", "+/nix/store/b-gcc/lib"];
    assert_eq!(executable, expected.map(str::to_owned).into());
    for directory in expected {
        assert!(root.path().join("usr/lib/plugind/root").join(&directory[2..]).is_dir());
    }
    // A static program needs none.
    let root = tempfile::tempdir().expect("there is room for temporary files");
    let (ldd, mut install) = (other_ldd("statically linked"), installation(root.path()));
    assert!(install.env("PATH", path(&ldd)).status().is_ok_and(|status| status.success()));
    assert_eq!(words(root.path(), "plugind.service", "ExecPaths"), BTreeSet::new());
    for output in ["", "libc.so.6 => not found"] {
        let root = tempfile::tempdir().expect("there is room for temporary files");
        let (ldd, mut install) = (other_ldd(output), installation(root.path()));
        let failed = install.env("PATH", path(&ldd)).output().expect("tests/install can be run");
        assert_eq!(failed.status.code(), Some(1));
        let said = String::from_utf8_lossy(&failed.stderr);
        assert!(said.contains("libraries"), "{said}");
    }
}

#[test]
fn uninstalling_leaves_only_what_others_have_added() {
    let root = install(None);
    let added = root.path().join("etc/plugind/plugins/hello.wasm");
    fs::write(&added, "added").expect("the directory is writable");
    let mut uninstall = Command::new(top().join("tests/uninstall"));
    let removed = uninstall.env("DESTDIR", root.path()).env_remove("PREFIX").output();
    let removed = removed.expect("tests/uninstall can be run");
    assert!(removed.status.success(), "{}", String::from_utf8_lossy(&removed.stderr));
    let is_file = |line: &String| !line.ends_with('/');
    let left: Vec<_> = listed(root.path()).into_iter().filter(is_file).collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(left[0].ends_with("etc/plugind/plugins/hello.wasm"), "{left:?}");
}

/// The messages of an older systemd about unknown settings; a newer one prints less.
const UNKNOWN: [&str; 6] = [
    "Failed to parse service type, ignoring: notify-reload",
    "Unknown key 'ReloadSignal' in section [Service], ignoring.",
    "Unknown key 'RefreshOnReload' in section [Service], ignoring.",
    "Unknown key 'RestartSteps' in section [Service], ignoring.",
    "Unknown key 'RestartMaxDelaySec' in section [Service], ignoring.",
    "Unknown key 'ImportCredential' in section [Service], ignoring.",
];

#[test]
fn systemd_warns_about_nothing_in_the_units_but_unknown_settings() {
    let unknown: BTreeSet<_> = UNKNOWN.iter().map(ToString::to_string).collect();
    for (given, prefix) in [(None, "/usr"), (Some("/usr/local"), "/usr/local")] {
        let root = install(given);
        let (said, status) = verify(root.path(), prefix);
        assert!(said.is_subset(&unknown), "{prefix}: {said:?}");
        assert_eq!(status, Some(0), "{prefix}");
        let unit = root.path().join(&prefix[1..]).join("lib/systemd/system/plugind.service");
        let unit = fs::read_to_string(unit).expect("it was installed");
        assert!(unit.contains(&format!("\nExecStart={prefix}/bin/plugind --")), "{unit}");
        assert!(
            unit.contains(&format!("\nExecReload={prefix}/bin/pluginctl reload --until=swapped\n")),
            "{unit}"
        );
        // Where the daemon looks for plugins is the same everywhere.
        assert!(root.path().join("usr/lib/plugind/plugins").is_dir());
        assert!(root.path().join(&prefix[1..]).join("share/man/man8/plugind.8").exists());
    }
}

#[test]
fn the_catalog_explains_every_message_and_no_other() {
    let messages = plugind_tests::messages();
    let messages: BTreeSet<_> = messages.values().map(String::as_str).collect();
    assert!(messages.len() > 5, "{messages:?}");
    let catalog = fs::read_to_string(top().join("units/plugind.catalog")).expect("it is there");
    let explained: Vec<_> = catalog.lines().filter_map(|line| line.strip_prefix("-- ")).collect();
    assert_eq!(explained.iter().copied().collect::<BTreeSet<_>>(), messages);
    assert_eq!(explained.len(), messages.len(), "one is explained twice");
}

#[test]
fn each_manual_page_that_units_and_catalog_name_is_installed() {
    let root = install(None);
    let lib = root.path().join("usr/lib/systemd");
    let mut files: Vec<_> = units(&["service", "socket", "path", "target"])
        .iter()
        .map(|unit| lib.join("system").join(unit))
        .collect();
    files.push(lib.join("catalog/plugind.catalog"));
    for file in files {
        let text = fs::read_to_string(&file).expect("it was installed");
        let named = text.lines().filter_map(|line| line.strip_prefix("Documentation"));
        let pages: Vec<_> = named.flat_map(|pages| pages[1..].split_whitespace()).collect();
        assert!(!pages.is_empty(), "{} names none", file.display());
        for page in pages {
            let known = page.strip_prefix("man:").and_then(|page| page.strip_suffix(')'));
            let (name, section) =
                known.and_then(|page| page.split_once('(')).expect("man:NAME(SECTION)");
            let path = format!("usr/share/man/man{section}/{name}.{section}");
            let of_systemd = name.starts_with("systemd");
            assert!(of_systemd || root.path().join(&path).exists(), "{path}");
        }
    }
}

#[test]
fn lintian_finds_nothing_in_the_debian_package_and_symbols_have_their_own() {
    let directory = tempfile::tempdir().expect("there is room for temporary files");
    let packages = plugind_tests::debian_packages(directory.path(), "0.0.1-1", "");
    let [symbols, package] = packages.as_slice() else { panic!("{packages:?}") };
    let name = symbols.file_name().expect("it is a file").to_string_lossy();
    assert!(name.starts_with("plugind-dbgsym_0.0.1-1_"), "{name}");
    let contents = Command::new("dpkg-deb").arg("--contents").arg(symbols).output();
    let contents = contents.expect("dpkg-deb is there: tests/setup test").stdout;
    let contents = String::from_utf8(contents).expect("it is ASCII");
    let files = contents.lines().filter(|line| line.ends_with(".debug"));
    assert_eq!(files.count(), 3, "one for each program: {contents}");
    let findings = Command::new("lintian")
        .args(["--fail-on", "error,warning", "--allow-root", "--suppress-tags"])
        // Not compressed, since the package is made for the test.
        .arg("uses-no-compression-for-control-tarball,uses-no-compression-for-data-tarball")
        .arg(package)
        .output()
        .expect("lintian is there: tests/setup test");
    let findings = [findings.stdout, findings.stderr].concat();
    assert_eq!(String::from_utf8_lossy(&findings), "");
}

/// Programs of other profiles name the directories in which they are debugged.
#[cfg(not(debug_assertions))]
#[test]
fn what_is_shipped_names_no_directory_of_the_machine_that_built_it() {
    let cargo = std::env::var("CARGO_HOME")
        .or_else(|_| std::env::var("HOME").map(|home| format!("{home}/.cargo")))
        .expect("cargo has a home");
    let root = install(None);
    for program in ["bin/plugind", "bin/pluginctl", "libexec/plugind/plugind-compile"] {
        let program = root.path().join("usr").join(program);
        let contents = fs::read(&program).expect("a program can be read");
        for directory in [top().canonicalize().expect("it is there"), PathBuf::from(&cargo)] {
            let name = directory.as_os_str().as_encoded_bytes();
            let named = contents.windows(name.len()).filter(|text| *text == name).count();
            assert_eq!(named, 0, "{} names {}", program.display(), directory.display());
        }
    }
}

#[test]
fn the_recipes_of_other_distributions_have_this_version_and_no_mistake_of_syntax() {
    let version = env!("CARGO_PKG_VERSION");
    let (rpm, arch) = (top().join("units/rpm/plugind.spec"), top().join("units/arch/PKGBUILD"));
    let parsed = Command::new("rpmspec").arg("--parse").arg(&rpm).output();
    let parsed = parsed.expect("rpmspec is there: tests/setup test");
    assert!(parsed.status.success(), "{}", String::from_utf8_lossy(&parsed.stderr));
    let parsed = String::from_utf8_lossy(&parsed.stdout);
    assert!(parsed.lines().any(|line| line == format!("Version:        {version}")), "{parsed}");
    // The steps of makepkg, without its own checks: it is a script that sets variables and defines functions.
    let script = r#"source "$1"; declare -F build package >/dev/null; echo "$pkgver""#;
    let sourced = Command::new("bash").args(["-euc", script, "bash"]).arg(&arch).output();
    let sourced = sourced.expect("bash is there");
    assert!(sourced.status.success(), "{}", String::from_utf8_lossy(&sourced.stderr));
    assert_eq!(String::from_utf8_lossy(&sourced.stdout).trim(), version);
}

#[test]
fn the_rpm_package_has_each_installed_file_and_names_no_other() {
    let directory = tempfile::tempdir().expect("there is room for temporary files");
    let sources =
        directory.path().join("BUILD").join(concat!("plugind-", env!("CARGO_PKG_VERSION")));
    fs::create_dir(directory.path().join("BUILD")).expect("the directory is writable");
    symlink(top(), sources).expect("the directory is writable");
    // The steps after the build of the programs.
    let built = Command::new("rpmbuild")
        .args(["-bi", "--short-circuit", "--nodeps", "--define", "debug_package %{nil}"])
        .args(["--define", "__os_install_post %{nil}", "--define"])
        .arg(format!("_topdir {}", directory.path().display()))
        .arg(top().join("units/rpm/plugind.spec"))
        .env("PROGRAMS", plugind_tests::programs())
        .output()
        .expect("rpmbuild is there: tests/setup test");
    let reported = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{reported}");
    let output = String::from_utf8_lossy(&built.stdout);
    assert!(output.contains("Checking for unpackaged file(s)"), "{output}");
}

#[test]
fn each_crate_is_listed_with_the_text_of_a_licence() {
    let licenses = plugind_tests::programs().join("third-party-licenses.txt");
    let licenses = fs::read_to_string(licenses).expect("`make build` wrote it");
    let line = format!("\n{}\n", "=".repeat(80));
    let crates: Vec<_> = licenses.split(&line).skip(1).collect();
    assert!(crates.len() > 100, "{} crates", crates.len());
    for text in crates {
        let (name, texts) = text.split_once('\n').expect("it has more lines");
        assert!(texts.starts_with("\n-- ") && texts.len() > 500, "{name}: {texts}");
    }
}
