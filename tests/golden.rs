//! Trees in, texts out: what `pluginctl` says of each configuration in `golden/`.
//!
//! A case is a directory: a tree (`usr/lib`, `run`, `etc`), a list `files` of what is no text, and the texts that are
//! expected. With `GOLDEN=write` in the environment they are written instead of compared.

use plugind_tests::{golden, program};
use std::{fmt::Write as _, fs, path::Path, process::Command};

/// What is expected in a file with this name: the output of pluginctl with these arguments.
fn arguments(expected: &str) -> Vec<&str> {
    match expected.strip_prefix("expected").expect("the file is one") {
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

/// What pluginctl says of the tree below `root`, which is left out of all paths.
fn told(arguments: &[&str], root: &Path) -> String {
    let mut command = Command::new(program("pluginctl"));
    let command = command.args(arguments).arg("--root").arg(root).env_clear();
    let output = command.output().expect("pluginctl can be run");
    let mut told = format!("$ pluginctl {}\n", arguments.join(" "));
    told.push_str(&String::from_utf8_lossy(&output.stdout));
    for line in String::from_utf8_lossy(&output.stderr).lines() {
        // Writing to a String cannot fail.
        writeln!(told, "! {line}").ok();
    }
    writeln!(told, "exit {}", output.status.code().expect("it ended by itself")).ok();
    told.replace(root.to_str().expect("the path is text"), "")
}

#[test]
fn every_configuration_is_told_as_its_expected_texts_say() {
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
            let told = told(&arguments(&name), tree.path());
            if write {
                fs::write(&path, told).expect("the case is writable");
                continue;
            }
            let expected = fs::read_to_string(&path).expect("what is expected is text");
            if told != expected {
                let path = path.display();
                writeln!(differences, "{path} expects\n{expected}and not\n{told}").ok();
            }
        }
    }
    assert!(differences.is_empty(), "{differences}(`make golden` writes down what is told)");
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
    told(&["check"], tree.path());
    assert_eq!(String::from_utf8_lossy(&listed()), String::from_utf8_lossy(&before));
}
