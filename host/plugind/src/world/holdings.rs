//! The memory that the host keeps for an instance, in bytes: the resources in its table.
//!
//! A guest makes resources by calls of the host, and what they contain is memory of the host. So the table is looked
//! through now and then, and what it holds is charged to the instance like memory of its own. This happens so often
//! that what can be added in between is small: a call adds at most the headers of one resource or one piece of a body.

use crate::world::{
    buckets::OpenCas, client_websocket::ClientWebSocket, guest_message::GuestMessage,
};
use std::any::Any;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::p2::ReaddirIterator;
use wasmtime_wasi_http::{
    FieldMap,
    p2::{
        bindings::http::types::{Method, Scheme},
        body::HostOutgoingBody,
        types::{
            HostIncomingRequest, HostIncomingResponse, HostOutgoingRequest, HostOutgoingResponse,
        },
    },
    p3,
};

/// The most bytes that a guest may write at once to the body of a response or a request.
pub(super) const CHUNK_MAX: usize = 64 << 10;
/// Number of such pieces that the library keeps for each body of 0.2: the one it was asked for, and one in its channel.
const CHUNKS: usize = 2;
/// Size of any resource: its place in the table, and its own few fields.
const RESOURCE: usize = 256;
/// Assumed size of an incoming request of 0.2, whose headers are not accessible.
const INCOMING_REQUEST: usize = 4 << 10;
/// Assumed size of the list of a directory, which is not accessible.
const DIRECTORY: usize = 16 << 10;
/// Size of a header besides its name and value: its place in the map's three arrays, which are half empty at worst.
const HEADER: usize = 240;
/// The lower and the upper bound of the number of calls after which the table is looked through. In between, it is the
/// number of entries in the table.
const CALLS: [usize; 2] = [8, 32];

/// When the table has to be looked through next.
#[derive(Debug)]
pub(super) struct Inspections {
    calls_left: usize,
}

impl Inspections {
    pub(super) fn new() -> Self {
        Self { calls_left: CALLS[0] }
    }

    /// Counts a call that can make a resource larger. True if the table is to be looked through.
    pub(super) fn is_due(&mut self) -> bool {
        self.calls_left = self.calls_left.saturating_sub(1);
        self.calls_left == 0
    }

    /// The table was looked through, and had so many entries.
    pub(super) fn done(&mut self, entries: usize) {
        self.calls_left = entries.clamp(CALLS[0], CALLS[1]);
    }
}

/// Returns the number of resources, and the bytes that they take.
pub(super) fn holdings(table: &mut ResourceTable) -> (usize, usize) {
    let sizes = table.iter_mut().map(|entry| size(entry));
    sizes.fold((0, 0), |(count, bytes), size| (count + 1, bytes.saturating_add(size)))
}

fn size(resource: &dyn Any) -> usize {
    RESOURCE
        + if let Some(fields) = resource.downcast_ref::<FieldMap>() {
            headers(fields)
        } else if let Some(request) = resource.downcast_ref::<p3::Request>() {
            let line = [
                request.method.as_str().len(),
                request.authority.as_ref().map_or(0, |authority| authority.as_str().len()),
                request.path_with_query.as_ref().map_or(0, |path| path.as_str().len()),
            ];
            headers(&request.headers) + line.into_iter().sum::<usize>()
        } else if let Some(response) = resource.downcast_ref::<p3::Response>() {
            headers(&response.headers)
        } else if let Some(request) = resource.downcast_ref::<HostOutgoingRequest>() {
            outgoing_request(request)
        } else if let Some(response) = resource.downcast_ref::<HostOutgoingResponse>() {
            headers(&response.headers) + body(response.body.is_some())
        } else if resource.is::<HostOutgoingBody>() {
            body(true)
        } else if let Some(response) = resource.downcast_ref::<HostIncomingResponse>() {
            headers(&response.headers)
        } else if let Some(cas) = resource.downcast_ref::<OpenCas>() {
            cas.bytes()
        } else if let Some(message) = resource.downcast_ref::<GuestMessage>() {
            message.bytes()
        } else if let Some(websocket) = resource.downcast_ref::<ClientWebSocket>() {
            websocket.waiting()
        } else if resource.is::<HostIncomingRequest>() {
            INCOMING_REQUEST
        } else if resource.is::<ReaddirIterator>() {
            DIRECTORY
        } else {
            0
        }
}

fn outgoing_request(request: &HostOutgoingRequest) -> usize {
    let method = match &request.method {
        Method::Other(method) => method.len(),
        _ => 0,
    };
    let scheme = match &request.scheme {
        Some(Scheme::Other(scheme)) => scheme.len(),
        _ => 0,
    };
    let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let line = method + scheme + length(&request.authority) + length(&request.path_with_query);
    headers(&request.headers) + line + body(request.body.is_some())
}

fn body(is_there: bool) -> usize {
    if is_there { CHUNKS * CHUNK_MAX } else { 0 }
}

fn headers(map: &FieldMap) -> usize {
    let size = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        HEADER + name.as_str().len() + value.len()
    };
    map.iter().map(size).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmtime_wasi_http::default_hooks;

    fn fields(headers: usize, length: usize) -> FieldMap {
        let mut fields = FieldMap::new_mutable(1 << 20);
        for nth in 0..headers {
            fields.append(default_hooks(), format!("name-{nth}"), vec![b'x'; length]).unwrap();
        }
        fields
    }

    #[test]
    fn what_headers_contain_counts_wherever_they_are() {
        let mut table = ResourceTable::new();
        assert_eq!(holdings(&mut table), (0, 0));
        table.push(fields(1, 100 << 10)).unwrap();
        assert!(holdings(&mut table).1 > 100 << 10);
        let response = HostOutgoingResponse {
            status: http::StatusCode::OK,
            headers: fields(10, 10 << 10),
            body: None,
        };
        table.push(response).unwrap();
        let (count, bytes) = holdings(&mut table);
        assert_eq!(count, 2);
        assert!((200 << 10..210 << 10).contains(&bytes), "{bytes}");
    }

    #[test]
    fn many_small_headers_count_with_their_places_in_the_map() {
        let mut table = ResourceTable::new();
        let fields = fields(1000, 0);
        // An entry has a hash, a link, a name and a value; the array grows by doubling, and the one of places also.
        let entry = size_of::<(usize, [usize; 3], http::HeaderName, http::HeaderValue)>();
        table.push(fields).unwrap();
        assert!(holdings(&mut table).1 >= 1000 * 2 * entry);
    }

    #[test]
    fn the_table_is_looked_through_after_a_bounded_number_of_calls() {
        let mut inspections = Inspections::new();
        let calls = |inspections: &mut Inspections| (1..).find(|_| inspections.is_due()).unwrap();
        assert_eq!(calls(&mut inspections), 8);
        for (entries, max) in [(0, 8), (20, 20), (9000, 32)] {
            inspections.done(entries);
            assert_eq!(calls(&mut inspections), max);
        }
    }
}
