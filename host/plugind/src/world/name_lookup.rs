//! `wasi:sockets/ip-name-lookup` of both versions, for the names that were granted.

use crate::{
    base::endpoint::Host,
    world::{lookups::PendingLookup, network},
};
use std::net::IpAddr;
use wasmtime::component::{Accessor, HasData, Resource};
use wasmtime_wasi::{
    p2::{
        SocketError,
        bindings::sockets::{
            ip_name_lookup::{
                Host as Lookup02, HostResolveAddressStream, Network, ResolveAddressStream,
            },
            network::{self as network_02, ErrorCode as ErrorCode02, IpAddress as IpAddress02},
        },
    },
    p3::bindings::sockets::{
        ip_name_lookup::{self, ErrorCode as ErrorCode03, Host as Lookup03},
        types::IpAddress as IpAddress03,
    },
    sockets::WasiSocketsCtxView,
};

/// `wasi:sockets/ip-name-lookup` of both versions, for the names that were granted.
pub(super) struct Lookup;

/// The parts of a store that it needs.
pub(super) struct LookupView<'a> {
    pub(super) guest: &'a network::Guest,
    pub(super) sockets: WasiSocketsCtxView<'a>,
}

impl HasData for Lookup {
    type Data<'a> = LookupView<'a>;
}

impl network_02::Host for LookupView<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<ErrorCode02> {
        self.sockets.convert_error_code(error)
    }

    fn network_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode02>> {
        self.sockets.network_error_code(error)
    }
}

impl network_02::HostNetwork for LookupView<'_> {
    fn drop(&mut self, network: Resource<Network>) -> wasmtime::Result<()> {
        network_02::HostNetwork::drop(&mut self.sockets, network)
    }
}

impl Lookup02 for LookupView<'_> {
    fn resolve_addresses(
        &mut self,
        network: Resource<Network>,
        name: String,
    ) -> Result<Resource<ResolveAddressStream>, SocketError> {
        let known = &self.guest.0;
        let Some(host) = known.admit(&name) else { return Err(ErrorCode02::AccessDenied.into()) };
        let Host::Name(granted) = host else {
            return self.sockets.resolve_addresses(network, name);
        };
        let Some(room) = known.lookups.try_admit() else {
            return Err(ErrorCode02::TemporaryResolverFailure.into());
        };
        let stream = self.sockets.resolve_addresses(network, name)?;
        known.asked().insert(stream.rep(), PendingLookup { name: granted, room: Some(room) });
        Ok(stream)
    }
}

impl HostResolveAddressStream for LookupView<'_> {
    fn resolve_next_address(
        &mut self,
        stream: Resource<ResolveAddressStream>,
    ) -> Result<Option<IpAddress02>, SocketError> {
        let known = &self.guest.0;
        let stream_number = stream.rep();
        let address = self.sockets.resolve_next_address(stream);
        let mut asked = known.asked();
        let mut asked = asked.get_mut(&stream_number);
        if let Some(asked) = &mut asked
            && !is_pending(&address)
        {
            drop(asked.room.take());
        }
        let name = asked.map(|asked| asked.name.clone());
        let address = address?;
        if let (Some(name), Some(address)) = (name, address) {
            known.learn(&name, address_of(address));
        }
        Ok(address)
    }

    fn subscribe(
        &mut self,
        stream: Resource<ResolveAddressStream>,
    ) -> wasmtime::Result<Resource<wasmtime_wasi::p2::DynPollable>> {
        self.sockets.subscribe(stream)
    }

    fn drop(&mut self, stream: Resource<ResolveAddressStream>) -> wasmtime::Result<()> {
        self.guest.0.asked().remove(&stream.rep());
        HostResolveAddressStream::drop(&mut self.sockets, stream)
    }
}

/// Whether the end of a lookup is still to come.
fn is_pending<T>(address: &Result<T, SocketError>) -> bool {
    let error = address.as_ref().err().and_then(SocketError::downcast_ref);
    matches!(error, Some(ErrorCode02::WouldBlock))
}

fn address_of(address: IpAddress02) -> IpAddr {
    match address {
        IpAddress02::Ipv4((a, b, c, d)) => IpAddr::from([a, b, c, d]),
        IpAddress02::Ipv6((a, b, c, d, e, f, g, h)) => IpAddr::from([a, b, c, d, e, f, g, h]),
    }
}

impl Lookup03 for LookupView<'_> {}

impl<T: 'static> ip_name_lookup::HostWithStore<T> for Lookup {
    async fn resolve_addresses(
        store: &Accessor<T, Self>,
        name: String,
    ) -> wasmtime::Result<Result<Vec<IpAddress03>, ErrorCode03>> {
        let known = store.with(|mut store| store.get().guest.0.clone());
        let name = match known.admit(&name) {
            None => return Ok(Err(ErrorCode03::AccessDenied)),
            Some(Host::Address(address)) => return Ok(Ok(vec![address.into()])),
            Some(Host::Name(name)) => name,
        };
        let Some(addresses) = known.lookups.look_up(&name).await else {
            return Ok(Err(ErrorCode03::NameUnresolvable));
        };
        let addresses = addresses.into_iter();
        let addresses: Vec<_> = addresses.map(|address| address.ip().to_canonical()).collect();
        for address in &addresses {
            known.learn(&name, *address);
        }
        Ok(Ok(addresses.into_iter().map(IpAddress03::from).collect()))
    }
}
