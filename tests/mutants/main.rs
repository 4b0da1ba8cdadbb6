//! Mutants: components that were changed at random, or made up, are checked and served, a batch at a time. Nothing
//! panics or hangs, the checks agree with the daemon, another plugin keeps serving, and nothing is left behind.
//!
//! `PLUGIND_MUTANTS` is their number. `PLUGIND_MUTANTS_SEED` repeats a run.

mod mutant;

use mutant::{Mutant, Way};
use plugind_tests::{Daemon, Figures, Random, Tree, guest, number, program, wait_long};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Write, stdout},
    path::Path,
    process::{Command, Stdio},
};

/// The number of mutants if nothing else is asked for.
const COUNT: u64 = 80;
/// Mutants that are served at a time.
const BATCH: u64 = 20;
/// The components that are changed: each kind of import and export, and small enough to be compiled soon.
const GOOD: [&str; 6] =
    ["counts", "sleeps_02", "streams_02", "starts_02", "program_ends", "headers"];
/// Limits under which a mutant does its worst and is replaced soon.
const MANIFEST: &str = "required = false\n\
    [limits]\nmemory-max = \"64M\"\nrequest-timeout = \"1s\"\nlog-rate = \"100/1s\"\n\
    [service]\nwatchdog-sec = \"1s\"\nrestart-sec = \"100ms\"\ntimeout-start-sec = \"2s\"\ntimeout-stop-sec = \"1s\"\n";
/// The stages that a check carries out, too. Those that come later depend on what the plugin does.
const CHECKED_STAGES: [&str; 3] = ["verify", "compile", "link"];

