//! The PROXY protocol, versions 1 and 2: the header that a proxy sends before the first byte of a connection.

use crate::listen::stream::Stream;
use ppp::{HeaderResult, v1, v2};
use std::{io, net::SocketAddr};

/// The first bytes of version 2, and the length of what comes before its addresses.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const FIXED: usize = 16;
/// The first bytes of version 1, and the longest header of that version.
const WORD: &[u8] = b"PROXY ";
const LINE_MAX: usize = 107;
/// The longest header that is read. Without additional values, one of version 2 has at most 232 bytes.
const HEADER_MAX: usize = 4096;

/// Why a connection has no header of the PROXY protocol.
#[derive(Debug, thiserror::Error)]
pub enum ProxyProtocolError {
    /// It could not be read.
    #[error("the connection cannot be read")]
    Read(#[from] io::Error),
    /// The connection ended before the header did.
    #[error("the connection ended within the header of the PROXY protocol")]
    Ended,
    /// It begins with something else.
    #[error("the connection does not begin with a header of the PROXY protocol")]
    Missing,
    /// It is longer than any that is needed.
    #[error("the header of the PROXY protocol is longer than {HEADER_MAX} bytes")]
    TooLong,
    /// It is malformed.
    #[error("the header of the PROXY protocol is malformed")]
    Malformed,
}

/// Reads the header, and not a byte more. A header without an address is for a connection of the proxy itself, or of an
/// unknown client.
///
/// # Errors
/// When the connection does not begin with a header that is well-formed.
pub async fn read(stream: &Stream) -> Result<Option<SocketAddr>, ProxyProtocolError> {
    let mut header = vec![0; HEADER_MAX];
    let mut have = 0;
    loop {
        let seen = have + stream.peek(&mut header[have..]).await?;
        if seen == have {
            return Err(ProxyProtocolError::Ended);
        }
        let length = length(&header[..seen])?;
        let take = length.unwrap_or(seen).min(seen) - have;
        let taken = stream.take(&mut header[have..have + take]).await?;
        have += taken;
        if Some(have) == length {
            return parse(&header[..have]);
        }
    }
}

/// Returns the length of the header that begins like this; none while that is unknown.
fn length(begin: &[u8]) -> Result<Option<usize>, ProxyProtocolError> {
    let begins_with = |all: &[u8]| begin.iter().zip(all).all(|(seen, byte)| seen == byte);
    if begins_with(SIGNATURE) {
        let Some(length) = begin.get(FIXED - 2..FIXED) else { return Ok(None) };
        let length = FIXED + (usize::from(length[0]) << 8 | usize::from(length[1]));
        return if length > HEADER_MAX {
            Err(ProxyProtocolError::TooLong)
        } else {
            Ok(Some(length))
        };
    }
    if !begins_with(WORD) {
        return Err(ProxyProtocolError::Missing);
    }
    match begin.iter().take(LINE_MAX).position(|byte| *byte == b'\n') {
        Some(end) => Ok(Some(end + 1)),
        None if begin.len() < LINE_MAX => Ok(None),
        None => Err(ProxyProtocolError::Malformed),
    }
}

/// The client, if a header names it.
fn parse(header: &[u8]) -> Result<Option<SocketAddr>, ProxyProtocolError> {
    match HeaderResult::parse(header) {
        HeaderResult::V1(Ok(header)) => Ok(match header.addresses {
            v1::Addresses::Tcp4(ip) => Some((ip.source_address, ip.source_port).into()),
            v1::Addresses::Tcp6(ip) => Some((ip.source_address, ip.source_port).into()),
            v1::Addresses::Unknown => None,
        }),
        HeaderResult::V2(Ok(header)) if header.command == v2::Command::Local => Ok(None),
        HeaderResult::V2(Ok(header)) => Ok(match header.addresses {
            v2::Addresses::IPv4(ip) => Some((ip.source_address, ip.source_port).into()),
            v2::Addresses::IPv6(ip) => Some((ip.source_address, ip.source_port).into()),
            v2::Addresses::Unix(_) | v2::Addresses::Unspecified => None,
        }),
        HeaderResult::V1(Err(_)) | HeaderResult::V2(Err(_)) => Err(ProxyProtocolError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::stream::send_in_pieces;
    use proptest::prelude::*;
    use tokio::{io::AsyncReadExt, net::UnixStream};

    fn second_version(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let length = u16::try_from(addresses.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[0x20 | command, family], &length, addresses].concat()
    }

    /// The client that a connection with these bytes has, sent in pieces of this size, and what is left to be read.
    fn read_all(
        bytes: &[u8],
        piece: usize,
    ) -> (Result<Option<SocketAddr>, ProxyProtocolError>, Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (client, host) = UnixStream::pair().unwrap();
            let host = Stream::Unix(host);
            let (read, ()) = tokio::join!(read(&host), send_in_pieces(client, bytes, piece));
            let Stream::Unix(mut host) = host else { unreachable!() };
            let mut rest = Vec::new();
            host.read_to_end(&mut rest).await.unwrap();
            (read, rest)
        })
    }

    #[test]
    fn both_versions_name_the_client_and_leave_what_follows() {
        let four = [192, 0, 2, 7, 192, 0, 2, 1, 0x12, 0x67, 0, 80];
        let six = [[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]; 2].concat();
        let six = [&six[..], &[0x12, 0x67, 0, 80]].concat();
        for (header, client) in [
            (&b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 80\r\n"[..], Some("192.0.2.7:4711")),
            (b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 80\r\n", Some("[2001:db8::7]:4711")),
            (b"PROXY UNKNOWN\r\n", None),
            (b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", None),
            (&second_version(1, 0x11, &four), Some("192.0.2.7:4711")),
            (
                &second_version(1, 0x11, &[&four[..], &[4, 0, 1, 0]].concat()),
                Some("192.0.2.7:4711"),
            ),
            (&second_version(1, 0x21, &six), Some("[2001:db8::7]:4711")),
            (&second_version(0, 0, &[]), None),
            (&second_version(0, 0x11, &four), None),
            (&second_version(1, 0, &[]), None),
        ] {
            for piece in [1, 7, 4096] {
                let bytes = [header, b"GET / HTTP/1.1\r\n"].concat();
                let (read, rest) = read_all(&bytes, piece);
                assert_eq!(read.unwrap(), client.map(|client| client.parse().unwrap()));
                assert_eq!(rest, b"GET / HTTP/1.1\r\n");
            }
        }
    }

    #[test]
    fn a_connection_without_a_whole_header_is_refused() {
        let long = [b"PROXY TCP4 ", &[b'1'; 200][..], b"\r\n"].concat();
        for bytes in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"PROXYTCP4 1 2 3 4\r\n",
            b"PROXY TCP4 192.0.2.7 192.0.2.1 4711\r\n",
            b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 80\n",
            b"PROXY TCP4 192.0.2.7",
            b"",
            SIGNATURE,
            &long,
            &second_version(1, 0x11, &[1, 2, 3]),
            &second_version(1, 0x11, &[0; 5000]),
            &second_version(2, 0x11, &[0; 12]),
        ] {
            assert!(read_all(bytes, 4096).0.is_err(), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), known in 0..3_usize) {
            let begin: &[u8] = [&b""[..], WORD, SIGNATURE][known];
            drop(read_all(&[begin, &bytes].concat(), 4096));
        }
    }
}
