//! The output of `pluginctl` for each configuration in `golden/`.
//!
//! A case is a directory: a tree (`usr/lib`, `run`, `etc`), a list `files` of components and links, and the expected
//! texts. With `GOLDEN=write` in the environment they are written instead of compared.

use plugind_tests::{Signal, Tree, golden, program};
use rustix::process::{Pid, kill_process};
use std::{
    fmt::Write as _,
    fs,
    path::Path,
    process::{Command, Stdio},
};

/// Returns the arguments of pluginctl whose output a file with this name has.
fn arguments(expected: &str) -> Vec<String> {
    let component = |name: &str| format!("etc/plugind/plugins/{name}.wasm");
    let named = expected.strip_prefix("expected").expect("the file is one");
    let arguments = match (named.strip_prefix("-of-"), named.strip_prefix("-json-of-")) {
        (Some(name), _) => return vec!["check".to_owned(), component(name)],
        (_, Some(name)) => {
            return vec!["check".to_owned(), component(name), "--json".to_owned()];
        }
        _ => of_a_tree(named),
    };
    arguments.into_iter().map(str::to_owned).collect()
}

/// The same where it is about the tree as a whole, or about one of its plugins by name.
fn of_a_tree(named: &str) -> Vec<&str> {
    match named {
        "" => vec!["check"],
        "-json" => vec!["check", "--json"],
        "-routes" => vec!["routes"],
        "-cat" => vec!["cat"],
        "-cat-json" => vec!["cat", "--json"],
        other => match other.strip_prefix("-cat-json-") {
            Some(plugin) => vec!["cat", plugin, "--json"],
            None => vec!["cat", other.strip_prefix("-cat-").expect("it is one of the above")],
        },
    }
}

/// Returns the output of pluginctl for the tree below `root`, which is left out of all paths.
fn reported(arguments: &[String], root: &Path) -> String {
    let mut command = Command::new(program("pluginctl"));
    let command = command.args(arguments).arg("--root").arg(root).current_dir(root).env_clear();
    let output = command.output().expect("pluginctl can be run");
    let mut reported = format!("$ pluginctl {}\n", arguments.join(" "));
    for line in String::from_utf8_lossy(&output.stdout).split_inclusive('\n') {
        // The time is another one each time.
        match line.strip_prefix("  compile   ").and_then(|line| line.split_once(" s ")) {
            Some((_, rest)) => write!(reported, "  compile   … s {rest}").ok(),
            None => write!(reported, "{line}").ok(),
        };
    }
    for line in String::from_utf8_lossy(&output.stderr).lines() {
        // Writing to a String cannot fail.
        writeln!(reported, "! {line}").ok();
    }
    writeln!(reported, "exit {}", output.status.code().expect("it ended by itself")).ok();
    reported.replace(root.to_str().expect("the path is text"), "")
}

#[test]
fn the_output_for_every_configuration_is_the_expected_one() {
    let write = std::env::var_os("GOLDEN").is_some_and(|value| value == "write");
    let cases = golden::cases();
    assert!(cases.len() >= 40, "there are only {} cases", cases.len());
    let mut differences = String::new();
    for case in cases {
        let tree = golden::tree(&case);
        let files = fs::read_dir(&case).expect("a case is a directory");
        let names = files.map(|file| file.expect("it can be listed").file_name());
        let names = names.map(|name| name.into_string().expect("the name is text"));
        let mut expected: Vec<_> = names.filter(|name| name.starts_with("expected")).collect();
        expected.sort();
        assert!(!expected.is_empty(), "{} expects nothing", case.display());
        for name in expected {
            let path = case.join(&name);
            let reported = reported(&arguments(&name), tree.path());
            if write {
                fs::write(&path, reported).expect("the case is writable");
                continue;
            }
            let expected = fs::read_to_string(&path).expect("what is expected is text");
            if reported != expected {
                let path = path.display();
                writeln!(differences, "{path} expects\n{expected}and not\n{reported}").ok();
            }
        }
    }
    assert!(differences.is_empty(), "{differences}(`make golden` writes the current output)");
}

/// The lines below `[grants]` in a description of a component, as they are printed.
fn grants_in(described: &str) -> Option<String> {
    let (_, rest) = described.split_once("[grants]\n")?;
    let lines = rest.lines().take_while(|line| line.starts_with("            "));
    Some(lines.fold("[grants]\n".to_owned(), |text, line| text + line + "\n"))
}

#[test]
fn printed_grants_can_be_pasted_into_a_manifest() {
    let tree = Tree::new();
    let manifest = tree.plugins().join("job.toml");
    tree.put("job.wasm", golden::component("wants-grants"));
    let path = tree.plugins().join("job.wasm");
    let check = || {
        let mut command = Command::new(program("pluginctl"));
        let output = command.args(["check", "--no-compile"]).arg(&path).env_clear().output();
        output.expect("pluginctl can be run")
    };
    // Without the credential it is refused, and is not described.
    fs::write(&manifest, "[grants]\ncredentials = [\"token\"]\n").expect("the tree is writable");
    let described = String::from_utf8(check().stdout).expect("it is text");
    let grants = grants_in(&described).unwrap_or_else(|| panic!("no grants in {described}"));
    assert!(grants.contains("environment = ") && grants.contains("credentials = "), "{grants}");
    // The place of a name is marked in the examples.
    fs::write(&manifest, grants.replace('…', "name")).expect("the tree is writable");
    let checked = check();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

#[test]
fn checking_leaves_nothing_behind() {
    let case = golden::cases().into_iter().find(|case| case.ends_with("03-one-of-each-kind"));
    let tree = golden::tree(&case.expect("the case is there"));
    let listed = || {
        let listed =
            Command::new("find").arg(tree.path()).args(["-printf", "%p %s %T@\n"]).output();
        listed.expect("find can be run").stdout
    };
    let before = listed();
    reported(&["check".to_owned()], tree.path());
    assert_eq!(String::from_utf8_lossy(&listed()), String::from_utf8_lossy(&before));
}

#[test]
fn a_check_that_is_interrupted_leaves_nothing_behind_either() {
    let case = golden::cases().into_iter().find(|case| case.ends_with("03-one-of-each-kind"));
    let tree = golden::tree(&case.expect("the case is there"));
    for signal in [Signal::HUP, Signal::INT, Signal::TERM] {
        let temporary = tempfile::tempdir().expect("there is room for temporary files");
        let pipe = temporary.path().join("pipe");
        let made = Command::new("mkfifo").arg(&pipe).status().expect("mkfifo can be run");
        assert!(made.success());
        let compiler =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("compilers").join("hangs-and-says-so");
        let check = Command::new(program("pluginctl"))
            .args(["check", "--root"])
            .args([tree.path(), Path::new("--compiler"), &compiler])
            .env_clear()
            .env("TMPDIR", temporary.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("pluginctl can be run");
        assert!(fs::read_to_string(&pipe).expect("it is a pipe").starts_with("begun\n"));
        kill_process(Pid::from_child(&check), signal).expect("it runs");
        let ended = check.wait_with_output().expect("it is a child of this process");
        assert_eq!(ended.status.code(), Some(128 + signal.as_raw()));
        assert_eq!(String::from_utf8_lossy(&ended.stderr), "interrupted\n");
        assert!(ended.stdout.is_empty());
        fs::remove_file(&pipe).expect("it is still there");
        let left = fs::read_dir(temporary.path()).expect("it is a directory").count();
        assert_eq!(left, 0, "after {signal:?}");
    }
}
