//! A guest's standard output and error: each line is an entry in the journal.

use crate::base::{priority::Priority, request_identity::RequestIdentity};
use crate::world::journal::{MESSAGE_MAX, Shared};
use bytes::Bytes;
use std::{
    io,
    mem::{replace, take},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};
use tokio::io::AsyncWrite;
use wasmtime_wasi::{
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamResult},
};

/// Bytes that a guest may write at once.
const WRITE_MAX: usize = 64 << 10;

/// Which of the two it is.
#[derive(Clone, Copy)]
pub(super) enum StandardStream {
    Stdout,
    Stderr,
}

/// One of an instance's two outputs. All of its clones are the same output.
#[derive(Clone)]
pub(super) struct GuestOutput {
    outputs: Arc<GuestOutputs>,
    stream: StandardStream,
}

/// Both outputs of an instance.
pub(super) struct GuestOutputs {
    journal: Arc<Shared>,
    request: Mutex<Option<RequestIdentity>>,
    /// Text since the last end of a line.
    stdout: Mutex<Vec<u8>>,
    stderr: Mutex<Vec<u8>>,
}

impl GuestOutputs {
    pub(super) fn new(journal: &Arc<Shared>) -> Arc<Self> {
        Arc::new(Self {
            journal: journal.clone(),
            request: Mutex::default(),
            stdout: Mutex::default(),
            stderr: Mutex::default(),
        })
    }

    /// One of the two.
    pub(super) fn output(self: &Arc<Self>, stream: StandardStream) -> GuestOutput {
        GuestOutput { outputs: self.clone(), stream }
    }

    /// From now on, lines are about this request.
    pub(super) fn set_request(&self, request: Option<RequestIdentity>) {
        *self.request.lock().unwrap_or_else(PoisonError::into_inner) = request;
    }

    /// Bytes of lines that have not ended yet.
    pub(super) fn unfinished(&self) -> usize {
        let lengths = [&self.stdout, &self.stderr]
            .map(|unfinished| unfinished.lock().unwrap_or_else(PoisonError::into_inner).len());
        lengths.into_iter().sum()
    }

    fn write(&self, stream: StandardStream, bytes: &[u8]) {
        let unfinished = match stream {
            StandardStream::Stdout => &self.stdout,
            StandardStream::Stderr => &self.stderr,
        };
        let mut unfinished = unfinished.lock().unwrap_or_else(PoisonError::into_inner);
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            unfinished.extend_from_slice(part);
            while unfinished.len() > MESSAGE_MAX {
                let end = end_of_character(&unfinished, MESSAGE_MAX);
                let rest = unfinished.split_off(end);
                self.say(stream, &replace(&mut *unfinished, rest));
            }
            if part.ends_with(b"\n") {
                self.say(stream, &take(&mut *unfinished));
            }
        }
    }

    fn say(&self, stream: StandardStream, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        let line = line.trim_end_matches(['\n', '\r']);
        if line.is_empty() {
            return;
        }
        let priority = match stream {
            StandardStream::Stdout => Priority::Info,
            StandardStream::Stderr => Priority::Warning,
        };
        let request = *self.request.lock().unwrap_or_else(PoisonError::into_inner);
        self.journal.send(priority, line, std::iter::empty(), request);
    }
}

/// The last position up to `max` that does not split a UTF-8 character.
fn end_of_character(bytes: &[u8], max: usize) -> usize {
    let begins = |place: &usize| bytes[*place] & 0b1100_0000 != 0b1000_0000;
    // A character has at most four bytes; longer sequences are not UTF-8, and may be cut anywhere.
    (max.saturating_sub(3)..=max).rev().find(begins).unwrap_or(max)
}

impl Drop for GuestOutputs {
    fn drop(&mut self) {
        // The last words of a guest rarely end with a line feed.
        for (stream, unfinished) in
            [(StandardStream::Stdout, &self.stdout), (StandardStream::Stderr, &self.stderr)]
        {
            let unfinished = take(&mut *unfinished.lock().unwrap_or_else(PoisonError::into_inner));
            self.say(stream, &unfinished);
        }
    }
}

impl IsTerminal for GuestOutput {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for GuestOutput {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for GuestOutput {
    async fn ready(&mut self) {}
}

#[wasmtime_wasi::async_trait]
impl OutputStream for GuestOutput {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.outputs.write(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_MAX)
    }
}

impl AsyncWrite for GuestOutput {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let bytes = &bytes[..bytes.len().min(WRITE_MAX)];
        self.outputs.write(self.stream, bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_has_not_ended_is_counted() {
        let outputs = GuestOutputs::new(&crate::world::journal::tests::with_rate(1000));
        outputs.write(StandardStream::Stdout, b"ended\nnot");
        outputs.write(StandardStream::Stderr, b"neither");
        assert_eq!(outputs.unfinished(), 10);
        outputs.write(StandardStream::Stdout, &[b'x'; 2 * MESSAGE_MAX]);
        assert!(outputs.unfinished() <= MESSAGE_MAX + 7, "a long line is cut");
        outputs.write(StandardStream::Stdout, b"\n");
        assert_eq!(outputs.unfinished(), 7);
    }

    #[test]
    fn no_character_is_cut_in_two() {
        let text = "aäö€𝄞".as_bytes();
        for max in 1..text.len() {
            let end = end_of_character(text, max);
            assert!(end <= max && max - end < 4);
            assert!(std::str::from_utf8(&text[..end]).is_ok(), "{max}");
        }
        assert_eq!(end_of_character(&[0x80; 10], 5), 5, "what is no text may be cut anywhere");
    }
}
