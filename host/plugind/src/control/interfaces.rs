//! The interfaces of the control socket, and the errors that all varlink services have.

use serde::Serialize;
use serde_json::{Value, json};

/// The interfaces by their names, described in varlink's own language.
const INTERFACES: [(&str, &str); 4] = [
    ("io.plugind", include_str!("io.plugind.varlink")),
    ("io.systemd.Metrics", include_str!("io.systemd.Metrics.varlink")),
    ("io.systemd.service", include_str!("io.systemd.service.varlink")),
    ("org.varlink.service", include_str!("org.varlink.service.varlink")),
];

/// The reply to `org.varlink.service.GetInfo`.
pub(super) fn info() -> Value {
    json!({
        "vendor": "plugind",
        "product": "plugind",
        "version": env!("CARGO_PKG_VERSION"),
        "url": env!("CARGO_PKG_HOMEPAGE"),
        "interfaces": INTERFACES.map(|(name, _)| name),
    })
}

/// The reply to `org.varlink.service.GetInterfaceDescription`, if there is such an interface.
pub(super) fn description(interface: &str) -> Option<Value> {
    let (_, description) = INTERFACES.iter().find(|(name, _)| *name == interface)?;
    Some(json!({ "description": description }))
}

/// Whether there is such an interface.
pub(super) fn is_known(interface: &str) -> bool {
    INTERFACES.iter().any(|(name, _)| *name == interface)
}

/// An error as it is sent.
#[derive(Debug, Serialize)]
pub(super) struct VarlinkError {
    error: &'static str,
    parameters: Value,
}

impl VarlinkError {
    /// One of this service's own.
    pub(super) fn own(error: &'static str, parameters: impl Serialize) -> Self {
        // Only maps with keys that are not strings cannot be serialized.
        let parameters = serde_json::to_value(parameters).unwrap_or_default();
        Self { error, parameters }
    }

    pub(super) fn no_interface(interface: &str) -> Self {
        Self::own("org.varlink.service.InterfaceNotFound", json!({ "interface": interface }))
    }

    pub(super) fn no_method(method: &str) -> Self {
        Self::own("org.varlink.service.MethodNotFound", json!({ "method": method }))
    }

    pub(super) fn bad_parameter(parameter: &str) -> Self {
        Self::own("org.varlink.service.InvalidParameter", json!({ "parameter": parameter }))
    }

    pub(super) fn expected_more() -> Self {
        Self::own("org.varlink.service.ExpectedMore", json!({}))
    }

    pub(super) fn denied() -> Self {
        Self::own("org.varlink.service.PermissionDenied", json!({}))
    }
}
