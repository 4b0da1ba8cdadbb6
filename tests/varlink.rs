//! systemd's own client of the control socket, which systemd 257 and newer have: `make test-debian-13`.

use plugind_tests::Machine;

const SOCKET: &str = "/run/plugind/control";

#[test]
fn varlinkctl_shows_all_interfaces_and_calls_their_methods() {
    let machine = Machine::boot_with(&["hello"]);
    machine.start();
    let info = machine.succeed(&["varlinkctl", "info", SOCKET]);
    let interfaces =
        ["io.plugind", "io.systemd.Metrics", "io.systemd.service", "org.varlink.service"];
    for part in ["plugind"].iter().chain(&interfaces) {
        assert!(info.contains(part), "no {part} in {info}");
    }
    for interface in interfaces {
        let reported = machine.succeed(&["varlinkctl", "introspect", SOCKET, interface]);
        assert!(reported.contains(&format!("interface {interface}")), "{reported}");
    }
    let methods = machine.succeed(&["varlinkctl", "list-methods", SOCKET]);
    for method in ["io.plugind.Reload", "io.systemd.service.Ping"] {
        assert!(methods.contains(method), "no {method} in {methods}");
    }
    machine.succeed(&["varlinkctl", "call", SOCKET, "io.systemd.service.Ping", "{}"]);
    machine.succeed(&["varlinkctl", "call", SOCKET, "io.systemd.service.Reload", "{}"]);
    let list = machine.succeed(&["varlinkctl", "call", SOCKET, "io.plugind.List", "{}"]);
    assert!(list.contains("\"hello\""), "{list}");
    let more = ["varlinkctl", "call", "--more", SOCKET, "io.plugind.Reload", "{}"];
    assert!(machine.succeed(&more).contains("\"unchanged\""));
    let metrics = ["varlinkctl", "call", "--more", SOCKET, "io.systemd.Metrics.List", "{}"];
    assert!(machine.succeed(&metrics).contains("io.plugind.pluginReady"));
}

#[test]
fn varlinkctl_understands_the_errors() {
    let machine = Machine::boot_with(&["hello"]);
    machine.start();
    // Newer ones say in words of errno(3) what the standard's own errors are.
    for (method, parameters, error, in_words) in [
        (
            "io.plugind.Nonsense",
            "{}",
            "org.varlink.service.MethodNotFound",
            "No such device or address",
        ),
        (
            "io.nobody.Nonsense",
            "{}",
            "org.varlink.service.InterfaceNotFound",
            "Cannot assign requested address",
        ),
        ("io.plugind.Describe", "{}", "org.varlink.service.InvalidParameter", "Invalid argument"),
        (
            "io.plugind.Describe",
            "{\"name\":\"nobody\"}",
            "io.plugind.NoSuchPlugin",
            "io.plugind.NoSuchPlugin",
        ),
    ] {
        let called = machine.run(&["varlinkctl", "call", SOCKET, method, parameters]);
        assert_ne!(called.status, 0, "{method}");
        let reported = [error, in_words].iter().any(|words| called.errors.contains(words));
        assert!(reported, "{method}: {called:?}");
    }
}

#[test]
fn systemd_asks_a_plugin_for_users_and_shows_its_interface() {
    let machine = Machine::boot();
    machine.put_guest("userdb", "userdb");
    let example = |file: &str| {
        std::fs::read(format!("{}/../plugins/userdb/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    };
    machine.put("/etc/plugind/plugins/userdb.toml", example("userdb.toml"));
    for unit in ["userdb.socket", "userdb.service"] {
        machine.put(&format!("/etc/systemd/system/{unit}"), example(unit));
    }
    machine.reload_units();
    machine.succeed(&["systemctl", "start", "userdb.socket"]);
    machine.start();
    machine.succeed(&["systemctl", "start", "userdb.service"]);

    let socket = "/run/systemd/userdb/io.plugind.Users";
    let interface = "io.systemd.UserDatabase";
    let reported = machine.succeed(&["varlinkctl", "introspect", socket, interface]);
    assert!(reported.contains("method GetUserRecord"), "{reported}");
    let reported = machine.succeed(&["userdbctl", "user", "ada"]);
    assert!(reported.contains("Ada Lovelace"), "{reported}");
    let reported = machine.succeed(&["userdbctl", "group", "navy"]);
    assert!(reported.contains("60100"), "{reported}");
    let reported = machine.succeed(&["userdbctl", "groups-of-user", "grace"]);
    assert!(reported.contains("navy"), "{reported}");
    // All users of all services.
    let reported = machine.succeed(&["userdbctl", "user"]);
    for user in ["root", "ada", "grace"] {
        assert!(reported.contains(user), "{reported}");
    }
}
