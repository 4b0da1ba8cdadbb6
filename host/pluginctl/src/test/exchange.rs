//! The exchange of a test with a plugin: the data that is sent, and the answer.

use crate::test::cases::TestRequest;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream, UdpSocket},
    pin::pin,
    time::{Duration, Instant},
};
use tungstenite::{HandshakeError, Message, protocol::frame::coding::CloseCode};

/// The longest time that an answer may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Interval at which it is checked whether the user interrupts.
const LOOK: Duration = Duration::from_millis(200);
/// The longest answer that is read.
const ANSWER_MAX: usize = 64 << 20;

/// Why a test has no answer to compare.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExchangeError {
    #[error("cannot connect to {0}: {1}")]
    Connect(SocketAddr, io::Error),
    #[error("the exchange with the plugin failed: {0}")]
    Io(io::Error),
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
    #[error("the plugin closed the WebSocket with code {0}")]
    Closed(CloseCode),
    #[error("there was no complete answer within {} s", TIMEOUT.as_secs())]
    Timeout,
    #[error("interrupted")]
    Interrupted,
}

impl From<tungstenite::Error> for ExchangeError {
    fn from(error: tungstenite::Error) -> Self {
        match error {
            tungstenite::Error::Io(error) => error.into(),
            other => Self::WebSocket(Box::new(other)),
        }
    }
}

impl From<io::Error> for ExchangeError {
    fn from(error: io::Error) -> Self {
        // It may be the end of an `AnswerLimit`.
        error.downcast().unwrap_or_else(Self::Io)
    }
}

/// How long an answer is waited for, as a whole.
pub(super) struct AnswerLimit<'a> {
    end: Instant,
    is_interrupted: &'a dyn Fn() -> bool,
}

impl<'a> AnswerLimit<'a> {
    pub(super) fn new(is_interrupted: &'a dyn Fn() -> bool) -> Self {
        Self { end: Instant::now() + TIMEOUT, is_interrupted }
    }

    /// The time to wait until the next look, which is not zero.
    fn next_look(&self) -> Result<Duration, ExchangeError> {
        if (self.is_interrupted)() {
            return Err(ExchangeError::Interrupted);
        }
        match self.end.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(ExchangeError::Timeout),
            rest => Ok(rest.min(LOOK)),
        }
    }

    /// Repeats an operation of a socket until it succeeds. It waits for at most the time that it is given.
    fn repeat<T>(&self, mut operation: impl FnMut(Duration) -> io::Result<T>) -> io::Result<T> {
        loop {
            match operation(self.next_look().map_err(io::Error::other)?) {
                Err(error) if has_timed_out(&error) => (),
                ended => return ended,
            }
        }
    }
}

/// A connection on which every wait has a limit.
struct AnswerStream<'a> {
    stream: TcpStream,
    limit: &'a AnswerLimit<'a>,
}

impl Read for AnswerStream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Self { stream, limit } = self;
        limit.repeat(|time| {
            stream.set_read_timeout(Some(time))?;
            stream.read(buffer)
        })
    }
}

impl Write for AnswerStream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Self { stream, limit } = self;
        limit.repeat(|time| {
            stream.set_write_timeout(Some(time))?;
            stream.write(bytes)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
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
    limit: &AnswerLimit<'_>,
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
    runtime.block_on(async {
        let mut exchanged = pin!(exchange(address, built));
        loop {
            let time = limit.next_look()?;
            if let Ok(response) = tokio::time::timeout(time, &mut exchanged).await {
                return response;
            }
        }
    })
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
pub(super) fn connection(
    address: SocketAddr,
    send: &str,
    limit: &AnswerLimit<'_>,
) -> Result<Vec<u8>, ExchangeError> {
    let mut stream = connect(address, limit)?;
    stream.write_all(send.as_bytes())?;
    stream.stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    let most = u64::try_from(ANSWER_MAX).unwrap_or(u64::MAX);
    stream.take(most).read_to_end(&mut answer)?;
    Ok(answer)
}

/// Sends a datagram, and returns the answer.
pub(super) fn datagram(
    address: SocketAddr,
    send: &str,
    limit: &AnswerLimit<'_>,
) -> Result<Vec<u8>, ExchangeError> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.send_to(send.as_bytes(), address)?;
    let mut answer = vec![0; usize::from(u16::MAX)];
    let length = limit.repeat(|time| {
        socket.set_read_timeout(Some(time))?;
        socket.recv(&mut answer)
    })?;
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
    limit: &AnswerLimit<'_>,
) -> Result<Vec<u8>, ExchangeError> {
    let url = format!("ws://{address}{}", joined(prefix, path));
    let opened = tungstenite::client(url, connect(address, limit)?);
    let (mut socket, _) = opened.map_err(|error| match error {
        HandshakeError::Failure(tungstenite::Error::Io(error)) => error.into(),
        error => ExchangeError::Handshake(error.to_string()),
    })?;
    let mut answer = Vec::new();
    if !send.is_empty() {
        socket.send(Message::text(send))?;
        answer = loop {
            match socket.read()? {
                Message::Ping(_) | Message::Pong(_) => (),
                Message::Close(frame) => match frame.map_or(CloseCode::Status, |it| it.code) {
                    // The plugin has ended the conversation without a message.
                    CloseCode::Normal => break Vec::new(),
                    code => return Err(ExchangeError::Closed(code)),
                },
                message => break message.into_data().to_vec(),
            }
        };
    }
    // If the plugin closes first, that is no failure of the test.
    socket.close(None).ok();
    Ok(answer)
}

fn connect<'a>(
    address: SocketAddr,
    limit: &'a AnswerLimit<'_>,
) -> Result<AnswerStream<'a>, ExchangeError> {
    let stream = TcpStream::connect_timeout(&address, TIMEOUT);
    let stream = stream.map_err(|error| ExchangeError::Connect(address, error))?;
    Ok(AnswerStream { stream, limit })
}

