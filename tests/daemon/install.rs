//! `pluginctl install` and its opposites do what an administrator does by hand, and check it first.

use crate::control::{run, start};
use plugind_tests::{Daemon, Tree, guest, program};
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

/// A directory outside of the tree's plugins with this guest and its manifest.
fn source(tree: &Tree, name: &str, manifest: &str) -> PathBuf {
    let directory = tree.root().join("source");
    fs::create_dir_all(&directory).unwrap();
    let component = directory.join(format!("{name}.wasm"));
    fs::copy(guest("hello"), &component).unwrap();
    fs::set_permissions(&component, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(directory.join(format!("{name}.toml")), manifest).unwrap();
    component
}

/// The names of all files among the plugins.
fn files(tree: &Tree) -> Vec<String> {
    let entries = fs::read_dir(tree.plugins()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

fn mkfifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn what_is_installed_is_readable_by_everyone_and_served_by_the_next_reload() {
    let tree = Tree::new();
    let daemon = start(&tree);
    let component = source(&tree, "hello", "[config]\ngreeting = \"Hi\"\n");
    let ran = run(&tree, &["install", text(&component), "--name", "site", "--reload"]);
    assert_eq!(ran.status, Some(0), "{}", ran.stdout);
    let path = tree.plugins().join("site.wasm");
    let installed = format!("installed {} sha256:", path.display());
    assert!(ran.stdout.starts_with(&installed), "{}", ran.stdout);
    assert_eq!(daemon.get("/site").status_and_text(), (200, "Hi from site\n"));
    assert_eq!(files(&tree), ["site.toml", "site.wasm"]);
    for file in files(&tree) {
        let mode = fs::metadata(tree.plugins().join(&file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o644, "{file}");
    }

    let ran = run(&tree, &["remove", "site", "--reload"]);
    assert_eq!(ran.status, Some(0), "{}", ran.stdout);
    assert_eq!(daemon.get("/site").status(), 404);
    assert_eq!(files(&tree), [""; 0]);
    assert_eq!(run(&tree, &["remove", "site"]).status, Some(1));
}

#[test]
fn nothing_of_a_directory_with_a_mistake_is_installed() {
    let tree = Tree::new();
    source(&tree, "good", "");
    let bad = source(&tree, "bad", "unknown = 1\n");
    let directory = bad.parent().unwrap();
    let ran = run(&tree, &["install", text(directory)]);
    assert_eq!(ran.status, Some(1), "{}", ran.stdout);
    assert_eq!(files(&tree), [""; 0]);
    fs::write(bad.with_extension("toml"), "").unwrap();
    let ran = run(&tree, &["install", text(directory)]);
    assert_eq!((ran.status, ran.stdout.lines().count()), (Some(0), 2), "{}", ran.stdout);
    assert_eq!(files(&tree), ["bad.toml", "bad.wasm", "good.toml", "good.wasm"]);
}

#[test]
fn components_that_would_be_one_plugin_are_not_installed() {
    let tree = Tree::new();
    source(&tree, "my-plugin", "");
    let other = source(&tree, "my_plugin", "");
    let ran = run(&tree, &["install", text(other.parent().unwrap())]);
    assert_eq!(ran.status, Some(1), "{}", ran.stdout);
    assert!(ran.stderr.contains("would both be the plugin my-plugin"), "{}", ran.stderr);
    assert_eq!(files(&tree), [""; 0]);
}

#[test]
fn a_component_whose_file_gives_no_name_is_not_installed_without_one() {
    let tree = Tree::new().with_named("plugin", "hello", "");
    let component = source(&tree, "2048", "");
    let why = "gives no name of a plugin: a name must begin with a letter a-z, not with '2'";
    for (path, remedy) in
        [(&*component, "add --name NAME"), (component.parent().unwrap(), "rename the file")]
    {
        let ran = run(&tree, &["install", text(path)]);
        assert_eq!((ran.status, &*ran.stdout), (Some(1), ""), "{}", ran.stderr);
        assert_eq!(ran.stderr, format!("{} {why}; {remedy}\n", component.display()));
    }
    assert_eq!(files(&tree), ["plugin.wasm"]);
    let ran = run(&tree, &["install", text(&component), "--name", "game"]);
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    assert_eq!(files(&tree), ["game.toml", "game.wasm", "plugin.wasm"]);
}

#[test]
fn the_plugins_that_were_installed_are_named_if_another_one_cannot_be() {
    let tree = Tree::new();
    source(&tree, "a", "");
    let last = source(&tree, "b", "");
    let in_its_place = tree.plugins().join("b.wasm");
    fs::create_dir(&in_its_place).unwrap();
    let ran = run(&tree, &["install", text(last.parent().unwrap())]);
    let first = format!("installed {} sha256:", tree.plugins().join("a.wasm").display());
    assert!(ran.stdout.starts_with(&first) && ran.stdout.lines().count() == 1, "{}", ran.stdout);
    let why = format!("cannot write {}: Is a directory", in_its_place.display());
    assert!(ran.status == Some(1) && ran.stderr.starts_with(&why), "{}", ran.stderr);
}

#[test]
fn a_file_that_cannot_be_read_is_reported_with_the_error_of_the_system() {
    let tree = Tree::new();
    let component = source(&tree, "hello", "");
    for link in ["hello.toml", "hello.wasm"] {
        let link = component.with_file_name(link);
        fs::remove_file(&link).unwrap();
        symlink("nowhere", &link).unwrap();
        let ran = run(&tree, &["install", text(component.parent().unwrap())]);
        let why = "it is a link to nowhere: No such file or directory (os error 2)";
        assert_eq!(ran.stderr, format!("cannot read {}: {why}\n", link.display()));
        assert_eq!((ran.status, files(&tree)), (Some(1), vec![]));
    }
}

#[test]
fn a_component_must_fit_the_manifest_that_stays() {
    let tree = Tree::new();
    tree.put("site.toml", "[grants]\nkeyvalue = {}\n");
    let component = source(&tree, "hello", "");
    fs::remove_file(component.with_extension("toml")).unwrap();
    let ran = run(&tree, &["install", text(&component), "--name", "site"]);
    assert_eq!(ran.status, Some(1), "{}", ran.stdout);
    assert!(ran.stderr.contains("grants.keyvalue"), "{}", ran.stderr);
    assert_eq!(files(&tree), ["site.toml"]);
}

#[test]
fn middleware_that_is_installed_already_is_found_and_other_middleware_is_a_mistake() {
    let tree = Tree::new().with_named("gate", "passes_on", "");
    let component = source(&tree, "hello", "middleware = [\"gate\"]\n");
    let ran = run(&tree, &["install", text(&component)]);
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    let manifest = component.with_extension("toml");
    fs::write(&manifest, "middleware = [\"gat\"]\n").unwrap();
    let mistake = |manifest: &Path| {
        let ran = run(&tree, &["install", text(&component)]);
        let why = "middleware: there is no plugin \"gat\"; did you mean \"gate\"?";
        let expected = format!("{}:1:14: {why}", manifest.display());
        assert_eq!(ran.status, Some(1), "{}", ran.stdout);
        assert!(ran.stderr.contains(&expected), "{} instead of {expected}", ran.stderr);
    };
    mistake(&manifest);
    // The manifest that stays is named, and not one beside the new component.
    let stays = tree.plugins().join("hello.toml");
    fs::rename(&manifest, &stays).unwrap();
    mistake(&stays);
}

#[test]
fn a_plugin_that_wants_the_route_of_another_one_is_not_installed() {
    // By name, one comes before the plugin that has the route, and one behind it.
    let tree = Tree::new().with_named("b", "hello", "");
    for name in ["a", "c"] {
        let component = source(&tree, name, "[[serve]]\nroute = \"/b\"\n");
        let ran = run(&tree, &["install", text(&component)]);
        assert_eq!(ran.status, Some(1), "{name}: {}", ran.stdout);
        assert!(ran.stderr.contains("the route /b is already taken"), "{}", ran.stderr);
        assert_eq!(files(&tree), ["b.wasm"]);
    }
}

#[test]
fn a_plugin_is_checked_with_the_settings_of_its_daemon() {
    let tree = Tree::new();
    let manifest = "[grants]\npublish = [\"answers\"]\n[[subscribe]]\nsubject = \"orders\"\n";
    let component = source(&tree, "hello", manifest);
    fs::copy(guest("takes_messages"), &component).unwrap();
    let ran = run(&tree, &["install", text(&component)]);
    assert_eq!(ran.status, Some(1), "{}", ran.stdout);
    assert!(ran.stderr.contains("the daemon has no NATS server"), "{}", ran.stderr);
    let tree = tree.with_settings("[messaging]\nurl = \"nats://127.0.0.1:4222\"\n");
    let ran = run(&tree, &["install", text(&component)]);
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
}

#[test]
fn what_is_not_a_regular_file_is_not_installed_and_not_waited_for() {
    let tree = Tree::new();
    let component = source(&tree, "hello", "");
    for path in [component.with_extension("toml"), component.clone()] {
        fs::remove_file(&path).unwrap();
        mkfifo(&path);
        let ran = run(&tree, &["install", text(&component)]);
        assert_eq!(ran.status, Some(1), "{}", ran.stdout);
        assert!(ran.stderr.contains("not a regular file"), "{}", ran.stderr);
    }
    assert_eq!(files(&tree), [""; 0]);
}

#[test]
fn a_plugin_of_a_package_is_masked_and_unmasked() {
    let tree = Tree::new();
    let vendor = tree.root().join("usr/lib/plugind/plugins");
    fs::create_dir_all(&vendor).unwrap();
    fs::copy(guest("hello"), vendor.join("hello.wasm")).unwrap();
    let daemon = start(&tree);
    assert_eq!(daemon.get("/hello").status(), 200);
    for (command, status) in [("disable", 404), ("disable", 404), ("enable", 200)] {
        assert_eq!(run(&tree, &[command, "hello", "--reload"]).status, Some(0), "{command}");
        assert_eq!(daemon.get("/hello").status(), status, "{command}");
    }
    assert_eq!(files(&tree), [""; 0]);
    for command in ["disable", "enable"] {
        let ran = run(&tree, &[command, "other"]);
        assert_eq!(ran.status, Some(1));
        assert!(ran.stderr.contains("there is no plugin other below"), "{}", ran.stderr);
        assert!(ran.stderr.contains(text(&tree.plugins())), "{}", ran.stderr);
    }
    let ran = run(&tree, &["enable", "hello"]);
    assert_eq!((ran.status, &*ran.stderr), (Some(1), "hello is not disabled\n"));
    // An empty file masks as well, and a directory that is not there yet is made.
    fs::write(tree.plugins().join("hello.wasm"), "").unwrap();
    for command in ["disable", "enable"] {
        assert_eq!(run(&tree, &[command, "hello"]).status, Some(0), "{command}");
    }
    fs::remove_dir(tree.plugins()).unwrap();
    for (command, status) in [("disable", 404), ("enable", 200)] {
        assert_eq!(run(&tree, &[command, "hello", "--reload"]).status, Some(0), "{command}");
        assert_eq!(daemon.get("/hello").status(), status, "{command}");
    }
}

#[test]
fn a_plugin_of_the_administrator_that_is_disabled_stays_stopped_over_a_restart() {
    let tree = Tree::new().with_manifest("hello", "required = true\n").with("sleeps");
    let mut daemon = start(&tree);
    let ran = run(&tree, &["disable", "hello", "--reload"]);
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    let drop_in = tree.plugins().join("hello.toml.d/disabled.toml");
    let reported = format!("hello is disabled by {}\n", drop_in.display());
    assert_eq!(ran.stderr, reported);
    let is_stopped = |daemon: &Daemon| {
        assert_eq!(daemon.get("/hello").status(), 503);
        let status = run(&tree, &["status"]);
        assert!(
            status.stdout.contains("1 of 2 plugins ready; stopped: hello"),
            "{}",
            status.stdout
        );
        assert!(run(&tree, &["status", "hello"]).stdout.contains("inactive (stopped)"));
    };
    is_stopped(&daemon);
    assert_eq!(daemon.stop(), 0);
    let mut daemon = start(&tree);
    is_stopped(&daemon);
    assert_eq!(run(&tree, &["reload"]).status, Some(0));
    is_stopped(&daemon);
    assert_eq!(daemon.log.count(&["plugin ready", "plugin=hello"]), 0);

    let ran = run(&tree, &["enable", "hello", "--reload"]);
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    assert_eq!(daemon.get("/hello").status(), 200);
    assert_eq!(files(&tree), ["hello.toml", "hello.wasm", "sleeps.wasm"]);
    assert_eq!(daemon.stop(), 0);
    let daemon = start(&tree);
    assert_eq!(daemon.get("/hello").status(), 200);
}

#[test]
fn what_was_enabled_is_reported_if_the_reload_fails() {
    let tree = Tree::new().with("hello");
    let vendor = tree.root().join("usr/lib/plugind/plugins");
    fs::create_dir_all(&vendor).unwrap();
    fs::copy(guest("hello"), vendor.join("packaged.wasm")).unwrap();
    let mask = tree.plugins().join("packaged.wasm");
    let unmasked = format!("{} no longer masks packaged\n", mask.display());
    for (name, enabled) in [("hello", "hello is enabled\n"), ("packaged", &unmasked)] {
        assert_eq!(run(&tree, &["disable", name]).status, Some(0));
        let ran = run(&tree, &["enable", name, "--reload"]);
        assert!(ran.status == Some(1) && ran.stderr.starts_with(enabled), "{}", ran.stderr);
        assert!(ran.stderr.contains("plugind does not run"), "{}", ran.stderr);
    }
    assert_eq!(files(&tree), ["hello.wasm"]);
}

#[test]
fn files_alone_are_changed_by_disable_and_enable_without_reload() {
    let tree = Tree::new().with("hello");
    let daemon = start(&tree);
    let stderr = |command: &str, status| {
        let ran = run(&tree, &[command, "hello"]);
        assert_eq!(ran.status, Some(status), "{command}: {}", ran.stderr);
        ran.stderr
    };
    assert!(stderr("enable", 1).contains("hello is not disabled"));
    assert!(stderr("disable", 0).contains("`pluginctl stop hello` stops it"));
    assert!(stderr("disable", 0).contains("`pluginctl stop hello` stops it"));
    assert_eq!(daemon.get("/hello").status(), 200);
    fs::write(tree.plugins().join("hello.toml.d/10-own.toml"), "required = false\n").unwrap();
    assert!(stderr("enable", 0).contains("`pluginctl start hello` starts it"));
    let own = fs::read_dir(tree.plugins().join("hello.toml.d")).unwrap().count();
    assert_eq!(own, 1, "another drop-in stays");
    // What is installed stays disabled, and what is removed is disabled no more.
    stderr("disable", 0);
    let ran = run(&tree, &["install", text(&source(&tree, "hello", ""))]);
    assert!(
        ran.stderr.contains("hello is disabled until `pluginctl enable hello`"),
        "{}",
        ran.stderr
    );
    stderr("remove", 0);
    assert!(!tree.plugins().join("hello.toml.d/disabled.toml").exists());
}

#[test]
fn a_pinned_plugin_has_to_be_unpinned_before_it_is_disabled() {
    let tree = Tree::new().with("hello");
    let _daemon = start(&tree);
    tree.wait_for_version("hello");
    assert_eq!(run(&tree, &["pin", "hello"]).status, Some(0));
    let ran = run(&tree, &["disable", "hello"]);
    assert_eq!(ran.status, Some(1));
    assert!(ran.stderr.contains("`pluginctl unpin hello` ends that"), "{}", ran.stderr);
    assert_eq!(files(&tree), ["hello.wasm"]);
}

#[test]
fn an_installed_manifest_that_is_kept_stays_the_same_file() {
    let tree = Tree::new();
    let component = source(&tree, "hello", "");
    fs::remove_file(component.with_extension("toml")).unwrap();
    let shared = tree.root().join("shared.toml");
    fs::write(&shared, "[config]\ngreeting = \"Hi\"\n").unwrap();
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o640)).unwrap();
    // A link to a shared file, and the mask of a manifest of a package.
    for target in [&*shared, Path::new("/dev/null")] {
        let manifest = tree.plugins().join("site.toml");
        symlink(target, &manifest).unwrap();
        let ran = run(&tree, &["install", text(&component), "--name", "site"]);
        assert_eq!(ran.status, Some(0), "{}", ran.stderr);
        assert_eq!(fs::read_link(&manifest).unwrap(), target);
        assert_eq!(files(&tree), ["site.toml", "site.wasm"]);
        for file in files(&tree) {
            fs::remove_file(tree.plugins().join(file)).unwrap();
        }
    }
    assert_eq!(fs::metadata(&shared).unwrap().permissions().mode() & 0o7777, 0o640);
}

#[test]
fn everyone_may_enter_the_directories_that_are_made_under_any_umask() {
    for command in ["install", "disable"] {
        let tree = Tree::new();
        let component = source(&tree, "hello", "");
        let vendor = tree.root().join("usr/lib/plugind/plugins");
        fs::create_dir_all(&vendor).unwrap();
        fs::copy(guest("hello"), vendor.join("packaged.wasm")).unwrap();
        let configuration = tree.root().join("etc");
        fs::remove_dir_all(&configuration).unwrap();
        let subject = if command == "install" { text(&component) } else { "packaged" };
        let mut under_mask = Command::new("/bin/sh");
        under_mask.args(["-euc", "umask 077\nexec \"$@\"", "sh"]).arg(program("pluginctl"));
        under_mask.args([command, subject, "--root"]).arg(tree.root()).env_clear();
        let ran = under_mask.output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        for directory in ["", "plugind", "plugind/plugins"] {
            let made = fs::metadata(configuration.join(directory)).unwrap();
            assert_eq!(made.permissions().mode() & 0o7777, 0o755, "{command}: {directory}");
        }
    }
}
