//! `wasi:sockets`: where a plugin may connect by TCP, and the names that it may look up for that.
//!
//! A name that was granted stands for the addresses that it had when the guest looked it up.

use crate::{
    base::endpoint::{Endpoint, Host},
    systemd::address_families::{self, BarredFamilies},
    world::socket_denials::SocketDenials,
};
use rustix::net::AddressFamily;
use std::{
    collections::{HashMap, HashSet},
    future::ready,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};
use wasmtime::component::{Accessor, HasData, Resource};
use wasmtime_wasi::{
    WasiCtxBuilder,
    p2::{
        SocketError,
        bindings::sockets::{
            ip_name_lookup::{
                Host as Lookup02, HostResolveAddressStream, Network, ResolveAddressStream,
            },
            network::{self, ErrorCode as ErrorCode02, IpAddress as IpAddress02},
        },
    },
    p3::bindings::sockets::{
        ip_name_lookup::{self, ErrorCode as ErrorCode03, Host as Lookup03},
        types::IpAddress as IpAddress03,
    },
    sockets::{SocketAddrUse, WasiSocketsCtxView},
};

/// Limit of names that a generation's instances look up at a time: each takes a thread as long as the resolver does.
const LOOKUPS_MAX: usize = 16;
/// Time for which an abandoned lookup counts, since its end is unknown: longer than a resolver takes that does
/// not answer.
const LOOKUP_FORGOTTEN: Duration = Duration::from_secs(60);

/// Limit of addresses that are kept as results of lookups. Beyond it all of them are forgotten.
const RESOLVED_MAX: usize = 1024;

/// Connections were granted that nobody in this process can open.
#[derive(Debug, thiserror::Error)]
#[error(
    "was granted connections to {to}, and the unit of the daemon allows none; add {families} to \
     RestrictAddressFamilies= of the unit, as plugind-network.conf does: `pluginctl check` prints the drop-in"
)]
pub struct NetworkError {
    to: Endpoint,
    families: &'static str,
    source: io::Error,
}

/// Tries whether the daemon may open connections of the kinds that these need.
///
/// That shows only what holds for every connection. An obstacle to one of them is reported to the guest that opens it.
///
/// # Errors
/// When it may not.
pub(super) fn open<'a>(endpoints: impl Iterator<Item = &'a Endpoint>) -> Result<(), NetworkError> {
    check_families(endpoints, address_families::try_family)
}

fn check_families<'a>(
    mut endpoints: impl Iterator<Item = &'a Endpoint>,
    try_to_open: impl Fn(AddressFamily) -> rustix::io::Result<()>,
) -> Result<(), NetworkError> {
    let barred = |to: &'a Endpoint| {
        let BarredFamilies { families, source } = address_families::barred(to, &try_to_open)?;
        Some(NetworkError { to: to.clone(), families, source })
    };
    endpoints.find_map(barred).map_or(Ok(()), Err)
}

/// Where all instances of a generation may connect.
#[derive(Clone, Default)]
pub struct Shared {
    endpoints: Arc<[Endpoint]>,
    lookups: Lookups,
    /// The state of instances that were granted nothing: they find out nothing, so that one is enough for all.
    nothing: Arc<NetworkState>,
}

/// The endpoints to which one instance may connect, and the addresses that it looked up.
pub(super) struct Guest(Arc<NetworkState>);

/// Room for lookups at the same time.
#[derive(Clone)]
struct Lookups(Arc<Semaphore>);

impl Lookups {
    /// Looks a name up when there is room. A lookup that is not waited for any more keeps its room until it ends, since
    /// nothing ends its thread.
    async fn look_up(&self, name: &str) -> Option<Vec<SocketAddr>> {
        let room = self.0.clone().acquire_owned().await.ok()?;
        let name = name.to_owned();
        let looked_up = tokio::spawn(async move {
            let addresses = tokio::net::lookup_host((name.as_str(), 0)).await.ok()?.collect();
            drop(room);
            Some(addresses)
        });
        looked_up.await.ok()?
    }
}

impl Default for Lookups {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LOOKUPS_MAX)))
    }
}

/// A name that WASI 0.2 looks up.
struct Asked {
    name: String,
    /// Taken back when its end is known.
    room: Option<OwnedSemaphorePermit>,
}

impl Drop for Asked {
    fn drop(&mut self) {
        // The thread that looks it up does not end with it. Without a runtime the daemon has ended.
        if let (Some(room), Ok(runtime)) = (self.room.take(), Handle::try_current()) {
            runtime.spawn(async move {
                sleep(LOOKUP_FORGOTTEN).await;
                drop(room);
            });
        }
    }
}

