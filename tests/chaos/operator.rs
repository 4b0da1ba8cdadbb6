//! An operator who changes plugins while they serve, and makes every mistake.

use crate::GOOD;
use plugind_tests::{Daemon, Random, Signal, Tree, another};

/// Guests that trap, loop, exit, fail, and take memory and the log.
pub(crate) const HOSTILE_GUESTS: [&str; 7] =
    ["traps_in_request", "loops_in_request", "grows", "hoards", "floods", "exits", "fails"];

/// The name of the plugin that comes and goes.
const LATE: &str = "late";
/// A component that compiles, and then does not start.
const BAD_GUEST: &str = "traps_on_start";

pub(crate) struct Operator {
    tree: Tree,
    greetings: u64,
    reloads: u64,
}

impl Operator {
    pub(crate) fn new(tree: &Tree) -> Self {
        Self { tree: tree.clone(), greetings: 0, reloads: 0 }
    }

    /// Reloads so far.
    pub(crate) fn reloads(&self) -> u64 {
        self.reloads
    }

    /// Does one thing, and checks the result of the reload.
    pub(crate) fn act(&mut self, daemon: &Daemon, random: &mut Random) {
        match random.below(7) {
            0 | 1 => self.greet(daemon),
            2 => self.mistake(daemon, "hello.toml", "greeting =\n"),
            3 => self.mistake(daemon, "counts.wasm", "no component"),
            4 => self.late(daemon),
            5 => self.bad_version(daemon),
            _ => self.impatient(daemon),
        }
    }

    /// Leaves the files as they were in the beginning.
    pub(crate) fn tidy(&mut self, daemon: &Daemon) {
        self.greet(daemon);
    }

    fn reload(&mut self, daemon: &Daemon) -> String {
        self.reloads += 1;
        daemon.reload()
    }

    fn greet(&mut self, daemon: &Daemon) {
        self.greetings += 1;
        let greeting = format!("{GOOD}[config]\ngreeting = \"Greeting {}\"\n", self.greetings);
        self.tree.put("hello.toml", greeting);
        let result = self.reload(daemon);
        assert!(result.contains("changed=1 failed=0 removed=0"), "{result}");
        let expected = format!("Greeting {} from hello\n", self.greetings);
        assert_eq!(daemon.get("/hello").status_and_text(), (200, &*expected));
    }

    /// Writes a file that cannot be used, and corrects it.
    fn mistake(&mut self, daemon: &Daemon, file: &str, contents: &str) {
        let path = self.tree.plugins().join(file);
        let before = std::fs::read(&path).ok();
        self.tree.put(file, contents);
        let result = self.reload(daemon);
        assert!(result.contains("changed=0 failed=1 removed=0"), "{result}");
        match before {
            Some(before) => self.tree.put(file, before),
            None => self.tree.remove(file),
        }
        let result = self.reload(daemon);
        assert!(result.contains("changed=0 failed=0 removed=0"), "{result}");
    }

    /// Adds a plugin that has to be compiled, uses it and removes it.
    fn late(&mut self, daemon: &Daemon) {
        self.tree.put(&format!("{LATE}.wasm"), another("hello"));
        let result = self.reload(daemon);
        assert!(result.contains("changed=1 failed=0 removed=0"), "{result}");
        assert_eq!(daemon.get("/late").status(), 200);
        self.tree.remove(&format!("{LATE}.wasm"));
        let result = self.reload(daemon);
        assert!(result.contains("changed=0 failed=0 removed=1"), "{result}");
        assert_eq!(daemon.get("/late").status(), 404);
    }

    /// Deploys a version that fails to start, and goes back.
    fn bad_version(&mut self, daemon: &Daemon) {
        self.tree.put_guest("greeter-02", BAD_GUEST);
        let result = self.reload(daemon);
        assert!(result.contains("changed=0 failed=1 removed=0"), "{result}");
        assert_eq!(daemon.get("/greeter-02").status(), 200);
        self.tree.put_guest("greeter-02", "greeter_02");
        let result = self.reload(daemon);
        assert!(result.contains("changed=0 failed=0 removed=0"), "{result}");
    }

    /// Asks for a reload again and again before the first one has ended.
    fn impatient(&mut self, daemon: &Daemon) {
        for _ in 0..3 {
            daemon.signal(Signal::HUP);
        }
        let result = self.reload(daemon);
        assert!(result.contains("changed=0 failed=0 removed=0"), "{result}");
    }
}
