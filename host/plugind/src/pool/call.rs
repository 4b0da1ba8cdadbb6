//! Work for an instance, of any protocol, and its result.
//!
//! A call is a value: one that cannot be served where it was sent comes back whole, and another generation can have it.

use crate::{
    pool::failure::CallFailure,
    world::{
        client_connection::ClientConnection, client_websocket::ClientWebSocket,
        guest_message::GuestMessage, received_datagram::ReceivedDatagram,
    },
};
use futures::channel::oneshot;
use wasmtime_wasi_http::WasiBody;

/// One piece of work for an instance.
pub enum Call {
    /// An HTTP request.
    Http(Box<http::Request<WasiBody>>),
    /// A connection of a stream socket.
    Stream(ClientConnection),
    /// A datagram.
    Datagram(Box<ReceivedDatagram>),
    /// A WebSocket.
    WebSocket(ClientWebSocket),
    /// A message.
    Message(Box<GuestMessage>),
}

/// Why a call has no reply.
#[derive(Debug)]
pub enum NotServed {
    /// This generation takes no more calls. The call is given back for the next one.
    Draining(Call),
    /// Too many calls wait, or no instance had room for this one in time.
    Busy(BusyCause),
    /// The guest did not reply in time.
    TimedOut,
    /// The guest failed.
    Failed(CallFailure),
}

/// Why no instance took a call, and the setting to raise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BusyCause {
    /// The instances had other calls, or none could start.
    #[error(
        "no instance took the request in time, or too many wait; if all are busy, raise instances.max or \
         instances.concurrency"
    )]
    Instances,
    /// There was no memory or no place in the instance pool.
    #[error(
        "there is no room for another instance; raise limits.memory-max, or [pool] in plugind.toml"
    )]
    NoRoom,
    /// Other calls wait for a handover.
    #[error("too many requests wait for a handover; raise handover.held-max")]
    Held,
    /// The plugin has other connections.
    #[error("the plugin has too many connections; raise limits.connections-max")]
    Connections,
    /// The generation that had it drains, and no other one serves.
    #[error("the plugin is being replaced")]
    Replaced,
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Http(_) => "Http",
            Self::Stream(_) => "Stream",
            Self::Datagram(_) => "Datagram",
            Self::WebSocket(_) => "WebSocket",
            Self::Message(_) => "Message",
        })
    }
}

/// The result of a call, in the terms of its protocol.
pub(crate) type Outcome<T> = Result<T, CallFailure>;

/// Where the response to a request goes. The type is that of the runtime's adapter, which sends it.
pub(crate) type HttpSender = oneshot::Sender<Result<http::Response<WasiBody>, wasmtime::Error>>;

/// Where the reply to a call goes, from the worker's side. Dropping it without a reply is a failure.
pub(crate) enum ReplySender {
    Http(HttpSender),
    Stream(oneshot::Sender<Outcome<()>>),
    Datagram(oneshot::Sender<Outcome<Option<Vec<u8>>>>),
    WebSocket(oneshot::Sender<Outcome<()>>),
    Message(oneshot::Sender<Outcome<()>>),
}

/// Where the reply to a call comes from, on the caller's side.
pub(crate) enum ReplyReceiver {
    Http(oneshot::Receiver<Result<http::Response<WasiBody>, wasmtime::Error>>),
    Stream(oneshot::Receiver<Outcome<()>>),
    Datagram(oneshot::Receiver<Outcome<Option<Vec<u8>>>>),
    WebSocket(oneshot::Receiver<Outcome<()>>),
    Message(oneshot::Receiver<Outcome<()>>),
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
            Self::WebSocket(_) => {
                let (sender, receiver) = oneshot::channel();
                (ReplySender::WebSocket(sender), ReplyReceiver::WebSocket(receiver))
            }
            Self::Message(_) => {
                let (sender, receiver) = oneshot::channel();
                (ReplySender::Message(sender), ReplyReceiver::Message(receiver))
            }
        }
    }
}
