//! Middleware: a plugin that stands before others, and passes their requests on.
//!
//! It exports `wasi:http/handler@0.3` and imports it, too: [`next`] is the plugin behind it. The manifest of that plugin
//! names it: `middleware = ["maintenance"]`.
//!
//! ```no_run
//! use plugind_sdk::middleware::{ErrorCode, Request, Response, next};
//! use wasip3::exports::http::handler::Guest;
//!
//! struct Timing;
//!
//! impl Guest for Timing {
//!     async fn handle(request: Request) -> Result<Response, ErrorCode> {
//!         let begun = wasip3::clocks::monotonic_clock::now();
//!         let response = next(request).await?;
//!         let took = wasip3::clocks::monotonic_clock::now() - begun;
//!         println!("{} took {took} ns", response.get_status_code());
//!         Ok(response)
//!     }
//! }
//!
//! wasip3::http::service::export!(Timing);
//! # fn main() {}
//! ```

use wasip3::{http::types::HeaderError, spawn_local, wit_future, wit_stream};

pub use wasip3::http::types::{ErrorCode, Fields, Request, Response};

mod bindings {
    //! A separate world, so that only middleware imports the interface.

    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package plugind:sdk;
            world middleware {
                import wasi:http/handler@0.3.0;
            }
        ",
        with: {
            "wasi:clocks/types@0.3.0": wasip3::clocks::types,
            "wasi:http/handler@0.3.0": generate,
            "wasi:http/types@0.3.0": wasip3::http::types,
        },
    });
}

/// Passes a request on, and returns the response of the plugin behind this one.
///
/// # Errors
/// [`ErrorCode::DestinationNotFound`] if no plugin is behind it: the request came by a route of its own.
/// [`ErrorCode::LoopDetected`] if the plugins have passed on the request of the client 64 times already.
/// Failures of the plugin behind are responses of the host, with status 502, 503 or 504.
pub async fn next(request: Request) -> Result<Response, ErrorCode> {
    bindings::wasi::http::handler::handle(request).await
}

/// The same request with other header fields. The body is not copied.
///
/// # Errors
/// If the target of the request is invalid, which is not the case for the requests of clients.
pub fn with_headers(request: Request, headers: Fields) -> Result<Request, ErrorCode> {
    let method = request.get_method();
    let (scheme, authority) = (request.get_scheme(), request.get_authority());
    let path = request.get_path_with_query();
    let (_, handled) = wit_future::new(|| Ok(()));
    let (body, trailers) = Request::consume_body(request, handled);
    let (request, _sent) = Request::new(headers, Some(body), trailers, None);
    let set = request
        .set_method(&method)
        .and_then(|()| request.set_scheme(scheme.as_ref()))
        .and_then(|()| request.set_authority(authority.as_deref()))
        .and_then(|()| request.set_path_with_query(path.as_deref()));
    set.map(|()| request).map_err(|()| ErrorCode::HttpRequestUriInvalid)
}

/// The same response with other header fields. The body is not copied.
///
/// # Errors
/// If the status of the response is invalid, which is not the case for the responses of plugins.
pub fn with_response_headers(response: Response, headers: Fields) -> Result<Response, ErrorCode> {
    let status = response.get_status_code();
    let (_, handled) = wit_future::new(|| Ok(()));
    let (body, trailers) = Response::consume_body(response, handled);
    let (response, _sent) = Response::new(headers, Some(body), trailers);
    let invalid = |()| ErrorCode::InternalError(Some("the status is not valid".to_owned()));
    response.set_status_code(status).map_err(invalid)?;
    Ok(response)
}

/// A response of this plugin itself, of text and these header fields.
///
/// # Errors
/// If the status or a field is invalid.
pub fn answer(
    status: u16,
    fields: &[(&str, &str)],
    text: impl Into<Vec<u8>>,
) -> Result<Response, ErrorCode> {
    let text = text.into();
    let length = text.len().to_string();
    let fields = fields.iter().copied().chain([("content-length", length.as_str())]);
    let pair = |(name, value): (&str, &str)| (name.to_owned(), value.as_bytes().to_vec());
    let fields: Vec<_> = fields.map(pair).collect();
    let malformed = |error: HeaderError| {
        let message = format!("the host refuses the header fields of the response: {error:?}");
        ErrorCode::InternalError(Some(message))
    };
    let fields = Fields::from_list(&fields).map_err(malformed)?;
    let (mut writer, reader) = wit_stream::new();
    // The sender is dropped at once: there are no trailers.
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (response, _sent) = Response::new(fields, Some(reader), trailers);
    let invalid = |()| ErrorCode::InternalError(Some("the status is not valid".to_owned()));
    response.set_status_code(status).map_err(invalid)?;
    spawn_local(async move {
        // The rest was not read: the client has disconnected, or has sent a HEAD request.
        let _unread = writer.write_all(text).await;
    });
    Ok(response)
}
