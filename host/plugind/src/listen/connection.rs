//! One HTTP connection: its requests, its limits, and its end.

mod driver;
mod observed;

use crate::{
    base::error_chain::ErrorChain,
    journal::Journal,
    listen::{
        access_log::AccessTarget,
        activity::{Activity, ConnectionLimits, ExchangeGuard},
        client_certificate,
        connection::{
            driver::{ConnectionEnd, Drain, Driver},
            observed::Observed,
        },
        forwarded::ForwardedFields,
        health::HealthRoute,
        http,
        http_endpoint::HttpEndpoint,
        opening::{self, Opened},
        request_record::RequestRecord,
        response::{self, RequestForm},
        socket_service::Accepted,
        spans::SpanSink,
        stream::{Peer, Stream},
        unread::StreamBody,
    },
    route::table::TableReader,
};
use ::http::{
    HeaderValue, Request, Response, StatusCode, Version, header::CONNECTION, uri::Scheme,
};
use bytes::Buf;
use futures::TryFutureExt;
use http_body::{Body, Frame, SizeHint};
use hyper::{body::Incoming, server::conn, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::net::{Shutdown, shutdown};
use std::{
    convert::Infallible,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{sleep, timeout};
use tokio_io_timeout::TimeoutStream;
use tokio_util::task::TaskTracker;
use tracing::debug;

/// From the first byte of a request until its header has come.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Time that a response to a client that sends no more may pause.
const HALF_CLOSED_TIMEOUT: Duration = Duration::from_secs(5);
/// Time that a client may take to read pending data before it is considered gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// About the most bytes of a request's header, and the largest piece of a body that is read at once.
const BUFFER: usize = 64 << 10;
/// The most header fields of a request.
const HEADERS: usize = 100;
/// The most requests at a time on a connection that speaks HTTP/2.
const STREAMS: u32 = 100;
/// Bytes of request bodies that such a client may send before they are read: for one request, and for all.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Limits of a client's resets that were not noticed yet, and of streams that the daemon resets because of the client's
/// mistakes, before the connection ends.
const RESETS_PENDING: usize = 20;
const RESETS_OWN: usize = 128;
/// The most bytes of a request's header in HTTP/2.
const HEADER_LIST: u32 = 64 << 10;
/// The text by which the library distinguishes a target that is too long from a header that is.
const TOO_LONG: &str = "URI too long";
/// Time that a connection without a request stays open when no more are accepted.
const LINGER: Duration = Duration::from_secs(1);
/// The most bytes that are read of it meanwhile.
const UNREAD_MAX: usize = 1 << 20;
/// Time from the end of a request over HTTP/2, when its client may still have to read the end of the response.
const REST: Duration = Duration::from_secs(5);

/// The limits of a connection that may be idle for so long.
#[must_use]
pub fn limits(keep_alive: Duration) -> ConnectionLimits {
    ConnectionLimits {
        keep_alive,
        header: HEADER_TIMEOUT,
        half_closed: HALF_CLOSED_TIMEOUT,
        rate_min: 0,
    }
}

/// Serves HTTP on a connection until its end. When no more requests are wanted, those in progress are finished.
pub async fn serve(
    accepted: Accepted,
    reader: TableReader,
    health: Option<Arc<HealthRoute>>,
    mut limits: ConnectionLimits,
    journal: Journal,
    spans: Option<SpanSink>,
) {
    let Accepted { stream, peer, socket, how, place } = accepted;
    limits.rate_min = how.connections.rate_min.0;
    let stream = Arc::new(stream);
    let (activity, closing) = (place.activity(), place.closing());
    let drained = async {
        closing.cancelled().await;
        sleep(LINGER).await;
    };
    // Until its first request is complete there is one limit, whatever comes before that.
    let opened = tokio::select! {
        biased;
        opened = timeout(limits.header, opening::open(&stream, peer, &how)) => opened,
        () = drained => return,
    };
    let opened = match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(error)) => {
            debug!(%peer, error = %ErrorChain(&error), "connection refused");
            return close_unread(&stream).await;
        }
        Err(_) => return debug!(%peer, "connection timed out"),
    };
    let Opened { wire, peer, is_http2, certificate } = opened;
    let scheme = if how.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
    let certificate = certificate.map(|certificate| client_certificate::field(&certificate));
    let client = ForwardedFields::new(peer, scheme, how.setting.clone(), certificate);
    let access_log = how.setting.access_log.map(|format| AccessTarget { format, journal });
    let websockets = TaskTracker::new();
    let endpoint = {
        let (closing, websockets) = (closing.clone(), websockets.clone());
        HttpEndpoint {
            socket,
            reader,
            client,
            health,
            access_log,
            spans,
            peer,
            closing,
            websockets,
        }
    };
    let observed = Observed { wire, activity: activity.clone(), notes_reads: !is_http2 };
    let mut io = TimeoutStream::new(observed);
    io.set_write_timeout(Some(WRITE_TIMEOUT));
    let io = TokioIo::new(Box::pin(io));
    let endpoint = Arc::new(endpoint);
    let service = {
        let (activity, endpoint) = (activity.clone(), endpoint.clone());
        service_fn(move |request| respond(request, activity.clone(), endpoint.clone()))
    };
    // The time limits of a connection do not show a stream of HTTP/2 that nobody reads.
    let streams = {
        let (activity, endpoint) = (activity.clone(), endpoint.clone());
        service_fn(move |request| {
            let responding = respond(request, activity.clone(), endpoint.clone());
            responding
                .map_ok(move |response| response.map(|body| StreamBody::new(body, limits.rate_min)))
        })
    };
    let driver = Driver { stream: &stream, activity: &activity, limits, closing };
    let ended = match is_http2 {
        false => {
            let connection = conn::http1::Builder::new()
                // Both are limited here: a request's header from its first byte, and the pause before it by a setting.
                .header_read_timeout(None)
                // A client may say that it has sent everything. One that is gone is noticed below.
                .half_close(true)
                .max_buf_size(BUFFER)
                .max_headers(HEADERS)
                .serve_connection(io, service)
                .with_upgrades();
            let drain = Drain { before: LINGER, after: Duration::ZERO, rest: Duration::ZERO };
            driver.run(pin!(connection), drain).await
        }
        true => {
            let connection = conn::http2::Builder::new(TokioExecutor::new())
                // WebSockets ask for it (RFC 8441).
                .enable_connect_protocol()
                .max_concurrent_streams(STREAMS)
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_header_list_size(HEADER_LIST)
                .max_send_buf_size(BUFFER)
                .max_pending_accept_reset_streams(RESETS_PENDING)
                .max_local_error_reset_streams(RESETS_OWN)
                .serve_connection(io, streams);
            // The client learns which requests are still answered, so that it loses none, and ends the connection.
            let drain = Drain { before: Duration::ZERO, after: LINGER, rest: REST };
            driver.run(pin!(connection), drain).await
        }
    };
    log_end(peer, &ended);
    if let Some(status) = status_of_refused(&ended) {
        endpoint.log_refused(status);
        close_unread(&stream).await;
    }
    // A WebSocket keeps the connection that it was asked for on.
    websockets.close();
    websockets.wait().await;
}

