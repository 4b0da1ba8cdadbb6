//! A guest's standard output and error: each line is an entry in the journal.

use super::journal::{MESSAGE_MAX, Shared};
use crate::journal::Priority;
use bytes::Bytes;
use std::{
    io,
    mem::take,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};
use tokio::io::AsyncWrite;
use wasmtime_wasi::{
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamResult},
};

/// How much a guest may write at once.
const WRITE_MAX: usize = 64 << 10;

/// Which of the two it is.
#[derive(Clone, Copy)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

/// One of an instance's two outputs. All of its clones are the same output.
#[derive(Clone)]
pub(super) struct Output(Arc<Lines>);

struct Lines {
    journal: Arc<Shared>,
    stream: Stream,
    /// What was written since the last end of a line.
    unfinished: Mutex<Vec<u8>>,
}

impl Output {
    pub(super) fn new(journal: &Arc<Shared>, stream: Stream) -> Self {
        Self(Arc::new(Lines { journal: journal.clone(), stream, unfinished: Mutex::default() }))
    }
}

impl Lines {
    fn write(&self, bytes: &[u8]) {
        let mut unfinished = self.unfinished.lock().unwrap_or_else(PoisonError::into_inner);
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            unfinished.extend_from_slice(part);
            if part.ends_with(b"\n") || unfinished.len() > MESSAGE_MAX {
                self.say(&take(&mut *unfinished));
            }
        }
    }

    fn say(&self, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        let line = line.trim_end_matches(['\n', '\r']);
        if line.is_empty() {
            return;
        }
        let priority = match self.stream {
            Stream::Stdout => Priority::Info,
            Stream::Stderr => Priority::Warning,
        };
        self.journal.send(priority, line, &[]);
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        // The last words of a guest rarely end with a line feed.
        let unfinished = take(self.unfinished.get_mut().unwrap_or_else(PoisonError::into_inner));
        self.say(&unfinished);
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

#[wasmtime_wasi::async_trait]
impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.0.write(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_MAX)
    }
}

impl AsyncWrite for Output {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let bytes = &bytes[..bytes.len().min(WRITE_MAX)];
        self.0.write(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
