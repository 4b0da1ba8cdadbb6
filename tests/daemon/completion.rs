//! The shell completions of the programs, tried where the shell is installed.

use plugind_tests::program;
use std::{
    io::ErrorKind,
    process::{Command, Stdio},
};
use tempfile::NamedTempFile;

const PROGRAMS: [&str; 2] = ["pluginctl", "plugind"];

fn script(shell: &str, of: &str) -> String {
    let mut command = Command::new(program("pluginctl"));
    let ran = command.args(["completion", shell, of]).env_clear().output().unwrap();
    assert!(ran.status.success() && ran.stderr.is_empty(), "{shell} {of}");
    String::from_utf8(ran.stdout).unwrap()
}

fn file(shell: &str, of: &str) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), script(shell, of)).unwrap();
    file
}

/// Returns the completions of bash for the last of these words.
fn completed(words: &[&str]) -> Vec<String> {
    let complete = r#"
        . "$0"
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        "_$1" "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    // The script's file must be there until bash has ended.
    let script = file("bash", words[0]);
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", complete]).arg(script.path()).args(words);
    let ran = bash.stdin(Stdio::null()).output().unwrap();
    assert!(ran.stderr.is_empty(), "{}", String::from_utf8_lossy(&ran.stderr));
    let reported = String::from_utf8(ran.stdout).unwrap();
    reported.lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_options_and_values() {
    for (words, to) in [
        (&["pluginctl", "rel"][..], &["reload"][..]),
        (&["pluginctl", "re"], &["reload", "restart", "remove"]),
        (&["pluginctl", "st"], &["status", "start", "stop"]),
        (&["pluginctl", "wait", "--go"], &["--gone"]),
        (&["pluginctl", "status", "--f"], &["--follow"]),
        (&["pluginctl", "logs", "--f"], &["--follow"]),
        (&["pluginctl", "reload", "--js"], &["--json"]),
        (&["pluginctl", "reload", "--all"], &["--all-or-nothing"]),
        (&["pluginctl", "reload", "--until", "s"], &["swapped"]),
        (&["pluginctl", "log-level", "war"], &["warning"]),
        (&["pluginctl", "completion", "z"], &["zsh"]),
        (&["plugind", "--plug"], &["--plugins"]),
        (&["plugind", "--log", "d"], &["debug"]),
    ] {
        assert_eq!(completed(words), to, "{words:?}");
    }
}

#[test]
fn zsh_and_fish_know_the_programs_with_their_commands_and_options() {
    for (shell, of, parts) in [
        ("zsh", "pluginctl", &["#compdef pluginctl\n", "'reload:", "'log-level:", "--follow["][..]),
        ("zsh", "plugind", &["#compdef plugind\n", "--listen=["]),
        ("fish", "pluginctl", &["complete -c pluginctl ", "-a \"reload\"", "-l follow"]),
        ("fish", "plugind", &["complete -c plugind ", "-l listen"]),
    ] {
        let script = script(shell, of);
        for part in parts {
            assert!(
                script.contains(part),
                "{part:?} is not in the script of {shell} for {of}: {script}"
            );
        }
    }
}

#[test]
fn a_shell_that_is_there_finds_no_mistake() {
    for (shell, check) in [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")] {
        for of in PROGRAMS {
            let file = file(shell, of);
            match Command::new(shell).arg(check).arg(file.path()).output() {
                // Shells other than bash need not be installed; the test above examines their scripts.
                Err(error) if error.kind() == ErrorKind::NotFound && shell != "bash" => (),
                ran => {
                    let ran = ran.unwrap();
                    let reported = String::from_utf8_lossy(&ran.stderr);
                    assert!(
                        ran.status.success() && reported.is_empty(),
                        "{shell} {of}: {reported}"
                    );
                }
            }
        }
    }
}
