//! The command lines of the programs, and their exit statuses.

use plugind_tests::{Tree, copy_program, end_of, guest, program};
use std::{
    fs,
    net::TcpListener,
    os::unix::fs::MetadataExt,
    process::{Command, Output},
};

fn run(name: &str, arguments: &[&str]) -> Output {
    Command::new(program(name)).args(arguments).env_clear().output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn help_and_version_go_to_standard_output() {
    for (name, word) in
        [("plugind", "--listen"), ("pluginctl", "check"), ("plugind-compile", "--cache")]
    {
        let help = run(name, &["--help"]);
        assert!(help.status.success() && help.stderr.is_empty(), "{name}");
        assert!(text(&help.stdout).contains(word), "{}", text(&help.stdout));
        let version = run(name, &["--version"]);
        assert!(version.status.success() && version.stderr.is_empty(), "{name}");
        let expected = format!("{name} {}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!(text(&version.stdout), expected);
    }
}

#[test]
fn wrong_arguments_are_reported_with_the_valid_ones() {
    for (arguments, part) in [
        (&["--listen"][..], "NAME=ADDRESS:PORT"),
        (&["--listen", "8080"], "http=127.0.0.1:8080"),
        (&["--listen", "http=8080"], "127.0.0.1:8080"),
        (&["--listen", "http=127.0.0.1:80800"], "127.0.0.1:8080"),
        (&["--listen", "=127.0.0.1:8080"], "--listen"),
        (&["--listen", "clock=udp:8080"], "udp:ADDRESS:PORT"),
        (&["--listen", "echo=unix:"], "unix:/PATH"),
        (&["--log", "loud"], "warning"),
        (&["--compile-timeout", "soon"], "--compile-timeout"),
        (&["--compile-timeout", "0"], "it must be at least 1s, not 0s"),
        (&["--compile-memory-max", "0"], "it must be at least 64M, not 0"),
        (&["--plugin", "x"], "--plugins"),
        (&["--root", "/nonexistent"], "No such file or directory"),
        (&["--root", "/dev/null"], "it must be a directory"),
        (&["x"], "x"),
    ] {
        let ran = run("plugind", arguments);
        assert_eq!(ran.status.code(), Some(64), "{arguments:?}");
        assert!(text(&ran.stderr).contains(part), "{}", text(&ran.stderr));
    }
    for arguments in
        [&[][..], &["cat", "No Name"], &["admire"], &["check", "--root", "/nonexistent"]]
    {
        assert_eq!(run("pluginctl", arguments).status.code(), Some(64), "{arguments:?}");
    }
}

#[test]
fn a_root_that_does_not_exist_is_refused_and_not_made() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    let hello = guest("hello");
    let install = ["install", "--no-compile", hello.to_str().unwrap()];
    for command in [&["list"][..], &["disable", "hello"], &["remove", "hello"], &install] {
        let ran = run("pluginctl", &[command, &["--root", root.to_str().unwrap()]].concat());
        assert_eq!(ran.status.code(), Some(64), "{command:?}");
        assert!(text(&ran.stderr).contains("No such file or directory"), "{}", text(&ran.stderr));
    }
    assert!(!root.exists());
}

#[test]
fn a_profile_that_cannot_be_written_is_not_recorded() {
    let directory = tempfile::tempdir().unwrap();
    let nowhere = directory.path().join("nowhere/profile.json");
    for path in [directory.path(), &nowhere] {
        let path = path.to_str().unwrap();
        // Without a daemon, so a command that begins to record fails otherwise.
        let socket = ["--socket", "/nowhere/control"];
        let ran =
            run("pluginctl", &[&["profile", "hello", "--output", path], &socket[..]].concat());
        let reported = text(&ran.stderr);
        assert!(reported.starts_with(&format!("cannot write {path}: ")), "{reported}");
    }
}

#[test]
fn a_manifest_that_is_missing_is_not_checked_as_its_component() {
    let directory = tempfile::tempdir().unwrap();
    fs::copy(guest("hello"), directory.path().join("hello.wasm")).unwrap();
    let path = |file: &str| directory.path().join(file).display().to_string();
    for (named, missing) in [("hello.toml", "hello.toml"), ("other.wasm", "other.wasm")] {
        let ran = run("pluginctl", &["check", "--no-compile", &path(named)]);
        let expected =
            format!("cannot read {}: No such file or directory (os error 2)\n", path(missing));
        assert!(text(&ran.stderr).starts_with(&expected), "{}", text(&ran.stderr));
        assert_eq!((ran.status.code(), text(&ran.stdout)), (Some(1), ""));
    }
}

#[test]
fn logs_without_a_journal_or_its_program_are_refused_with_the_reason() {
    let empty = tempfile::tempdir().unwrap();
    let mut logs = Command::new(program("pluginctl"));
    let ran = logs.args(["logs", "hello"]).env_clear().env("PATH", empty.path()).output().unwrap();
    assert_eq!(ran.status.code(), Some(1));
    let said = text(&ran.stderr);
    let reasons = ["this machine has no journal: ", "journalctl must be installed"];
    assert!(reasons.iter().any(|reason| said.contains(reason)), "{said}");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ended = end_of(&Tree::new(), &["--listen", &format!("http={address}")]);
    assert_eq!(ended.status, 1);
    ended.log.wait_for(&["err     plugind: startup failed", &address, "in use"]);
}

#[test]
fn pluginctl_says_what_a_component_is() {
    for (name, parts) in [
        (
            "hello",
            &[
                "wasi:http 0.3",
                "hello, at /hello",
                "lifecycle its own",
                "environment",
                "wasi:config/store",
            ][..],
        ),
        (
            "greeter_02",
            &["wasi:http 0.2", "greeter-02, at /greeter-02", "instances fresh", "lifecycle none"],
        ),
        ("both_versions", &["wasi:http 0.3", "instances shared"]),
        ("ticker", &["kind      program", "ticker, without a route"]),
    ] {
        let path = guest(name);
        let ran = run("pluginctl", &["check", "--no-compile", path.to_str().unwrap()]);
        assert!(ran.status.success());
        let reported = text(&ran.stdout);
        assert!(reported.starts_with(path.to_str().unwrap()), "{reported}");
        for part in parts {
            assert!(reported.contains(part), "{part:?} is not in {reported}");
        }
        assert!(text(&ran.stderr).contains("nothing was compiled or linked"));
    }
}

#[test]
fn pluginctl_reports_what_is_not_a_component_and_checks_the_rest() {
    let directory = tempfile::tempdir().unwrap();
    let core = directory.path().join("core.wasm");
    std::fs::write(&core, b"\0asm\x01\0\0\0").unwrap();
    let (core, missing) = (core.to_str().unwrap(), "/nowhere/x.wasm");
    let hello = guest("hello");
    let ran = run("pluginctl", &["check", core, missing, hello.to_str().unwrap()]);
    assert_eq!(ran.status.code(), Some(1));
    let reported = text(&ran.stderr);
    assert!(reported.contains(core) && reported.contains("core module"), "{reported}");
    assert!(reported.contains(missing) && reported.contains("No such file"), "{reported}");
    assert!(text(&ran.stdout).contains("wasi:http 0.3"));
}

#[test]
fn a_check_without_a_compiler_says_so_and_fails() {
    let hello = guest("hello");
    let arguments = ["check", hello.to_str().unwrap(), "--compiler", "/nowhere/plugind-compile"];
    let ran = run("pluginctl", &arguments);
    assert_eq!(ran.status.code(), Some(1));
    let reported = text(&ran.stderr);
    assert!(
        reported.contains("/nowhere/plugind-compile") && reported.contains("--no-compile"),
        "{reported}"
    );
    assert!(text(&ran.stdout).contains("wasi:http 0.3"), "what can be said without it is said");
}

/// A directory with one plugin, which is granted a directory that does not exist.
fn without_its_directory() -> tempfile::TempDir {
    let plugins = tempfile::tempdir().unwrap();
    fs::copy(guest("files"), plugins.path().join("files.wasm")).unwrap();
    fs::write(plugins.path().join("files.toml"), "[grants]\nread = [\"/nowhere\"]\n").unwrap();
    plugins
}

#[test]
fn compile_fails_if_a_plugin_has_a_mistake_and_compiles_the_others() {
    let directory = tempfile::tempdir().unwrap();
    let (plugins, cache) = (directory.path().join("plugins"), directory.path().join("cache"));
    fs::create_dir(&plugins).unwrap();
    fs::write(plugins.join("broken.wasm"), "no component").unwrap();
    for name in ["hello", "mistaken"] {
        fs::copy(guest("hello"), plugins.join(format!("{name}.wasm"))).unwrap();
    }
    fs::write(plugins.join("mistaken.toml"), "requird = true\n").unwrap();
    fs::write(plugins.join("No_Name.wasm"), "ignored").unwrap();
    let [plugins, cache] = [&plugins, &cache].map(|path| path.to_str().unwrap());
    let ran = run("pluginctl", &["compile", "--plugins", plugins, "--cache", cache]);
    let reported = text(&ran.stderr);
    assert_eq!(ran.status.code(), Some(1), "{reported}");
    let lines: Vec<_> = reported.lines().collect();
    assert_eq!(lines.len(), 3, "{reported}");
    assert!(lines[0].contains("No_Name.wasm is ignored: "), "{reported}");
    assert!(lines[1].starts_with("broken: failed at verify: "), "{reported}");
    assert!(lines[2].starts_with("mistaken: failed at verify: "), "{reported}");
    assert!(lines[2].contains("requird"), "{reported}");
    assert_eq!(fs::read_dir(cache).unwrap().count(), 1);
}

#[test]
fn compile_names_the_cache_that_is_not_a_directory() {
    let plugins = tempfile::tempdir().unwrap();
    fs::copy(guest("hello"), plugins.path().join("hello.wasm")).unwrap();
    let hello = plugins.path().join("hello.wasm");
    let [plugins, file] = [plugins.path(), &*hello].map(|path| path.to_str().unwrap());
    let ran = run("pluginctl", &["compile", "--plugins", plugins, "--cache", file]);
    let error = format!("cannot make the directory {file} for compiled files: ");
    assert_eq!(ran.status.code(), Some(1));
    assert!(text(&ran.stderr).contains(&error), "{}", text(&ran.stderr));
}

#[test]
fn check_cat_routes_and_compile_read_the_configuration_of_a_user() {
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join(".config/plugind");
    fs::create_dir_all(config.join("plugins")).unwrap();
    fs::copy(guest("hello"), config.join("plugins/hello.wasm")).unwrap();
    fs::write(config.join("plugins/hello.toml"), "description = \"mine\"\n").unwrap();
    let cache = home.path().join("compiled");
    let with = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = Command::new(program("pluginctl"));
        command.args(arguments).arg("--user").env_clear().env("HOME", home.path());
        command.envs(variables.iter().copied()).output().unwrap()
    };
    let compile = ["compile", "--cache", cache.to_str().unwrap()];
    for (arguments, word) in [
        (&["check"][..], "hello"),
        (&["cat", "hello"], "mine"),
        (&["routes"], "/hello"),
        (&compile, ""),
    ] {
        let ran = with(arguments, &[]);
        let reported = format!("{arguments:?}: {}{}", text(&ran.stdout), text(&ran.stderr));
        assert!(ran.status.success() && text(&ran.stdout).contains(word), "{reported}");
    }
    assert_eq!(fs::read_dir(&cache).unwrap().count(), 1);
    // A relative path is ignored, as the specification of these variables has it.
    let routes = with(&["routes"], &[("XDG_CONFIG_HOME", "relative")]);
    assert!(text(&routes.stdout).contains("/hello"), "{}", text(&routes.stdout));
    let routes = with(&["routes"], &[("XDG_CONFIG_HOME", "/nowhere")]);
    assert!(!text(&routes.stdout).contains("/hello"), "{}", text(&routes.stdout));
}

