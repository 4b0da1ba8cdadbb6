//! All sockets of the daemon, and what is served on each: matched at the start and at each reload.

use crate::{
    base::{name::SocketName, text::Escaped},
    config::settings::Protocol,
    listen::{
        datagrams::DatagramServer,
        places::{LimitsReached, Places},
        socket_service::{ClosedSockets, OpenSockets, Server, SocketService, http_use},
        sockets::{ListenError, ListenSockets},
    },
    route::sockets::{SocketPlan, SocketUse},
    runtime::executors::Executors,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;
use tracing::{info, warn};

/// All sockets, and what is served on each. Nothing is accepted any more when this is dropped.
pub struct Listeners(Mutex<ListenState>);

struct ListenState {
    executors: Executors,
    sockets: ListenSockets,
    plan: SocketPlan,
    /// The protocols that are served by now.
    servers: BTreeMap<SocketUse, Server>,
    /// The server for datagram sockets.
    datagrams: Option<DatagramServer>,
    /// The sockets that are accepted from.
    open: BTreeMap<SocketName, OpenSockets>,
    /// Sockets that are no longer accepted from, while connections are left.
    closed: Vec<OpenSockets>,
    /// Connections of clients of plugins are not accepted for now.
    paused: bool,
    reported: Reported,
    limits: LimitsReached,
}

/// The facts that were logged, so that each is logged once.
#[derive(Default)]
struct Reported {
    unused: BTreeSet<String>,
    missing: BTreeSet<SocketName>,
}

/// The use of the sockets of a name at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketUsage {
    /// Their name.
    pub socket: SocketName,
    /// The number of open connections.
    pub connections: usize,
    /// The most connections that may be open.
    pub max: usize,
    /// The number of connections so far.
    pub admitted: u64,
}

impl Listeners {
    /// The sockets, of which none is accepted from yet.
    #[must_use]
    pub fn new(sockets: ListenSockets, executors: Executors) -> Self {
        Self(Mutex::new(ListenState {
            executors,
            sockets,
            plan: SocketPlan::default(),
            servers: BTreeMap::new(),
            datagrams: None,
            open: BTreeMap::new(),
            closed: Vec::new(),
            paused: false,
            reported: Reported::default(),
            limits: LimitsReached::default(),
        }))
    }

    /// The limits of connections that were reached lately.
    #[must_use]
    pub fn limits_reached(&self) -> LimitsReached {
        self.state().limits.clone()
    }

    fn state(&self) -> MutexGuard<'_, ListenState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Accepts connections on all sockets of a protocol from now on. To be called within the runtime.
    ///
    /// # Errors
    /// When a socket cannot be used for that.
    pub fn serve(&self, used_for: impl Into<SocketUse>, server: Server) -> Result<(), ListenError> {
        let mut state = self.state();
        state.servers.insert(used_for.into(), server);
        state.open()
    }

    /// Serves the sockets that plugins ask for as a whole, from now on. To be called within the runtime.
    ///
    /// # Errors
    /// When a socket cannot be used for that.
    pub fn serve_plugins(
        &self,
        connections: Server,
        datagrams: DatagramServer,
    ) -> Result<(), ListenError> {
        self.state().datagrams = Some(datagrams);
        self.serve(SocketUse::Plugin, connections)
    }

    /// Applies the plan from now on. Must be called within the runtime.
    ///
    /// # Errors
    /// When a socket cannot be used for that.
    pub fn follow(&self, plan: &SocketPlan) -> Result<(), ListenError> {
        let mut state = self.state();
        state.plan = plan.clone();
        let plan = &state.plan;
        let stays = |name: &SocketName, open: &OpenSockets| {
            plan.use_of(name) == Some(open.used_for) && plan.connections(name) == open.setting
        };
        let names: Vec<_> = state.open.iter().filter(|(name, open)| !stays(name, open)).collect();
        let names: Vec<_> = names.into_iter().map(|(name, _)| name.clone()).collect();
        for name in names {
            match state.plan.use_of(&name) {
                Some(_) => info!(socket = %name, "socket has new settings"),
                None => info!(socket = %name, "socket not served any more"),
            }
            // Its connections finish their requests.
            if let Some(open) = state.open.remove(&name) {
                open.closing.cancel();
                state.closed.push(open);
            }
        }
        for (name, open) in &state.open {
            let how = http_use(&state.plan, name);
            if **open.how.load() != how {
                open.how.store(Arc::new(how));
                info!(socket = %name, "socket has new settings");
            }
        }
        state.closed.retain(OpenSockets::is_in_use);
        state.report();
        state.open()
    }

    /// The connections of each socket that is accepted from, and of those that were and have connections.
    #[must_use]
    pub fn usage(&self) -> Vec<SocketUsage> {
        let state = self.state();
        let mut usage = BTreeMap::new();
        let closed = state.closed.iter().filter(|closed| closed.is_in_use());
        for (open, is_open) in
            state.open.values().map(|open| (open, true)).chain(closed.map(|it| (it, false)))
        {
            let sum = usage.entry(&open.socket).or_insert_with(|| SocketUsage {
                socket: open.socket.clone(),
                connections: 0,
                max: 0,
                admitted: 0,
            });
            sum.connections += open.places.iter().map(Places::connections).sum::<usize>();
            // If a name is open again, its closed sockets do not count: the total would fall when their last connection
            // ends.
            if is_open || !state.open.contains_key(&open.socket) {
                sum.admitted += open.places.iter().map(Places::admitted).sum::<u64>();
                sum.max += open.places.iter().map(Places::max).sum::<usize>();
            }
        }
        usage.into_values().collect()
    }

