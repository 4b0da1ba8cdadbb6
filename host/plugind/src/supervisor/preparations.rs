//! Prepares versions of plugins, as many as may be prepared at the same time.

use crate::{
    api::FailedStage,
    base::{error_chain::ErrorChain, name::PluginName},
    plugin::verify::Verified,
    supervisor::{
        Supervisor,
        handle::Message,
        own_task::spawn_and_send,
        own_thread::{OwnThreadError, OwnThreads, on_own_thread, within},
        prepare::{Deps, PrepareError, prepare, prepare_cached},
    },
    world::{host_runtime::HostRuntime, link::Linked},
};
use std::{
    pin::pin,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};
use tokio::{sync::Semaphore, time::timeout};
use tracing::info;

/// A compilation that takes longer than this is logged while it runs.
const COMPILING_AFTER: Duration = Duration::from_secs(2);
/// The interval at which such a compilation is logged again.
const COMPILING_EVERY: Duration = Duration::from_secs(10);
/// Time to link a plugin from the cache, and to open what was granted to it: far more than that takes, unless a file
/// system does not answer.
pub(super) const LINK_DEADLINE: Duration = Duration::from_secs(60);
/// Time that a plugin waits for the state that an earlier daemon saved.
const SAVED_STATE_DEADLINE: Duration = Duration::from_secs(10);

impl Supervisor {
    /// Queues a preparation of a plugin, and returns its ticket.
    pub(super) fn queue_ticket(&mut self, name: &PluginName) -> u64 {
        self.tickets += 1;
        self.queued.insert(name.clone());
        self.tickets
    }

    /// Starts queued preparations, as many as may run at the same time. This limit does not
    /// apply to the daemon's start: some plugins may wait for others then, and no plugin has two versions.
    pub(super) fn start_queued(&mut self) {
        if self.queued.is_empty() {
            return;
        }
        let mut at_work = self.plugins.values().filter(|plugin| plugin.is_at_work()).count();
        let max = if self.settled { self.deps.reload_concurrency } else { usize::MAX };
        while at_work < max {
            // One whose files are being removed keeps its place.
            let mut queued = self.queued.iter();
            let cleaned = self.cleaning.as_ref().map(|cleaning| &cleaning.name);
            let next = queued.find(|name| cleaned != Some(*name)).cloned();
            let Some(name) = next else { return };
            self.queued.remove(&name);
            at_work += usize::from(self.start_preparation(&name));
        }
    }

    /// False if it is not wanted any more.
    fn start_preparation(&mut self, name: &PluginName) -> bool {
        let Some(plugin) = self.plugins.get_mut(name) else { return false };
        let Some(preparing) = plugin.preparing.as_mut().filter(|it| it.queued) else {
            return false;
        };
        preparing.queued = false;
        self.touched.insert(name.clone());
        let (ticket, verified) = (preparing.ticket, preparing.verified.clone());
        let store = &self.deps.store;
        let takes_over = verified.inspection().handover
            && plugin.generations.saved().is_none()
            && store.handed_back().contains(name);
        let saved = takes_over.then(|| store.read(name, verified.manifest().handover.state_max));
        let preparation = Preparation {
            verified,
            wanted: Arc::downgrade(&preparing.wanted),
            deps: self.deps.clone(),
            linking: self.linking.clone(),
            threads: self.threads.clone(),
            compiling: self.compiling.clone(),
        };
        let (name, inbox) = (name.clone(), self.inbox.clone());
        let plugin = name.clone();
        let preparing = async move {
            let outcome = preparation.run().await?;
            let saved = match saved {
                // A state that does not arrive in time counts as missing.
                Some(saved) => timeout(SAVED_STATE_DEADLINE, saved).await.ok().flatten(),
                None => None,
            };
            Some(Message::Prepared { name, ticket, outcome, saved })
        };
        let failed = move |why| {
            let outcome = Err(host_failed(&OwnThreadError::Panicked(why)));
            Message::Prepared { name: plugin, ticket, outcome, saved: None }
        };
        spawn_and_send(inbox, preparing, failed);
        true
    }
}

/// The preparation of one plugin: first the cache is looked up, and only what is not there is compiled.
struct Preparation {
    verified: Verified,
    /// Gone when something newer was found, which need not wait for this.
    wanted: Weak<()>,
    deps: Deps,
    linking: Arc<Semaphore>,
    threads: OwnThreads,
    compiling: Arc<Semaphore>,
}

impl Preparation {
    /// None if it is not wanted any more, or the daemon ends because there is no engine.
    async fn run(self) -> Option<Result<Arc<Linked>, PrepareError>> {
        let host = self.deps.host.ready().await.ok()?;
        let found = {
            // It is never closed.
            let _permit = self.linking.clone().acquire_owned().await;
            self.wanted.upgrade()?;
            let (verified, deps, host) = (self.verified.clone(), self.deps.clone(), host.clone());
            let Deps { cache, compiler, places, .. } = deps;
            let work = move || prepare_cached(&verified, &host, &cache, &compiler, &places);
            let linked = within(LINK_DEADLINE, self.threads.run("link", work)).await;
            linked.unwrap_or_else(|why| Err(host_failed(&why)))
        };
        match found.transpose() {
            Some(outcome) => {
                if outcome.is_ok() {
                    self.deps.commons.figures.of(self.verified.name()).compiled_in(None);
                }
                Some(outcome)
            }
            None => self.compile(host).await,
        }
    }

    async fn compile(self, host: Arc<HostRuntime>) -> Option<Result<Arc<Linked>, PrepareError>> {
        let _permit = self.compiling.clone().acquire_owned().await;
        self.wanted.upgrade()?;
        let (verified, deps) = (self.verified.clone(), self.deps.clone());
        let figures = deps.commons.figures.of(verified.name());
        let Deps { cache, compiler, places, .. } = deps;
        let compile_max = compiler.longest();
        let work = move || prepare(&verified, &host, &cache, &compiler, &places);
        let begun = Instant::now();
        let work = report_compiling(self.verified.name(), on_own_thread("compile", work));
        let prepared = within(compile_max.saturating_add(LINK_DEADLINE), work).await;
        if matches!(prepared, Ok(Ok(_))) {
            figures.compiled_in(Some(begun.elapsed()));
        }
        Some(prepared.unwrap_or_else(|why| Err(host_failed(&why))))
    }
}

/// Does `work`, and logs now and then that it is not done yet.
async fn report_compiling<T>(plugin: &PluginName, work: impl Future<Output = T>) -> T {
    let (begun, mut time) = (Instant::now(), COMPILING_AFTER);
    let mut work = pin!(work);
    loop {
        if let Ok(done) = timeout(time, &mut work).await {
            return done;
        }
        info!(%plugin, seconds = begun.elapsed().as_secs(), "compiling");
        time = COMPILING_EVERY;
    }
}

fn host_failed(why: &OwnThreadError) -> PrepareError {
    let error = ErrorChain(why).to_string();
    // A panic is repeated at each try. A thread, or an answer of the file system, may be there at the next one.
    let configuration = matches!(why, OwnThreadError::Panicked(_));
    PrepareError { stage: FailedStage::Link, error, configuration }
}
