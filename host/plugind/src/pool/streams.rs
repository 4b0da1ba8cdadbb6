//! Connections and datagrams as calls of a component's own handlers.

use crate::{
    base::text::one_line,
    pool::{call::Outcome, failure::CallFailure},
    world::{
        HostState, bindings::exports::plugind::plugin::datagram_handler,
        client_connection::ClientConnection, link::ConnectionExport, notify::STATUS_MAX,
        received_datagram::ReceivedDatagram,
    },
};
use wasmtime::component::Accessor;

/// Has the guest serve a connection, to its end.
///
/// # Errors
/// When the instance failed.
pub(super) async fn serve_connection(
    accessor: &Accessor<HostState>,
    handler: &ConnectionExport,
    connection: ClientConnection,
) -> wasmtime::Result<Outcome<()>> {
    let given = accessor.with(|mut store| store.get().give_connection(connection));
    let Ok(connection) = given else { return Ok(Err(CallFailure::NoCapacity)) };
    let said = match handler {
        ConnectionExport::Async(handler) => handler.call_handle(accessor, connection).await?,
        ConnectionExport::Blocking(handler) => handler.call_handle(accessor, connection).await?,
    };
    Ok(said.map_err(|text| CallFailure::Guest(one_line(&text, STATUS_MAX))))
}

/// Has the guest answer a datagram.
///
/// # Errors
/// When the instance failed.
pub(super) async fn answer_datagram(
    accessor: &Accessor<HostState>,
    handler: &datagram_handler::Guest,
    datagram: ReceivedDatagram,
) -> wasmtime::Result<Option<Vec<u8>>> {
    let ReceivedDatagram { socket, client, bytes } = datagram;
    handler.call_handle(accessor, socket.to_string(), client.into(), bytes).await
}
