//! The requests that an instance may pass on, as middleware.
//!
//! Each request that comes to such a plugin brings its way with it, so that one plugin can stand before several others.
//! The task of the guest that handles a request decides which way is meant when it passes a request on.

use crate::{
    runtime::file_threads::executor,
    world::{
        calls::{RequestScope, limit_pauses},
        middleware_way::{MiddlewareDispatch, MiddlewareWay},
        passing::Passage,
    },
};
use futures::future::ready;
use http::{Request, Response};
use std::sync::Arc;
use tokio_util::task::AbortOnDropHandle;
use wasmtime::component::GuestTaskId;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

/// The rest of the work for a request.
pub(super) type Sent = Box<dyn Future<Output = Result<(), Error>> + Send>;
/// A response, once it begins.
pub(super) type Answered = Result<(Response<WasiBody>, Sent), Error>;

/// A request that an instance handles, and where it goes from there.
#[derive(Clone)]
pub struct PassedRequest {
    way: MiddlewareWay,
    scope: Arc<RequestScope>,
    passage: Arc<Passage>,
}

impl PassedRequest {
    /// None if nothing is behind the instance.
    #[must_use]
    pub fn of(
        request: &Request<WasiBody>,
        scope: &Arc<RequestScope>,
        passage: impl FnOnce() -> Arc<Passage>,
    ) -> Option<Self> {
        let way = request.extensions().get::<MiddlewareWay>()?.rest();
        Some(Self { way, scope: scope.clone(), passage: passage() })
    }

    /// Passes a request on.
    pub(super) fn forward(
        self,
        dispatch: &dyn MiddlewareDispatch,
        mut request: Request<WasiBody>,
        options: Option<RequestOptions>,
    ) -> Box<dyn Future<Output = Answered> + Send> {
        let Self { way, scope, passage } = self;
        if !way.count_forward() {
            return Box::new(async { Err(Error::LoopDetected) });
        }
        scope.mark(&mut request);
        let passed = passage.begin();
        let answer = dispatch.forward(way, request);
        let pauses = options.and_then(|options| options.between_bytes_timeout);
        Box::new(async move {
            // With a task of its own, the work of the next plugin is not charged to this one.
            let answer = AbortOnDropHandle::new(executor().spawn(answer));
            tokio::select! {
                answered = answer => match answered {
                    Ok(response) => {
                        let response = limit_pauses(passed.until_end_of(response), pauses);
                        Ok((response, Box::new(ready(Ok(()))) as Sent))
                    }
                    // The host made a mistake of its own.
                    Err(_) => Err(Error::InternalError(None)),
                },
                () = scope.ended() => Err(Error::ConnectionTerminated),
            }
        })
    }
}

/// The requests that an instance handles and may pass on, by the tasks that handle them.
#[derive(Default)]
pub(super) struct PassedRequests(Vec<(GuestTaskId, PassedRequest)>);

impl PassedRequests {
    pub(super) fn begin(&mut self, task: GuestTaskId, request: PassedRequest) {
        self.0.push((task, request));
    }

    pub(super) fn end(&mut self, task: GuestTaskId) {
        self.0.retain(|(known, _)| *known != task);
    }

    /// The request of the first of these tasks that has one.
    pub(super) fn of(&self, tasks: &[GuestTaskId]) -> Option<PassedRequest> {
        let of = |task| self.0.iter().find(|(known, _)| known == task);
        tasks.iter().find_map(of).map(|(_, request)| request.clone())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