/// Closes a connection whose client may still be sending, so that it learns why before the end: unread bytes would have
/// the kernel take back what was written.
async fn close_unread(stream: &Stream) {
    let unread = async {
        shutdown(stream, Shutdown::Write).ok();
        let (mut buffer, mut left) = ([0; 4096], UNREAD_MAX);
        while left > 0
            && let Ok(read @ 1..) = stream.take(&mut buffer).await
        {
            left = left.saturating_sub(read);
        }
    };
    // A client that does not stop sending needs no explanation.
    timeout(LINGER, unread).await.ok();
}

fn log_end(peer: Peer, ended: &ConnectionEnd) {
    match ended {
        ConnectionEnd::Finished(Ok(())) | ConnectionEnd::Drained => (),
        ConnectionEnd::Finished(Err(error)) => debug!(%peer, %error, "connection ended"),
        ConnectionEnd::TimedOut => debug!(%peer, "connection timed out"),
        ConnectionEnd::PeerGone => debug!(%peer, "client disconnected"),
    }
}

/// The status with which the library refuses what is not a request of HTTP/1, before anything else sees it.
fn status_of_refused(ended: &ConnectionEnd) -> Option<StatusCode> {
    let ConnectionEnd::Finished(Err(error)) = ended else { return None };
    // Not answered: a beginning of HTTP/2 in the wrong place.
    let is_answered = error.is_parse() && !error.is_parse_version_h2();
    let status = match error.is_parse_too_large() {
        true if error.to_string() == TOO_LONG => StatusCode::URI_TOO_LONG,
        true => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        false => StatusCode::BAD_REQUEST,
    };
    is_answered.then_some(status)
}

async fn respond(
    request: Request<Incoming>,
    activity: Arc<Activity>,
    endpoint: Arc<HttpEndpoint>,
) -> Result<Response<Delivered<response::Body>>, Infallible> {
    let exchange = activity.begin();
    let mut record = endpoint.record(&request);
    let asked = RequestForm::of(&request);
    let mut response = http::answer(&endpoint, request, exchange.clone(), &mut record).await?;
    response::trim(asked, &mut response);
    activity.respond();
    record.respond(response.status());
    // A WebSocket keeps the connection, and this field says that it does.
    let upgrades = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if asked.version < Version::HTTP_2 && !upgrades && activity.is_closing() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response.map(|body| Delivered { body, record, _exchange: exchange }))
}

/// A response's body, in progress until it is dropped.
struct Delivered<B> {
    body: B,
    record: RequestRecord,
    _exchange: ExchangeGuard,
}

impl<B: Body<Data: Buf> + Unpin> Body for Delivered<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.record.deliver(data.remaining());
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http_body_util::Empty;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    #[tokio::test]
    async fn the_access_log_has_the_status_with_which_the_library_refuses() {
        let long = "x".repeat(1 << 16);
        let many = "a: b\r\n".repeat(HEADERS + 1);
        for (sent, status) in [
            ("GET / HTTP/1.9\r\n\r\n".to_owned(), 400),
            (format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), 414),
            (format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"), 431),
            (format!("GET / HTTP/1.1\r\nHost: a\r\nlong: {long}{long}{long}\r\n\r\n"), 431),
        ] {
            let (mut client, server) = duplex(1 << 20);
            client.write_all(sent.as_bytes()).await.unwrap();
            let service =
                service_fn(async |_| Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())));
            let mut connection = conn::http1::Builder::new();
            connection.max_buf_size(BUFFER).max_headers(HEADERS);
            let ended = connection.serve_connection(TokioIo::new(server), service).await;
            let mut response = String::new();
            client.read_to_string(&mut response).await.unwrap();
            let logged = status_of_refused(&ConnectionEnd::Finished(ended));
            assert_eq!(logged.map(|status| status.as_u16()), Some(status), "{response}");
            assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{response}");
        }
    }
}
