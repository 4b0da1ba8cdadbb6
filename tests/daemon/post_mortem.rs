//! The core dump of an instance that failed, and the profile of one that is busy.

use crate::control;
use plugind_tests::{Daemon, Tree};
use serde_json::Value;
use std::{fs, os::unix::fs::PermissionsExt, path::Path};
use wasmparser::{KnownCustom, Parser, Payload};

/// The contents of a core dump.
#[derive(Debug, Default)]
struct Dump {
    process: String,
    modules: Vec<String>,
    instances: usize,
    /// The functions of the stack, the innermost first.
    functions: Vec<u32>,
    memories: usize,
    /// Bytes of memory.
    data: usize,
}

fn read(path: &Path) -> Dump {
    let bytes = fs::read(path).unwrap();
    let mut dump = Dump::default();
    for payload in Parser::new(0).parse_all(&bytes) {
        match payload.unwrap() {
            Payload::MemorySection(memories) => dump.memories = memories.count() as usize,
            Payload::DataSection(data) => {
                dump.data += data.into_iter().map(|data| data.unwrap().data.len()).sum::<usize>();
            }
            Payload::CustomSection(section) => match section.as_known() {
                KnownCustom::CoreDump(core) => dump.process = core.name.to_owned(),
                KnownCustom::CoreDumpModules(all) => {
                    dump.modules = all.modules.iter().map(|name| (*name).to_owned()).collect();
                }
                KnownCustom::CoreDumpInstances(all) => dump.instances = all.instances.len(),
                KnownCustom::CoreDumpStack(stack) => {
                    dump.functions = stack.frames.iter().map(|frame| frame.funcidx).collect();
                }
                _ => (),
            },
            _ => (),
        }
    }
    dump
}

#[test]
fn an_instance_that_traps_leaves_a_core_dump_that_the_log_names() {
    let wanted = "core-dump = true\n";
    let exclusive = format!("{wanted}[instances]\nmode = \"exclusive\"\n");
    let tree = Tree::new()
        .with_manifest("traps_02", wanted)
        .with_manifest("traps_in_request", &exclusive)
        .with_named("undumped", "traps_02", "");
    let daemon = Daemon::start(&tree);
    let directory = tree.root().join("var/lib/plugind/.core-dumps");
    for plugin in ["traps-02", "traps-in-request"] {
        assert_eq!(daemon.get(&format!("/{plugin}/trap")).status(), 502);
        let named = format!("plugin={plugin} ");
        let line = daemon.log.wait_for(&["instance failed", &named, "result=trap "]);
        let (_, path) = line.split_once(" core_dump=").unwrap_or_else(|| panic!("{line}"));
        let path = Path::new(path.split(' ').next().unwrap());
        assert_eq!(path.parent(), Some(directory.join(plugin).as_path()), "{line}");
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        let dump = read(path);
        assert_eq!(dump.process, plugin);
        assert!(!dump.modules.is_empty() && dump.instances > 0, "{dump:?}");
        assert!(dump.functions.len() > 1, "the guest was in a function: {dump:?}");
        assert!(dump.memories > 0 && dump.data > 0, "{dump:?}");
    }
    assert_eq!(daemon.get("/undumped/trap").status(), 502);
    let line = daemon.log.wait_for(&["instance failed", "plugin=undumped "]);
    assert!(!line.contains("core_dump="), "{line}");
    assert!(!directory.join("undumped").exists());
}

#[test]
fn a_core_dump_that_cannot_be_written_is_reported_and_serving_continues() {
    let tree = Tree::new().with_manifest("traps_02", "core-dump = true\n");
    let daemon = Daemon::start(&tree);
    let state = tree.root().join("var/lib/plugind");
    fs::create_dir_all(&state).unwrap();
    fs::write(state.join(".core-dumps"), "in the way").unwrap();
    assert_eq!(daemon.get("/traps-02/trap").status(), 502);
    daemon.log.wait_for(&["warning plugind: cannot write core dump plugin=traps-02 "]);
    let line = daemon.log.wait_for(&["instance failed", "plugin=traps-02 "]);
    assert!(!line.contains("core_dump="), "{line}");
    assert_eq!(daemon.get("/traps-02").status(), 200);
}

#[test]
fn a_profile_names_the_functions_in_which_a_plugin_computes() {
    let manifest = "[service]\nwatchdog-sec = \"0\"\n[limits]\nrequest-timeout = \"1h\"\n[instances]\nmax = 1\n";
    let tree = Tree::new().with_manifest("loops_in_request", manifest);
    let daemon = control::start(&tree);
    let mut client = daemon.connect();
    client.request("GET", "/loops-in-request/loop", &[]);
    let file = tree.root().join("profile.json");
    let output = file.to_str().unwrap();
    let profile = ["profile", "loops-in-request", "--seconds", "1", "--output", output];
    let ran = control::run(&tree, &profile);
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""));
    assert!(ran.stdout.starts_with("loops-in-request: "), "{}", ran.stdout);
    let text = fs::read_to_string(&file).unwrap();
    let json: Value = serde_json::from_str(&text).unwrap();
    let samples = json["threads"][0]["samples"]["length"].as_u64().unwrap();
    assert!(samples > 1, "{samples}");
    assert_eq!(json["meta"]["product"], "loops-in-request");
    let handler = "[async-lift]wasi:http/handler@0.3.";
    assert!(text.contains(handler), "functions have their names: {text}");
    let functions = json["threads"][0]["funcTable"]["length"].as_u64().unwrap();
    assert!(functions > 1, "those that call and those that are called are seen");

    let ran = control::run(&tree, &["profile", "nobody", "--seconds", "1"]);
    assert_eq!(
        (ran.status, ran.stderr.as_str()),
        (Some(1), "there is no plugin nobody; `pluginctl list` shows the plugins\n")
    );
    for seconds in ["0", "301"] {
        let ran = control::run(&tree, &["profile", "loops-in-request", "--seconds", seconds]);
        assert_eq!(ran.status, Some(64), "{}", ran.stderr);
    }
}
