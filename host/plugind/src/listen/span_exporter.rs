//! The exporter of spans: a task that sends them to a collector, in batches.

use crate::{
    base::error_chain::ErrorChain,
    config::traces::{TraceEndpoint, TraceEndpointError},
    listen::{
        otlp,
        spans::{self, RequestSpan, SpanSink, SpanSource},
    },
    systemd::directories::TraceEnvironment,
};
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use std::{io, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    task::JoinHandle,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::{info, warn};

/// Names a collector in the environment.
const ENDPOINT_VARIABLE: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
/// The most spans of one request to the collector.
const BATCH: usize = 512;
/// The time for which spans are collected before they are sent.
const COLLECT: Duration = Duration::from_secs(1);
/// Limit of the time in which the collector must answer.
const DEADLINE: Duration = Duration::from_secs(10);
/// The same when the daemon ends.
const LAST_DEADLINE: Duration = Duration::from_secs(1);
/// The largest response of a collector that is read, in bytes.
const RESPONSE_MAX: usize = 64 << 10;

/// The exporter, which runs until it is finished.
pub struct SpanExporter {
    sink: SpanSink,
    ending: CancellationToken,
    task: JoinHandle<()>,
}

/// Why spans did not reach the collector.
#[derive(Debug, thiserror::Error)]
enum SpanExportError {
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    #[error("cannot send")]
    Send(#[source] hyper::Error),
    #[error("cannot make the request")]
    Request(#[source] http::Error),
    #[error("cannot read the response")]
    Receive(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the collector answers with status {}", .0.as_u16())]
    Refused(StatusCode),
    #[error("the collector does not answer in time")]
    TimedOut,
}

impl SpanExporter {
    /// Starts one, if `plugind.toml` or the environment names a collector. The environment may have been set for other
    /// programs, so an address in it that cannot be used is no reason not to start.
    #[must_use]
    pub fn configured(
        setting: Option<TraceEndpoint>,
        environment: TraceEnvironment,
    ) -> Option<Self> {
        let TraceEnvironment { endpoint, service } = environment;
        let endpoint = setting.or_else(|| match endpoint?.parse() {
            Ok(endpoint) => Some(endpoint),
            Err(error) => {
                let error: TraceEndpointError = error;
                warn!(variable = ENDPOINT_VARIABLE, %error, "environment variable ignored");
                None
            }
        })?;
        Some(Self::start(endpoint, service.unwrap_or_else(|| "plugind".to_owned())))
    }

    /// Starts one that sends spans of the service `service` to this collector.
    fn start(endpoint: TraceEndpoint, service: String) -> Self {
        let (sink, source) = spans::channel();
        let ending = CancellationToken::new();
        info!(%endpoint, "exporting spans");
        let collector = Collector { endpoint, service, is_failing: false };
        let task = tokio::spawn(export(collector, source, ending.clone()));
        Self { sink, ending, task }
    }

    /// The sink of spans.
    #[must_use]
    pub fn sink(&self) -> &SpanSink {
        &self.sink
    }

    /// Sends what is left, if the collector answers soon, and ends.
    pub async fn finish(self) {
        self.ending.cancel();
        let mut task = self.task;
        // The daemon ends either way.
        if timeout(LAST_DEADLINE, &mut task).await.is_err() {
            task.abort();
        }
    }
}

async fn export(mut collector: Collector, mut source: SpanSource, ending: CancellationToken) {
    let mut batch: Vec<Box<RequestSpan>> = Vec::new();
    loop {
        let is_ending = tokio::select! {
            biased;
            () = ending.cancelled() => true,
            _ = source.queue.recv_many(&mut batch, BATCH) => false,
        };
        let until = Instant::now() + COLLECT;
        while !is_ending && batch.len() < BATCH {
            let room = BATCH - batch.len();
            let more = timeout_at(until, source.queue.recv_many(&mut batch, room));
            tokio::select! {
                biased;
                () = ending.cancelled() => break,
                more = more => if !matches!(more, Ok(1..)) { break },
            }
        }
        while is_ending && batch.len() < BATCH {
            let Ok(span) = source.queue.try_recv() else { break };
            batch.push(span);
        }
        if batch.is_empty() {
            return;
        }
        let count = batch.len() as u64;
        let accepted = collector.send(&batch).await.min(count);
        source.counts.exported.add(accepted);
        source.counts.dropped.add(count - accepted);
        batch.clear();
    }
}

struct Collector {
    endpoint: TraceEndpoint,
    service: String,
    /// It did not accept the last batch.
    is_failing: bool,
}

impl Collector {
    /// Returns the number of spans that it accepted. An outage is logged when it begins, and when it has ended.
    async fn send(&mut self, batch: &[Box<RequestSpan>]) -> u64 {
        let body = otlp::encode(&self.service, batch);
        let sent = timeout(DEADLINE, self.connect_and_post(body)).await;
        match sent.unwrap_or(Err(SpanExportError::TimedOut)) {
            Ok(rejected) => {
                if self.is_failing {
                    info!(endpoint = %self.endpoint, "spans exported again");
                }
                self.is_failing = false;
                (batch.len() as u64).saturating_sub(rejected)
            }
            Err(error) => {
                if !self.is_failing {
                    warn!(endpoint = %self.endpoint, error = %ErrorChain(&error), "cannot export spans");
                }
                self.is_failing = true;
                0
            }
        }
    }

    async fn connect_and_post(&self, body: Vec<u8>) -> Result<u64, SpanExportError> {
        match &self.endpoint {
            TraceEndpoint::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(SpanExportError::Connect)?;
                post(stream, "localhost", "/v1/traces", body).await
            }
            TraceEndpoint::Http { host, port, path } => {
                // An address of IPv6 is in brackets in a URL only.
                let name = host.trim_start_matches('[').trim_end_matches(']');
                let stream =
                    TcpStream::connect((name, *port)).await.map_err(SpanExportError::Connect)?;
                post(stream, &format!("{host}:{port}"), path, body).await
            }
        }
    }
}

/// Posts spans over a connection of their own; returns the number of those that were rejected.
async fn post(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    host: &str,
    path: &str,
    body: Vec<u8>,
) -> Result<u64, SpanExportError> {
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(SpanExportError::Send)?;
    // It ends with the response, or with an error that the sender has, too.
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let request = Request::post(path)
        .header(header::HOST, host)
        .header(header::CONTENT_TYPE, "application/x-protobuf")
        .header(header::USER_AGENT, concat!("plugind/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close")
        .body(Full::new(Bytes::from(body)))
        .map_err(SpanExportError::Request)?;
    let response = sender.send_request(request).await.map_err(SpanExportError::Send)?;
    let status = response.status();
    let body = Limited::new(response.into_body(), RESPONSE_MAX).collect().await;
    if !status.is_success() {
        return Err(SpanExportError::Refused(status));
    }
    Ok(otlp::rejected(&body.map_err(SpanExportError::Receive)?.to_bytes()))
}
