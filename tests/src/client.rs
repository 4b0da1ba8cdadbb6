//! A client of HTTP/1.1 that hides nothing: what is sent is what is written here, and what comes is checked byte by
//! byte. That is why it is not a library's.

use crate::wait_max;
use std::{
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
};

/// One connection. Requests are written and responses read in whatever order the test says.
pub struct Connection {
    stream: BufReader<TcpStream>,
}

/// The part of a response before its body.
#[derive(Debug)]
pub struct Head {
    /// The status code.
    pub status: u16,
    /// The header fields in the order in which they came, the names as they came.
    pub fields: Vec<(String, String)>,
}

/// A whole response.
#[derive(Debug)]
pub struct Response {
    /// The part before the body.
    pub head: Head,
    /// The body, without its framing.
    pub body: Vec<u8>,
    /// The part behind the body.
    pub trailers: Vec<(String, String)>,
}

impl Head {
    /// The value of a header field, if there is exactly one.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut all = self.fields.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
        let (_, value) = all.next()?;
        all.next().is_none().then_some(value)
    }
}

impl Response {
    /// The status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// The body as text.
    ///
    /// # Panics
    /// When it is not text.
    #[must_use]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    /// Status code and body, for one assertion of both.
    #[must_use]
    pub fn status_and_text(&self) -> (u16, &str) {
        (self.status(), self.text())
    }
}

impl Connection {
    /// Connects.
    ///
    /// # Panics
    /// When nobody listens there.
    #[must_use]
    pub fn to(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).expect("the daemon listens"))
    }

    /// Takes a connection that was made.
    ///
    /// # Panics
    /// When the system does not let it be prepared.
    #[must_use]
    pub fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a socket takes this option");
        stream.set_read_timeout(Some(wait_max())).expect("the time is not zero");
        stream.set_write_timeout(Some(wait_max())).expect("the time is not zero");
        Self { stream: BufReader::new(stream) }
    }

    /// Writes bytes, whatever they mean.
    ///
    /// # Panics
    /// When the other side does not take them.
    pub fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.get_mut().write_all(bytes.as_ref()).expect("the daemon reads");
    }

    /// Writes bytes; false if the other side takes no more because it has closed.
    ///
    /// # Panics
    /// When it neither takes them nor closes.
    pub fn try_write(&mut self, bytes: &[u8]) -> bool {
        match self.stream.get_mut().write_all(bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("nobody reads"),
            written => written.is_ok(),
        }
    }

    /// Writes the head of a request for `localhost`, with further lines of header.
    pub fn request(&mut self, method: &str, path: &str, lines: &[&str]) {
        let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        self.write(format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n"));
    }

    /// Writes a piece of a body that has `Transfer-Encoding: chunked`; an empty one is its end.
    pub fn write_chunk(&mut self, piece: &[u8]) {
        self.write(format!("{:x}\r\n", piece.len()));
        self.write(piece);
        self.write("\r\n");
    }

    /// Its answer to a GET request.
    pub fn get(&mut self, path: &str) -> Response {
        self.request("GET", path, &[]);
        self.response()
    }

    /// Reads a response to anything but a HEAD request.
    pub fn response(&mut self) -> Response {
        let head = self.head();
        let mut body = Vec::new();
        let trailers = self.body(&head, |piece| body.extend_from_slice(piece));
        Response { head, body, trailers }
    }

    /// Reads a response, unless the other side has closed before it.
    pub fn response_unless_closed(&mut self) -> Option<Response> {
        let closed = match self.stream.fill_buf() {
            Ok(began) => began.is_empty(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("no answer comes"),
            Err(_) => true,
        };
        (!closed).then(|| self.response())
    }

    /// Reads the head of a response.
    ///
    /// # Panics
    /// When none comes.
    pub fn head(&mut self) -> Head {
        let line = self.line();
        let status = line.strip_prefix("HTTP/1.1 ").or_else(|| line.strip_prefix("HTTP/1.0 "));
        let status = status.and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no line of status: {line:?}"));
        Head { status, fields: self.fields() }
    }

    /// Reads the body of a response piece by piece, and returns its trailers.
    ///
    /// # Panics
    /// When it is cut short.
    pub fn body(&mut self, head: &Head, mut take: impl FnMut(&[u8])) -> Vec<(String, String)> {
        if let Some(length) = head.field("content-length") {
            self.take(length.parse().expect("the length is a number"), &mut take);
            return Vec::new();
        }
        if head.field("transfer-encoding") == Some("chunked") {
            while self.chunk(&mut take) {}
            return self.fields();
        }
        assert_eq!(head.field("connection"), Some("close"), "a body of no length: {head:?}");
        self.rest(take);
        Vec::new()
    }

    /// Reads one chunk of a body; false at its end, where the trailers follow.
    ///
    /// # Panics
    /// When none comes.
    pub fn chunk(&mut self, mut take: impl FnMut(&[u8])) -> bool {
        let line = self.line();
        let length = u64::from_str_radix(&line, 16);
        let length = length.unwrap_or_else(|_| panic!("no length of a chunk: {line:?}"));
        if length > 0 {
            self.take(length, &mut take);
            assert_eq!(self.line(), "", "a chunk ends with its length");
        }
        length > 0
    }

    /// Reads this many bytes of a chunked body, whatever the sizes of its chunks.
    pub fn chunks_of(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < length && self.chunk(|piece| bytes.extend_from_slice(piece)) {}
        bytes
    }

    /// Reads until the other side closes.
    ///
    /// # Panics
    /// When it does not, or breaks off.
    pub fn rest(&mut self, mut take: impl FnMut(&[u8])) {
        loop {
            let piece = self.stream.fill_buf().expect("the other side closes in an orderly way");
            if piece.is_empty() {
                return;
            }
            take(piece);
            let length = piece.len();
            self.stream.consume(length);
        }
    }

    /// Waits until the other side has closed or reset the connection, and returns what came until then.
    pub fn wait_until_closed(&mut self) -> Vec<u8> {
        let mut came = Vec::new();
        match self.stream.read_to_end(&mut came) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                panic!("the connection stays open")
            }
            _ => came,
        }
    }

    /// Says that no more comes from here.
    pub fn finish_writing(&mut self) {
        // The other side may have closed already.
        self.stream.get_mut().shutdown(Shutdown::Write).ok();
    }

    /// The same connection for another thread, which only writes.
    ///
    /// # Panics
    /// When there are no descriptors left.
    #[must_use]
    pub fn writer(&self) -> Self {
        let stream = self.stream.get_ref().try_clone().expect("there are descriptors left");
        Self { stream: BufReader::new(stream) }
    }

    fn take(&mut self, length: u64, take: &mut dyn FnMut(&[u8])) {
        let mut left = length;
        while left > 0 {
            let piece = self.stream.fill_buf().expect("more of the body comes");
            assert!(!piece.is_empty(), "{left} bytes are missing at the end");
            let length = usize::try_from(left).map_or(piece.len(), |left| left.min(piece.len()));
            take(&piece[..length]);
            self.stream.consume(length);
            left -= length as u64;
        }
    }

    fn fields(&mut self) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        loop {
            let line = self.line();
            if line.is_empty() {
                return fields;
            }
            let (name, value) = line.split_once(": ").expect("a header field has a name");
            fields.push((name.to_owned(), value.to_owned()));
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("a line comes");
        let whole = line.strip_suffix("\r\n");
        whole.unwrap_or_else(|| panic!("the connection ended with {line:?}")).to_owned()
    }
}
