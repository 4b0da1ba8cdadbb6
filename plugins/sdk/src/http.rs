//! HTTP by WASI 0.3 with the types of the crate `http`: a request with its whole body in, a response out.
//!
//! ```no_run
//! use plugind_sdk::http::{Handler, Request, Response};
//!
//! struct Echo;
//!
//! impl Handler for Echo {
//!     async fn handle(request: Request) -> Response {
//!         Response::new(request.into_body())
//!     }
//! }
//!
//! plugind_sdk::export_http!(Echo);
//! # fn main() {}
//! ```
//!
//! [`send`] sends requests to the hosts that `outgoing-http` in the manifest grants, and to the plugins that `call` grants.
//!
//! A plugin that streams bodies uses the crate [`wasip3`] itself.

mod client;

#[doc(hidden)]
pub use wasip3;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use std::cell::Cell;
use wasip3::{
    http::types::{
        ErrorCode, Fields, HeaderError, Method, Request as WasiRequest, Response as WasiResponse,
    },
    spawn_local,
    wit_bindgen::{StreamReader, StreamResult},
    wit_future, wit_stream,
};

pub use client::{SendError, send};
pub use http;

/// A request with its whole body. The path is the one below the plugin's route.
///
/// If the client disconnects before the end of the body, the request never reaches the [`Handler`].
pub type Request = http::Request<Vec<u8>>;

/// A response with its whole body.
pub type Response = http::Response<Vec<u8>>;

/// The largest body of a request or of a response to [`send`]. A request with a larger one is answered 413.
///
/// The bodies of the requests in progress in one instance may have this many bytes together. A request that would exceed
/// this is answered 503 with `Retry-After`, so that clients with large requests do not exhaust `instance-memory-max`, which
/// would end the instance with all its requests. After [`Handler::handle`], as many bytes of the request's body as the
/// response has count until the response is sent.
pub const BODY_MAX: usize = 16 << 20;

/// Bytes of a body that are read at a time.
const CHUNK: usize = 64 << 10;

thread_local! {
    /// The bytes of the bodies of the requests in progress.
    static RESERVED: Cell<usize> = const { Cell::new(0) };
}

/// Answers HTTP requests. Export it with [`export_http!`](crate::export_http).
#[expect(async_fn_in_trait, reason = "a component has one thread, so no future need be Send")]
pub trait Handler {
    /// Answers one request. Several may be in progress at a time in one instance.
    async fn handle(request: Request) -> Response;
}

/// Exports `wasi:http/handler@0.3` for a type that implements [`Handler`](crate::http::Handler).
#[macro_export]
macro_rules! export_http {
    ($plugin:ty) => {
        const _: () = {
            struct HttpHandler;

            impl $crate::http::wasip3::exports::http::handler::Guest for HttpHandler {
                async fn handle(
                    request: $crate::http::wasip3::http::types::Request,
                ) -> ::core::result::Result<
                    $crate::http::wasip3::http::types::Response,
                    $crate::http::wasip3::http::types::ErrorCode,
                > {
                    $crate::http::serve::<$plugin>(request).await
                }
            }

            $crate::http::wasip3::http::service::export!(HttpHandler with_types_in $crate::http::wasip3);
        };
    };
}

