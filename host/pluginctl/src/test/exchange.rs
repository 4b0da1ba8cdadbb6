//! The exchange of a test with a plugin: the data that is sent, and the answer.

use crate::test::cases::TestRequest;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};
use tungstenite::Message;

/// The longest time that an answer may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The longest answer that is read.
const ANSWER_MAX: usize = 64 << 20;

/// Why a test has no answer to compare.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExchangeError {
    #[error("cannot connect to {0}: {1}")]
    Connect(SocketAddr, io::Error),
    #[error("the exchange with the plugin failed: {0}")]
    Io(#[from] io::Error),
    #[error("the request failed: {0}")]
    Http(#[from] hyper::Error),
    #[error("the request cannot be sent: {0}")]
    Request(#[from] hyper::http::Error),
    #[error("the response broke off or is too long: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    #[error("the WebSocket failed: {0}")]
    WebSocket(Box<tungstenite::Error>),
    #[error("the WebSocket was not accepted: {0}")]
    Handshake(String),
    #[error("there was no answer within {} s", TIMEOUT.as_secs())]
    Timeout,
}

impl From<tungstenite::Error> for ExchangeError {
    fn from(error: tungstenite::Error) -> Self {
        match error {
            tungstenite::Error::Io(error) => timed_out(error),
            other => Self::WebSocket(Box::new(other)),
        }
    }
}

/// A response.
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) headers: hyper::HeaderMap,
    pub(super) body: Vec<u8>,
}

/// Sends an HTTP request, whose path is below `prefix`.
pub(super) fn request(
    address: SocketAddr,
    prefix: &str,
    request: &TestRequest,
    body: &str,
) -> Result<Response, ExchangeError> {
    let mut built = hyper::Request::builder()
        .method(request.method.as_str())
        .uri(joined(prefix, &request.path))
        .header("host", address.to_string());
    for (name, value) in &request.headers {
        built = built.header(name, value);
    }
    let built = built.body(Full::new(Bytes::from(body.to_owned())))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let exchanged = async { tokio::time::timeout(TIMEOUT, exchange(address, built)).await };
    runtime.block_on(exchanged).map_err(|_| ExchangeError::Timeout)?
}

async fn exchange(
    address: SocketAddr,
    request: hyper::Request<Full<Bytes>>,
) -> Result<Response, ExchangeError> {
    let stream = tokio::net::TcpStream::connect(address).await;
    let stream = stream.map_err(|error| ExchangeError::Connect(address, error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = Limited::new(body, ANSWER_MAX).collect().await.map_err(ExchangeError::Body)?;
    connection.abort();
    let body = body.to_bytes().to_vec();
    Ok(Response { status: head.status.as_u16(), headers: head.headers, body })
}

/// Sends text over a connection, ends that direction, and returns all that comes back.
pub(super) fn connection(address: SocketAddr, send: &str) -> Result<Vec<u8>, ExchangeError> {
    let mut stream = connect(address)?;
    stream.write_all(send.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    let most = u64::try_from(ANSWER_MAX).unwrap_or(u64::MAX);
    stream.take(most).read_to_end(&mut answer).map_err(timed_out)?;
    Ok(answer)
}

/// Sends a datagram, and returns the answer.
pub(super) fn datagram(address: SocketAddr, send: &str) -> Result<Vec<u8>, ExchangeError> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.send_to(send.as_bytes(), address)?;
    let mut answer = vec![0; usize::from(u16::MAX)];
    let length = socket.recv(&mut answer).map_err(timed_out)?;
    answer.truncate(length);
    Ok(answer)
}

/// Opens a WebSocket on a path below `prefix`, sends a text message, and returns the next message. Where nothing is
/// sent, opening it is all.
pub(super) fn websocket(
    address: SocketAddr,
    prefix: &str,
    path: &str,
    send: &str,
) -> Result<Vec<u8>, ExchangeError> {
    let url = format!("ws://{address}{}", joined(prefix, path));
    let opened = tungstenite::client(url, connect(address)?);
    let (mut socket, _) = opened.map_err(|error| match error {
        tungstenite::HandshakeError::Interrupted(_) => ExchangeError::Timeout,
        error => ExchangeError::Handshake(error.to_string()),
    })?;
    let mut answer = Vec::new();
    if !send.is_empty() {
        socket.send(Message::text(send))?;
        answer = loop {
            match socket.read()? {
                Message::Ping(_) | Message::Pong(_) => (),
                message => break message.into_data().to_vec(),
            }
        };
    }
    // If the plugin closes first, that is no failure of the test.
    socket.close(None).ok();
    Ok(answer)
}

fn connect(address: SocketAddr) -> Result<TcpStream, ExchangeError> {
    let stream = TcpStream::connect_timeout(&address, TIMEOUT);
    let stream = stream.map_err(|error| ExchangeError::Connect(address, error))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

fn timed_out(error: io::Error) -> ExchangeError {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ExchangeError::Timeout,
        _ => ExchangeError::Io(error),
    }
}

/// A path below the prefix of a route.
fn joined(prefix: &str, path: &str) -> String {
    format!("{}{path}", prefix.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_below_the_route() {
        assert_eq!(joined("/hello", "/Ada"), "/hello/Ada");
        assert_eq!(joined("/", "/Ada?x"), "/Ada?x");
    }
}
