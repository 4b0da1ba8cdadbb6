//! The connection under a WebSocket, with a limit for a client that does not read.

use bytes::{Buf, Bytes};
use http::Version;
use std::{
    io::{self, ErrorKind},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_io_timeout::TimeoutStream;

/// The time that the client may take to read the data that was sent last, or a piece of it.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// The most bytes that a stream of HTTP/2 gets at a time. It would take any number, and does not show how many of them
/// the client has read.
const PIECE: usize = 16 << 10;

/// The connection under a WebSocket, which fails if the client does not read.
pub(super) struct WebSocketWire<S> {
    stream: Pin<Box<TimeoutStream<S>>>,
    /// Whether it is a stream of HTTP/2: such a connection can be alive although nobody reads this stream.
    is_http2: bool,
    /// The bytes to be given to a stream of HTTP/2.
    left: Bytes,
}

impl<S: AsyncRead + AsyncWrite> WebSocketWire<S> {
    pub(super) fn new(stream: S, version: Version) -> Self {
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(WRITE_TIMEOUT));
        let is_http2 = version >= Version::HTTP_2;
        Self { stream: Box::pin(stream), is_http2, left: Bytes::new() }
    }

    /// Ready when the stream has all bytes.
    fn poll_left(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.left.is_empty() {
            let piece = &self.left[..self.left.len().min(PIECE)];
            match ready!(self.stream.as_mut().poll_write(context, piece))? {
                0 => return Poll::Ready(Err(ErrorKind::WriteZero.into())),
                written => self.left.advance(written),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite> AsyncRead for WebSocketWire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite> AsyncWrite for WebSocketWire<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if !self.is_http2 {
            return self.stream.as_mut().poll_write(context, bytes);
        }
        ready!(self.poll_left(context))?;
        // All of them: the caller moves those that are left.
        self.left = Bytes::copy_from_slice(bytes);
        match self.poll_left(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(bytes.len())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_left(context))?;
        self.stream.as_mut().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_left(context))?;
        self.stream.as_mut().poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, Response};
    use http_body_util::Empty;
    use hyper::{body::Incoming, server::conn::http2, service::service_fn};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use std::convert::Infallible;
    use tokio::{
        io::{AsyncWriteExt, duplex},
        sync::mpsc,
        time::{Instant, sleep},
    };

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    fn frame(kind: u8, flags: u8, stream: u32, contents: &[u8]) -> Vec<u8> {
        let length = u32::try_from(contents.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), contents].concat()
    }

    /// A CONNECT for a WebSocket (RFC 8441), as HPACK has it without a dynamic table.
    fn connect() -> Vec<u8> {
        let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
        let field = |name: &str, value: &str| [&[0], &*text(name), &*text(value)].concat();
        let header = [
            field(":method", "CONNECT"),
            field(":protocol", "websocket"),
            field(":scheme", "http"),
            field(":path", "/"),
            field(":authority", "a"),
        ];
        frame(1, 4, 1, &header.concat())
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_of_http_2_fails_when_its_client_does_not_read_a_piece_in_time() {
        let (mut client, server) = duplex(1 << 20);
        client.write_all(&[PREFACE, &frame(4, 0, 0, &[]), &connect()].concat()).await.unwrap();
        let (opened, mut opening) = mpsc::channel(1);
        let service = service_fn(move |mut request: Request<Incoming>| {
            opened.try_send(hyper::upgrade::on(&mut request)).unwrap();
            async { Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())) }
        });
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2.enable_connect_protocol();
        tokio::spawn(http2.serve_connection(TokioIo::new(server), service));
        let upgraded = opening.recv().await.unwrap().await.unwrap();
        let mut wire = WebSocketWire::new(TokioIo::new(upgraded), Version::HTTP_2);
        let written = tokio::spawn(async move {
            let all = vec![7; 1 << 20];
            let begun = Instant::now();
            wire.write_all(&all).await.unwrap();
            let error = wire.flush().await.unwrap_err();
            (error.kind(), begun.elapsed())
        });
        // The client makes room for a piece a few times, so slowly that all of it would take much longer.
        let room = u32::try_from(PIECE).unwrap().to_be_bytes();
        let times = 8;
        for _ in 0..times {
            sleep(WRITE_TIMEOUT / 2).await;
            let both = [frame(8, 0, 0, &room), frame(8, 0, 1, &room)].concat();
            client.write_all(&both).await.unwrap();
        }
        let (kind, lasted) = written.await.unwrap();
        assert_eq!(kind, ErrorKind::TimedOut);
        assert_eq!(lasted.as_secs(), (WRITE_TIMEOUT / 2 * times + WRITE_TIMEOUT).as_secs());
    }
}
