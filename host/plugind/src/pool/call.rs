//! Work for an instance, whichever protocol it came by, and what comes of it.
//!
//! A call is a value: one that cannot be served where it was sent comes back whole, and another generation can have it.

use crate::pool::failure::CallFailure;
use bytes::Bytes;
use futures::channel::oneshot;
use tokio::io::{AsyncRead, AsyncWrite};
use wasmtime_wasi_http::WasiBody;

/// One piece of work for an instance.
pub enum Call {
    /// An HTTP request.
    Http(Box<http::Request<WasiBody>>),
    /// A connection of a stream socket.
    Stream(Box<dyn ByteStream>),
    /// A datagram.
    Datagram(Bytes),
}

/// Why a call has no reply.
#[derive(Debug)]
pub enum NotServed {
    /// This generation takes no more calls. The call is given back for the next one.
    Draining(Call),
    /// Too many calls wait, or no instance had room for this one in time.
    Busy,
    /// The guest did not reply in time.
    TimedOut,
    /// The guest failed.
    Failed(CallFailure),
}

/// A connection of a stream socket.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for S {}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Http(_) => "Http",
            Self::Stream(_) => "Stream",
            Self::Datagram(_) => "Datagram",
        })
    }
}

/// What an instance says of a call, in the terms of its protocol.
pub(crate) type Outcome<T> = Result<T, CallFailure>;

/// Where the response to a request goes. The type is that of the runtime's adapter, which sends it.
pub(crate) type HttpSender = oneshot::Sender<Result<http::Response<WasiBody>, wasmtime::Error>>;

/// Where the reply to a call goes, from the worker's side. Dropping it without a reply is a failure.
pub(crate) enum ReplySender {
    Http(HttpSender),
    Stream(oneshot::Sender<Outcome<()>>),
    Datagram(oneshot::Sender<Outcome<Option<Bytes>>>),
}

/// Where the reply to a call comes from, on the caller's side.
pub(crate) enum ReplyReceiver {
    Http(oneshot::Receiver<Result<http::Response<WasiBody>, wasmtime::Error>>),
    Stream(oneshot::Receiver<Outcome<()>>),
    Datagram(oneshot::Receiver<Outcome<Option<Bytes>>>),
}

impl Call {
    /// Both ends for the reply to this call.
    pub(crate) fn channel(&self) -> (ReplySender, ReplyReceiver) {
        match self {
            Self::Http(_) => {
                let (sender, receiver) = oneshot::channel();
                (ReplySender::Http(sender), ReplyReceiver::Http(receiver))
            }
            Self::Stream(_) => {
                let (sender, receiver) = oneshot::channel();
                (ReplySender::Stream(sender), ReplyReceiver::Stream(receiver))
            }
            Self::Datagram(_) => {
                let (sender, receiver) = oneshot::channel();
                (ReplySender::Datagram(sender), ReplyReceiver::Datagram(receiver))
            }
        }
    }
}
