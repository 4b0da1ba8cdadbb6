//! Prometheus takes the metrics, and the example rules and dashboard use them.

use crate::metrics::Measured;
use plugind_tests::{Background, Connection, Tree, eventually, run, tool};
use serde_json::{Value, json};
use std::{fs, io::Write, path::Path, process::Stdio};

#[test]
fn promtool_has_no_objection_to_the_metrics() {
    let tree = Tree::new().with("statuses").with("traps_in_request");
    let measured = Measured::start(&tree, &[]);
    assert_eq!(measured.daemon.get("/traps-in-request/trap").status(), 502);
    let mut promtool = tool("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(measured.scrape().as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}

/// The answer of Prometheus to a query: the value of the only series.
fn query(prometheus: &Background, query: &str) -> Option<f64> {
    let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let response =
        Connection::to(prometheus.address).get(&format!("/api/v1/query?query={encoded}"));
    let response: Value = serde_json::from_slice(&response.body).ok()?;
    let series = response["data"]["result"].as_array()?;
    series.first()?["value"][1].as_str()?.parse().ok()
}

#[test]
fn prometheus_scrapes_the_metrics_and_computes_with_them() {
    let measured = Measured::start(&Tree::new().with("statuses"), &[]);
    let directory = tempfile::tempdir().unwrap();
    let configuration = directory.path().join("prometheus.yml");
    let scrape = json!([{
        "job_name": "plugind",
        "static_configs": [{ "targets": [measured.metrics.to_string()] }],
    }]);
    let text = json!({
        "global": { "scrape_interval": "500ms", "scrape_timeout": "500ms" },
        "rule_files": [units().join("plugind-alerts.yml")],
        "scrape_configs": scrape,
    });
    fs::write(&configuration, text.to_string()).unwrap();
    let prometheus = Background::start(|address| {
        let mut command = tool("prometheus");
        command
            .arg(format!("--config.file={}", configuration.display()))
            .arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    });
    for _ in 0..10 {
        assert_eq!(measured.daemon.get("/statuses/200").status(), 200);
    }
    let wait_for = |expression: &str, value: f64| {
        eventually(&format!("{expression} to be {value}"), || {
            (query(&prometheus, expression)? == value).then_some(())
        });
    };
    wait_for("sum(plugind_plugin_requests_total{plugin=\"statuses\",class=\"2xx\"})", 10.0);
    wait_for("count(plugind_build_info)", 1.0);
    wait_for("plugind_plugin_request_duration_seconds_count{plugin=\"statuses\"}", 10.0);
    // Each wait is shorter than the longest that a test may wait.
    for scrapes in [20, 40, 60] {
        wait_for(&format!("count_over_time(up[1m]) >= bool {scrapes}"), 1.0);
    }
    wait_for("min_over_time(up[1m])", 1.0);
    let quantile =
        "histogram_quantile(0.99, plugind_plugin_request_duration_seconds_bucket) > bool 0";
    wait_for(quantile, 1.0);
}

fn units() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../units"))
}

/// The names of metrics in an expression.
fn metrics_in(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("plugind_")).map(str::to_owned).collect()
}

#[test]
fn the_example_rules_and_dashboard_use_metrics_that_there_are() {
    let rules = units().join("plugind-alerts.yml");
    let checked = run(tool("promtool").args(["check", "rules"]).arg(&rules));
    assert!(checked.contains("SUCCESS"), "{checked}");

    let dashboard = fs::read_to_string(units().join("plugind-dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let expressions: Vec<_> = targets.map(|target| target["expr"].as_str().unwrap()).collect();
    assert!(expressions.len() > 10, "{expressions:?}");
    // As rules, in which Grafana's variables have values.
    let rules_of_dashboard: Vec<_> = expressions
        .iter()
        .map(|expression| expression.replace("$__rate_interval", "5m"))
        .enumerate()
        .map(|(number, expr)| json!({ "record": format!("panel:{number}"), "expr": expr }))
        .collect();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("dashboard.yml");
    let groups = json!({ "groups": [{ "name": "dashboard", "rules": rules_of_dashboard }] });
    fs::write(&path, groups.to_string()).unwrap();
    let checked = run(tool("promtool").args(["check", "rules"]).arg(&path));
    assert!(checked.contains("SUCCESS"), "{checked}");

    let tree = Tree::new().with("statuses").with("traps_in_request");
    let measured = Measured::start(&tree, &[]);
    assert_eq!(measured.daemon.get("/traps-in-request/trap").status(), 502);
    measured.wait_for(
        "plugind_plugin_instance_failures_total{plugin=\"traps-in-request\",result=\"trap\"}",
        1.0,
    );
    let all = measured.scrape();
    let rules = fs::read_to_string(rules).unwrap();
    let expressions =
        rules.lines().filter(|line| line.contains(" plugind_") || line.contains("(plugind_"));
    let used = expressions.chain(panels_text(&dashboard)).flat_map(metrics_in);
    for metric in used {
        let there = all.lines().any(|line| {
            line.strip_prefix(metric.as_str()).is_some_and(|rest| rest.starts_with(['{', ' ']))
        });
        assert!(there, "{metric} is not among the metrics");
    }
}

/// All expressions of a dashboard.
fn panels_text(dashboard: &Value) -> impl Iterator<Item = &str> {
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().unwrap());
    targets.map(|target| target["expr"].as_str().unwrap())
}
