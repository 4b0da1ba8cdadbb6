//! WebSockets as calls of a component's own handler.

use crate::{
    base::text::one_line,
    pool::{call::Outcome, failure::CallFailure},
    world::{
        HostState, client_websocket::ClientWebSocket, link::WebSocketExport, notify::STATUS_MAX,
    },
};
use futures::future::Either;
use std::pin::pin;
use wasmtime::component::Accessor;

/// Has the guest serve a WebSocket, to its end. Calls `decided` when it has accepted or refused the request: from then on
/// it may last as long as both ends want.
///
/// # Errors
/// When the instance failed.
pub(super) async fn serve_websocket(
    accessor: &Accessor<HostState>,
    handler: &WebSocketExport,
    websocket: ClientWebSocket,
    decided: impl FnOnce(),
) -> wasmtime::Result<Outcome<()>> {
    let (request, decision) = (websocket.request().clone(), websocket.decided());
    let given = accessor.with(|mut store| store.get().give_websocket(websocket));
    let Ok(websocket) = given else { return Ok(Err(CallFailure::NoCapacity)) };
    let mut served = pin!(match handler {
        WebSocketExport::Async(handler) => {
            Either::Left(handler.call_handle(accessor, request.into(), websocket))
        }
        WebSocketExport::Blocking(handler) => {
            Either::Right(handler.call_handle(accessor, request.into(), websocket))
        }
    });
    let said = tokio::select! {
        biased;
        said = &mut served => said?,
        () = decision.cancelled() => {
            decided();
            served.await?
        }
    };
    Ok(said.map_err(|text| CallFailure::Guest(one_line(&text, STATUS_MAX))))
}
