//! A connection whose reads and writes are noted as activity.

use crate::listen::{activity::Activity, opening::HttpWire};
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection whose activity is noted.
pub(super) struct Observed {
    pub(super) wire: HttpWire,
    pub(super) activity: Arc<Activity>,
    /// Bytes that are read begin a request, unless one is in progress.
    pub(super) notes_reads: bool,
}

impl AsyncRead for Observed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let Poll::Ready(read) = Pin::new(&mut self.wire).poll_read(context, buffer) else {
            // A stream of HTTP/2 may be silent for as long as it likes.
            if self.notes_reads {
                self.activity.block_read();
            }
            return Poll::Pending;
        };
        let length = buffer.filled().len() - before;
        match self.notes_reads {
            true if length > 0 => self.activity.read(length),
            _ => self.activity.read_frames(length),
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for Observed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.wire).poll_write(context, bytes);
        self.activity.wrote(length(&written));
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.wire).poll_write_vectored(context, slices);
        self.activity.wrote(length(&written));
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.wire).poll_flush(context);
        // TLS takes more than the kernel does. A flush without anything to write is no progress.
        if flushed.is_pending() || self.activity.is_write_blocked() {
            self.activity.wrote(flushed.is_ready().then_some(0));
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(context)
    }
}

/// Returns the number of bytes written, unless none can be for now.
fn length(written: &Poll<io::Result<usize>>) -> Option<usize> {
    match written {
        Poll::Pending => None,
        Poll::Ready(written) => Some(written.as_ref().copied().unwrap_or_default()),
    }
}
