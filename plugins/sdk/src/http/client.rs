//! Requests that a plugin sends.

use super::{BODY_MAX, Request, Response, fields, read_body};
use http::uri::Scheme;
use std::fmt;
use wasip3::{
    http::{
        client,
        types::{
            ErrorCode, Method, Request as WasiRequest, Response as WasiResponse,
            Scheme as WasiScheme,
        },
    },
    spawn_local, wit_future, wit_stream,
};

/// The reason that [`send`] returned no response.
#[derive(Debug)]
pub enum SendError {
    /// The request cannot be sent: its URI must have a scheme and a host, and its header fields must be allowed.
    Request(String),
    /// The host refused or could not send it, or the connection failed.
    Failed(ErrorCode),
    /// The response cannot be represented, for example because a header field is malformed.
    Response(String),
    /// The body of the response is larger than [`BODY_MAX`], or than the free memory of the instance.
    TooLarge,
}

/// Sends a request with its whole body, and returns the response with its whole body.
///
/// The manifest must grant its host: `outgoing-http = ["api.example:443"]`. For a request to the plugin `orders`, it
/// must have `call = ["orders"]`, and the URI begins with `http://orders.plugind/`. Limit the time with
/// [`timeout`](crate::tasks::timeout), which needs the feature `tasks`.
///
/// ```no_run
/// use plugind_sdk::http::{SendError, http::Request, send};
///
/// async fn rate() -> Result<String, SendError> {
///     let request = Request::get("https://api.example/rate").body(Vec::new());
///     let response = send(request.expect("the URI is valid")).await?;
///     Ok(String::from_utf8_lossy(response.body()).into_owned())
/// }
/// ```
///
/// # Errors
/// If there is no response. A response with a status such as 500 is not an error.
pub async fn send(request: Request) -> Result<Response, SendError> {
    let request = outgoing(request)?;
    let response = client::send(request).await.map_err(SendError::Failed)?;
    let mut built = http::Response::builder().status(response.get_status_code());
    for (name, value) in response.get_headers().copy_all() {
        built = built.header(name, value);
    }
    let (_, handled) = wit_future::new(|| Ok(()));
    let (stream, trailers) = WasiResponse::consume_body(response, handled);
    let body = read_body(stream, |_| true).await.map_err(|_| SendError::TooLarge)?;
    // If the connection broke, the body is incomplete.
    trailers.await.map_err(SendError::Failed)?;
    built.body(body).map_err(|error| SendError::Response(error.to_string()))
}

/// The request as the host takes it. Its body is written while the host reads it.
fn outgoing(request: Request) -> Result<WasiRequest, SendError> {
    let refused = |what: &str| SendError::Request(format!("the request must have {what}"));
    let (parts, body) = request.into_parts();
    let scheme = match parts.uri.scheme() {
        Some(scheme) if *scheme == Scheme::HTTP => WasiScheme::Http,
        Some(scheme) if *scheme == Scheme::HTTPS => WasiScheme::Https,
        _ => return Err(refused("a URI with the scheme http or https")),
    };
    let authority = parts.uri.authority().ok_or_else(|| refused("a URI with a host"))?;
    let fields = fields(&parts.headers).map_err(|error| {
        SendError::Request(format!("the host refuses the header fields of the request: {error:?}"))
    })?;
    let contents = (!body.is_empty()).then(wit_stream::new);
    let (writer, reader) = contents.unzip();
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (outgoing, _sent) = WasiRequest::new(fields, reader, trailers, None);
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    outgoing
        .set_method(&method(&parts.method))
        .and_then(|()| outgoing.set_scheme(Some(&scheme)))
        .and_then(|()| outgoing.set_authority(Some(authority.as_str())))
        .and_then(|()| outgoing.set_path_with_query(Some(target)))
        .map_err(|()| refused("a method, a host and a path that HTTP allows"))?;
    if let Some(mut writer) = writer {
        spawn_local(async move {
            // The rest was not read: the other side has answered before the end.
            let _unread = writer.write_all(body).await;
        });
    }
    Ok(outgoing)
}

fn method(method: &http::Method) -> Method {
    match method.as_str() {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "CONNECT" => Method::Connect,
        "OPTIONS" => Method::Options,
        "TRACE" => Method::Trace,
        "PATCH" => Method::Patch,
        other => Method::Other(other.to_owned()),
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(reason) => out.write_str(reason),
            Self::Failed(code) => write!(out, "cannot send the request: {code:?}"),
            Self::Response(reason) => write!(out, "the response cannot be read: {reason}"),
            Self::TooLarge => {
                write!(
                    out,
                    "the body of the response must have at most {BODY_MAX} bytes, and fit into the free memory"
                )
            }
        }
    }
}

impl std::error::Error for SendError {}
