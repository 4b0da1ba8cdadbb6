//! TCP sockets of `wasi:sockets`: they are counted from their `create` until neither the resource nor a stream of it is
//! left, so that a plugin has no more of them than it may.

use crate::world::{host_state::HostState, open_sockets::OpenSocket, replacing::replace};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::sync::oneshot;
use wasmtime::{
    AsContextMut, Result, StoreContextMut,
    component::{
        Access, FutureConsumer, FutureReader, Linker, Resource, ResourceType, Source, StreamReader,
    },
};
use wasmtime_wasi::{
    p2::{
        TcpSocket as TcpSocket02,
        bindings::sockets::{
            network::{ErrorCode as ErrorCode02, Host as Errors02, IpAddressFamily as Family02},
            tcp::HostTcpSocket as Sockets02,
            tcp_create_socket::Host as _,
        },
    },
    p3::bindings::sockets::types::{
        ErrorCode as ErrorCode03, Host as Errors03, HostTcpSocket as Sockets03,
        HostTcpSocketWithStore, IpAddressFamily as Family03, TcpSocket as TcpSocket03,
    },
    sockets::{WasiSockets, WasiSocketsView},
};

/// The interfaces of both versions, as the library links them.
const CREATE_02: &str = "wasi:sockets/tcp-create-socket@0.2.12";
const TCP_02: &str = "wasi:sockets/tcp@0.2.12";
const TYPES_03: &str = "wasi:sockets/types@0.3.0";
/// The resource, in both.
const TCP_SOCKET: &str = "tcp-socket";

/// The end of a stream of 0.3.
type StreamEnd = std::result::Result<(), ErrorCode03>;

/// Replaces what the library linked.
///
/// # Errors
/// When it linked nothing that could be replaced.
pub(super) fn link(to: &mut Linker<HostState>) -> Result<()> {
    replace(to, |to| link_02(to).and_then(|()| link_03(to)))
}

fn link_02(to: &mut Linker<HostState>) -> Result<()> {
    to.instance(CREATE_02)?.func_wrap(
        "create-tcp-socket",
        |mut store: StoreContextMut<'_, HostState>, (family,)| {
            Ok((create_02(store.data_mut(), family)?,))
        },
    )?;
    let socket = ResourceType::host::<TcpSocket02>();
    to.instance(TCP_02)?.resource(TCP_SOCKET, socket, |mut store, resource| {
        let state = store.data_mut();
        state.open_sockets().closed(resource);
        Sockets02::drop(&mut state.sockets(), Resource::new_own(resource))
    })
}

fn link_03(to: &mut Linker<HostState>) -> Result<()> {
    let mut types = to.instance(TYPES_03)?;
    types.func_wrap(
        "[static]tcp-socket.create",
        |mut store: StoreContextMut<'_, HostState>, (family,)| {
            Ok((create_03(store.data_mut(), family)?,))
        },
    )?;
    types.func_wrap(
        "[method]tcp-socket.send",
        |mut store: StoreContextMut<'_, HostState>,
         (socket, data): (Resource<TcpSocket03>, StreamReader<u8>)| {
            let open = store.data_mut().open_sockets().of(socket.rep());
            let access = Access::<_, WasiSockets>::new(store.as_context_mut(), HostState::sockets);
            let sent = WasiSockets::send(access, socket, data)?;
            Ok((with_end(store, sent, open)?,))
        },
    )?;
    types.func_wrap(
        "[method]tcp-socket.receive",
        |mut store: StoreContextMut<'_, HostState>, (socket,): (Resource<TcpSocket03>,)| {
            let open = store.data_mut().open_sockets().of(socket.rep());
            let access = Access::<_, WasiSockets>::new(store.as_context_mut(), HostState::sockets);
            let (stream, received) = WasiSockets::receive(access, socket)?;
            Ok(((stream, with_end(store, received, open)?),))
        },
    )?;
    types.resource(TCP_SOCKET, ResourceType::host::<TcpSocket03>(), |mut store, resource| {
        let state = store.data_mut();
        state.open_sockets().closed(resource);
        Sockets03::drop(&mut state.sockets(), Resource::new_own(resource))
    })
}

fn create_02(
    state: &mut HostState,
    family: Family02,
) -> Result<std::result::Result<Resource<TcpSocket02>, ErrorCode02>> {
    let Some(open) = state.open_sockets().admit() else {
        return Ok(Err(ErrorCode02::NewSocketLimit));
    };
    match state.sockets().create_tcp_socket(family) {
        Ok(socket) => {
            state.open_sockets().opened(socket.rep(), open);
            Ok(Ok(socket))
        }
        Err(error) => {
            let code = Errors02::convert_error_code(&mut state.sockets(), error)?;
            if code == ErrorCode02::AccessDenied && !state.may_connect() {
                state.socket_denials().tcp("wasi:sockets/tcp-create-socket@0.2");
            }
            Ok(Err(code))
        }
    }
}

fn create_03(
    state: &mut HostState,
    family: Family03,
) -> Result<std::result::Result<Resource<TcpSocket03>, ErrorCode03>> {
    let Some(open) = state.open_sockets().admit() else {
        let why = "the plugin or the daemon has too many sockets".to_owned();
        return Ok(Err(ErrorCode03::Other(Some(why))));
    };
    match Sockets03::create(&mut state.sockets(), family) {
        Ok(socket) => {
            state.open_sockets().opened(socket.rep(), open);
            Ok(Ok(socket))
        }
        Err(error) => {
            let code = Errors03::convert_error_code(&mut state.sockets(), error)?;
            if matches!(code, ErrorCode03::AccessDenied) && !state.may_connect() {
                state.socket_denials().tcp("wasi:sockets/types@0.3");
            }
            Ok(Err(code))
        }
    }
}

/// The same end of a stream. The socket counts as open until then, because a stream may outlive the resource.
fn with_end(
    mut store: StoreContextMut<'_, HostState>,
    end: FutureReader<StreamEnd>,
    open: Option<Arc<OpenSocket>>,
) -> Result<FutureReader<StreamEnd>> {
    let (passed_on, passed) = oneshot::channel();
    end.pipe(store.as_context_mut(), EndOfStream { passed_on: Some(passed_on), open })?;
    FutureReader::new(store, passed)
}

/// Passes the end of a stream on. The socket counts until then.
struct EndOfStream {
    passed_on: Option<oneshot::Sender<StreamEnd>>,
    open: Option<Arc<OpenSocket>>,
}

impl FutureConsumer<HostState> for EndOfStream {
    type Item = StreamEnd;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        store: StoreContextMut<'_, HostState>,
        mut source: Source<'_, StreamEnd>,
        _: bool,
    ) -> Poll<Result<()>> {
        let mut end = None;
        source.read(store, &mut end)?;
        if let Some(end) = end {
            self.open = None;
            if let Some(passed_on) = self.passed_on.take() {
                // The guest need not wait for it.
                passed_on.send(end).ok();
            }
        }
        Poll::Ready(Ok(()))
    }
}
