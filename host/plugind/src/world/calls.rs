//! Calls between plugins: requests of `wasi:http` to `http://NAME.plugind/`, which never leave the process.
//!
//! An instance may serve many requests at a time, and the library does not say for which of them it sends another one.
//! So a call belongs to all that are in progress when it is sent: it is one level deeper than the deepest of them, and
//! it ends when all of them have ended without a reply.

use crate::{
    base::{endpoint::Host, figures::PluginFigures, name::PluginName},
    plugin::grants::call::PLUGIN_DOMAIN,
    runtime::file_threads::executor,
    world::middleware_way::{MiddlewareDispatch, MiddlewareWay},
};
use bytes::Bytes;
use futures::future::{BoxFuture, pending};
use http::{Request, Response, Uri, uri::Scheme};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use std::{
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::warn;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

/// The largest depth of nested calls. Manifests whose grants form a circle are refused, so only versions of which one
/// is replacing another can call each other without end.
const DEPTH_MAX: u8 = 16;

/// Has requests answered by other plugins.
pub trait PluginDispatch: Send + Sync {
    /// Sends a request of `caller` to `callee`. If that does not answer, the response states the reason.
    fn dispatch(
        &self,
        caller: PluginName,
        callee: PluginName,
        request: Request<WasiBody>,
    ) -> BoxFuture<'static, Response<WasiBody>>;
}

/// Answers requests that plugins send or pass on.
pub trait RequestDispatch: PluginDispatch + MiddlewareDispatch {}

impl<T: PluginDispatch + MiddlewareDispatch> RequestDispatch for T {}

/// The depth of the nested calls that led to a request: an extension of the request.
#[derive(Clone, Copy)]
struct CallDepth(u8);

/// A request that an instance serves, as far as its own calls depend on it.
pub struct RequestScope {
    depth: u8,
    /// Shared, because a clone of a token locks it.
    ended: Arc<CancellationToken>,
}

impl RequestScope {
    /// Nobody waits for the reply any more, so that its calls are of no use.
    pub fn end(&self) {
        self.ended.cancel();
    }

    /// Waits until no client waits for the reply.
    pub(super) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// A request is this one, passed on: the calls that it leads to are as deep.
    pub(super) fn mark(&self, request: &mut Request<WasiBody>) {
        request.extensions_mut().insert(CallDepth(self.depth));
    }
}

/// The plugins that the instances of a generation may call.
pub(super) struct Shared {
    caller: PluginName,
    granted: Vec<PluginName>,
    dispatch: Arc<dyn RequestDispatch>,
    figures: Arc<PluginFigures>,
    is_denial_logged: AtomicBool,
}

/// The requests that one instance serves.
#[derive(Default)]
pub(super) struct Guest(Vec<Weak<RequestScope>>);

impl Guest {
    /// A request comes to the instance, and is served as long as the scope is kept. None if it can call nothing.
    pub(super) fn enter(
        &mut self,
        shared: &Shared,
        request: &Request<WasiBody>,
    ) -> Option<Arc<RequestScope>> {
        let passes_on = request.extensions().get::<MiddlewareWay>().is_some();
        if shared.granted.is_empty() && !passes_on {
            return None;
        }
        self.0.retain(|scope| scope.strong_count() > 0);
        let depth = request.extensions().get().map_or(0, |CallDepth(depth)| *depth);
        let scope = Arc::new(RequestScope { depth, ended: Arc::default() });
        self.0.push(Arc::downgrade(&scope));
        Some(scope)
    }

    /// Returns the depth of a call that is sent now, and a future that ends when the reply is no longer needed.
    fn next_call(&self) -> (u8, impl Future<Output = ()> + Send + use<>) {
        let (mut depth, mut ends) = (None, Vec::with_capacity(self.0.len()));
        for scope in self.0.iter().filter_map(Weak::upgrade) {
            depth = depth.max(Some(scope.depth));
            ends.push(scope.ended.clone());
        }
        let ended = async move {
            if ends.is_empty() {
                return pending().await;
            }
            // All of them have to end, so it waits for one at a time.
            for end in ends {
                end.cancelled().await;
            }
        };
        // A call that no request has caused, for example in `start`, has the first level.
        (depth.map_or(1, |depth| depth.saturating_add(1)), ended)
    }
}

/// The plugin that a URL names, whether it can be called or not.
pub(super) fn callee(uri: &Uri) -> Option<String> {
    match Host::parse(uri.authority()?.host())? {
        Host::Name(name) => name.strip_suffix(PLUGIN_DOMAIN).map(str::to_owned),
        Host::Address(_) => None,
    }
}

type PluginAnswered = Result<Response<WasiBody>, Error>;
type PluginAnswer = BoxFuture<'static, PluginAnswered>;

impl Shared {
    pub(super) fn new(
        caller: PluginName,
        granted: Vec<PluginName>,
        dispatch: Arc<dyn RequestDispatch>,
        figures: Arc<PluginFigures>,
    ) -> Self {
        Self { caller, granted, dispatch, figures, is_denial_logged: AtomicBool::new(false) }
    }

    /// Sends requests that are passed on.
    pub(super) fn dispatch(&self) -> &dyn MiddlewareDispatch {
        &*self.dispatch
    }

    /// Whether a request for `uri` may go to the plugin that it names.
    fn admit(&self, callee: &str, uri: &Uri) -> Option<&PluginName> {
        let authority = uri.authority()?;
        let port = authority.as_str().strip_prefix(authority.host())?;
        if uri.scheme() != Some(&Scheme::HTTP) || !matches!(port, "" | ":80") {
            return None;
        }
        let granted = self.granted.iter().find(|granted| granted.as_str() == callee);
        if granted.is_none()
            && callee.parse::<PluginName>().is_ok()
            && !self.is_denial_logged.swap(true, Relaxed)
        {
            let remedy = format!("call = [\"{callee}\"] below [grants] in its manifest");
            warn!(plugin = %self.caller, callee, remedy, "call to another plugin denied");
        }
        granted
    }

    /// Sends a request to another plugin, and counts it.
    pub(super) fn call(
        &self,
        guest: &Guest,
        callee: &str,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
    ) -> Result<PluginAnswer, Error> {
        let figures = self.figures.clone();
        figures.calls.begin();
        let answer = figures.calls.end(self.send(guest, callee, request, options))?;
        Ok(Box::pin(async move {
            let answered = answer.await;
            if answered.as_ref().map_or(true, |response| response.status().is_server_error()) {
                figures.calls.fail();
            }
            answered
        }))
    }

    fn send(
        &self,
        guest: &Guest,
        callee: &str,
        mut request: Request<WasiBody>,
        options: Option<RequestOptions>,
    ) -> Result<impl Future<Output = PluginAnswered> + Send + use<>, Error> {
        let callee = self.admit(callee, request.uri()).ok_or(Error::HttpRequestDenied)?;
        let (depth, ended) = guest.next_call();
        if depth > DEPTH_MAX {
            return Err(Error::LoopDetected);
        }
        request.extensions_mut().insert(CallDepth(depth));
        let answer = self.dispatch.dispatch(self.caller.clone(), callee.clone(), request);
        let options = options.unwrap_or_default();
        Ok(async move {
            // With a task of its own, the work of the other plugin is not charged to this one.
            let answer = AbortOnDropHandle::new(executor().spawn(answer));
            let first_byte = async {
                match options.first_byte_timeout {
                    Some(timeout) => sleep(timeout).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                answered = answer => match answered {
                    Ok(response) => Ok(limit_pauses(response, options.between_bytes_timeout)),
                    // The host made a mistake of its own.
                    Err(_) => Err(Error::InternalError(None)),
                },
                () = ended => Err(Error::ConnectionTerminated),
                () = first_byte => Err(Error::ConnectionReadTimeout),
            }
        })
    }
}

/// The same response, that fails when it pauses for longer.
pub(super) fn limit_pauses(
    response: Response<WasiBody>,
    timeout: Option<Duration>,
) -> Response<WasiBody> {
    let Some(timeout) = timeout else { return response };
    response
        .map(|body| PauseLimit { body, timeout, pause: Box::pin(sleep(timeout)) }.boxed_unsync())
}

/// A body that fails when it pauses for longer than its reader wants to wait.
struct PauseLimit {
    body: WasiBody,
    timeout: Duration,
    pause: Pin<Box<Sleep>>,
}

impl Body for PauseLimit {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            let next = Instant::now() + self.timeout;
            self.pause.as_mut().reset(next);
            return Poll::Ready(frame);
        }
        self.pause.as_mut().poll(cx).map(|()| Some(Err(Error::ConnectionReadTimeout)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use futures::FutureExt;
    use http_body_util::Empty;

    /// A plugin that never answers.
    pub(crate) struct Silent;

    impl PluginDispatch for Silent {
        fn dispatch(
            &self,
            _: PluginName,
            _: PluginName,
            _: Request<WasiBody>,
        ) -> BoxFuture<'static, Response<WasiBody>> {
            Box::pin(pending())
        }
    }

    impl MiddlewareDispatch for Silent {
        fn forward(
            &self,
            _: MiddlewareWay,
            _: Request<WasiBody>,
        ) -> BoxFuture<'static, Response<WasiBody>> {
            Box::pin(pending())
        }
    }

    pub(in crate::world) fn shared() -> Shared {
        let granted = vec!["orders".parse().unwrap()];
        let figures = Arc::new(PluginFigures::new(1));
        Shared::new("shop".parse().unwrap(), granted, Arc::new(Silent), figures)
    }

    fn request(uri: &str) -> Request<WasiBody> {
        let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
        Request::builder().uri(uri).body(body).unwrap()
    }

    fn send(guest: &Guest, uri: &str) -> Result<PluginAnswer, Error> {
        let request = request(uri);
        let callee = callee(request.uri()).expect("the URL names a plugin");
        shared().call(guest, &callee, request, None)
    }

    #[test]
    fn a_call_goes_to_a_plugin_that_was_granted_and_to_no_other() {
        let guest = Guest::default();
        for uri in ["http://orders.plugind/", "http://Orders.Plugind:80/x?y"] {
            assert!(send(&guest, uri).is_ok(), "{uri}");
        }
        for uri in [
            "https://orders.plugind/",
            "http://orders.plugind:8080/",
            "http://x@orders.plugind/",
            "http://other.plugind/",
            "http://a.orders.plugind/",
        ] {
            assert!(matches!(send(&guest, uri), Err(Error::HttpRequestDenied)), "{uri}");
        }
        for uri in ["http://plugind/", "http://orders.plugind.example/", "http://10.0.0.1/"] {
            assert!(callee(request(uri).uri()).is_none(), "{uri}");
        }
    }

    #[test]
    fn calls_cannot_be_nested_without_end() {
        let (mut guest, shared) = (Guest::default(), shared());
        let mut outer = request("http://orders.plugind/");
        outer.extensions_mut().insert(CallDepth(DEPTH_MAX - 1));
        let scope = guest.enter(&shared, &outer);
        assert!(send(&guest, "http://orders.plugind/").is_ok());
        outer.extensions_mut().insert(CallDepth(DEPTH_MAX));
        let deepest = guest.enter(&shared, &outer);
        assert!(matches!(send(&guest, "http://orders.plugind/"), Err(Error::LoopDetected)));
        drop(deepest);
        assert!(send(&guest, "http://orders.plugind/").is_ok(), "that request has ended");
        drop(scope);
    }

    #[tokio::test]
    async fn a_call_ends_when_nobody_waits_for_any_request_that_led_to_it() {
        let (mut guest, shared) = (Guest::default(), shared());
        let outer = request("http://shop.example/");
        for order in [[0, 1], [1, 0]] {
            let scopes = [(), ()].map(|()| guest.enter(&shared, &outer).unwrap());
            let mut call = send(&guest, "http://orders.plugind/").unwrap();
            scopes[order[0]].end();
            assert!((&mut call).now_or_never().is_none(), "another request may need it");
            scopes[order[1]].end();
            assert!(matches!(call.await, Err(Error::ConnectionTerminated)));
        }
    }

    #[tokio::test]
    async fn a_caller_waits_no_longer_than_it_wants_to() {
        let options = RequestOptions {
            first_byte_timeout: Some(Duration::from_millis(1)),
            ..RequestOptions::default()
        };
        let request = request("http://orders.plugind/");
        let call = shared().call(&Guest::default(), "orders", request, Some(options)).unwrap();
        assert!(matches!(call.await, Err(Error::ConnectionReadTimeout)));
    }
}
