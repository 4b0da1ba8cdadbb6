//! Where a plugin may connect by TCP, and the names that it may look up for that.
//!
//! A name that was granted stands for the addresses that it had when the guest looked it up.

use crate::{
    base::endpoint::{Endpoint, Host},
    world::{
        lookups::{Lookups, PendingLookup},
        socket_denials::SocketDenials,
    },
};
use std::{
    collections::{HashMap, HashSet},
    future::ready,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use wasmtime_wasi::{WasiCtxBuilder, sockets::SocketAddrUse};

/// Limit of addresses that are kept as results of lookups. Beyond it all of them are forgotten.
const RESOLVED_MAX: usize = 1024;

/// Where all instances of a generation may connect.
#[derive(Clone, Default)]
pub struct Shared {
    endpoints: Arc<[Endpoint]>,
    lookups: Lookups,
    /// The state of instances that were granted nothing: they find out nothing, so that one is enough for all.
    nothing: Arc<NetworkState>,
}

/// The endpoints to which one instance may connect, and the addresses that it looked up.
pub(super) struct Guest(pub(super) Arc<NetworkState>);

/// The endpoints of an instance, and what its lookups found.
#[derive(Default)]
pub(super) struct NetworkState {
    endpoints: Arc<[Endpoint]>,
    pub(super) lookups: Lookups,
    resolved: Mutex<HashSet<SocketAddr>>,
    /// The names that are being looked up by WASI 0.2, by the resources of these lookups.
    asked: Mutex<HashMap<u32, PendingLookup>>,
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
    /// Instances may connect to these endpoints.
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
    pub(super) fn admit(&self, name: &str) -> Option<Host> {
        let host = match name.parse() {
            Ok(address) => Host::Address(address),
            Err(_) => Host::parse(name)?,
        };
        let granted = || self.endpoints.iter().any(|endpoint| endpoint.host == host);
        (matches!(host, Host::Address(_)) || granted()).then_some(host)
    }

    /// The name stands for this address.
    pub(super) fn learn(&self, name: &str, address: IpAddr) {
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

    /// The names that are being looked up by WASI 0.2.
    pub(super) fn asked(&self) -> MutexGuard<'_, HashMap<u32, PendingLookup>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(endpoints: &[&str]) -> NetworkState {
        let endpoints = endpoints.iter().map(|endpoint| endpoint.parse().unwrap()).collect();
        NetworkState { endpoints, ..NetworkState::default() }
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
