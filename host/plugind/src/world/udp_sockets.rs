//! UDP sockets of `wasi:sockets`, which no plugin gets: only the daemon opens them.

use crate::world::{host_state::HostState, replacing::replace};
use wasmtime::{
    Result, StoreContextMut,
    component::{Linker, Resource},
};
use wasmtime_wasi::{
    p2::{
        UdpSocket as UdpSocket02,
        bindings::sockets::network::{ErrorCode as ErrorCode02, IpAddressFamily as Family02},
    },
    p3::bindings::sockets::types::{
        ErrorCode as ErrorCode03, IpAddressFamily as Family03, UdpSocket as UdpSocket03,
    },
};

/// The interfaces of both versions, as the library links them.
const CREATE_02: &str = "wasi:sockets/udp-create-socket@0.2.12";
const TYPES_03: &str = "wasi:sockets/types@0.3.0";

type Created02 = std::result::Result<Resource<UdpSocket02>, ErrorCode02>;
type Created03 = std::result::Result<Resource<UdpSocket03>, ErrorCode03>;

/// Replaces what the library linked.
///
/// # Errors
/// When it linked nothing that could be replaced.
pub(super) fn link(to: &mut Linker<HostState>) -> Result<()> {
    replace(to, |to| {
        to.instance(CREATE_02)?.func_wrap(
            "create-udp-socket",
            |store: StoreContextMut<'_, HostState>, (_,): (Family02,)| {
                store.data().socket_denials().udp("wasi:sockets/udp-create-socket@0.2");
                Ok((Created02::Err(ErrorCode02::AccessDenied),))
            },
        )?;
        to.instance(TYPES_03)?.func_wrap(
            "[static]udp-socket.create",
            |store: StoreContextMut<'_, HostState>, (_,): (Family03,)| {
                store.data().socket_denials().udp("wasi:sockets/types@0.3");
                Ok((Created03::Err(ErrorCode03::AccessDenied),))
            },
        )
    })
}
