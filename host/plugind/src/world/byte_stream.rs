//! The streams of sockets: their bytes, read and written without waiting, by the executor that watches them.

use bytes::BufMut;
use rustix::net::{Shutdown, connect_unspec, shutdown};
use std::{
    io, net,
    os::unix,
    task::{Context, Poll},
};
use tokio::{
    io::Interest,
    net::{TcpStream, UnixStream},
};

/// Both directions of a stream, without waiting for either.
pub trait ByteStream: Send + Sync + 'static {
    /// Waits until something can be read.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Reads at most `max` bytes of what is there; 0 bytes mean the end.
    fn try_read(&self, buffer: &mut Vec<u8>, max: usize) -> io::Result<usize>;
    /// Waits until something can be written.
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Writes as much of `bytes` as there is room for.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;
    /// Closes one direction, or both.
    fn shut_down(&self, direction: Shutdown);
    /// Resets it, so that the peer sees an error.
    fn reset(&self);
}

/// A stream that no executor watches yet.
pub trait UnwatchedStream: Send + 'static {
    /// Has the executor of this thread watch it.
    ///
    /// # Errors
    /// When the kernel refuses that.
    fn watch(self: Box<Self>) -> io::Result<Box<dyn ByteStream>>;
}

macro_rules! byte_stream {
    ($unwatched:ty => $stream:ty) => {
        impl UnwatchedStream for $unwatched {
            fn watch(self: Box<Self>) -> io::Result<Box<dyn ByteStream>> {
                Ok(Box::new(<$stream>::from_std(*self)?))
            }
        }

        impl ByteStream for $stream {
            fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.poll_read_ready(cx)
            }

            fn try_read(&self, buffer: &mut Vec<u8>, max: usize) -> io::Result<usize> {
                let mut read = None;
                // If less came than there is room for, nothing is left, and the next read waits for the kernel to report
                // more instead of asking it.
                let tried = self.try_io(Interest::READABLE, || {
                    let bytes = self.try_read_buf(&mut buffer.limit(max))?;
                    read = Some(bytes);
                    match 0 < bytes && bytes < max {
                        true => Err(io::ErrorKind::WouldBlock.into()),
                        false => Ok(bytes),
                    }
                });
                read.map_or(tried, Ok)
            }

            fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.poll_write_ready(cx)
            }

            fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
                <$stream>::try_write(self, bytes)
            }

            fn shut_down(&self, direction: Shutdown) {
                // A connection that has ended has nothing left to close.
                shutdown(self, direction).ok();
            }

            fn reset(&self) {
                // A unix socket has no such thing: its other end sees the end.
                if connect_unspec(self).is_err() {
                    shutdown(self, Shutdown::Both).ok();
                }
            }
        }
    };
}

byte_stream!(net::TcpStream => TcpStream);
byte_stream!(unix::net::UnixStream => UnixStream);