#[derive(Default)]
struct NetworkState {
    endpoints: Arc<[Endpoint]>,
    lookups: Lookups,
    resolved: Mutex<HashSet<SocketAddr>>,
    /// The names that are being looked up by WASI 0.2, by the resources that stand for it.
    asked: Mutex<HashMap<u32, Asked>>,
}

impl Guest {
    pub(super) fn new(shared: &Shared) -> Self {
        if shared.endpoints.is_empty() {
            return Self(shared.nothing.clone());
        }
        let endpoints = shared.endpoints.clone();
        let lookups = shared.lookups.clone();
        Self(Arc::new(NetworkState { endpoints, lookups, ..NetworkState::default() }))
    }

    /// Allows the guest with this context what it was granted. It neither binds a socket nor listens.
    pub(super) fn allow(&self, context: &mut WasiCtxBuilder, denials: &Arc<SocketDenials>) {
        if self.0.endpoints.is_empty() {
            return;
        }
        let (known, denials) = (self.0.clone(), denials.clone());
        let check = move |address, used| {
            let is_allowed = known.allows(address, used);
            if !is_allowed && matches!(used, SocketAddrUse::TcpBind | SocketAddrUse::TcpListen) {
                denials.listening();
            }
            is_allowed
        };
        context
            .allow_tcp(true)
            .allow_ip_name_lookup(true)
            .socket_addr_check(move |address, used| Box::pin(ready(check(address, used))));
    }
}

impl Shared {
    /// Where these endpoints are.
    pub(super) fn new(endpoints: &[Endpoint]) -> Self {
        Self { endpoints: endpoints.into(), lookups: Lookups::default(), nothing: Arc::default() }
    }

    /// Whether there is anything to which they may connect.
    pub(super) fn may_connect(&self) -> bool {
        !self.endpoints.is_empty()
    }
}

impl NetworkState {
    fn allows(&self, address: SocketAddr, used: SocketAddrUse) -> bool {
        match used {
            // A socket that connects has a local address, which the system chooses.
            SocketAddrUse::TcpBind => address.ip().is_unspecified() && address.port() == 0,
            SocketAddrUse::TcpConnect => {
                let address = SocketAddr::new(address.ip().to_canonical(), address.port());
                let granted = |endpoint: &Endpoint| {
                    endpoint.host == Host::Address(address.ip()) && endpoint.port == address.port()
                };
                self.endpoints.iter().any(granted) || self.resolved().contains(&address)
            }
            _ => false,
        }
    }

    /// Returns the host that `name` means, if the guest may know it: an address means itself.
    fn admit(&self, name: &str) -> Option<Host> {
        let host = match name.parse() {
            Ok(address) => Host::Address(address),
            Err(_) => Host::parse(name)?,
        };
        let granted = || self.endpoints.iter().any(|endpoint| endpoint.host == host);
        (matches!(host, Host::Address(_)) || granted()).then_some(host)
    }

    /// The name stands for this address.
    fn learn(&self, name: &str, address: IpAddr) {
        let mut resolved = self.resolved();
        let named =
            |endpoint: &&Endpoint| matches!(&endpoint.host, Host::Name(granted) if granted == name);
        for endpoint in self.endpoints.iter().filter(named) {
            if resolved.len() >= RESOLVED_MAX {
                resolved.clear();
            }
            resolved.insert(SocketAddr::new(address.to_canonical(), endpoint.port));
        }
    }

    fn resolved(&self) -> MutexGuard<'_, HashSet<SocketAddr>> {
        self.resolved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asked(&self) -> MutexGuard<'_, HashMap<u32, Asked>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `wasi:sockets/ip-name-lookup` of both versions, for the names that were granted.
pub(super) struct Lookup;

/// The parts of a store that it needs.
pub(super) struct LookupView<'a> {
    pub(super) guest: &'a Guest,
    pub(super) sockets: WasiSocketsCtxView<'a>,
}

impl HasData for Lookup {
    type Data<'a> = LookupView<'a>;
}

impl network::Host for LookupView<'_> {
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