/// Runs `pluginctl check`. Returns what fails, with its stage.
fn check(arguments: &[&str]) -> BTreeMap<String, String> {
    let mut command = Command::new(program("pluginctl"));
    command.args(["check", "--json"]).args(arguments).env_clear().stdin(Stdio::null());
    let ran = command.output().expect("pluginctl can be run");
    let mistakes = String::from_utf8_lossy(&ran.stderr);
    assert!(matches!(ran.status.code(), Some(0 | 1)), "{}: {mistakes}", ran.status);
    assert!(!mistakes.contains("panicked"), "{mistakes}");
    let report: serde_json::Value =
        serde_json::from_slice(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {mistakes}"));
    let plugins = report["plugins"].as_array().expect("a check lists plugins");
    let failed = plugins.iter().filter_map(|plugin| {
        let stage = plugin["fails-at"].as_str()?;
        assert!(!plugin["mistakes"].as_array().expect("there are mistakes").is_empty());
        Some((plugin["name"].as_str().expect("it has a name").to_owned(), stage.to_owned()))
    });
    failed.collect()
}

/// The plugins that the daemon could not verify, compile or link since this place of its log, with the stage.
fn failed_since(daemon: &Daemon, place: usize) -> BTreeMap<String, String> {
    let lines = daemon.log.all();
    let failed = lines[place..].iter().filter(|line| line.contains("plugind: plugin failed "));
    let field = |line: &str, name: &str| {
        let value = line.split_whitespace().find_map(|word| word.strip_prefix(name));
        value.expect("the entry has this field").to_owned()
    };
    let failed = failed.map(|line| (field(line, "plugin="), field(line, "stage=")));
    failed.filter(|(_, stage)| CHECKED_STAGES.contains(&stage.as_str())).collect()
}

/// Requests each of these, and expects a response from each, or the end of the connection if an instance fails
/// when its response has begun.
fn request_all(daemon: &Daemon, names: &[String]) {
    for name in names {
        let mut client = daemon.connect();
        client.request("GET", &format!("/{name}"), &["connection: close"]);
        let response = client.wait_until_closed();
        assert!(
            response.is_empty() || response.starts_with(b"HTTP/1.1 "),
            "{name}: {}",
            response.escape_ascii()
        );
    }
}

/// The mutants of a run, and their outcomes.
struct Run {
    daemon: Daemon,
    tree: Tree,
    random: Random,
    good: Vec<Vec<u8>>,
    names: Vec<String>,
    made: u64,
    failed: BTreeMap<String, u64>,
    ways: BTreeMap<Way, u64>,
}

impl Run {
    /// Replaces the mutants by a batch of others, and checks and requests each.
    fn serve_batch(&mut self) {
        for name in std::mem::take(&mut self.names) {
            self.tree.remove(&format!("{name}.wasm"));
            self.tree.remove(&format!("{name}.toml"));
        }
        for _ in 0..BATCH {
            let good = self.random.below(self.good.len());
            let mutant = Mutant::of(&self.good[good], &mut self.random);
            let name = format!("m{}", self.made);
            self.made += 1;
            *self.ways.entry(mutant.way).or_default() += 1;
            self.tree.put(&format!("{name}.toml"), MANIFEST);
            self.tree.put(&format!("{name}.wasm"), mutant.component);
            self.names.push(name);
        }
        let root = self.tree.root().to_str().expect("it is UTF-8");
        let inspected = check(&["--no-compile", "--root", root]);
        let checked = check(&["--root", root]);
        let verified: BTreeSet<_> = checked.iter().filter(|it| it.1 == "verify").collect();
        assert_eq!(Vec::from_iter(&inspected), Vec::from_iter(verified));

        let place = self.daemon.log.place();
        self.daemon.reload();
        assert_eq!(failed_since(&self.daemon, place), checked, "the daemon and a check differ");
        request_all(&self.daemon, &self.names);
        assert_eq!(self.daemon.get("/hello").status(), 200);
        for stage in checked.into_values() {
            *self.failed.entry(stage).or_default() += 1;
        }
        self.clear_cache();
    }

    /// Removes the compiled files of mutants, which would fill the disk.
    fn clear_cache(&self) {
        let compiled = fs::read_dir(self.tree.cache()).expect("the cache can be read");
        compiled.map(|entry| entry.expect("it can be read").path()).for_each(|path| remove(&path));
    }

    /// Removes all mutants.
    fn tidy(&mut self) {
        for name in std::mem::take(&mut self.names) {
            self.tree.remove(&format!("{name}.wasm"));
            self.tree.remove(&format!("{name}.toml"));
        }
        self.daemon.reload();
    }
}

fn remove(path: &Path) {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.expect("the cache is writable");
}

#[test]
fn mutants_end_no_process_disturb_no_plugin_and_leave_nothing_behind() {
    wait_long();
    let seed = number("PLUGIND_MUTANTS_SEED").unwrap_or_else(|| std::process::id().into());
    let batches = number("PLUGIND_MUTANTS").unwrap_or(COUNT).div_ceil(BATCH).next_multiple_of(2);
    let tree = Tree::with_own_cache().with("hello");
    let good = GOOD.map(|name| fs::read(guest(name)).expect("what was built is readable"));
    let mut run = Run {
        daemon: Daemon::start(&tree),
        tree,
        random: Random::new(seed),
        good: good.to_vec(),
        names: Vec::new(),
        made: 0,
        failed: BTreeMap::new(),
        ways: BTreeMap::new(),
    };
    stdout().write_all(format!("seed {seed}\n").as_bytes()).unwrap();
    // Caches, pools and the allocator have what they need after the first half.
    (0..batches / 2).for_each(|_| run.serve_batch());
    run.tidy();
    let first = Figures::at_rest(&run.daemon);
    (0..batches / 2).for_each(|_| run.serve_batch());
    run.tidy();
    let last = Figures::not_above(&run.daemon, &first);
    assert_eq!(run.daemon.log.panics(), Vec::<String>::new());
    assert_eq!(run.daemon.get("/hello").status(), 200);
    assert_eq!(run.daemon.stop(), 0);

    let summary = format!(
        "{} mutants: {:?}, refused: {:?}\nfirst: {first}\nlast:  {last}\n",
        run.made, run.ways, run.failed
    );
    // Also of a test that passes.
    stdout().write_all(summary.as_bytes()).unwrap();
}
