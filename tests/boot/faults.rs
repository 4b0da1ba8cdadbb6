//! The fault table: each row is a fault of one plugin, and what its client, its neighbours, systemd and the operator
//! see of it. All rows run on one machine, one after the other, so each also starts from what the previous one left.

use crate::{HELLO, message};
use plugind_tests::{Machine, eventually, guest};
use std::fs;

/// The plugin with the fault.
const NAME: &str = "faulty";

/// The deployment of a plugin with a fault, and the effects that must be visible.
struct Fault {
    /// The fault, for the message of a row that fails.
    what: &'static str,
    /// The component: a guest, or the text of a malformed file.
    component: Component,
    /// The manifest, beside `required = false`.
    manifest: &'static str,
    /// Whether `systemctl reload` succeeds.
    deployed: bool,
    /// The path below `/faulty` that provokes the fault.
    path: &'static str,
    /// The status that the client gets, if it gets one.
    client: u16,
    /// The journal entry about it, and a part of its text or fields.
    entry: (&'static str, &'static str),
    /// The status of the next ordinary request.
    next: u16,
    /// The exit status of `pluginctl status faulty`.
    operator: i32,
}

enum Component {
    Guest(&'static str),
    Text(&'static str),
}
use Component::{Guest, Text};

const LIMITS: &str = "[limits]\nmemory-max = \"64M\"\nrequest-timeout = \"2s\"\n";

const FAULTS: &[Fault] = &[
    Fault {
        what: "a trap in a request",
        component: Guest("traps_in_request"),
        manifest: "",
        deployed: true,
        path: "/trap",
        client: 502,
        entry: ("INSTANCE_FAILED", "trap"),
        next: 200,
        operator: 0,
    },
    Fault {
        what: "a loop in a request",
        component: Guest("loops_in_request"),
        manifest: LIMITS,
        deployed: true,
        path: "/loop",
        client: 504,
        entry: ("INSTANCE_FAILED", "timeout"),
        next: 200,
        operator: 0,
    },
    Fault {
        what: "more memory than it may have",
        component: Guest("grows"),
        manifest: LIMITS,
        deployed: true,
        path: "/grow/100",
        client: 502,
        entry: ("INSTANCE_FAILED", "oom"),
        next: 200,
        operator: 0,
    },
    Fault {
        what: "more memory of the daemon than it may have",
        component: Guest("hoards"),
        manifest: LIMITS,
        deployed: true,
        path: "/fields/2000",
        client: 502,
        entry: ("INSTANCE_FAILED", "oom"),
        next: 200,
        operator: 0,
    },
    Fault {
        what: "an exit in a request",
        component: Guest("exits"),
        manifest: "",
        deployed: true,
        path: "/exit",
        client: 502,
        entry: ("INSTANCE_FAILED", "exit-code"),
        next: 200,
        operator: 0,
    },
    Fault {
        what: "an error instead of a response",
        component: Guest("fails"),
        manifest: "",
        deployed: true,
        path: "",
        client: 502,
        entry: ("REQUESTS_FAILED", "secret detail"),
        next: 502,
        operator: 0,
    },
    Fault {
        what: "more log entries than it may write",
        component: Guest("floods"),
        manifest: "[limits]\nlog-rate = \"10/1s\"\n",
        deployed: true,
        path: "/flood/1000",
        client: 200,
        entry: ("LOG_RATE_EXCEEDED", "log rate limit exceeded"),
        next: 200,
        operator: 0,
    },
    Fault {
        what: "a trap in start",
        component: Guest("traps_on_start"),
        manifest: "[service]\nrestart = \"no\"\n",
        deployed: false,
        path: "",
        client: 503,
        entry: ("PLUGIN_FAILED", "start"),
        next: 503,
        operator: 3,
    },
    Fault {
        what: "a start that does not end",
        component: Guest("never_ready"),
        manifest: "[service]\ntimeout-start-sec = \"1s\"\nrestart = \"no\"\n",
        deployed: false,
        path: "",
        client: 503,
        entry: ("PLUGIN_FAILED", "start"),
        next: 503,
        operator: 3,
    },
    Fault {
        what: "something that start needs and that is not there yet",
        component: Guest("start_unavailable"),
        manifest: "",
        deployed: false,
        path: "",
        client: 503,
        entry: ("INSTANCE_FAILED", "database"),
        next: 503,
        operator: 3,
    },
    Fault {
        what: "a file that is no component",
        component: Text("no component"),
        manifest: "",
        deployed: false,
        path: "",
        client: 503,
        entry: ("PLUGIN_FAILED", "is not WebAssembly"),
        next: 503,
        operator: 3,
    },
    Fault {
        what: "a misspelled key in the manifest",
        component: Guest("counts"),
        manifest: "[servce]\nrestart = \"no\"\n",
        deployed: false,
        path: "",
        // Its routes cannot be known.
        client: 404,
        entry: ("PLUGIN_FAILED", "servce"),
        next: 404,
        operator: 3,
    },
];

impl Fault {
    fn check(&self, machine: &Machine) {
        let what = self.what;
        let component = match self.component {
            Guest(name) => fs::read(guest(name)).unwrap(),
            Text(text) => text.as_bytes().to_owned(),
        };
        machine.put_component(NAME, component);
        machine.put_manifest(NAME, &format!("required = false\n{}", self.manifest));
        let reload = machine.systemctl(&["reload", "plugind.service"]);
        assert_eq!(reload.status == 0, self.deployed, "{what}: {reload:?}");

        let answer = machine.get(&format!("/faulty{}", self.path));
        assert_eq!(answer.status(), self.client, "{what}: the client");
        let (name, part) = self.entry;
        let entry = machine.wait_for_entry(&[&message(name), "PLUGIN=faulty"]);
        assert!(format!("{entry:?}").contains(part), "{what}: the journal: {entry:?}");
        assert_eq!(machine.get("/faulty").status(), self.next, "{what}: the next client");

        assert_eq!(machine.get("/hello").status_and_text(), (200, HELLO), "{what}: a neighbour");
        assert_eq!(machine.daemon("ActiveState"), "active", "{what}: systemd");
        let status = machine.run(&["pluginctl", "status", NAME]);
        assert_eq!(status.status, self.operator, "{what}: the operator: {status:?}");
        // At the moment of another attempt the plugin is starting, which is no failure.
        eventually(&format!("{what}: the list"), || {
            (machine.run(&["pluginctl", "list"]).status == self.operator).then_some(())
        });
    }

    /// Removes the plugin, as an operator does who gives it up, and its entries.
    fn clear(&self, machine: &Machine) {
        machine.succeed(&["rm", "-f", "/etc/plugind/plugins/faulty.wasm"]);
        machine.succeed(&["rm", "-f", "/etc/plugind/plugins/faulty.toml"]);
        machine.succeed(&["systemctl", "reload", "plugind.service"]);
        assert_eq!(machine.get("/faulty").status(), 404, "{}", self.what);
        machine.succeed(&["journalctl", "--rotate", "--vacuum-size=1"]);
    }
}

#[test]
fn a_fault_of_one_plugin_affects_only_its_own_clients() {
    let machine = Machine::boot_with(&["hello"]);
    machine.start();
    let pid = machine.daemon("MainPID");
    for fault in FAULTS {
        fault.check(&machine);
        fault.clear(&machine);
    }
    assert_eq!((machine.daemon("MainPID"), machine.daemon("NRestarts")), (pid, "0".to_owned()));
}