#[doc(hidden)]
pub async fn serve<T: Handler>(request: WasiRequest) -> Result<WasiResponse, ErrorCode> {
    let mut reservation = Reservation(0);
    let response = match read(request, &mut reservation).await {
        Ok(request) => T::handle(request).await,
        Err(status) => {
            let mut response = Response::default();
            *response.status_mut() = status;
            if status == StatusCode::SERVICE_UNAVAILABLE {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            response
        }
    };
    reservation.shrink_to(response.body().len());
    write(response, reservation)
}

/// The bytes of a body, which others must not have until this is dropped.
struct Reservation(usize);

impl Reservation {
    /// Reserves further bytes; false: the bodies would have too many together.
    fn extend(&mut self, length: usize) -> bool {
        let all = RESERVED.get() + length;
        let is_free = all <= BODY_MAX;
        if is_free {
            RESERVED.set(all);
            self.0 += length;
        }
        is_free
    }

    /// Keeps at most this many bytes.
    fn shrink_to(&mut self, length: usize) {
        let freed = self.0.saturating_sub(length);
        RESERVED.set(RESERVED.get() - freed);
        self.0 -= freed;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

/// Reads a whole request. Returns the status of the response if that is impossible.
async fn read(request: WasiRequest, reservation: &mut Reservation) -> Result<Request, StatusCode> {
    let target = request.get_path_with_query().unwrap_or_else(|| "/".to_owned());
    let mut built =
        http::Request::builder().method(method(request.get_method()).as_str()).uri(target);
    for (name, value) in request.get_headers().copy_all() {
        built = built.header(name, value);
    }
    let (_, handled) = wit_future::new(|| Ok(()));
    let (stream, trailers) = WasiRequest::consume_body(request, handled);
    let body = read_body(stream, |length| reservation.extend(length)).await;
    let body = body.map_err(|error| match error {
        BodyError::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        BodyError::NoMemory => StatusCode::SERVICE_UNAVAILABLE,
    })?;
    // If the client has disconnected, the body is incomplete.
    trailers.await.map_err(|_| StatusCode::BAD_REQUEST)?;
    built.body(body).map_err(|_| StatusCode::BAD_REQUEST)
}

/// Why a body is not read.
enum BodyError {
    /// It is larger than [`BODY_MAX`].
    TooLarge,
    /// The memory that it needs is in use.
    NoMemory,
}

/// A body to its end, where the trailers say whether it is complete. Each piece of it is reserved first.
async fn read_body(
    mut stream: StreamReader<u8>,
    mut reserve: impl FnMut(usize) -> bool,
) -> Result<Vec<u8>, BodyError> {
    let (mut body, mut chunk) = (Vec::new(), Vec::with_capacity(CHUNK));
    loop {
        let (result, read) = stream.read(chunk).await;
        chunk = read;
        let length = body.len() + chunk.len();
        if length > BODY_MAX {
            return Err(BodyError::TooLarge);
        }
        if !reserve(chunk.len()) {
            return Err(BodyError::NoMemory);
        }
        if length > body.capacity() {
            // It grows by doubling, but not beyond the largest body.
            let capacity = (2 * body.capacity()).clamp(length, BODY_MAX);
            let grown = body.try_reserve_exact(capacity - body.len());
            grown.map_err(|_| BodyError::NoMemory)?;
        }
        body.append(&mut chunk);
        if !matches!(result, StreamResult::Complete(_)) {
            return Ok(body);
        }
    }
}

fn method(method: Method) -> String {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Connect => "CONNECT",
        Method::Options => "OPTIONS",
        Method::Trace => "TRACE",
        Method::Patch => "PATCH",
        Method::Other(other) => return other,
    }
    .to_owned()
}

/// Makes the response, whose body is written once the host has it.
fn write(response: Response, reservation: Reservation) -> Result<WasiResponse, ErrorCode> {
    let (mut parts, body) = response.into_parts();
    parts.headers.entry(header::CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(body.len()));
    let failed = |error: HeaderError| {
        let message = format!("the host refuses the header fields of the response: {error:?}");
        ErrorCode::InternalError(Some(message))
    };
    let fields = fields(&parts.headers).map_err(failed)?;
    let (mut writer, reader) = wit_stream::new();
    // The sender is dropped at once: there are no trailers.
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (response, _sent) = WasiResponse::new(fields, Some(reader), trailers);
    let invalid = |()| ErrorCode::InternalError(Some("the status is not valid".to_owned()));
    response.set_status_code(parts.status.as_u16()).map_err(invalid)?;
    spawn_local(async move {
        // The rest was not read: the client has disconnected, or has sent a HEAD request.
        let _unread = writer.write_all(body).await;
        drop(reservation);
    });
    Ok(response)
}

fn fields(headers: &HeaderMap) -> Result<Fields, HeaderError> {
    let pair = |(name, value): (&HeaderName, &HeaderValue)| {
        (name.as_str().to_owned(), value.as_bytes().to_vec())
    };
    Fields::from_list(&headers.iter().map(pair).collect::<Vec<_>>())
}