    /// Since when none of the connections has had a request; none, if one has, or serves anything other than requests.
    /// Without connections, that is `before`.
    #[must_use]
    pub fn idle_since(&self, before: Instant) -> Option<Instant> {
        let state = self.state();
        let all = state.open.values().chain(&state.closed);
        let mut places = all.flat_map(|open| &open.places);
        places.try_fold(before, |latest, places| places.idle_since(latest))
    }

    /// Accepts no connections for plugins until [`Listeners::resume`]. The sockets stay open, so new clients wait.
    pub fn pause(&self) {
        let mut state = self.state();
        state.closed.retain(OpenSockets::is_in_use);
        state.paused = true;
        let (paused, open) = std::mem::take(&mut state.open)
            .into_iter()
            .partition::<BTreeMap<_, _>, _>(|(_, open)| is_for_plugins(open.used_for));
        state.open = open;
        for open in paused.into_values() {
            // Its connections finish their requests.
            open.closing.cancel();
            state.closed.push(open);
        }
    }

    /// Whether no connections for plugins are accepted until [`Listeners::resume`].
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.state().paused
    }

    /// Accepts connections for plugins again. Must be called within the runtime.
    ///
    /// # Errors
    /// When a socket cannot be used.
    pub fn resume(&self) -> Result<(), ListenError> {
        let mut state = self.state();
        state.paused = false;
        state.open()
    }

    /// Waits until no connection is left of the sockets that are not accepted from any more.
    pub async fn paused_drained(&self) {
        let places: Vec<_> = {
            let state = self.state();
            state.closed.iter().flat_map(|closed| closed.places.iter().cloned()).collect()
        };
        futures::future::join_all(places.iter().map(Places::drained)).await;
    }

    /// The number of these connections.
    #[must_use]
    pub fn paused_connections(&self) -> usize {
        let state = self.state();
        let places = state.closed.iter().flat_map(|closed| &closed.places);
        places.map(Places::connections).sum()
    }

    /// Accepts no more connections of a protocol, and waits until those that there are have finished their requests,
    /// but no longer than `wait_max`. Returns false if some have not.
    pub async fn drain(&self, protocol: Protocol, wait_max: Duration) -> bool {
        self.close(protocol).drained(wait_max).await
    }

    /// Waits until the connections that were accepted before have been given to those that serve them.
    pub async fn settled(&self) {
        let executors = self.state().executors.clone();
        // The loops that accept end in their next turn, and the connections that they gave away have theirs after it.
        for _ in 0..2 {
            executors.turn().await;
        }
    }

    /// Stops accepting for this use, and returns the closed sockets with their connections.
    pub fn close(&self, used_for: impl Into<SocketUse>) -> ClosedSockets {
        let closed = self.state().close(used_for.into());
        closed.iter().for_each(|open| open.closing.cancel());
        ClosedSockets(closed)
    }
}

/// Whether clients of plugins use such a socket, and not operators.
fn is_for_plugins(used_for: SocketUse) -> bool {
    match used_for {
        SocketUse::Protocol(Protocol::Control | Protocol::Metrics) => false,
        SocketUse::Protocol(Protocol::Http) | SocketUse::Plugin => true,
    }
}

impl ListenState {
    /// Starts to accept from all sockets that the plan uses and that are not accepted from yet.
    fn open(&mut self) -> Result<(), ListenError> {
        for (name, used_for) in self.plan.uses() {
            let Some(server) = self.servers.get(&used_for) else { continue };
            if self.open.contains_key(name) || (self.paused && is_for_plugins(used_for)) {
                continue;
            }
            let executors = match used_for {
                // Requests of operators do not wait for plugins.
                SocketUse::Protocol(Protocol::Control | Protocol::Metrics) => {
                    Executors::of_this_runtime()
                }
                _ => self.executors.clone(),
            };
            let (datagrams, limits) = (self.datagrams.as_ref(), &self.limits);
            let how = SocketService { executors, server, datagrams, limits };
            let open = OpenSockets::open(name, used_for, &self.plan, &self.sockets, &how)
                .map_err(|error| ListenError::Use(name.clone(), error))?;
            self.open.insert(name.clone(), open);
        }
        Ok(())
    }

    /// Takes the sockets of a use, which are closed, and those that were closed before and have connections left.
    fn close(&mut self, used_for: SocketUse) -> Vec<OpenSockets> {
        self.servers.remove(&used_for);
        let is = |open: &OpenSockets| open.used_for == used_for;
        let names = self.plan.uses().filter(|(_, served)| *served == used_for);
        let names: Vec<_> = names.map(|(name, _)| name.clone()).collect();
        for name in &names {
            self.sockets.close(name);
        }
        let (closed, open) =
            std::mem::take(&mut self.open).into_iter().partition::<Vec<_>, _>(|(_, open)| is(open));
        self.open = open.into_iter().collect();
        let (before, others) = std::mem::take(&mut self.closed).into_iter().partition(is);
        self.closed = others;
        let before: Vec<_> = before;
        closed.into_iter().map(|(_, open)| open).chain(before).collect()
    }

    /// Logs the unused and the missing sockets, once for each change.
    fn report(&mut self) {
        if !self.plan.is_complete {
            return;
        }
        for name in self.plan.unused.difference(&self.reported.unused) {
            warn!(socket = %Escaped(name), "socket unused");
        }
        for name in self.plan.missing.difference(&self.reported.missing) {
            warn!(socket = %name, "socket in plugind.toml does not exist");
        }
        self.reported =
            Reported { unused: self.plan.unused.clone(), missing: self.plan.missing.clone() };
    }
}

#[cfg(test)]
mod tests;
