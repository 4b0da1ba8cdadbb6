//! The use of a component, found from the interfaces that it exports and their types.

use crate::plugin::{
    contents::Contents,
    footprint::Footprint,
    inspect_error::InspectError,
    interfaces::{CONTRACT, split, track},
    manifest::Mode,
    other_versions,
};

/// The version of an interface of which there are two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WasiVersion {
    /// WASI 0.2
    P2,
    /// WASI 0.3
    P3,
}

/// The functions by which a guest reads and writes its connections or WebSockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionFunctions {
    /// They are async: `connection-handler`, `websocket-handler`
    Async,
    /// They block its instance: `blocking-connection-handler`, `blocking-websocket-handler`
    Blocking,
}

/// The exports of a component that the host can use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// It answers HTTP requests. Of two versions the later.
    pub http: Option<WasiVersion>,
    /// It serves the connections of a stream socket. Of two handlers the async one.
    pub connections: Option<ConnectionFunctions>,
    /// It exports `plugind:plugin/datagram-handler`.
    pub datagrams: bool,
    /// It serves WebSockets. Of two handlers the async one.
    pub websockets: Option<ConnectionFunctions>,
    /// It exports `wasi:messaging/incoming-handler`.
    pub messages: bool,
    /// None of its functions is async, or its connections or WebSockets block it: while one is called, no other can be.
    pub is_blocking: bool,
    /// It is a program: `wasi:cli/run`. Of two versions the later.
    pub run: Option<WasiVersion>,
    /// It exports `plugind:plugin/lifecycle`.
    pub lifecycle: bool,
    /// The lifecycle that a component inside it exports, and that it does not.
    pub lost_lifecycle: Option<String>,
    /// It exports `plugind:plugin/handover`: its state goes from one instance to the next, so there is one at a time.
    pub handover: bool,
    /// The names of what it imports.
    pub imports: Vec<String>,
    /// The names of what it exports.
    pub exports: Vec<String>,
    /// The share of the instance pool that one instance takes.
    pub footprint: Footprint,
    /// The version that its author gave it, in its section `version`.
    pub version: Option<String>,
}

impl Inspection {
    /// Validates the component in `bytes`, and looks at what it imports, exports and instantiates.
    ///
    /// # Errors
    /// When it cannot be a plugin.
    pub fn of(bytes: &[u8]) -> Result<Self, InspectError> {
        Self::from(Contents::read(bytes)?)
    }

    /// The same of a component that was found valid before.
    ///
    /// # Errors
    /// When it cannot be a plugin.
    pub fn of_valid(bytes: &[u8]) -> Result<Self, InspectError> {
        Self::from(Contents::read_valid(bytes)?)
    }