#[test]
fn compile_changes_no_file_that_the_cache_of_a_daemon_has_already() {
    let [plugins, cache] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    fs::copy(guest("hello"), plugins.path().join("hello.wasm")).unwrap();
    let compile = || {
        let mut compile = Command::new(program("pluginctl"));
        compile.arg("compile").arg("--plugins").arg(plugins.path());
        // As that of the daemon of this machine.
        compile.env_clear().env("CACHE_DIRECTORY", cache.path());
        let ran = compile.arg("--cache").arg(cache.path()).output().unwrap();
        assert!(ran.status.success(), "{}", text(&ran.stderr));
        let files = fs::read_dir(cache.path()).unwrap().map(|file| {
            let file = file.unwrap();
            let state = file.metadata().unwrap();
            (file.path(), state.ino(), state.len())
        });
        files.collect::<Vec<_>>()
    };
    let compiled = compile();
    assert!(compiled.len() == 1 && compiled[0].2 > 0, "{compiled:?}");
    assert_eq!(compile(), compiled);
}

#[test]
fn without_the_variables_of_a_user_nothing_of_the_system_is_used_instead() {
    let no_home = "--user needs HOME, or XDG_CONFIG_HOME, XDG_CACHE_HOME and XDG_STATE_HOME\n";
    let no_runtime = "--user needs XDG_RUNTIME_DIR; run it in a session of the user\n";
    let hello = guest("hello");
    let install = ["install", "--user", "--no-compile", hello.to_str().unwrap()];
    for (name, arguments, status, error) in [
        ("plugind", &["--user"][..], 78, no_home),
        ("pluginctl", &install[..], 1, no_home),
        ("pluginctl", &["list", "--user"], 1, no_runtime),
        ("pluginctl", &["check", "--user"], 78, no_home),
        ("pluginctl", &["routes", "--user"], 78, no_home),
    ] {
        let ran = Command::new(program(name)).args(arguments).env_clear().output().unwrap();
        assert_eq!((ran.status.code(), text(&ran.stderr)), (Some(status), error), "{arguments:?}");
    }
}

