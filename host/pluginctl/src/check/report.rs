//! The results of a check, as text and as JSON.

use crate::{
    check::conflicts::Conflicts,
    columns::columns,
    format::{kind, mode_of, route},
    print::{self, line},
    unit::UNIT,
};
use plugind::{
    base::{quantity::Bytes, text::Escaped},
    check::{Checked, Report},
    plugin::{
        compiled_files::hex,
        grants::{grants_of_use, uses_of_grants},
        inspection::Inspection,
        interfaces::Grant,
        scan::Masked,
        unused_exports::unused_exports,
        verify::Verified,
    },
};
use serde_json::{Value, json};
use std::{fmt::Write as _, fs, path::Path, time::Duration};

/// A plugin that is masked, as a line.
pub(super) fn describe_masked(Masked { name, by }: &Masked) -> String {
    line(&format!("{name} is masked by {}", by.display()))
}

/// The same, as JSON.
pub(super) fn json_masked(Masked { name, by }: &Masked) -> Value {
    json!({ "name": name.as_str(), "by": print::path(by) })
}

/// The mistakes of a plugin.
pub(super) fn mistakes(checked: &Checked) -> &[String] {
    checked.failed.as_ref().map_or(&[], |(_, mistakes)| mistakes)
}

/// All plugins as a table, and the drop-in that would permit their grants.
pub(super) fn table(report: &Report, conflicts: &Conflicts) -> String {
    let row = |checked: &Checked| {
        let result = match &checked.failed {
            None if !conflicts.of(checked).is_empty() => "blocked by unit".to_owned(),
            None => "ok".to_owned(),
            Some((stage, _)) => format!("fails at {stage}"),
        };
        let verified = checked.verified.as_ref();
        let routes: Vec<_> = checked.routes.iter().map(|(route, _)| route.to_string()).collect();
        vec![
            checked.name.to_string(),
            result,
            verified.map_or("-", |verified| kind(verified.inspection())).to_owned(),
            mode_of(checked).unwrap_or("-").to_owned(),
            if routes.is_empty() { "-".to_owned() } else { routes.join(" ") },
        ]
    };
    let rows: Vec<_> = report.plugins.iter().map(row).collect();
    let mut reported = match rows.is_empty() {
        true => "no plugins\n".to_owned(),
        false => columns(&["PLUGIN", "RESULT", "KIND", "MODE", "ROUTES"], rows),
    };
    reported.extend(report.masked.iter().map(describe_masked));
    if let Some(drop_in) = &conflicts.drop_in {
        let file = format!("/etc/systemd/system/{UNIT}.d/grants.conf");
        // A whole file, to be redirected or pasted as it is.
        let how = "then `systemctl daemon-reload` and `systemctl restart plugind`";
        writeln!(
            reported,
            "\n# To allow these grants, write this drop-in to {file}, {how}\n{drop_in}"
        )
        .ok();
    }
    reported
}