    fn from(contents: Contents) -> Result<Self, InspectError> {
        let Contents { imports, missing, exports, inner_lifecycle, footprint, has_async, version } =
            contents;
        let is_blocking = !has_async;
        let mut inspection =
            Self { imports, exports, footprint, is_blocking, version, ..Self::default() };
        let ours = |name: &str, interface: &str| {
            name.strip_prefix("plugind:plugin/").is_some_and(|it| is(it, interface, CONTRACT))
        };
        let mut handover = None;
        for name in &inspection.exports {
            if is(name, "wasi:http/handler", "0.3") {
                inspection.http = Some(WasiVersion::P3);
            } else if is(name, "wasi:http/incoming-handler", "0.2") {
                inspection.http = inspection.http.or(Some(WasiVersion::P2));
            } else if is(name, "wasi:cli/run", "0.3") {
                inspection.run = Some(WasiVersion::P3);
            } else if is(name, "wasi:cli/run", "0.2") {
                inspection.run = inspection.run.or(Some(WasiVersion::P2));
            } else if is(name, "wasi:messaging/incoming-handler", "0.2.0-draft") {
                inspection.messages = true;
            } else if ours(name, "lifecycle") {
                inspection.lifecycle = true;
            } else if ours(name, "connection-handler") {
                inspection.connections = Some(ConnectionFunctions::Async);
            } else if ours(name, "blocking-connection-handler") {
                inspection.connections =
                    inspection.connections.or(Some(ConnectionFunctions::Blocking));
            } else if ours(name, "datagram-handler") {
                inspection.datagrams = true;
            } else if ours(name, "websocket-handler") {
                inspection.websockets = Some(ConnectionFunctions::Async);
            } else if ours(name, "blocking-websocket-handler") {
                inspection.websockets =
                    inspection.websockets.or(Some(ConnectionFunctions::Blocking));
            } else if ours(name, "handover") {
                handover = Some(name.clone());
            } else if name.starts_with("plugind:plugin/") && name.contains(&format!("@{CONTRACT}."))
            {
                return Err(InspectError::LaterInterface(name.clone()));
            } else if name.starts_with("plugind:plugin/") {
                return Err(InspectError::OtherContract(name.clone()));
            }
        }
        let functions = [inspection.connections, inspection.websockets];
        inspection.is_blocking |= functions.contains(&Some(ConnectionFunctions::Blocking));
        let others = inspection.other_entry_points();
        if !inspection.has_entry_point() && !inspection.lifecycle && others.is_empty() {
            let exports = match inspection.exports.as_slice() {
                [] => "nothing at all".to_owned(),
                exports => exports.join(", "),
            };
            return Err(InspectError::NoEntryPoint(exports));
        }
        inspection.lost_lifecycle = inner_lifecycle.filter(|_| !inspection.lifecycle);
        inspection.handover = handover.is_some();
        if let Some(name) = handover.filter(|_| inspection.is_program()) {
            return Err(InspectError::ProgramHandsOver(name));
        }
        if !others.is_empty() || !missing.is_empty() {
            return Err(InspectError::Interfaces(inspection.interface_mistakes(others, missing)));
        }
        Ok(inspection)
    }

    /// Whether there is anything that the host can call, apart from its lifecycle.
    fn has_entry_point(&self) -> bool {
        self.serves() || self.run.is_some()
    }

    /// Messages about exports that the host would call in another version, if it has nothing else to call.
    fn other_entry_points(&self) -> Vec<String> {
        match self.has_entry_point() {
            true => Vec::new(),
            false => {
                self.exports.iter().filter_map(|name| other_versions::of_export(name)).collect()
            }
        }
    }

    /// Messages about these exports, about imports that are `missing`, and about the toolchain that made it.
    fn interface_mistakes(&self, others: Vec<String>, missing: Vec<String>) -> Vec<String> {
        let exports = others.into_iter().map(|message| format!("exports {message}"));
        let imports = missing.into_iter().map(|message| format!("imports {message}"));
        let toolchain = other_versions::toolchain(self.exports.iter().chain(&self.imports));
        exports.chain(imports).chain(toolchain.map(str::to_owned)).collect()
    }

    /// Whether it passes requests on: it imports the handler that it exports, too.
    #[must_use]
    pub fn is_middleware(&self) -> bool {
        let passes_on = |import: &String| is(import, "wasi:http/handler", "0.3");
        self.http == Some(WasiVersion::P3) && self.imports.iter().any(passes_on)
    }

    /// Whether there is anything that clients can reach it by.
    #[must_use]
    pub fn serves(&self) -> bool {
        self.serves_routes() || self.serves_sockets() || self.messages
    }

    /// Whether it can serve requests over HTTP, of any kind.
    #[must_use]
    pub fn serves_routes(&self) -> bool {
        self.http.is_some() || self.websockets.is_some()
    }

    /// Whether it can serve a socket as a whole.
    #[must_use]
    pub fn serves_sockets(&self) -> bool {
        self.connections.is_some() || self.datagrams
    }

    /// Whether it has calls that last as long as a client wants.
    #[must_use]
    pub fn serves_connections(&self) -> bool {
        self.connections.is_some() || self.websockets.is_some()
    }

    /// Whether it cannot be called while it serves a connection.
    #[must_use]
    pub fn is_occupied_by_a_connection(&self) -> bool {
        self.serves_connections() && self.is_blocking
    }

    /// Whether it cannot be called for anything else while it serves a request, connection, datagram or
    /// message.
    #[must_use]
    pub fn is_occupied_by_a_call(&self) -> bool {
        // The handlers of drafts and of 0.2 are not async.
        self.is_blocking || self.messages || self.http == Some(WasiVersion::P2)
    }