#[test]
fn plugind_check_prints_the_plugins_that_fail_and_serves_nothing() {
    let plugins = without_its_directory();
    fs::copy(guest("hello"), plugins.path().join("hello.wasm")).unwrap();
    let directory = plugins.path().to_str().unwrap();
    let ran = run("plugind", &["--check", "--plugins", directory]);
    assert_eq!(ran.status.code(), Some(1), "{}", text(&ran.stderr));
    let failed: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(failed.as_array().unwrap().len(), 1, "{failed}");
    assert_eq!((&failed[0]["plugin"], &failed[0]["stage"]), (&"files".into(), &"link".into()));
    assert!(failed[0]["mistakes"][0].as_str().unwrap().contains("/nowhere"), "{failed}");

    let hello = plugins.path().join("hello.wasm");
    let ran = run("plugind", &["--check", hello.to_str().unwrap()]);
    assert_eq!((ran.status.code(), text(&ran.stdout)), (Some(0), "[]\n"));
    let ran = run("plugind", &["--check", "--listen", "http=127.0.0.1:0"]);
    assert_eq!(ran.status.code(), Some(64));
}

#[test]
fn pluginctl_check_reports_what_plugind_cannot_link() {
    let plugins = without_its_directory();
    let component = plugins.path().join("files.wasm");
    for path in [plugins.path(), &component] {
        let ran = run("pluginctl", &["check", "--json", path.to_str().unwrap()]);
        assert_eq!(ran.status.code(), Some(1));
        assert!(text(&ran.stderr).contains("/nowhere"), "{}", text(&ran.stderr));
        let printed: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
        let plugin = printed["plugins"].get(0).unwrap_or(&printed);
        assert_eq!(plugin["fails-at"], "link", "{printed}");
    }
}

#[test]
fn pluginctl_check_without_plugind_beside_it_says_so_and_fails() {
    let alone = tempfile::tempdir().unwrap();
    let pluginctl = alone.path().join("pluginctl");
    copy_program("pluginctl", &pluginctl);
    let ran = Command::new(&pluginctl).arg("check").arg(guest("hello")).env_clear().output();
    let ran = ran.unwrap();
    assert_eq!(ran.status.code(), Some(1));
    let printed = text(&ran.stderr);
    let missing = alone.path().join("plugind");
    assert!(printed.contains(missing.to_str().unwrap()), "{printed}");
    assert!(printed.contains("--no-compile"), "{printed}");
    assert!(text(&ran.stdout).contains("wasi:http 0.3"), "everything else is checked");
}