fn has_timed_out(error: &io::Error) -> bool {
    // A signal may have interrupted it, which is looked at then.
    let ends = [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut, io::ErrorKind::Interrupted];
    ends.contains(&error.kind())
}

/// A path below the prefix of a route.
fn joined(prefix: &str, path: &str) -> String {
    format!("{}{path}", prefix.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        cell::Cell,
        net::TcpListener,
        thread::{self, JoinHandle},
    };
    use tungstenite::protocol::CloseFrame;

    /// Serves one connection.
    fn serve(serve: impl FnOnce(TcpStream) + Send + 'static) -> (SocketAddr, JoinHandle<()>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        (address, thread::spawn(move || serve(listener.accept().unwrap().0)))
    }

    /// Sends lines until the client has gone.
    fn feed(mut stream: TcpStream) {
        while stream.write_all(b"tick\n").is_ok() {
            thread::yield_now();
        }
    }

    #[test]
    fn an_answer_that_does_not_end_fails_at_the_limit_although_data_comes() {
        let (address, server) = serve(feed);
        let limit = AnswerLimit { end: Instant::now() + LOOK, is_interrupted: &|| false };
        let answer = connection(address, "Ada\n", &limit);
        assert!(matches!(answer, Err(ExchangeError::Timeout)), "{answer:?}");
        server.join().unwrap();
    }

    #[test]
    fn a_signal_ends_the_wait_for_an_answer() {
        let looks = Cell::new(0);
        let is_interrupted = || looks.replace(looks.get() + 1) > 10;
        let (address, server) = serve(feed);
        let answer = connection(address, "", &AnswerLimit::new(&is_interrupted));
        assert!(matches!(answer, Err(ExchangeError::Interrupted)), "{answer:?}");
        server.join().unwrap();
        // Also where nothing comes.
        let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = silent.local_addr().unwrap();
        let answer = datagram(address, "x", &AnswerLimit::new(&is_interrupted));
        assert!(matches!(answer, Err(ExchangeError::Interrupted)), "{answer:?}");
    }

    #[test]
    fn a_close_is_no_message_and_an_error_unless_it_is_normal() {
        for code in [CloseCode::Normal, CloseCode::Error] {
            let (address, server) = serve(move |stream| {
                let mut socket = tungstenite::accept(stream).unwrap();
                socket.read().unwrap();
                let reason = "Hello".into();
                socket.close(Some(CloseFrame { code, reason })).unwrap();
                while socket.read().is_ok() {}
            });
            let answer = websocket(address, "/", "/", "Ada", &AnswerLimit::new(&|| false));
            match code {
                CloseCode::Normal => assert_eq!(answer.unwrap(), b"", "the reason is no message"),
                _ => assert_eq!(
                    answer.unwrap_err().to_string(),
                    "the plugin closed the WebSocket with code 1011"
                ),
            }
            server.join().unwrap();
        }
    }

    #[test]
    fn a_path_is_below_the_route() {
        assert_eq!(joined("/hello", "/Ada"), "/hello/Ada");
        assert_eq!(joined("/", "/Ada?x"), "/Ada?x");
    }
}