    /// Whether it is a background program. A component with a handler is none, also where its toolchain makes it one as
    /// well.
    #[must_use]
    pub fn is_program(&self) -> bool {
        !self.serves() && self.run.is_some()
    }

    /// The default use of its instances.
    #[must_use]
    pub fn mode(&self) -> Mode {
        // A handler of messages is called as one of HTTP 0.2 is.
        let by_messages = self.messages.then_some(WasiVersion::P2);
        match self.http.or(by_messages) {
            // It keeps something from one request to the next, or has a start that is meant for more than one request.
            Some(WasiVersion::P2) if self.handover || self.lifecycle => Mode::Exclusive,
            // Many guests of 0.2 are made for one request, and break when they get another one.
            Some(WasiVersion::P2) => Mode::Fresh,
            // A connection would keep the others waiting.
            Some(WasiVersion::P3) | None if self.is_occupied_by_a_connection() => Mode::Exclusive,
            Some(WasiVersion::P3) | None => Mode::Shared,
        }
    }
}

/// Whether this is the name of an interface in a version of this track.
fn is(name: &str, interface: &str, versions: &str) -> bool {
    let (of, version) = split(name);
    of == interface && track(version) == versions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exports_decide_the_mode() {
        let mode = |http, lifecycle, handover| {
            Inspection { http: Some(http), lifecycle, handover, ..Inspection::default() }.mode()
        };
        assert_eq!(mode(WasiVersion::P2, false, false), Mode::Fresh);
        assert_eq!(mode(WasiVersion::P2, true, false), Mode::Exclusive);
        assert_eq!(mode(WasiVersion::P2, false, true), Mode::Exclusive);
        let messages = Inspection { messages: true, ..Inspection::default() };
        assert_eq!(messages.mode(), Mode::Fresh);
        assert_eq!(Inspection { lifecycle: true, ..messages }.mode(), Mode::Exclusive);
        for (lifecycle, handover) in [(false, false), (true, false), (true, true)] {
            assert_eq!(mode(WasiVersion::P3, lifecycle, handover), Mode::Shared);
        }
    }

    #[test]
    fn connections_share_an_instance_only_where_its_functions_are_async() {
        let mode = |is_blocking| {
            Inspection {
                connections: Some(ConnectionFunctions::Async),
                is_blocking,
                ..Inspection::default()
            }
            .mode()
        };
        assert_eq!(mode(true), Mode::Exclusive);
        assert_eq!(mode(false), Mode::Shared);
        let datagrams = Inspection { datagrams: true, is_blocking: true, ..Inspection::default() };
        assert_eq!(datagrams.mode(), Mode::Shared, "an answer does not last");
        let websockets = Inspection {
            websockets: Some(ConnectionFunctions::Async),
            is_blocking: true,
            ..Inspection::default()
        };
        assert_eq!(websockets.mode(), Mode::Exclusive);
        let http = Some(WasiVersion::P3);
        assert_eq!(Inspection { http, ..websockets }.mode(), Mode::Exclusive);
    }

    #[test]
    fn each_kind_of_file_that_is_not_a_component_is_distinguished() {
        assert!(matches!(Inspection::of(b""), Err(InspectError::Empty)));
        assert!(matches!(Inspection::of(b"#!/bin/sh"), Err(InspectError::NotWasm)));
        assert!(matches!(Inspection::of(b"\n(component)"), Err(InspectError::Text)));
        assert!(matches!(
            Inspection::of(b"\0asm\x0d\0\x01\0\x07\xff"),
            Err(InspectError::CutOff(10))
        ));
        assert!(matches!(Inspection::of(b"\0asm\x01\0\0\0"), Err(InspectError::CoreModule)));
        assert!(matches!(Inspection::of(b"\0asm\x0d\0\x01\0"), Err(InspectError::NoEntryPoint(_))));
        assert!(matches!(Inspection::of(b"\0asm\x0d\0\x02\0"), Err(InspectError::Damaged(_))));
    }
}
