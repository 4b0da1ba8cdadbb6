//! The part of a store's state that each host interface sees.

use crate::world::{
    connections, credentials, host_state::HostState, identity, journal, keyvalue, logging,
    messaging, name_lookup, notify, websockets,
};
use std::collections::BTreeMap;
use wasmtime_wasi::{WasiCtxView, WasiView, sockets::WasiSocketsCtxView};
use wasmtime_wasi_config::WasiConfig;
use wasmtime_wasi_http::{WasiHttpCtxView, WasiHttpView};

/// Bytes by which the messages of a guest may grow before the table is looked through.
const MESSAGES_GROWTH: usize = 1 << 20;

impl HostState {
    pub(in crate::world) fn connections(&mut self) -> connections::Guest<'_> {
        connections::Guest { table: &mut self.table }
    }

    pub(in crate::world) fn websockets(&mut self) -> websockets::Guest<'_> {
        websockets::Guest { table: &mut self.table }
    }

    /// The values of `wasi:config`.
    pub(in crate::world) fn config_values(&self) -> &BTreeMap<String, String> {
        self.shared.config.values()
    }

    pub(in crate::world) fn config(&mut self) -> WasiConfig<'_> {
        self.shared.config.guest()
    }

    pub(in crate::world) fn credentials(&mut self) -> credentials::Guest<'_> {
        credentials::Guest { shared: &self.shared.granted.credentials }
    }

    pub(in crate::world) fn identity(&mut self) -> identity::Guest<'_> {
        identity::Guest { shared: &self.shared.identity, worker: self.worker }
    }

    pub(in crate::world) fn journal(&mut self) -> journal::Guest<'_> {
        journal::Guest { shared: &self.shared.journal, request: self.request, tasks: &self.tasks }
    }

    pub(in crate::world) fn keyvalue(&mut self) -> keyvalue::Guest<'_> {
        keyvalue::Guest {
            shared: &self.shared.granted.keyvalue,
            figures: &self.shared.figures,
            table: self.closed.as_mut().unwrap_or(&mut self.table),
        }
    }

    pub(in crate::world) fn logging(&mut self) -> logging::Guest<'_> {
        logging::Guest(self.journal())
    }

    pub(in crate::world) fn lookup(&mut self) -> name_lookup::LookupView<'_> {
        let made = self.wasi.get(&self.shared.wasi_source());
        let sockets = WasiSocketsCtxView { ctx: made.wasi.sockets(), table: &mut self.table };
        name_lookup::LookupView { guest: &made.network, sockets }
    }

    pub(in crate::world) fn messaging(&mut self) -> messaging::Guest<'_> {
        if self.messages_grown > MESSAGES_GROWTH || self.inspections.is_due() {
            self.messages_grown = 0;
            self.charge_holdings();
        }
        messaging::Guest {
            shared: &self.shared.granted.messaging,
            figures: &self.shared.figures,
            table: self.closed.as_mut().unwrap_or(&mut self.table),
            grown: &mut self.messages_grown,
        }
    }

    pub(in crate::world) fn notify(&mut self) -> notify::Guest<'_> {
        notify::Guest {
            shared: &self.shared.notify,
            identity: &self.shared.identity,
            worker: self.worker,
            heartbeat: &self.watch.heartbeat,
        }
    }
}

impl WasiView for HostState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let table = self.closed.as_mut().unwrap_or(&mut self.table);
        WasiCtxView { ctx: &mut self.wasi.get(&self.shared.wasi_source()).wasi, table }
    }
}

impl WasiHttpView for HostState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        if self.inspections.is_due() {
            self.charge_holdings();
        }
        self.http.view(self.closed.as_mut().unwrap_or(&mut self.table))
    }
}
