//! The way of a request through the middleware of a plugin.

use crate::base::{name::PluginName, request_identity::RequestIdentity};
use futures::future::BoxFuture;
use http::{Request, Response};
use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};
use wasmtime_wasi_http::WasiBody;

/// How often the plugins of a way pass one request of a client on, all together: a retry is one of them.
const FORWARDS_MAX: u32 = 64;

/// Has requests answered that middleware passes on.
pub trait MiddlewareDispatch: Send + Sync {
    /// Sends a request along its way. Why nobody answers is a response, too.
    fn forward(
        &self,
        way: MiddlewareWay,
        request: Request<WasiBody>,
    ) -> BoxFuture<'static, Response<WasiBody>>;
}

/// The way of a request through the middleware of a plugin: an extension of it.
#[derive(Clone)]
pub struct MiddlewareWay {
    /// The plugin behind all of them.
    pub plugin: PluginName,
    /// Those before it, in order.
    pub links: Arc<[PluginName]>,
    /// The index of the one that has the request next.
    pub next: usize,
    /// Which request it is.
    pub identity: RequestIdentity,
    forwards: Arc<AtomicU32>,
}

impl MiddlewareWay {
    /// The way of a request that has not gone any of it.
    #[must_use]
    pub fn new(plugin: PluginName, links: Arc<[PluginName]>, identity: RequestIdentity) -> Self {
        Self { plugin, links, next: 0, identity, forwards: Arc::default() }
    }

    /// The way that is left behind the next one.
    pub(super) fn rest(&self) -> Self {
        Self { next: self.next.saturating_add(1), ..self.clone() }
    }

    /// Whether its request may be passed on once more.
    pub(super) fn may_forward(&self) -> bool {
        self.forwards.fetch_add(1, Relaxed) < FORWARDS_MAX
    }
}
