//! The uses of a plugin, in words that are the same in every command.

use plugind::{
    check::Checked,
    plugin::{
        inspection::{Inspection, WasiVersion},
        manifest::Mode,
    },
    route::owners::{Route, RouteRequest},
};
use serde_json::{Value, json};

/// Returns the use of a component.
pub(crate) fn kind(inspection: &Inspection) -> &'static str {
    match inspection.http {
        Some(WasiVersion::P3) if inspection.websockets.is_some() => "wasi:http 0.3 and WebSockets",
        Some(WasiVersion::P2) if inspection.websockets.is_some() => "wasi:http 0.2 and WebSockets",
        Some(WasiVersion::P3) => "wasi:http 0.3",
        Some(WasiVersion::P2) => "wasi:http 0.2",
        None if inspection.websockets.is_some() => "WebSockets",
        None => match (inspection.connections.is_some(), inspection.datagrams) {
            (true, true) => "sockets",
            (true, false) => "connections",
            (false, true) => "datagrams",
            (false, false) if inspection.messages => "messages",
            (false, false) if inspection.is_program() => "program",
            (false, false) => "lifecycle",
        },
    }
}

/// Returns the use of an instance, in the words of the manifest.
pub(crate) fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Shared => "shared",
        Mode::Exclusive => "exclusive",
        Mode::Fresh => "fresh",
    }
}

/// Returns the use of its instances; none where they serve nothing.
pub(crate) fn mode_of(checked: &Checked) -> Option<&'static str> {
    let verified = checked.verified.as_ref()?;
    let inspection = verified.inspection();
    if !inspection.serves() {
        return None;
    }
    Some(mode(verified.manifest().instances.mode.unwrap_or_else(|| inspection.mode())))
}

/// One route for a program.
pub(crate) fn route((route, used): &RouteRequest) -> Value {
    match route {
        Route::Http(route) => json!({
            "socket": route.socket.as_ref().map(ToString::to_string),
            "host": route.host,
            "route": route.prefix,
            "strip-prefix": used.strip > 0,
            "websocket": used.websocket.word(),
        }),
        Route::Socket(socket) => json!({ "socket": socket.as_str() }),
    }
}
