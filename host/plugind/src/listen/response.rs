//! Responses to requests over HTTP: those of plugins in a form that is allowed, and those of the host.

use crate::{
    base::{name::PluginName, request_identity::RequestIdentity},
    listen::{
        admission::NotAdmitted,
        middleware::{NotPassed, Passed},
    },
    pool::{Delivery, call::NotServed},
};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body::Body as _;
use http_body_util::{Either, Full};
use std::borrow::Cow;
use tracing::debug;

/// A response's body: from a plugin, or from the host.
pub type Body = Either<Delivery, Full<Bytes>>;

/// The properties of a request on which its response depends.
#[derive(Clone, Copy)]
pub(super) struct RequestForm {
    pub(super) head: bool,
    pub(super) version: Version,
}

impl RequestForm {
    pub(super) fn of<B>(request: &Request<B>) -> Self {
        Self { head: request.method() == Method::HEAD, version: request.version() }
    }

    /// Whether the body of the response must be left out here. In HTTP/1.1, hyper does that itself.
    fn is_bodiless(self) -> bool {
        self.head && self.version >= Version::HTTP_2
    }
}

/// Brings the response of a plugin into a form that is allowed (RFC 9110, 6.4.1 and 8.6).
pub(super) fn deliver(
    plugin: &PluginName,
    identity: RequestIdentity,
    asked: RequestForm,
    mut response: Response<Delivery>,
) -> Response<Body> {
    let status = response.status();
    if status.is_informational() {
        let cause = format!("the status of the response must be final; it is {}", status.as_u16());
        response.body().note(&cause);
        return failed(plugin, identity, None).into();
    }
    let nothing = || Either::Right(Full::default());
    if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        response.headers_mut().remove(header::CONTENT_LENGTH);
        return response.map(|_| nothing());
    }
    if asked.is_bodiless() {
        if let Some(length) = response.body().size_hint().exact() {
            let headers = response.headers_mut();
            headers.entry(header::CONTENT_LENGTH).or_insert_with(|| length.into());
        }
        return response.map(|_| nothing());
    }
    response.map(Either::Left)
}

/// Leaves out the body of a response of the host's own where it must have none (RFC 9110, 9.3.2).
pub(super) fn trim(asked: RequestForm, response: &mut Response<Body>) {
    if let Either::Right(body) = response.body()
        && asked.is_bodiless()
        && !body.is_end_stream()
    {
        let length = body.size_hint().exact();
        *response.body_mut() = Either::Right(Full::default());
        if let Some(length) = length {
            let headers = response.headers_mut();
            headers.entry(header::CONTENT_LENGTH).or_insert_with(|| length.into());
        }
    }
}

/// The response to a request that went through middleware.
pub(super) fn passed_on(
    passed: Passed,
    identity: RequestIdentity,
    asked: RequestForm,
) -> Response<Body> {
    match passed {
        Passed::Answered(plugin, response) => deliver(&plugin, identity, asked, *response),
        Passed::NotServed(plugin, why) => failed(&plugin, identity, why).into(),
        Passed::Refused(NotPassed { status, why }) => Refusal::new(status, why).into(),
    }
}

/// The response to a request that was not served. `None` means that the reply was not a valid response to it.
pub(super) fn failed(
    plugin: &PluginName,
    identity: RequestIdentity,
    not_served: Option<NotServed>,
) -> Refusal {
    let (status, what) = match not_served {
        Some(NotServed::Busy(_) | NotServed::Draining(_)) => {
            (StatusCode::SERVICE_UNAVAILABLE, "is busy")
        }
        Some(NotServed::TimedOut) => (StatusCode::GATEWAY_TIMEOUT, "did not answer in time"),
        Some(NotServed::Failed(error)) => {
            let (request_id, trace_id) = (identity.request_id(), identity.trace_id());
            debug!(%plugin, %error, %request_id, %trace_id, "request failed");
            (StatusCode::BAD_GATEWAY, "failed")
        }
        None => (StatusCode::BAD_GATEWAY, "failed"),
    };
    Refusal::new(status, format!("plugin {plugin} {what}"))
}

/// A response of the host's own. It names the plugin that did not answer, but no internal cause.
pub(super) struct Refusal {
    status: StatusCode,
    why: Cow<'static, str>,
    /// Whether to close the connection, because its further bytes cannot be trusted.
    close: bool,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, why: impl Into<Cow<'static, str>>) -> Self {
        Self { status, why: why.into(), close: false }
    }
}

impl From<NotAdmitted> for Refusal {
    fn from(NotAdmitted { status, why, close }: NotAdmitted) -> Self {
        Self { status, why: why.into(), close }
    }
}

impl From<Refusal> for Response<Body> {
    fn from(Refusal { status, why, close }: Refusal) -> Self {
        let mut response = Response::new(Either::Right(Full::from(format!("{why}\n"))));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        headers.insert(header::CONTENT_TYPE, text);
        if close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_answers_head_over_http_2_with_a_length_and_without_a_body() {
        for (head, version, expected) in [
            (true, Version::HTTP_2, (true, Some("5"))),
            (false, Version::HTTP_2, (false, None)),
            // The connection leaves it out.
            (true, Version::HTTP_11, (false, None)),
        ] {
            let mut response = Refusal::new(StatusCode::NOT_FOUND, "none").into();
            trim(RequestForm { head, version }, &mut response);
            let length = response.headers().get(header::CONTENT_LENGTH);
            let length = length.map(|length| length.to_str().unwrap());
            assert_eq!((response.body().is_end_stream(), length), expected, "{head} {version:?}");
        }
    }
}
