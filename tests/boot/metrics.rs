//! The sockets for metrics, as they are installed.

use plugind_tests::{Connection, Machine, eventually};
use serde_json::Value;
use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
};

/// Where systemd looks for metrics, from version 260.
const REPORT: &str = "/run/systemd/report";
/// The program that collects them there. Debian has it in a package of its own.
const REPORT_PROGRAM: &str = "/usr/lib/systemd/systemd-report";

#[test]
fn the_metrics_socket_is_disabled_and_serves_metrics_when_it_is_started() {
    let machine = Machine::boot_with(&["hello"]);
    let unit = "plugind-metrics.socket";
    assert_eq!(machine.property(unit, "UnitFileState"), "disabled");
    machine.start();
    assert_eq!(machine.property(unit, "ActiveState"), "inactive");
    // systemd starts no socket of a service that runs.
    machine.succeed(&["systemctl", "stop", "plugind.service"]);
    machine.succeed(&["systemctl", "start", unit]);
    machine.start();
    assert_eq!(machine.get("/hello").status(), 200);
    let stream = machine.within(|| TcpStream::connect("127.0.0.1:9464")).unwrap();
    let metrics = Connection::over(stream).get("/metrics");
    let line = "plugind_plugin_requests_total{plugin=\"hello\",class=\"2xx\"} 1";
    assert!(metrics.text().lines().any(|it| it == line), "{}", metrics.text());
    let slack = "plugind_watchdog_slack_seconds ";
    assert!(metrics.text().lines().any(|it| it.starts_with(slack)), "{}", metrics.text());
}

#[test]
fn units_that_an_operator_enabled_are_back_whenever_the_daemon_is() {
    let machine = Machine::boot_with(&["hello"]);
    let (sockets, path) = ("plugind-metrics.socket", "plugind-reload.path");
    let are = |state: &str, units: &[&str]| {
        for unit in units {
            // systemctl does not wait for the sockets that stop after the daemon.
            eventually(&format!("{state} {unit}"), || {
                (machine.property(unit, "ActiveState") == state).then_some(())
            });
        }
    };
    machine.succeed(&["systemctl", "enable", "--now", "plugind.service", path]);
    machine.succeed(&["systemctl", "enable", sockets]);
    machine.succeed(&["systemctl", "restart", "plugind.service"]);
    are("active", &[sockets, path]);
    machine.succeed(&["systemctl", "stop", "plugind.target"]);
    are("inactive", &[sockets, path]);
    machine.succeed(&["systemctl", "start", "plugind.target"]);
    are("active", &[sockets, path]);
    machine.succeed(&["systemctl", "disable", "--now", "plugind.service"]);
    are("inactive", &[sockets]);
    machine.succeed(&["systemctl", "enable", "--now", "plugind.service"]);
    are("active", &[sockets, path]);
    let stream = machine.within(|| TcpStream::connect("127.0.0.1:9464")).unwrap();
    assert_eq!(Connection::over(stream).get("/metrics").status(), 200);
}

#[test]
fn the_report_socket_is_there_where_systemd_collects_metrics_and_only_there() {
    let machine = Machine::boot_with(&["hello"]);
    let collects = machine.path(REPORT).is_dir();
    machine.succeed(&["systemctl", "start", "plugind-report.socket"]);
    machine.start();
    let state = machine.property("plugind-report.socket", "ActiveState");
    let socket = format!("{REPORT}/io.plugind");
    if !collects {
        assert_eq!(state, "inactive");
        assert!(!machine.path(&socket).exists());
        return;
    }
    assert_eq!(state, "active");
    let mut stream = UnixStream::connect(machine.path(&socket)).unwrap();
    stream.set_read_timeout(Some(plugind_tests::WAIT_MAX)).unwrap();
    stream.write_all(b"{\"method\":\"io.systemd.Metrics.List\",\"more\":true}\0").unwrap();
    let first = BufReader::new(stream).split(0).next().unwrap().unwrap();
    let first: Value = serde_json::from_slice(&first).unwrap();
    assert_eq!(first["parameters"]["name"], "io.plugind.buildInfo", "{first}");
    let report = |command: &str| machine.succeed(&[REPORT_PROGRAM, command, "io.plugind"]);
    let reported = report("metrics");
    let ready = reported.lines().find(|line| line.contains("io.plugind.pluginReady"));
    assert!(ready.is_some_and(|line| line.contains("hello")), "{reported}");
    let described = report("describe");
    assert!(described.contains("io.plugind.pluginQueueDuration"), "{described}");
}
