//! A connection's bytes: bounded, and without the descriptors that a client may send along.

use rustix::io::Errno;
use serde::Serialize;
use std::{os::fd::AsFd, time::Duration};
use tokio::{
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};
use zlink::connection::{
    PassedCredentials,
    socket::{self, ReadResult},
};

/// The longest call, in bytes. Real calls are short: they have a name and few options.
const CALL_MAX: usize = 64 << 10;
/// Time that a client may take to read the reply.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// A client's connection.
#[derive(Debug)]
pub(super) struct Wire(pub(super) UnixStream);

impl socket::Socket for Wire {
    type ReadHalf = CallReader;
    type WriteHalf = ReplyWriter;

    fn split(self) -> (CallReader, ReplyWriter) {
        let (reader, writer) = self.0.into_split();
        (CallReader { half: reader, call: 0 }, ReplyWriter(writer))
    }
}

/// Where calls come from.
#[derive(Debug)]
pub(super) struct CallReader {
    half: OwnedReadHalf,
    /// Bytes received so far of the call that is being read.
    call: usize,
}

impl socket::ReadHalf for CallReader {
    async fn read(&mut self, buffer: &mut [u8]) -> zlink::Result<ReadResult> {
        let length = loop {
            self.half.readable().await?;
            // By a plain read, for which the kernel closes descriptors that were sent along.
            match self.half.try_read(buffer) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => (),
                read => break read?,
            }
        };
        let read = &buffer[..length];
        self.call = match read.iter().rposition(|byte| *byte == 0) {
            Some(end) => length - end - 1,
            None => self.call + length,
        };
        match self.call {
            ..=CALL_MAX => Ok(ReadResult::new(length)),
            _ => Err(zlink::Error::BufferOverflow),
        }
    }
}

/// Where replies go.
#[derive(Debug)]
pub(super) struct ReplyWriter(OwnedWriteHalf);

impl ReplyWriter {
    /// Sends a reply or an error.
    ///
    /// zlink would do so, too, but serializes again for every 256 bytes that do not fit.
    pub(super) async fn send(&mut self, message: &impl Serialize) -> zlink::Result<()> {
        let mut message = serde_json::to_vec(message)?;
        message.push(0);
        match timeout(WRITE_TIMEOUT, self.put(&message)).await {
            Ok(sent) => sent,
            Err(_) => Err(zlink::Error::Io(Errno::TIMEDOUT.into())),
        }
    }

    async fn put(&mut self, mut bytes: &[u8]) -> zlink::Result<()> {
        while !bytes.is_empty() {
            self.0.writable().await?;
            match self.0.try_write(bytes) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => (),
                written => bytes = &bytes[written?..],
            }
        }
        Ok(())
    }
}

impl socket::WriteHalf for ReplyWriter {
    async fn write(
        &mut self,
        bytes: &[u8],
        descriptors: &[impl AsFd],
        _: Option<&PassedCredentials>,
    ) -> zlink::Result<()> {
        match descriptors {
            [] => self.put(bytes).await,
            _ => Err(zlink::Error::Io(Errno::INVAL.into())),
        }
    }
}
