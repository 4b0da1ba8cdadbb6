//! The way of a request through the middleware of a plugin.

use crate::base::{name::PluginName, request_identity::RequestIdentity};
use futures::future::BoxFuture;
use http::{Request, Response};
use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};
use wasmtime_wasi_http::WasiBody;

/// The number of times that all plugins of a way together may pass on one request of a client. A retry counts as well.
const FORWARDS_MAX: u32 = 64;

/// Answers requests that middleware passes on.
pub trait MiddlewareDispatch: Send + Sync {
    /// Sends a request along its way. If no plugin answers, the response states the reason.
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

    /// The rest of the way after the next plugin.
    pub(super) fn rest(&self) -> Self {
        Self { next: self.next.saturating_add(1), ..self.clone() }
    }

    /// Counts that its request is passed on once more. False if that would be too often.
    pub(super) fn count_forward(&self) -> bool {
        self.forwards.fetch_add(1, Relaxed) < FORWARDS_MAX
    }
}
