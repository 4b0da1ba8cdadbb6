//! The exports of a component that the host does not use, each with the reason.

use crate::plugin::{
    inspection::{ConnectionFunctions, Inspection, WasiVersion},
    interface_types::expected,
    interfaces::{split, track},
    other_versions,
};
use std::fmt;

/// An export that is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnusedExport {
    /// Its name.
    pub name: String,
    /// Why it is not used.
    pub why: UnusedReason,
}

/// Why an export is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnusedReason {
    /// It is a program, and the component has a handler.
    Handler,
    /// The component exports this interface as well, which is used instead.
    Instead(&'static str),
    /// The host has the interface in another version: the end of a sentence that begins with the name.
    OtherVersion(String),
    /// The host does not know it.
    Unknown,
}

impl fmt::Display for UnusedExport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match &self.why {
            UnusedReason::Handler => write!(f, "{name}, because the component has a handler"),
            UnusedReason::Instead(other) => {
                write!(f, "{name}, because the component also exports {other}")
            }
            UnusedReason::OtherVersion(message) => f.write_str(message),
            UnusedReason::Unknown => write!(f, "{name}, which this host does not call"),
        }
    }
}

/// The exports of a component that the host does not use.
#[must_use]
pub fn unused_exports(inspection: &Inspection) -> Vec<UnusedExport> {
    let unused = |name: &String| {
        let why = reason(inspection, name)?;
        Some(UnusedExport { name: name.clone(), why })
    };
    inspection.exports.iter().filter_map(unused).collect()
}

fn reason(inspection: &Inspection, name: &str) -> Option<UnusedReason> {
    if expected(name).is_none() {
        let other = other_versions::of_export(name).map(UnusedReason::OtherVersion);
        return Some(other.unwrap_or(UnusedReason::Unknown));
    }
    let (interface, version) = split(name);
    let asynchronous = Some(ConnectionFunctions::Async);
    match interface {
        "wasi:cli/run" if inspection.serves() => Some(UnusedReason::Handler),
        "wasi:cli/run" if inspection.run == Some(WasiVersion::P3) && track(version) == "0.2" => {
            Some(UnusedReason::Instead("wasi:cli/run@0.3"))
        }
        "wasi:http/incoming-handler" if inspection.http == Some(WasiVersion::P3) => {
            Some(UnusedReason::Instead("wasi:http/handler@0.3"))
        }
        "plugind:plugin/blocking-connection-handler" if inspection.connections == asynchronous => {
            Some(UnusedReason::Instead("plugind:plugin/connection-handler"))
        }
        "plugind:plugin/blocking-websocket-handler" if inspection.websockets == asynchronous => {
            Some(UnusedReason::Instead("plugind:plugin/websocket-handler"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The unused exports of a component with these exports, as they are described.
    fn unused(exports: &[&str], inspection: Inspection) -> Vec<String> {
        let exports = exports.iter().map(|&name| name.to_owned()).collect();
        let inspection = Inspection { exports, ..inspection };
        unused_exports(&inspection).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_export_is_unused_beside_one_that_is_used_instead() {
        let http = Inspection { http: Some(WasiVersion::P3), ..Inspection::default() };
        let handlers = ["wasi:http/incoming-handler@0.2.6", "wasi:http/handler@0.3.0"];
        let instead = "because the component also exports";
        assert_eq!(
            unused(&handlers, http),
            [format!("wasi:http/incoming-handler@0.2.6, {instead} wasi:http/handler@0.3")]
        );
        let run = Inspection { run: Some(WasiVersion::P3), ..Inspection::default() };
        let programs = ["wasi:cli/run@0.2.0", "wasi:cli/run@0.3.0"];
        assert_eq!(
            unused(&programs, run.clone()),
            [format!("wasi:cli/run@0.2.0, {instead} wasi:cli/run@0.3")]
        );
        let serves = Inspection { datagrams: true, ..run };
        assert_eq!(
            unused(&programs, serves),
            programs.map(|name| format!("{name}, because the component has a handler"))
        );
        let functions = Some(ConnectionFunctions::Async);
        let ours =
            Inspection { connections: functions, websockets: functions, ..Inspection::default() };
        let blocking = ["connection", "websocket"];
        let exports = blocking.map(|name| format!("plugind:plugin/blocking-{name}-handler@0.1.0"));
        assert_eq!(
            unused(&exports.each_ref().map(String::as_str), ours),
            blocking.map(|name| format!(
                "plugind:plugin/blocking-{name}-handler@0.1.0, {instead} plugind:plugin/{name}-handler"
            ))
        );
    }

    #[test]
    fn what_the_host_does_not_know_is_unused_and_what_it_calls_is_not() {
        let used = [
            "wasi:http/incoming-handler@0.2.6",
            "wasi:messaging/incoming-handler@0.2.0-draft",
            "plugind:plugin/lifecycle@0.1.0",
            "plugind:plugin/handover@0.1.0",
            "plugind:plugin/datagram-handler@0.1.0",
            "plugind:plugin/blocking-connection-handler@0.1.0",
        ];
        let inspection = Inspection {
            http: Some(WasiVersion::P2),
            connections: Some(ConnectionFunctions::Blocking),
            ..Inspection::default()
        };
        assert_eq!(unused(&used, inspection.clone()), [""; 0]);
        let others = ["acme:shelf/things@1.0.0", "greet", "wasi:http/handler@0.3.0-rc-2025-09-16"];
        let reported = unused(&others, inspection);
        assert_eq!(
            reported[..2],
            others[..2]
                .iter()
                .map(|name| format!("{name}, which this host does not call"))
                .collect::<Vec<_>>()
        );
        assert!(
            reported[2]
                .starts_with("wasi:http/handler@0.3.0-rc-2025-09-16, of which this host has")
        );
    }
}
