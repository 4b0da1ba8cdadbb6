//! WebSockets as calls of a component's own handler.

use crate::{
    base::text::one_line,
    pool::{call::Outcome, failure::CallFailure},
    world::{
        HostState, client_websocket::ClientWebSocket, link::WebSocketExport, notify::STATUS_MAX,
    },
};
use wasmtime::component::Accessor;

/// Has the guest serve a WebSocket, to its end.
///
/// # Errors
/// When the instance failed.
pub(super) async fn serve_websocket(
    accessor: &Accessor<HostState>,
    handler: &WebSocketExport,
    websocket: ClientWebSocket,
) -> wasmtime::Result<Outcome<()>> {
    let request = websocket.request().clone();
    let given = accessor.with(|mut store| store.get().give_websocket(websocket));
    let Ok(websocket) = given else { return Ok(Err(CallFailure::NoCapacity)) };
    let said = match handler {
        WebSocketExport::Async(handler) => {
            handler.call_handle(accessor, request.into(), websocket).await?
        }
        WebSocketExport::Blocking(handler) => {
            handler.call_handle(accessor, request.into(), websocket).await?
        }
    };
    Ok(said.map_err(|text| CallFailure::Guest(one_line(&text, STATUS_MAX))))
}
