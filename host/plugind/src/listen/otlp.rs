//! Spans as a collector receives them: the messages of OTLP, as far as this daemon sends them, and their numbers.
//!
//! They are those of opentelemetry/proto/collector/trace/v1/trace_service.proto and of the files that it imports,
//! which are stable.

use crate::listen::spans::RequestSpan;
use http::{Method, StatusCode, Version};
use prost::Message;
use std::time::SystemTime;

/// `SPAN_KIND_SERVER`
const SERVER: i32 = 2;
/// `STATUS_CODE_ERROR`
const ERROR: i32 = 2;

/// The body of a request to a collector.
#[derive(Clone, PartialEq, Message)]
struct ExportRequest {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<TracedResource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct TracedResource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<SpanAttribute>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    scope: Option<InstrumentationScope>,
    #[prost(message, repeated, tag = "2")]
    spans: Vec<OtlpSpan>,
}

#[derive(Clone, PartialEq, Message)]
struct InstrumentationScope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, Message)]
struct OtlpSpan {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<SpanAttribute>,
    #[prost(message, optional, tag = "15")]
    status: Option<SpanStatus>,
    #[prost(fixed32, tag = "16")]
    flags: u32,
}

#[derive(Clone, PartialEq, Message)]
struct SpanStatus {
    #[prost(int32, tag = "3")]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct SpanAttribute {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AttributeValue>,
}

/// One of these: in the schema they are alternatives, which look the same on the wire.
#[derive(Clone, PartialEq, Message)]
struct AttributeValue {
    #[prost(string, optional, tag = "1")]
    text: Option<String>,
    #[prost(int64, optional, tag = "3")]
    number: Option<i64>,
}

/// The body of a collector's response.
#[derive(Clone, PartialEq, Message)]
struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected_spans: i64,
}

/// The body of a request that brings these spans of the service `service` to a collector.
pub(super) fn encode(service: &str, spans: &[Box<RequestSpan>]) -> Vec<u8> {
    let resource = TracedResource { attributes: vec![text("service.name", service)] };
    let scope = InstrumentationScope {
        name: "plugind".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let spans = spans.iter().map(|span| otlp(span)).collect();
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans }];
    let resource_spans = vec![ResourceSpans { resource: Some(resource), scope_spans }];
    ExportRequest { resource_spans }.encode_to_vec()
}

/// The number of spans that a collector refused although it accepted the request. A malformed response counts
/// as no rejection.
pub(super) fn rejected(response: &[u8]) -> u64 {
    let response = ExportResponse::decode(response).unwrap_or_default();
    let rejected = response.partial_success.map_or(0, |partial| partial.rejected_spans);
    u64::try_from(rejected).unwrap_or(0)
}

/// The method as the semantic conventions have it: the methods of HTTP as they are, so that clients do not invent names.
fn known_method(method: &Method) -> (&str, &str) {
    match *method {
        Method::GET
        | Method::HEAD
        | Method::POST
        | Method::PUT
        | Method::DELETE
        | Method::CONNECT
        | Method::OPTIONS
        | Method::TRACE
        | Method::PATCH => (method.as_str(), method.as_str()),
        _ => ("_OTHER", "HTTP"),
    }
}

/// By the semantic conventions for HTTP servers.
fn otlp(span: &RequestSpan) -> OtlpSpan {
    let (method, name) = known_method(&span.method);
    let (host, port) = split_port(&span.host);
    let mut attributes = vec![
        text("http.request.method", method),
        text("url.scheme", span.scheme),
        text("url.path", &span.path),
        text("server.address", host),
        text("client.address", &span.client),
        text("network.protocol.version", version(span.version)),
        text("plugind.socket", span.socket.as_str()),
    ];
    attributes.extend(span.plugin.as_ref().map(|plugin| text("plugind.plugin", plugin.as_str())));
    let status = span.status.map(|status| status.as_u16());
    attributes.extend(port.map(|port| number("server.port", port)));
    attributes.extend(status.map(|status| number("http.response.status_code", status)));
    // Without a status, the client left before the response began: that is no error of the server.
    let is_error = span.status.is_some_and(|status: StatusCode| status.is_server_error());
    let begun = span.begun.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let nanoseconds =
        |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    OtlpSpan {
        trace_id: span.identity.trace_bytes().to_vec(),
        span_id: span.identity.request_bytes().to_vec(),
        parent_span_id: span.parent.map(|it| it.request_bytes().to_vec()).unwrap_or_default(),
        name: name.to_owned(),
        kind: SERVER,
        start_time_unix_nano: nanoseconds(begun),
        end_time_unix_nano: nanoseconds(begun.saturating_add(span.duration)),
        attributes,
        status: is_error.then_some(SpanStatus { code: ERROR }),
        flags: u32::from(span.identity.flags()),
    }
}

fn text(key: &str, value: &str) -> SpanAttribute {
    attribute(key, AttributeValue { text: Some(value.to_owned()), number: None })
}

fn number(key: &str, value: u16) -> SpanAttribute {
    attribute(key, AttributeValue { text: None, number: Some(value.into()) })
}

/// Host and port of an authority, which has an address of IPv6 in brackets.
fn split_port(authority: &str) -> (&str, Option<u16>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()),
        _ => (authority, None),
    }
}

fn attribute(key: &str, value: AttributeValue) -> SpanAttribute {
    SpanAttribute { key: key.to_owned(), value: Some(value) }
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "0.9",
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        Version::HTTP_3 => "3",
        _ => "1.1",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_not_a_part_of_an_address() {
        for (authority, host, port) in [
            ("localhost", "localhost", None),
            ("localhost:80", "localhost", Some(80)),
            ("[::1]", "[::1]", None),
            ("[::1]:8080", "[::1]", Some(8080)),
            ("", "", None),
        ] {
            assert_eq!(split_port(authority), (host, port));
        }
    }

    #[test]
    fn a_method_that_a_client_invents_is_no_name_of_a_span() {
        assert_eq!(known_method(&Method::PATCH), ("PATCH", "PATCH"));
        assert_eq!(known_method(&"get".parse().unwrap()), ("_OTHER", "HTTP"));
    }

    #[test]
    fn a_malformed_response_rejects_no_span() {
        assert_eq!(rejected(&[]), 0);
        assert_eq!(rejected(b"<html>"), 0);
        let partial_success = Some(PartialSuccess { rejected_spans: 3 });
        assert_eq!(rejected(&ExportResponse { partial_success }.encode_to_vec()), 3);
        let partial_success = Some(PartialSuccess { rejected_spans: -3 });
        assert_eq!(rejected(&ExportResponse { partial_success }.encode_to_vec()), 0);
    }
}
