//! `Compiled` → `Linked`: every import is resolved, and every export that is used is found.

use crate::{
    plugin::{
        compile::Compiled,
        credentials::CredentialsSeen,
        inspection::{ConnectionFunctions, WasiVersion},
        release::Release,
    },
    world::{
        bindings::{
            exports::plugind::plugin::{
                blocking_connection_handler, blocking_websocket_handler, connection_handler,
                datagram_handler, handover, lifecycle, websocket_handler,
            },
            messaging::exports::wasi::messaging::incoming_handler,
        },
        granted::{GrantDirectories, GrantError, Granted},
        host_state::HostState,
    },
};
use std::sync::Arc;
use wasmtime::{
    AsContextMut, Engine, Store,
    component::{Component, ComponentExportIndex, Instance, InstancePre, Linker, TypedFunc},
};
use wasmtime_wasi_http::{handler::Proxy, p2, p3};

/// A plugin of which instances can be made.
pub struct Linked {
    /// The version.
    pub release: Arc<Release>,
    /// The grants of its instances.
    pub granted: Granted,
    pre: InstancePre<HostState>,
    http: Option<HttpIndices>,
    run: Option<ComponentExportIndex>,
    lifecycle: Option<lifecycle::GuestIndices>,
    handover: Option<handover::GuestIndices>,
    connections: Option<ConnectionIndices>,
    datagrams: Option<datagram_handler::GuestIndices>,
    websockets: Option<WebSocketIndices>,
    messages: Option<incoming_handler::GuestIndices>,
}

#[derive(Clone)]
enum HttpIndices {
    P2(p2::bindings::ProxyIndices),
    P3(p3::bindings::ServiceIndices),
}

/// A handler, by the functions that its connections or WebSockets have.
#[derive(Clone)]
pub enum HandlerExport<Async, Blocking> {
    /// They are async.
    Async(Async),
    /// They block.
    Blocking(Blocking),
}

type ConnectionIndices =
    HandlerExport<connection_handler::GuestIndices, blocking_connection_handler::GuestIndices>;
type WebSocketIndices =
    HandlerExport<websocket_handler::GuestIndices, blocking_websocket_handler::GuestIndices>;

/// The handler of connections.
pub type ConnectionExport =
    HandlerExport<connection_handler::Guest, blocking_connection_handler::Guest>;
/// The handler of WebSockets.
pub type WebSocketExport =
    HandlerExport<websocket_handler::Guest, blocking_websocket_handler::Guest>;

/// One instance's exports, as far as the host uses them.
pub struct Exports {
    /// The handler of HTTP requests.
    pub http: Option<Proxy>,
    /// The background program, if it has no handler.
    pub run: Option<TypedFunc<(), (Result<(), ()>,)>>,
    /// Its lifecycle.
    pub lifecycle: Option<lifecycle::Guest>,
    /// Its state, to be handed over.
    pub handover: Option<handover::Guest>,
    /// The handler of connections.
    pub connections: Option<ConnectionExport>,
    /// The handler of datagrams.
    pub datagrams: Option<datagram_handler::Guest>,
    /// The handler of WebSockets.
    pub websockets: Option<WebSocketExport>,
    /// The handler of messages.
    pub messages: Option<incoming_handler::Guest>,
}

/// Why a component cannot be linked.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// It imports what the host does not have, or has differently.
    #[error("cannot be given all that it imports: {0}")]
    Import(String),
    /// It exports an interface in a form of its own.
    #[error("exports {export} with types that do not match its version: {why}")]
    Export {
        /// The interface.
        export: &'static str,
        /// The engine's error.
        why: String,
    },
    /// One of its grants cannot be fulfilled.
    #[error(transparent)]
    Grant(#[from] GrantError),
}

