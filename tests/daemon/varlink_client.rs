//! A client that speaks varlink with a plugin.

use plugind_tests::WAIT_MAX;
use serde_json::Value;
use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
};

/// A connection to a service. Each message ends with a zero byte.
pub(crate) struct VarlinkClient(BufReader<UnixStream>);

impl VarlinkClient {
    /// Connects to the socket at this path.
    pub(crate) fn to(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
        Self(BufReader::new(stream))
    }

    pub(crate) fn send(&mut self, call: &Value) {
        self.0.get_mut().write_all(format!("{call}\0").as_bytes()).unwrap();
    }

    pub(crate) fn receive(&mut self) -> Value {
        let mut message = Vec::new();
        self.0.read_until(0, &mut message).unwrap();
        assert_eq!(message.pop(), Some(0), "the connection ended");
        serde_json::from_slice(&message).unwrap()
    }

    /// The bytes that come before the next zero byte or the end of the connection, which may be a reset.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.0.read_until(0, &mut rest).ok();
        rest
    }

    pub(crate) fn call(&mut self, call: &Value) -> Value {
        self.send(call);
        self.receive()
    }

    /// The error of a reply.
    pub(crate) fn error(&mut self, call: &Value) -> String {
        self.call(call)["error"].as_str().unwrap().to_owned()
    }
}
