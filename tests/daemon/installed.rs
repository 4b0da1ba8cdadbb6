//! The author's commands from an installation, and from the directory into which cargo installs the programs.

use plugind_tests::{copy_program, guest, programs};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};
use tempfile::TempDir;

const TESTS: &str = "[[test]]\nname = \"it\"\npath = \"/\"\nreceive = \"Hello from shop\\n\"\n";

/// The programs as `make install` puts them below a directory, and `pluginctl` among them.
fn installed(directory: &Path) -> PathBuf {
    let install = Path::new(env!("CARGO_MANIFEST_DIR")).join("install");
    let mut command = Command::new(install);
    command.env("DESTDIR", directory).env("PREFIX", "/usr").env("PROGRAMS", programs());
    succeed(command.env("STRIP", "no"));
    directory.join("usr/bin/pluginctl")
}

/// The programs as `cargo install` puts them, and `pluginctl` among them.
fn beside_each_other(directory: &Path) -> PathBuf {
    for name in ["plugind", "pluginctl", "plugind-compile"] {
        copy_program(name, &directory.join(name));
    }
    directory.join("pluginctl")
}

fn succeed(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(status.success(), "{command:?}: {text}");
    text
}

#[test]
fn a_project_is_made_built_and_tested_by_installed_programs_without_a_set_up() {
    for install in [installed, beside_each_other] {
        let (programs, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let program = install(programs.path());
        let pluginctl = |arguments: &[&str]| {
            let mut command = Command::new(&program);
            command.args(arguments).current_dir(home.path()).env_clear();
            command.env("PATH", "/usr/bin:/bin").env("HOME", home.path());
            succeed(&mut command)
        };
        pluginctl(&["new", "--lang", "c", "shop"]);
        with_ready_component(&home);
        pluginctl(&["build", "shop"]);
        let printed = pluginctl(&["check", "shop"]);
        assert!(printed.contains("served as shop, at /shop"), "{printed}");
        let printed = pluginctl(&["test", "shop"]);
        assert!(printed.contains("1 passed, 0 failed"), "{printed}");
    }
}

/// Has the build of the project copy a component, since the tools of its language are not needed here.
fn with_ready_component(home: &TempDir) {
    let project = home.path().join("shop");
    let settings = fs::read_to_string(project.join("pluginctl.toml")).unwrap();
    let build =
        format!("build = \"mkdir -p build; cp '{}' build/plugin.wasm\"", guest("hello").display());
    let settings = settings.replace("build = \"make\"", &build);
    assert!(settings.contains(&build), "{settings}");
    fs::write(project.join("pluginctl.toml"), settings).unwrap();
    fs::write(project.join("test.toml"), TESTS).unwrap();
}
