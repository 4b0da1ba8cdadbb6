//! The versions that served: a thread copies them, and a start falls back to them.

use crate::{
    base::{error_chain::ErrorChain, name::PluginName},
    plugin::{
        archive::{Archive, ArchiveError, ArchivedVersion},
        release::Release,
        verify::Verified,
    },
    route::owners::{Route, route_requests},
    supervisor::{
        Supervisor,
        handle::Message,
        own_thread::on_own_thread,
        plugin::{LastGood, ManagedPlugin, PluginEvent},
    },
};
use futures::channel::oneshot;
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    mem::replace,
    path::Path,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};
use tracing::{debug, warn};

/// The versions that served. A handle: cheap to clone, and it never waits. A thread of its own handles requests in order.
#[derive(Clone)]
pub struct Versions {
    requests: Option<Sender<VersionRequest>>,
    last_good: Arc<BTreeMap<PluginName, ArchivedVersion>>,
}

enum VersionRequest {
    Keep(Arc<Release>),
    Remove(PluginName),
    Retain(BTreeSet<PluginName>),
    Settle(oneshot::Sender<()>),
}

impl Versions {
    /// One that keeps nothing.
    #[must_use]
    pub fn none() -> Self {
        Self { requests: None, last_good: Arc::default() }
    }

    /// Those below this state directory.
    ///
    /// # Errors
    /// When the directory cannot be read, or no thread can be started.
    pub fn open(state: &Path) -> io::Result<Self> {
        let archive = Archive::open(state)?;
        let last_good = Arc::new(archive.last_good());
        let (requests, inbox) = channel();
        let run = move || keep_all(archive, &inbox);
        thread::Builder::new().name("versions".to_owned()).spawn(run)?;
        Ok(Self { requests: Some(requests), last_good })
    }

    /// What the daemon before this one leaves for this plugin.
    #[must_use]
    pub fn last_good(&self, name: &PluginName) -> LastGood {
        match self.last_good.get(name) {
            Some(version) => LastGood::Version(version.digests),
            None if self.last_good.is_empty() => LastGood::Nothing,
            None => LastGood::Others,
        }
    }

    /// Whether this file is part of a version that a daemon before this one kept.
    #[must_use]
    pub fn contains(&self, name: &PluginName, path: &Path) -> bool {
        self.last_good.get(name).is_some_and(|version| version.contains(path))
    }

    /// Keeps a version that serves now.
    pub fn keep(&self, release: Arc<Release>) {
        self.send(VersionRequest::Keep(release));
    }

    /// Removes all versions of a plugin.
    pub fn remove(&self, name: &PluginName) {
        self.send(VersionRequest::Remove(name.clone()));
    }

    /// Removes the versions of all plugins but these.
    pub fn retain(&self, names: BTreeSet<PluginName>) {
        self.send(VersionRequest::Retain(names));
    }

    /// Waits until all earlier requests are done.
    pub fn settled(&self) -> impl Future<Output = ()> + Send + use<> {
        let (reply, answer) = oneshot::channel();
        self.send(VersionRequest::Settle(reply));
        // Without a thread nobody answers.
        async move { answer.await.unwrap_or_default() }
    }

    fn send(&self, request: VersionRequest) {
        if let Some(requests) = &self.requests {
            // The thread ends when the last handle is gone.
            requests.send(request).ok();
        }
    }
}

fn keep_all(mut archive: Archive, inbox: &Receiver<VersionRequest>) {
    for request in inbox {
        match request {
            VersionRequest::Keep(release) => match archive.keep(&release) {
                Ok(()) => (),
                // The version that replaced it is kept when it serves.
                Err(error @ ArchiveError::Replaced(_)) => {
                    debug!(plugin = %release.name, %error, "version not kept");
                }
                Err(error) => {
                    let error = ErrorChain(&error).to_string();
                    warn!(plugin = %release.name, error, "version not kept");
                }
            },
            VersionRequest::Remove(name) => archive.remove(&name),
            VersionRequest::Retain(names) => archive.retain(&names),
            VersionRequest::Settle(reply) => drop(reply.send(())),
        }
    }
}

impl Supervisor {
    /// Keeps all versions that serve.
    pub(super) fn keep_versions(&self) {
        let serving = self.plugins.values().filter_map(ManagedPlugin::serving);
        serving.for_each(|serving| self.deps.versions.keep(serving.release.clone()));
    }

    /// Reads the version of a plugin that served last.
    pub(super) fn read_last_good(&self, name: &PluginName) {
        let version = self.deps.versions.last_good.get(name).cloned();
        let (name, inbox) = (name.clone(), self.inbox.clone());
        tokio::spawn(async move {
            let work = move || version.map(|version| version.load());
            let outcome = match on_own_thread("versions", work).await {
                Ok(Some(outcome)) => outcome.map_err(|error| ErrorChain(&error).to_string()),
                Ok(None) => Err("there is none".to_owned()),
                Err(error) => Err(ErrorChain(&error).to_string()),
            };
            // Nobody is there to hear it only when the daemon is ending.
            inbox.send(Message::LastGood { name, outcome }).ok();
        });
    }

    /// The version of a plugin that served last was read, or cannot be.
    pub(super) fn fall_back(&mut self, name: &PluginName, outcome: Result<Verified, String>) {
        let outcome = outcome.and_then(|verified| {
            let requests = route_requests(name, verified.manifest(), Some(verified.inspection()));
            let mut routes = requests.iter().map(|(route, _)| (route, self.owner_of(name, route)));
            match routes.find_map(|(route, owner)| Some((route, owner?))) {
                Some((route, owner)) => {
                    Err(format!("its route {route} is now one of the plugin {owner}"))
                }
                None => Ok((verified, requests)),
            }
        });
        let event = match outcome {
            Ok((verified, requests)) => {
                self.tickets += 1;
                self.queued.insert(name.clone());
                PluginEvent::FallBack { ticket: self.tickets, verified, requests }
            }
            Err(error) => {
                warn!(plugin = %name, error, "cannot serve previous version");
                PluginEvent::NoFallback
            }
        };
        self.decide(name, event);
        // Its sockets may be others than those of the newest version.
        let whole = self.whole_sockets();
        self.deps.plan.send_if_modified(|plan| {
            let before = replace(plan, plan.clone().with_whole(whole));
            before != *plan
        });
    }

    /// The other plugin that has this route, or asks for it.
    fn owner_of(&self, name: &PluginName, route: &Route) -> Option<&PluginName> {
        let mut others = self.plugins.values().filter(|it| !it.removed && it.name != *name);
        let has = |it: &&ManagedPlugin| {
            it.routes().0.iter().chain(it.wanted()).any(|(other, _)| other == route)
        };
        others.find(has).map(|it| &it.name)
    }
}
