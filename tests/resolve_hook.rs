//! systemd-resolved asks a plugin for names, which only the newest systemd does: `make test-debian-sid`.

use plugind_tests::{Machine, Ran};
use std::fs;

const UNIT: &str = "resolve-hook.socket";

/// An example of the plugin `resolve-hook` that is beside its component.
fn example(file: &str) -> String {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../plugins/resolve-hook");
    fs::read_to_string(format!("{directory}/{file}")).unwrap()
}

/// Installs a guest as the plugin `resolve-hook`, as its README says.
fn boot(guest: &str, manifest: &str) -> Machine {
    let machine = Machine::boot();
    machine.put_guest("resolve-hook", guest);
    machine.put_manifest("resolve-hook", manifest);
    machine.put(&format!("/etc/systemd/system/{UNIT}"), example(UNIT));
    machine.reload_units();
    machine.succeed(&["systemctl", "enable", UNIT]);
    machine.start();
    machine.succeed(&["systemctl", "start", "systemd-resolved.service"]);
    machine
}

fn query(machine: &Machine, name: &str) -> Ran {
    machine.run(&["resolvectl", "query", name])
}

#[test]
fn names_of_a_plugin_are_names_of_the_machine_during_reloads_and_restarts() {
    let machine = boot("resolve_hook", &example("resolve-hook.toml"));
    let found = |name: &str, address: &str| {
        let ran = query(&machine, name);
        assert!(ran.status == 0 && ran.output.contains(address), "{name}: {ran:?}");
    };
    found("printer.example", "192.0.2.7");
    found("printer.example", "2001:db8::7");
    found("scanner.example", "192.0.2.8");
    // systemd-resolved has no server to which it could leave other names.
    assert_ne!(query(&machine, "plotter.example").status, 0);

    for reload in 1..=5 {
        let line = format!("[config]\n\"plotter-{reload}.example\" = \"192.0.2.{reload}\"");
        let manifest = example("resolve-hook.toml").replace("[config]", &line);
        machine.put_manifest("resolve-hook", &manifest);
        machine.succeed(&["systemctl", "reload", "plugind.service"]);
        found("printer.example", "192.0.2.7");
        let new = format!("plotter-{reload}.example");
        plugind_tests::eventually("the name of the new version", || {
            (query(&machine, &new).status == 0).then_some(())
        });
    }
    machine.succeed(&["systemctl", "restart", "plugind.service"]);
    found("printer.example", "192.0.2.7");
    machine.signal("plugind.service", "KILL");
    machine.wait_for("NRestarts", |restarts| restarts == "1");
    found("printer.example", "192.0.2.7");
}

#[test]
fn other_names_are_found_while_the_plugin_traps_spins_or_waits_for_ever() {
    let example = example("resolve-hook.toml");
    let limits = example.split_once("[limits]").unwrap().1;
    for how in ["trap", "spin", "wait"] {
        let manifest = format!("[config]\nhow = \"{how}\"\n[limits]{limits}");
        let machine = boot("fails_connections", &manifest);
        let ran = query(&machine, "localhost");
        assert!(ran.status == 0 && ran.output.contains("127.0.0.1"), "{how}: {ran:?}");
        let ran = query(&machine, "printer.example");
        assert_ne!(ran.status, 0, "{how}: {ran:?}");
    }
}

#[test]
fn varlinkctl_shows_the_interface_of_the_hook() {
    let machine = boot("resolve_hook", &example("resolve-hook.toml"));
    let socket = "/run/systemd/resolve.hook/io.plugind.Names";
    let introspect = ["varlinkctl", "introspect", socket, "io.systemd.Resolve.Hook"];
    let reported = machine.succeed(&introspect);
    assert!(reported.contains("method ResolveRecord"), "{reported}");
}
