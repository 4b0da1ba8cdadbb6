//! The opening of a connection, before its first request: a header of the PROXY protocol, TLS, and the HTTP version.

use crate::{
    config::settings::{ConnectionSetting, HttpSetting},
    listen::{
        proxy_protocol::{self, ProxyProtocolError},
        stream::{Peer, SharedStream, Stream},
    },
    systemd::certificates::TlsIdentity,
};
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::{TlsAcceptor, rustls::pki_types::CertificateDer, server::TlsStream};

/// The first bytes of a client that speaks HTTP/2 without an agreement on it (RFC 9113, 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The HTTP settings of a socket, and the limits for its clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpUse {
    /// The settings from the configuration.
    pub setting: Arc<HttpSetting>,
    /// The certificates, if HTTP is spoken over TLS.
    pub tls: Option<TlsIdentity>,
    /// The limits for clients.
    pub connections: ConnectionSetting,
}

/// A connection whose first request can be read.
pub struct Opened {
    /// Its bytes.
    pub wire: HttpWire,
    /// The peer, or the client that a proxy names.
    pub peer: Peer,
    /// Whether the client speaks HTTP/2.
    pub is_http2: bool,
    /// The client's certificate, which was verified.
    pub certificate: Option<CertificateDer<'static>>,
}

/// Why a connection has no first request.
#[derive(Debug, thiserror::Error)]
pub enum OpeningError {
    /// The proxy did not say who its client is.
    #[error(transparent)]
    Proxy(#[from] ProxyProtocolError),
    /// The client and the daemon did not agree on TLS.
    #[error("TLS handshake failed")]
    Tls(#[source] io::Error),
    /// The connection failed.
    #[error("the connection cannot be read")]
    Read(#[from] io::Error),
}

/// The bytes of a connection on which HTTP is spoken.
pub enum HttpWire {
    /// As they come.
    Plain {
        /// The connection.
        stream: SharedStream,
        /// Bytes that were read of it before.
        begun: Vec<u8>,
    },
    /// Over TLS.
    Tls(Box<TlsStream<SharedStream>>),
}

/// Brings a connection to its first request.
///
/// # Errors
/// When it does not get there.
pub async fn open(stream: &Arc<Stream>, peer: Peer, how: &HttpUse) -> Result<Opened, OpeningError> {
    let proxied = match how.setting.proxy_protocol {
        true => proxy_protocol::read(stream).await?,
        false => None,
    };
    let peer = proxied.map_or(peer, Peer::Tcp);
    let shared = SharedStream(stream.clone());
    let Some(tls) = &how.tls else {
        let (is_http2, begun) = begins_http2(stream).await?;
        let wire = HttpWire::Plain { stream: shared, begun };
        return Ok(Opened { wire, peer, is_http2, certificate: None });
    };
    let accepted = TlsAcceptor::from(tls.config.clone()).accept(shared).await;
    let stream = accepted.map_err(OpeningError::Tls)?;
    let (_, session) = stream.get_ref();
    let is_http2 = session.alpn_protocol() == Some(b"h2");
    let certificate = session.peer_certificates().and_then(|chain| chain.first()).cloned();
    let certificate = certificate.map(CertificateDer::into_owned);
    Ok(Opened { wire: HttpWire::Tls(Box::new(stream)), peer, is_http2, certificate })
}

/// Whether the connection begins with HTTP/2, and what was read of it to know that. Nothing is read, unless the
/// first piece is so short that it leaves both possible.
async fn begins_http2(stream: &Stream) -> io::Result<(bool, Vec<u8>)> {
    let mut begun = Vec::new();
    let mut seen = [0; PREFACE.len()];
    loop {
        let expected = &PREFACE[begun.len()..];
        let length = stream.peek(&mut seen[..expected.len()]).await?;
        let seen = &mut seen[..length];
        if seen.is_empty() || !expected.starts_with(seen) {
            return Ok((false, begun));
        }
        if seen.len() == expected.len() {
            return Ok((true, begun));
        }
        // Peeking again would return the same bytes.
        let taken = stream.take(seen).await?;
        begun.extend_from_slice(&seen[..taken]);
    }
}

impl AsyncRead for HttpWire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain { stream, begun } if begun.is_empty() => {
                Pin::new(stream).poll_read(context, buffer)
            }
            Self::Plain { begun, .. } => {
                let length = begun.len().min(buffer.remaining());
                buffer.put_slice(&begun[..length]);
                begun.drain(..length);
                Poll::Ready(Ok(()))
            }
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

/// The writing side of either.
macro_rules! each {
    ($wire:expr, $inner:ident => $what:expr) => {
        match $wire.get_mut() {
            HttpWire::Plain { stream: $inner, .. } => $what,
            HttpWire::Tls($inner) => $what,
        }
    };
}

impl AsyncWrite for HttpWire {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_shutdown(context))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::stream::send_in_pieces;
    use tokio::{io::AsyncReadExt, net::UnixStream};

    /// Whether it is HTTP/2, and all bytes that are read then.
    async fn opened(bytes: &[u8], piece: usize) -> (bool, Vec<u8>) {
        let (client, host) = UnixStream::pair().unwrap();
        let read = async {
            let (stream, how) = (Arc::new(Stream::Unix(host)), HttpUse::default());
            let mut opened = open(&stream, Peer::Unknown, &how).await.unwrap();
            let mut all = Vec::new();
            opened.wire.read_to_end(&mut all).await.unwrap();
            (opened.is_http2, all)
        };
        tokio::join!(read, send_in_pieces(client, bytes, piece)).0
    }

    #[tokio::test]
    async fn the_preface_says_which_http_it_is_however_it_is_cut() {
        let preface = [&PREFACE[..], b"frames"].concat();
        for (bytes, is_http2) in [
            (&preface[..], true),
            (PREFACE, true),
            (&PREFACE[..23], false),
            (b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", false),
            (b"POST / HTTP/1.1\r\n\r\n", false),
            (b"P", false),
            (b"", false),
        ] {
            for piece in [1, 2, 5, 100] {
                assert_eq!(
                    opened(bytes, piece).await,
                    (is_http2, bytes.to_vec()),
                    "{bytes:?} {piece}"
                );
            }
        }
    }
}
