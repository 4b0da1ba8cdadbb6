//! Messages as calls of a component's handler.

use crate::{
    base::text::one_line,
    pool::{call::Outcome, failure::CallFailure},
    world::{
        HostState,
        bindings::messaging::{
            exports::wasi::messaging::incoming_handler, wasi::messaging::types::Error,
        },
        guest_message::GuestMessage,
        notify::STATUS_MAX,
    },
};
use wasmtime::component::Accessor;

/// Has the guest handle a message.
///
/// # Errors
/// When the instance failed.
pub(super) async fn handle_message(
    accessor: &Accessor<HostState>,
    handler: &incoming_handler::Guest,
    message: GuestMessage,
) -> wasmtime::Result<Outcome<()>> {
    let given = accessor.with(|mut store| store.get().give_message(message));
    let Ok(message) = given else { return Ok(Err(CallFailure::NoCapacity)) };
    let said = handler.call_handle(accessor, message).await?;
    Ok(said.map_err(|error| CallFailure::Guest(one_line(&text(&error), STATUS_MAX))))
}

fn text(error: &Error) -> String {
    match error {
        Error::Timeout => "the guest reports a timeout".to_owned(),
        Error::Connection(text) | Error::PermissionDenied(text) | Error::Other(text) => {
            text.clone()
        }
    }
}