impl network::HostNetwork for LookupView<'_> {
    fn drop(&mut self, network: Resource<Network>) -> wasmtime::Result<()> {
        network::HostNetwork::drop(&mut self.sockets, network)
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
        let Ok(room) = known.lookups.0.clone().try_acquire_owned() else {
            return Err(ErrorCode02::TemporaryResolverFailure.into());
        };
        let stream = self.sockets.resolve_addresses(network, name)?;
        known.asked().insert(stream.rep(), Asked { name: granted, room: Some(room) });
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

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    fn known(endpoints: &[&str]) -> NetworkState {
        let endpoints = endpoints.iter().map(|endpoint| endpoint.parse().unwrap()).collect();
        NetworkState { endpoints, ..NetworkState::default() }
    }

    #[tokio::test]
    async fn no_more_names_are_looked_up_at_a_time_than_there_is_room_for() {
        let lookups = Lookups::default();
        let room = lookups.0.clone().acquire_many_owned(16).await.unwrap();
        let mut waiting = std::pin::pin!(lookups.look_up("localhost"));
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        drop(room);
        assert!(waiting.await.is_some());
        assert_eq!(lookups.0.available_permits(), LOOKUPS_MAX);
    }

    #[test]
    fn only_what_was_granted_is_connected_to() {
        let known = known(&["10.1.2.3:5432", "[2001:db8::1]:80", "db.example:5432"]);
        let allows = |text: &str| known.allows(text.parse().unwrap(), SocketAddrUse::TcpConnect);
        assert!(allows("10.1.2.3:5432") && allows("[2001:db8::1]:80"));
        assert!(allows("[::ffff:10.1.2.3]:5432"), "it is the same address");
        for text in ["10.1.2.3:5433", "10.1.2.4:5432", "[2001:db8::1]:5432", "10.9.9.9:5432"] {
            assert!(!allows(text), "{text}");
        }
        known.learn("db.example", "10.9.9.9".parse().unwrap());
        known.learn("other.example", "10.9.9.8".parse().unwrap());
        assert!(allows("10.9.9.9:5432") && !allows("10.9.9.9:80") && !allows("10.9.9.8:5432"));
    }

    #[test]
    fn a_grant_that_needs_a_forbidden_kind_of_connection_is_reported() {
        let reported = |endpoint: &str, barred: &[AddressFamily]| {
            let endpoint: Endpoint = endpoint.parse().unwrap();
            let outcome =
                check_families([endpoint].iter(), |family| match barred.contains(&family) {
                    true => Err(Errno::AFNOSUPPORT),
                    false => Err(Errno::MFILE),
                });
            outcome.err().map(|error| error.to_string())
        };
        let (v4, v6) = (AddressFamily::INET, AddressFamily::INET6);
        for (endpoint, barred, families) in [
            ("10.1.2.3:5432", &[v4][..], Some("AF_INET to")),
            ("10.1.2.3:5432", &[v6], None),
            ("[2001:db8::1]:80", &[v6], Some("AF_INET6 to")),
            ("[2001:db8::1]:80", &[v4], None),
            ("db.example:5432", &[v4], None),
            ("db.example:5432", &[v4, v6], Some("AF_INET or AF_INET6 to")),
        ] {
            let reported = reported(endpoint, barred);
            assert_eq!(reported.is_some(), families.is_some(), "{endpoint}: {reported:?}");
            let parts = [endpoint, families.unwrap_or_default(), "plugind-network.conf"];
            assert!(
                reported.is_none_or(|reported| parts.iter().all(|part| reported.contains(part)))
            );
        }
        assert!(check_families([].iter(), |_| Err(Errno::AFNOSUPPORT)).is_ok());
    }

    #[test]
    fn a_plugin_can_neither_listen_nor_send_datagrams() {
        let known = known(&["10.1.2.3:5432"]);
        let granted = "10.1.2.3:5432".parse().unwrap();
        let any = "0.0.0.0:0".parse().unwrap();
        assert!(known.allows(any, SocketAddrUse::TcpBind));
        assert!(!known.allows(granted, SocketAddrUse::TcpBind));
        assert!(!known.allows("0.0.0.0:80".parse().unwrap(), SocketAddrUse::TcpBind));
        for used in [SocketAddrUse::TcpListen, SocketAddrUse::TcpAccept, SocketAddrUse::UdpBind] {
            assert!(!known.allows(any, used) && !known.allows(granted, used));
        }
        for used in [SocketAddrUse::UdpSend, SocketAddrUse::UdpReceive] {
            assert!(!known.allows(granted, used));
        }
    }

    #[test]
    fn only_names_that_were_granted_are_looked_up() {
        let known = known(&["db.example:5432"]);
        for name in ["db.example", "DB.Example", "db.example.", "10.0.0.1", "::1", "[::1]"] {
            assert!(known.admit(name).is_some(), "{name}");
        }
        for name in ["", "other.example", "x.db.example", "secret.evil.example", "%64b.example"] {
            assert!(known.admit(name).is_none(), "{name}");
        }
    }

    #[test]
    fn the_number_of_resolved_addresses_is_bounded() {
        let known = known(&["db.example:5432"]);
        for number in 0..5_000_u32 {
            known.learn("db.example", IpAddr::V4(number.into()));
        }
        assert!(known.resolved().len() <= RESOLVED_MAX);
    }
}
