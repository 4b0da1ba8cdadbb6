//! A request and its response, by HTTP/1.1 on a connection of its own.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

/// The longest time that a response may take, from the request to its end.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The header fields in their order, with names in lower case.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Response {
    /// The first header field with this name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let field = self.headers.iter().find(|(other, _)| other == name);
        field.map(|(_, value)| value.as_str())
    }

    /// The body as text.
    ///
    /// # Panics
    /// When it is not UTF-8.
    #[must_use]
    pub fn text(&self) -> &str {
        str::from_utf8(&self.body).expect("the body is UTF-8")
    }

    /// Sends a request, and reads the response.
    #[track_caller]
    pub(crate) fn to(
        address: SocketAddr,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Self {
        let fields: String =
            headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {}\r\n{fields}\r\n",
            body.len()
        );
        let stream = TcpStream::connect(address).expect("the host listens");
        let mut received = Vec::new();
        let ended = thread::scope(|scope| {
            // A plugin may send a large response before it has read a large request. A host that has answered already
            // need not read the rest.
            scope.spawn(|| {
                (&stream).write_all(head.as_bytes()).and_then(|()| (&stream).write_all(body)).ok()
            });
            let ended = read_to_end(&stream, &mut received);
            // If the request is not read, its thread ends by this.
            stream.shutdown(Shutdown::Both).ok();
            ended
        });
        Self::parse(method, &received).unwrap_or_else(|| {
            let shown = String::from_utf8_lossy(&received);
            let why = ended.err().map(|error| format!(" ({error})")).unwrap_or_default();
            panic!("{method} {path} has no complete response{why}: {shown:?}")
        })
    }

    /// Reads the response to a request with this method; none: it is incomplete.
    fn parse(method: &str, received: &[u8]) -> Option<Self> {
        let (head, rest) = split(received, b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(head);
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        if status == 100 {
            // The response follows.
            return Self::parse(method, rest);
        }
        let headers: Option<Vec<_>> = lines
            .map(|line| {
                let (name, value) = line.split_once(':')?;
                Some((name.to_lowercase(), value.trim().to_owned()))
            })
            .collect();
        let mut response = Self { status, headers: headers?, body: Vec::new() };
        response.body = if method == "HEAD" || matches!(status, 204 | 304) {
            // The fields are those that a response to GET or with status 200 would have.
            rest.is_empty().then(Vec::new)?
        } else if response.header("transfer-encoding").is_some() {
            chunks(rest)?
        } else {
            let length = response.header("content-length")?.parse::<usize>().ok()?;
            (rest.len() == length).then(|| rest.to_vec())?
        };
        Some(response)
    }
}

/// Reads until the end of the connection, or of the time.
fn read_to_end(mut stream: &TcpStream, received: &mut Vec<u8>) -> io::Result<()> {
    let deadline = Instant::now() + TIMEOUT;
    let mut piece = vec![0; 64 << 10];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let message = format!("it did not end within {} s", TIMEOUT.as_secs());
            return Err(io::Error::new(ErrorKind::TimedOut, message));
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(length) => received.extend_from_slice(&piece[..length]),
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
}

/// What is before a separator, and what is after it.
fn split<'a>(text: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = text.windows(separator.len()).position(|bytes| bytes == separator)?;
    Some((&text[..at], &text[at + separator.len()..]))
}

/// A body that came in chunks; none: it is incomplete.
fn chunks(mut text: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let (line, rest) = split(text, b"\r\n")?;
        let digits = str::from_utf8(line).ok()?.split(';').next()?;
        let length = usize::from_str_radix(digits.trim(), 16).ok()?;
        if length == 0 {
            // Trailers may follow, and then an empty line.
            return (rest == b"\r\n" || rest.ends_with(b"\r\n\r\n")).then_some(body);
        }
        body.extend_from_slice(rest.get(..length)?);
        text = rest.get(length..)?.strip_prefix(b"\r\n")?;
    }
}
