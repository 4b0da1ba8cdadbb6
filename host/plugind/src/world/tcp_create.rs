//! `create` of TCP sockets of `wasi:sockets`: not so many that none of the descriptors is left for other plugins and for
//! the daemon itself.

use crate::{base::descriptors, world::host_state::HostState};
use wasmtime::{
    Result, StoreContextMut,
    component::{Linker, Resource, ResourceTable},
};
use wasmtime_wasi::{
    p2::{
        TcpSocket as TcpSocket02,
        bindings::sockets::{
            network::{ErrorCode as ErrorCode02, Host as Errors02, IpAddressFamily as Family02},
            tcp_create_socket::Host as _,
        },
    },
    p3::bindings::sockets::types::{
        ErrorCode as ErrorCode03, Host as Errors03, HostTcpSocket as _,
        IpAddressFamily as Family03, TcpSocket as TcpSocket03,
    },
    sockets::{WasiSocketsCtxView, WasiSocketsView},
};

/// The function of both versions, as the library links it.
const CREATE_02: [&str; 2] = ["wasi:sockets/tcp-create-socket@0.2.12", "create-tcp-socket"];
const CREATE_03: [&str; 2] = ["wasi:sockets/types@0.3.0", "[static]tcp-socket.create"];
/// The most sockets of an instance.
const SOCKETS_MAX: usize = 256;

/// Replaces what the library linked.
///
/// # Errors
/// When it linked nothing that could be replaced.
pub(super) fn link(to: &mut Linker<HostState>) -> Result<()> {
    to.allow_shadowing(true);
    let linked = to.instance(CREATE_02[0]).and_then(|mut instance| {
        instance.func_wrap(CREATE_02[1], |mut store: StoreContextMut<'_, HostState>, (family,)| {
            Ok((create_02(&mut store.data_mut().sockets(), family)?,))
        })
    });
    let linked = linked.and_then(|()| {
        to.instance(CREATE_03[0])?.func_wrap(
            CREATE_03[1],
            |mut store: StoreContextMut<'_, HostState>, (family,)| {
                Ok((create_03(&mut store.data_mut().sockets(), family)?,))
            },
        )
    });
    to.allow_shadowing(false);
    linked
}

fn create_02(
    sockets: &mut WasiSocketsCtxView<'_>,
    family: Family02,
) -> Result<Result<Resource<TcpSocket02>, ErrorCode02>> {
    if !has_room(sockets.table) {
        return Ok(Err(ErrorCode02::NewSocketLimit));
    }
    match sockets.create_tcp_socket(family) {
        Ok(socket) => Ok(Ok(socket)),
        Err(error) => Errors02::convert_error_code(sockets, error).map(Err),
    }
}

fn create_03(
    sockets: &mut WasiSocketsCtxView<'_>,
    family: Family03,
) -> Result<Result<Resource<TcpSocket03>, ErrorCode03>> {
    if !has_room(sockets.table) {
        let why = "the plugin or the daemon has too many sockets".to_owned();
        return Ok(Err(ErrorCode03::Other(Some(why))));
    }
    match sockets.create(family) {
        Ok(socket) => Ok(Ok(socket)),
        Err(error) => Errors03::convert_error_code(sockets, error).map(Err),
    }
}

/// Whether an instance may have another socket: it has not too many, and some descriptors are left for others.
fn has_room(table: &mut ResourceTable) -> bool {
    let sockets =
        table.iter_mut().filter(|entry| entry.is::<TcpSocket02>() || entry.is::<TcpSocket03>());
    let all = descriptors::limit().map_or(u64::MAX, descriptors::for_others);
    sockets.count() < SOCKETS_MAX && descriptors::open().is_none_or(|open| open < all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmtime_wasi::sockets::WasiSocketsCtx;

    #[test]
    fn an_instance_has_no_more_sockets_than_it_may() {
        let mut context = wasmtime_wasi::WasiCtx::builder().allow_tcp(true).build();
        let context: &mut WasiSocketsCtx = context.sockets();
        let mut table = ResourceTable::new();
        let mut sockets = WasiSocketsCtxView { ctx: context, table: &mut table };
        let all: Vec<_> = (0..SOCKETS_MAX / 2)
            .map(|_| {
                create_03(&mut sockets, Family03::Ipv4).unwrap().unwrap();
                create_02(&mut sockets, Family02::Ipv4).unwrap().unwrap()
            })
            .collect();
        let refused = create_02(&mut sockets, Family02::Ipv6).unwrap();
        assert!(matches!(refused, Err(ErrorCode02::NewSocketLimit)));
        assert!(create_03(&mut sockets, Family03::Ipv6).unwrap().is_err());
        table.delete(all.into_iter().next().unwrap()).unwrap();
        let mut sockets = WasiSocketsCtxView { ctx: context, table: &mut table };
        assert!(create_02(&mut sockets, Family02::Ipv4).unwrap().is_ok());
    }
}
