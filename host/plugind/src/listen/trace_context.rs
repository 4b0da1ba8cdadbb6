//! The identity of a request (W3C Trace Context): taken from a trusted proxy, or made here.

use crate::base::request_identity::{RequestIdentity, TRACEPARENT};
use http::{HeaderMap, HeaderName, HeaderValue};

/// The data that vendors add to a trace. It has no meaning without the trace with which it was sent.
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Gives a request its identity, and writes that into its header, where the plugin finds it. A client that is not
/// `trusted` could make its requests look like those of others, so what it says is not believed.
pub(super) fn identify(headers: &mut HeaderMap, trusted: bool) -> RequestIdentity {
    let mut sent = headers.get_all(TRACEPARENT).iter();
    let cause = match (sent.next(), sent.next()) {
        (Some(only), None) if trusted => RequestIdentity::parse(only.as_bytes()),
        _ => None,
    };
    if cause.is_none() {
        headers.remove(TRACESTATE);
    }
    let identity = cause.map_or_else(RequestIdentity::new, RequestIdentity::child);
    // It consists of hexadecimal digits and hyphens, so it is a valid value.
    if let Ok(value) = HeaderValue::from_bytes(&identity.traceparent()) {
        headers.insert(TRACEPARENT, value);
    }
    identity
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

    /// The trace that a plugin sees, and whether it sees the state.
    fn seen(sent: &[&'static str], trusted: bool) -> (String, bool) {
        let mut headers = HeaderMap::new();
        headers.insert(TRACESTATE, HeaderValue::from_static("vendor=1"));
        for sent in sent {
            headers.append(TRACEPARENT, HeaderValue::from_static(sent));
        }
        let identity = identify(&mut headers, trusted);
        let all: Vec<_> = headers.get_all(TRACEPARENT).iter().collect();
        assert_eq!(all, [&identity.traceparent()[..]]);
        assert!(!sent.iter().any(|sent| sent.as_bytes() == identity.traceparent()));
        (identity.trace_id().to_string(), headers.contains_key(TRACESTATE))
    }

    #[test]
    fn a_trace_is_continued_only_for_a_trusted_proxy() {
        let trace = &SENT[3..35];
        assert_eq!(seen(&[SENT], true), (trace.to_owned(), true));
        for (sent, trusted) in [
            (&[SENT][..], false),
            (&[], true),
            (&[], false),
            (&[SENT, SENT], true),
            (&["00-broken"], true),
        ] {
            let (seen, has_state) = seen(sent, trusted);
            assert!(seen != trace && !has_state, "{sent:?} {trusted}");
        }
    }
}