/// Links a component with what `linker` has and its manifest grants. Blocks.
///
/// # Errors
/// When an import is missing, an export is not what its name says, or a grant cannot be fulfilled.
pub fn link(
    compiled: Compiled,
    linker: &Linker<HostState>,
    places: &GrantDirectories,
) -> Result<Linked, LinkError> {
    let component = compiled.component;
    let pre = linker
        .instantiate_pre(&component)
        .map_err(|error| LinkError::Import(format!("{error:#}")))?;
    let wrong = |export| {
        move |error: wasmtime::Error| LinkError::Export { export, why: format!("{error:#}") }
    };
    let release = compiled.release;
    let inspection = &release.inspection;
    let http = match inspection.http {
        None => None,
        Some(WasiVersion::P2) => {
            let indices = p2::bindings::ProxyIndices::new(&pre)
                .map_err(wrong("wasi:http/incoming-handler"))?;
            Some(HttpIndices::P2(indices))
        }
        Some(WasiVersion::P3) => {
            let indices =
                p3::bindings::ServiceIndices::new(&pre).map_err(wrong("wasi:http/handler"))?;
            Some(HttpIndices::P3(indices))
        }
    };
    // A component with a handler is a server, also where its toolchain makes it a program as well.
    let run = match inspection.run.filter(|_| inspection.is_program()) {
        None => None,
        Some(preview) => {
            // The runtime finds later versions of the same track by these names.
            let name = match preview {
                WasiVersion::P2 => "wasi:cli/run@0.2.0",
                WasiVersion::P3 => "wasi:cli/run@0.3.0",
            };
            let missing = || LinkError::Export {
                export: "wasi:cli/run",
                why: "it has no function `run`".to_owned(),
            };
            let interface = component.get_export_index(None, name).ok_or_else(missing)?;
            Some(component.get_export_index(Some(&interface), "run").ok_or_else(missing)?)
        }
    };
    let lifecycle = match inspection.lifecycle {
        true => {
            Some(lifecycle::GuestIndices::new(&pre).map_err(wrong("plugind:plugin/lifecycle"))?)
        }
        false => None,
    };
    let handover = match inspection.handover {
        true => Some(handover::GuestIndices::new(&pre).map_err(wrong("plugind:plugin/handover"))?),
        false => None,
    };
    let connections = match inspection.connections {
        None => None,
        Some(ConnectionFunctions::Async) => Some(ConnectionIndices::Async(
            connection_handler::GuestIndices::new(&pre)
                .map_err(wrong("plugind:plugin/connection-handler"))?,
        )),
        Some(ConnectionFunctions::Blocking) => Some(ConnectionIndices::Blocking(
            blocking_connection_handler::GuestIndices::new(&pre)
                .map_err(wrong("plugind:plugin/blocking-connection-handler"))?,
        )),
    };
    let datagrams = match inspection.datagrams {
        true => Some(
            datagram_handler::GuestIndices::new(&pre)
                .map_err(wrong("plugind:plugin/datagram-handler"))?,
        ),
        false => None,
    };
    let websockets = match inspection.websockets {
        None => None,
        Some(ConnectionFunctions::Async) => Some(WebSocketIndices::Async(
            websocket_handler::GuestIndices::new(&pre)
                .map_err(wrong("plugind:plugin/websocket-handler"))?,
        )),
        Some(ConnectionFunctions::Blocking) => Some(WebSocketIndices::Blocking(
            blocking_websocket_handler::GuestIndices::new(&pre)
                .map_err(wrong("plugind:plugin/blocking-websocket-handler"))?,
        )),
    };
    let messages = match inspection.messages {
        true => Some(
            incoming_handler::GuestIndices::new(&pre)
                .map_err(wrong("wasi:messaging/incoming-handler"))?,
        ),
        false => None,
    };
    let granted = Granted::open(&release.name, &release.manifest, places)?;
    Ok(Linked {
        release,
        granted,
        pre,
        http,
        run,
        lifecycle,
        handover,
        connections,
        datagrams,
        websockets,
        messages,
    })
}

impl Linked {
    /// The size of its compiled code with all that belongs to it, in bytes.
    #[must_use]
    pub fn image_size(&self) -> u64 {
        let image = self.pre.component().image_range();
        image.end.addr().saturating_sub(image.start.addr()) as u64
    }

    /// The engine that it is linked for.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        self.pre.engine()
    }

    /// The same version, linked with the credentials that there are now. Blocks.
    ///
    /// # Errors
    /// When one that is granted cannot be read.
    pub fn with_present_credentials(
        &self,
        linker: &Linker<HostState>,
        places: &GrantDirectories,
    ) -> Result<Self, LinkError> {
        let keys = &self.release.manifest.grants.credentials;
        let credentials =
            CredentialsSeen::look(&self.release.name, keys, places.credentials.as_deref());
        let release = Arc::new(Release { credentials, ..Release::clone(&self.release) });
        link(Compiled { release, component: self.pre.component().clone() }, linker, places)
    }

    /// The component that instances are made of.
    #[must_use]
    pub fn component(&self) -> &Component {
        self.pre.component()
    }

    /// Whether instances export the lifecycle: `start`, `health`, `stop`.
    #[must_use]
    pub fn has_lifecycle(&self) -> bool {
        self.lifecycle.is_some()
    }

    /// Makes an instance in `store`.
    ///
    /// # Errors
    /// When there is no room for another one, or the guest fails while it is made.
    pub async fn instantiate(&self, store: &mut Store<HostState>) -> wasmtime::Result<Exports> {
        let instance = self.pre.instantiate_async(&mut *store).await?;
        self.exports(store, &instance)
    }

    fn exports(
        &self,
        store: &mut Store<HostState>,
        instance: &Instance,
    ) -> wasmtime::Result<Exports> {
        let mut store = store.as_context_mut();
        Ok(Exports {
            http: match &self.http {
                None => None,
                Some(HttpIndices::P2(indices)) => {
                    Some(Proxy::P2(indices.load(&mut store, instance)?))
                }
                Some(HttpIndices::P3(indices)) => {
                    Some(Proxy::P3(indices.load(&mut store, instance)?))
                }
            },
            run: match &self.run {
                None => None,
                Some(index) => Some(instance.get_typed_func(&mut store, index)?),
            },
            lifecycle: match &self.lifecycle {
                None => None,
                Some(indices) => Some(indices.load(&mut store, instance)?),
            },
            handover: match &self.handover {
                None => None,
                Some(indices) => Some(indices.load(&mut store, instance)?),
            },
            connections: match &self.connections {
                None => None,
                Some(ConnectionIndices::Async(indices)) => {
                    Some(ConnectionExport::Async(indices.load(&mut store, instance)?))
                }
                Some(ConnectionIndices::Blocking(indices)) => {
                    Some(ConnectionExport::Blocking(indices.load(&mut store, instance)?))
                }
            },
            datagrams: match &self.datagrams {
                None => None,
                Some(indices) => Some(indices.load(&mut store, instance)?),
            },
            websockets: match &self.websockets {
                None => None,
                Some(WebSocketIndices::Async(indices)) => {
                    Some(WebSocketExport::Async(indices.load(&mut store, instance)?))
                }
                Some(WebSocketIndices::Blocking(indices)) => {
                    Some(WebSocketExport::Blocking(indices.load(&mut store, instance)?))
                }
            },
            messages: match &self.messages {
                None => None,
                Some(indices) => Some(indices.load(&mut store, instance)?),
            },
        })
    }
}
