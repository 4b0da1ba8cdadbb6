//! `plugind:plugin/websockets`: WebSockets, as a guest receives and sends their messages.

use crate::world::{
    bindings::plugind::plugin::websockets::{
        CloseReason, HeaderField, Host, HostWebsocket, HostWebsocketWithStore, Message,
        UpgradeRequest, WebsocketError,
    },
    client_websocket::{ClientWebSocket, WebSocketError, WebSocketMessage, WebSocketRequest},
};
use wasmtime::component::{Accessor, HasData, Resource, ResourceTable};

impl From<&WebSocketRequest> for UpgradeRequest {
    fn from(request: &WebSocketRequest) -> Self {
        let WebSocketRequest { socket, path, host, subprotocols, headers } = request.clone();
        let headers = headers.into_iter().map(|(name, value)| HeaderField { name, value });
        Self { socket, path, host, subprotocols, headers: headers.collect() }
    }
}

impl From<WebSocketError> for WebsocketError {
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

impl From<WebSocketMessage> for Message {
    fn from(message: WebSocketMessage) -> Self {
        match message {
            WebSocketMessage::Text(text) => Self::Text(text),
            WebSocketMessage::Binary(bytes) => Self::Binary(bytes),
            WebSocketMessage::Close { code, reason } => Self::Close(CloseReason { code, reason }),
        }
    }
}

impl From<Message> for WebSocketMessage {
    fn from(message: Message) -> Self {
        match message {
            Message::Text(text) => Self::Text(text),
            Message::Binary(bytes) => Self::Binary(bytes),
            Message::Close(CloseReason { code, reason }) => Self::Close { code, reason },
        }
    }
}

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
}

impl Host for Guest<'_> {}

impl HostWebsocket for Guest<'_> {
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
        // It is closed when the call ends, as the call ends.
        self.table.delete(websocket)?;
        Ok(())
    }
}

impl<T: 'static> HostWebsocketWithStore<T> for Shared {
    async fn receive(
        accessor: &Accessor<T, Self>,
        websocket: Resource<ClientWebSocket>,
    ) -> Result<Message, WebsocketError> {
        let found = accessor.with(|mut store| store.get().get(&websocket));
        Ok(found?.receive().await?.into())
    }

    async fn send(
        accessor: &Accessor<T, Self>,
        websocket: Resource<ClientWebSocket>,
        message: Message,
    ) -> Result<(), WebsocketError> {
        let found = accessor.with(|mut store| store.get().get(&websocket));
        Ok(found?.send(message.into()).await?)
    }
}
