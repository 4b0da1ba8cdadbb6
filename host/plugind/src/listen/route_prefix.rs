//! The prefix that a route takes off the path of a request, and the header field with which the plugin gets it.

use crate::listen::admission;
use http::{
    HeaderName, Uri,
    uri::{PathAndQuery, Scheme},
};

/// The part of the path that a plugin does not see: its route, as the client wrote it.
pub(super) const FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

/// Splits a path after its first `segments` segments. They are counted, not compared: the client may have written them
/// differently from the route.
pub(super) fn split_prefix(path: &str, segments: usize) -> (&str, &str) {
    let end = path.match_indices('/').nth(segments).map_or(path.len(), |(slash, _)| slash);
    path.split_at(end)
}

/// The target with another path.
pub(super) fn with_path(whole: &Uri, path: &str) -> Uri {
    let slash = if path.is_empty() { "/" } else { "" };
    let query = whole.query().map(|query| format!("?{query}")).unwrap_or_default();
    let path = PathAndQuery::try_from(format!("{slash}{path}{query}"));
    let scheme = whole.scheme().cloned().unwrap_or(Scheme::HTTP);
    let other = path
        .ok()
        .zip(whole.authority())
        .and_then(|(path, authority)| admission::uri_of(scheme, authority.clone(), path));
    other.unwrap_or_else(|| whole.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_segments_are_removed_from_a_path() {
        for (whole, segments, prefix, rest) in [
            ("http://h/hello", 1, "/hello", "http://h/"),
            ("http://h/hello?a=/b", 1, "/hello", "http://h/?a=/b"),
            ("http://h/%68ello/x/?q", 1, "/%68ello", "http://h/x/?q"),
            ("http://h/a/b/c", 2, "/a/b", "http://h/c"),
            ("https://h/a/b", 2, "/a/b", "https://h/"),
            ("http://h/a//b", 1, "/a", "http://h//b"),
        ] {
            let whole: Uri = whole.parse().unwrap();
            let (taken, path) = split_prefix(whole.path(), segments);
            assert_eq!(taken, prefix, "{whole}");
            assert_eq!(with_path(&whole, path), rest, "{whole}");
        }
    }
}
