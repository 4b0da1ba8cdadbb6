//! `plugind:plugin/websockets` and `plugind:plugin/blocking-websockets`: WebSockets, as a guest receives and sends their
//! messages.

use crate::world::{
    bindings::plugind::plugin::{
        blocking_websockets::{self, WebsocketError as BlockingError},
        websockets::{self, WebsocketError},
    },
    client_websocket::{ClientWebSocket, WebSocketError, WebSocketMessage, WebSocketRequest},
};
use wasmtime::component::{Accessor, HasData, Resource, ResourceTable};

/// Converts between the types of the host and those of an interface. The two interfaces define equal types.
macro_rules! conversions {
    ($interface:ident) => {
        impl From<WebSocketRequest> for $interface::UpgradeRequest {
            fn from(request: WebSocketRequest) -> Self {
                let WebSocketRequest { socket, path, host, subprotocols, headers } = request;
                let field = |(name, value)| $interface::HeaderField { name, value };
                let headers = headers.into_iter().map(field).collect();
                Self { socket, path, host, subprotocols, headers }
            }
        }

        impl From<WebSocketError> for $interface::WebsocketError {
            fn from(error: WebSocketError) -> Self {
                match error {
                    WebSocketError::Reset => Self::Reset,
                    WebSocketError::TimedOut => Self::TimedOut,
                    WebSocketError::Closed => Self::Closed,
                    WebSocketError::GoingAway => Self::GoingAway,
                    WebSocketError::Protocol => Self::Protocol,
                    WebSocketError::Busy => Self::Busy,
                    WebSocketError::Invalid => Self::Invalid,
                }
            }
        }

        impl From<WebSocketMessage> for $interface::Message {
            fn from(message: WebSocketMessage) -> Self {
                match message {
                    WebSocketMessage::Text(text) => Self::Text(text),
                    WebSocketMessage::Binary(bytes) => Self::Binary(bytes),
                    WebSocketMessage::Close { code, reason } => {
                        Self::Close($interface::CloseReason { code, reason })
                    }
                }
            }
        }

        impl From<$interface::Message> for WebSocketMessage {
            fn from(message: $interface::Message) -> Self {
                match message {
                    $interface::Message::Text(text) => Self::Text(text),
                    $interface::Message::Binary(bytes) => Self::Binary(bytes),
                    $interface::Message::Close(close) => {
                        Self::Close { code: close.code, reason: close.reason }
                    }
                }
            }
        }
    };
}

conversions!(websockets);
conversions!(blocking_websockets);

/// WebSockets have nothing in common.
pub(super) struct Shared;

impl HasData for Shared {
    type Data<'a> = Guest<'a>;
}

/// The WebSockets of one guest.
pub struct Guest<'a> {
    pub(super) table: &'a mut ResourceTable,
}

impl Guest<'_> {
    fn get(
        &self,
        websocket: &Resource<ClientWebSocket>,
    ) -> Result<ClientWebSocket, WebSocketError> {
        self.table.get(websocket).cloned().map_err(|_| WebSocketError::Closed)
    }

    /// Forgets a WebSocket. It is closed when the call ends, with a code that depends on the result of the call.
    fn forget(&mut self, websocket: Resource<ClientWebSocket>) -> wasmtime::Result<()> {
        self.table.delete(websocket)?;
        Ok(())
    }
}

impl websockets::Host for Guest<'_> {}

impl websockets::HostWebsocket for Guest<'_> {
    fn accept(
        &mut self,
        websocket: Resource<ClientWebSocket>,
        subprotocol: Option<String>,
    ) -> Result<(), WebsocketError> {
        Ok(self.get(&websocket)?.accept(subprotocol)?)
    }

    fn refuse(
        &mut self,
        websocket: Resource<ClientWebSocket>,
        status: u16,
    ) -> Result<(), WebsocketError> {
        Ok(self.get(&websocket)?.refuse(status)?)
    }

    fn drop(&mut self, websocket: Resource<ClientWebSocket>) -> wasmtime::Result<()> {
        self.forget(websocket)
    }
}

impl<T: 'static> websockets::HostWebsocketWithStore<T> for Shared {
    async fn receive(
        accessor: &Accessor<T, Self>,
        websocket: Resource<ClientWebSocket>,
    ) -> Result<websockets::Message, WebsocketError> {
        let found = accessor.with(|mut store| store.get().get(&websocket));
        Ok(found?.receive().await?.into())
    }

    async fn send(
        accessor: &Accessor<T, Self>,
        websocket: Resource<ClientWebSocket>,
        message: websockets::Message,
    ) -> Result<(), WebsocketError> {
        let found = accessor.with(|mut store| store.get().get(&websocket));
        Ok(found?.send(message.into()).await?)
    }
}

impl blocking_websockets::Host for Guest<'_> {}

impl blocking_websockets::HostWebsocket for Guest<'_> {
    fn accept(
        &mut self,
        websocket: Resource<ClientWebSocket>,
        subprotocol: Option<String>,
    ) -> Result<(), BlockingError> {
        Ok(self.get(&websocket)?.accept(subprotocol)?)
    }

    fn refuse(
        &mut self,
        websocket: Resource<ClientWebSocket>,
        status: u16,
    ) -> Result<(), BlockingError> {
        Ok(self.get(&websocket)?.refuse(status)?)
    }

    async fn receive(
        &mut self,
        websocket: Resource<ClientWebSocket>,
    ) -> Result<blocking_websockets::Message, BlockingError> {
        Ok(self.get(&websocket)?.receive().await?.into())
    }

    async fn send(
        &mut self,
        websocket: Resource<ClientWebSocket>,
        message: blocking_websockets::Message,
    ) -> Result<(), BlockingError> {
        Ok(self.get(&websocket)?.send(message.into()).await?)
    }

    fn drop(&mut self, websocket: Resource<ClientWebSocket>) -> wasmtime::Result<()> {
        self.forget(websocket)
    }
}