/// All that is known about one component.
pub(super) fn described(path: &Path, checked: &Checked, took: Option<Duration>) -> String {
    let mut reported = line(&path.to_string_lossy());
    let Some(verified) = &checked.verified else { return String::new() };
    let (manifest, inspection) = (verified.manifest(), verified.inspection());
    let mut line = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        writeln!(reported, "  {name:<9} {}", Escaped(value)).ok();
    };
    line("kind", kind(inspection));
    for (nth, export) in unused_exports(inspection).iter().enumerate() {
        line(if nth == 0 { "unused" } else { "" }, &format!("export {export}"));
    }
    if let Ok(metadata) = fs::metadata(path) {
        line("size", &rounded(Bytes(metadata.len())).to_string());
    }
    let (first, most) =
        (rounded(inspection.footprint.bytes()), manifest.limits.instance_memory_max);
    line("memory", &format!("each instance begins with {first}, and may have {most}"));
    if let Some(took) = took.filter(|_| checked.failed.is_none()) {
        line("compile", &format!("{:.1} s to compile and link it", took.as_secs_f64()));
    }
    let routes: Vec<_> = checked.routes.iter().map(|(route, _)| route.to_string()).collect();
    match mode_of(checked) {
        Some(_) if routes.is_empty() && inspection.is_middleware() => {
            let how = format!("name it in middleware = [\"{}\"] of another plugin", checked.name);
            line("served as", &format!("{}, middleware without a route: {how}", checked.name));
        }
        Some(mode) if routes.is_empty() => {
            line("served as", &format!("{}, without a route", checked.name));
            line("instances", mode);
        }
        Some(mode) => {
            line("served as", &format!("{}, at {}", checked.name, routes.join(" ")));
            line("instances", mode);
        }
        None => line("served as", &format!("{}, without a route", checked.name)),
    }
    line("required", if manifest.required { "yes" } else { "no" });
    line("lifecycle", &lifecycle(inspection));
    if inspection.handover {
        line("handover", "its state goes to its next version");
    }
    let uses = uses_of_grants(&inspection.imports);
    match uses.is_empty() {
        true => line("can use", "no grants"),
        false => line("can use", "these grants, as lines of its manifest:"),
    }
    for text in grant_lines(&uses, |grant| manifest.grants.has(grant)) {
        line("", &text);
    }
    for (name, interfaces) in [("imports", &inspection.imports), ("exports", &inspection.exports)] {
        for (nth, interface) in interfaces.iter().enumerate() {
            line(if nth == 0 { name } else { "" }, interface);
        }
    }
    reported
}

/// The lines of a manifest that grant all that can be used, to be pasted as they are.
fn grant_lines(uses: &[(Grant, Vec<&str>)], is_granted: impl Fn(Grant) -> bool) -> Vec<String> {
    let grant = |(grant, imports): &(Grant, Vec<&str>)| {
        let granted = if is_granted(*grant) { ", granted" } else { "" };
        format!("{}  # {}{granted}", grant.example(), imports.join(", "))
    };
    let table = (!uses.is_empty()).then(|| "[grants]".to_owned());
    table.into_iter().chain(uses.iter().map(grant)).collect()
}

/// Whether it has a lifecycle.
fn lifecycle(inspection: &Inspection) -> String {
    match &inspection.lost_lifecycle {
        _ if inspection.lifecycle => "its own".to_owned(),
        // `wac plug` exports only what the component around the others exports.
        Some(name) => format!(
            "lost by composition: a component inside exports {name}; export it from the whole as well, with `export \
             INSTANCE[\"{name}\"];` in a file for `wac compose`"
        ),
        None => "none: ready once it is instantiated; `wac plug` drops this export".to_owned(),
    }
}

/// In whole KiB or MiB, as limits are written.
fn rounded(Bytes(bytes): Bytes) -> Bytes {
    let unit = if bytes < 1 << 20 { 1 << 10 } else { 1 << 20 };
    Bytes(bytes.div_ceil(unit).saturating_mul(unit))
}

/// A plugin, as JSON.
pub(super) fn plugin_json(checked: &Checked) -> Value {
    let verified = checked.verified.as_ref();
    let inspection = verified.map(Verified::inspection);
    let digest = verified.map(|verified| hex(verified.digest()));
    json!({
        "name": checked.name.as_str(),
        "component": print::path(&checked.component),
        "sha256": digest,
        "kind": inspection.map(kind),
        "mode": mode_of(checked),
        "required": verified.map(|verified| verified.manifest().required),
        "memory": inspection.map(|inspection| inspection.footprint.bytes().0),
        "lifecycle": inspection.map(|inspection| inspection.lifecycle),
        "handover": inspection.map(|inspection| inspection.handover),
        "grants-of-use": inspection.map(|inspection| grants_of_use(&inspection.imports)),
        "imports": inspection.map(|inspection| &inspection.imports),
        "exports": inspection.map(|inspection| &inspection.exports),
        "unused": inspection.map(|inspection| {
            unused_exports(inspection).into_iter().map(|export| export.name).collect::<Vec<_>>()
        }),
        "routes": checked.routes.iter().map(route).collect::<Vec<_>>(),
        "fails-at": checked.failed.as_ref().map(|(stage, _)| stage.to_string()),
        "mistakes": mistakes(checked),
    })
}
