//! Compiled code is mapped from its file, readable and executable; no memory is ever writable and executable.

use plugind_tests::{Daemon, Tree};
use std::{fs, process::Command};

/// PR_SET_MDWE, which is what systemd makes of `MemoryDenyWriteExecute=` where the kernel has it: from then on this
/// process and what it runs cannot make memory executable that was not mapped so. As arguments of Perl, which runs
/// what follows them.
fn denied() -> [String; 3] {
    let prctl = if cfg!(target_arch = "aarch64") { 167 } else { 157 };
    let script =
        format!("syscall({prctl}, 65, 1, 0, 0, 0) == 0 or die \"PR_SET_MDWE: $!\"; exec @ARGV");
    ["perl".to_owned(), "-e".to_owned(), script]
}

/// The lines of /proc/PID/maps, as permissions and name.
fn maps(daemon: &Daemon) -> Vec<(String, String)> {
    let maps = fs::read_to_string(format!("/proc/{}/maps", daemon.pid())).unwrap();
    let line = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let permissions = words.next().unwrap().to_owned();
        (permissions, words.skip(3).collect::<Vec<_>>().join(" "))
    };
    maps.lines().map(line).collect()
}

/// Checks that the daemon has no executable memory but that of files, and returns the number of compiled files among
/// them.
fn mapped_code(daemon: &Daemon) -> usize {
    let maps = maps(daemon);
    for (permissions, name) in &maps {
        assert!(
            !permissions.starts_with("rwx") && !permissions.contains("wx"),
            "{permissions} {name}"
        );
        assert!(!name.contains("memfd:"), "{permissions} {name}");
        let has_name = name.starts_with('/') || name.starts_with("[v");
        assert!(!permissions.contains('x') || has_name, "{permissions} {name:?}");
    }
    let code =
        |(permissions, name): &&(String, String)| permissions == "r-xp" && name.ends_with(".cwasm");
    maps.iter().filter(code).count()
}

fn tree() -> Tree {
    Tree::new().with("hello").with("greeter_02")
}

fn answers(daemon: &Daemon) {
    assert_eq!(daemon.get("/hello").status_and_text(), (200, "Hello from hello\n"));
    assert_eq!(daemon.get("/greeter-02").status(), 200);
}

#[test]
fn code_is_mapped_from_its_file_and_no_memory_is_writable_and_executable() {
    let daemon = Daemon::start(&tree());
    answers(&daemon);
    assert_eq!(mapped_code(&daemon), 2);
}

#[test]
fn code_is_mapped_from_its_file_without_an_instance_pool_too() {
    let daemon = Daemon::start_within(&tree(), 64 << 30);
    daemon.log.wait_for(&["instance pool unavailable"]);
    answers(&daemon);
    assert_eq!(mapped_code(&daemon), 2);
}

#[test]
fn native_code_runs_where_no_memory_can_be_made_executable() {
    let denied = denied();
    let denied: Vec<_> = denied.iter().map(String::as_str).collect();
    let tree = tree();
    let daemon = Daemon::start_by(&tree, &denied);
    answers(&daemon);
    assert_eq!(mapped_code(&daemon), 2);
    // It is denied indeed: the same wrapper keeps a program from mapping memory that is all three.
    let mmap = if cfg!(target_arch = "aarch64") { 222 } else { 9 };
    let script = format!("exit(syscall({mmap}, 0, 4096, 7, 0x22, -1, 0) == -1 ? 3 : 4)");
    let status = |wrapper: &[&str]| {
        let command = [wrapper, &["perl", "-e", &script]].concat();
        Command::new(command[0]).args(&command[1..]).status().unwrap().code()
    };
    assert_eq!((status(&denied), status(&["env"])), (Some(3), Some(4)));
}

#[test]
fn each_engine_has_compiled_files_of_its_own_and_the_interpreter_maps_none() {
    let tree = Tree::with_own_cache().with("hello").with("greeter_02");
    drop(Daemon::start(&tree));
    let entries = || fs::read_dir(tree.cache()).unwrap().count();
    assert_eq!(entries(), 2);
    for (engine, mapped, files) in [("unoptimized", 2, 4), ("pulley", 0, 6)] {
        let settings = format!("engine = \"{engine}\"\n");
        fs::write(tree.root().join("etc/plugind/plugind.toml"), settings).unwrap();
        let daemon = Daemon::start(&tree);
        answers(&daemon);
        assert_eq!((mapped_code(&daemon), entries()), (mapped, files), "{engine}");
        assert_eq!(daemon.log.count(&["compiled file"]), 0, "{engine}");
    }
}
