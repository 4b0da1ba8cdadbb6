//! A request and its response, by HTTP/1.0: the response ends with the connection.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// The longest time that a response may take.
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
        request_line: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Self {
        let fields: String =
            headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = format!(
            "{request_line} HTTP/1.0\r\nhost: {address}\r\ncontent-length: {}\r\n{fields}\r\n",
            body.len()
        );
        let mut stream = TcpStream::connect(address).expect("the host listens");
        stream.set_read_timeout(Some(TIMEOUT)).expect("the time is not zero");
        // A host that has answered already need not read the rest.
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).ok();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).expect("a response comes to its end");
        Self::parse(&received).unwrap_or_else(|| {
            let shown = String::from_utf8_lossy(&received);
            panic!("{request_line} has no complete response: {shown:?}")
        })
    }

    /// Reads a response; none: it is incomplete.
    fn parse(received: &[u8]) -> Option<Self> {
        let end = received.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&received[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers: Option<Vec<_>> = lines
            .map(|line| {
                let (name, value) = line.split_once(':')?;
                Some((name.to_lowercase(), value.trim().to_owned()))
            })
            .collect();
        let response = Self { status, headers: headers?, body: received[end + 4..].to_vec() };
        let length = response.header("content-length").and_then(|length| length.parse().ok());
        let is_whole = length.is_none_or(|length: usize| length == response.body.len());
        is_whole.then_some(response)
    }
}
