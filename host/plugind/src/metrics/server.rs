//! Figures by HTTP, on sockets with the protocol `metrics`.

use crate::{
    base::error_chain::ErrorChain,
    listen::{
        socket_service::{Accepted, Server},
        stream::Stream,
    },
    metrics::{
        exposition::{MetricFormat, exposition},
        snapshot::MetricSources,
    },
};
use bytes::Bytes;
use futures::FutureExt;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, pin::pin, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_io_timeout::TimeoutStream;
use tracing::debug;

/// The path at which figures are.
const PATH: &str = "/metrics";
/// The time that a client may take to send a request, from the end of the previous response.
const HEADER_TIMEOUT: Duration = Duration::from_secs(75);
/// The time that a client may take to read pending data.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// The most bytes of a request.
const BUFFER: usize = 16 << 10;
/// The time that connections have to end when they are asked to.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves figures.
#[must_use]
pub fn server(sources: MetricSources) -> Server {
    std::sync::Arc::new(move |accepted| serve(accepted, sources.clone()).boxed())
}

async fn serve(accepted: Accepted, sources: MetricSources) {
    let Accepted { stream, place, peer, .. } = accepted;
    let ended = match stream {
        Stream::Tcp(stream) => converse(stream, &place, sources).await,
        Stream::Unix(stream) => converse(stream, &place, sources).await,
    };
    if let Err(error) = ended {
        debug!(%peer, error = %ErrorChain(&error), "connection for metrics failed");
    }
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + 'static,
    place: &crate::listen::places::Place,
    sources: MetricSources,
) -> hyper::Result<()> {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_TIMEOUT));
    let service = service_fn(move |request| {
        let response = answer(&request, &sources);
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(Box::pin(stream)), service);
    let mut connection = pin!(connection);
    tokio::select! {
        ended = &mut connection => return ended,
        () = place.closing().cancelled() => connection.as_mut().graceful_shutdown(),
    }
    timeout(CLOSE_TIMEOUT, connection).await.unwrap_or(Ok(()))
}

fn answer(request: &Request<Incoming>, sources: &MetricSources) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are allowed\n");
        refusal.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    if request.uri().path() != PATH {
        return text(StatusCode::NOT_FOUND, "the metrics are at /metrics\n");
    }
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let format = MetricFormat::of(accept.unwrap_or_default());
    match exposition(sources.take(), format) {
        Ok(written) => {
            let mut response = Response::new(Full::from(written));
            let media_type = HeaderValue::from_static(format.media_type());
            response.headers_mut().insert(header::CONTENT_TYPE, media_type);
            response
        }
        Err(error) => {
            debug!(%error, "cannot write metrics");
            text(StatusCode::INTERNAL_SERVER_ERROR, "cannot write metrics\n")
        }
    }
}

fn text(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, text);
    response
}
