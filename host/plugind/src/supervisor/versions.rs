//! The versions that served, and the thread that copies them.

use crate::{
    base::{error_chain::ErrorChain, name::PluginName},
    plugin::{
        archive::{Archive, ArchiveError, ArchivedVersion, LastGood},
        release::{Release, ReleaseDigests},
    },
};
use futures::channel::oneshot;
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
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
    pins: Arc<BTreeMap<PluginName, ReleaseDigests>>,
    directory: Option<Arc<Path>>,
}

/// The pinned version of each plugin that has one; none if it is not kept any more.
pub type PinnedVersions = BTreeMap<PluginName, Option<ArchivedVersion>>;

enum VersionRequest {
    Keep(Arc<Release>),
    Remove(PluginName),
    Discard(ArchivedVersion),
    Pin(Arc<Release>, oneshot::Sender<Result<(), ArchiveError>>),
    Unpin(PluginName, oneshot::Sender<Result<(), ArchiveError>>),
    Pinned(oneshot::Sender<PinnedVersions>),
    Retain(BTreeSet<PluginName>),
    Previous(PluginName, ReleaseDigests, oneshot::Sender<Option<ArchivedVersion>>),
    Settle(oneshot::Sender<()>),
}

impl Versions {
    /// One that keeps nothing.
    #[must_use]
    pub fn none() -> Self {
        Self { requests: None, last_good: Arc::default(), pins: Arc::default(), directory: None }
    }

    /// Those below this state directory.
    ///
    /// # Errors
    /// When the directory cannot be read, or no thread can be started.
    pub fn open(state: &Path) -> io::Result<Self> {
        let archive = Archive::open(state)?;
        let last_good = Arc::new(archive.last_good());
        let pins = Arc::new(archive.pins().clone());
        let directory = Some(Arc::from(archive.directory()));
        let (requests, inbox) = channel();
        let run = move || keep_all(archive, &inbox);
        thread::Builder::new().name("versions".to_owned()).spawn(run)?;
        Ok(Self { requests: Some(requests), last_good, pins, directory })
    }

    /// Returns the version that an earlier daemon has kept for this plugin.
    #[must_use]
    pub fn last_good(&self, name: &PluginName) -> LastGood {
        match self.last_good.get(name) {
            Some(version) => LastGood::Version(version.digests),
            None if self.last_good.is_empty() => LastGood::Nothing,
            None => LastGood::Others,
        }
    }

    /// The version of this plugin that served last under a daemon before this one.
    #[must_use]
    pub fn last_version(&self, name: &PluginName) -> Option<ArchivedVersion> {
        self.last_good.get(name).cloned()
    }

    /// The plugins of which an earlier daemon has kept versions or pins.
    pub fn plugins(&self) -> impl Iterator<Item = &PluginName> {
        self.last_good.keys().chain(self.pins.keys())
    }

    /// Whether versions of other plugins served last.
    #[must_use]
    pub fn has_others(&self, name: &PluginName) -> bool {
        self.last_good.keys().any(|other| other != name)
    }

    /// Whether this file is part of a version that was kept.
    #[must_use]
    pub fn contains(&self, path: &Path) -> bool {
        self.directory.as_ref().is_some_and(|directory| path.starts_with(directory))
    }

    /// Returns the version of a plugin that served before this one.
    pub fn previous(
        &self,
        name: &PluginName,
        serving: ReleaseDigests,
    ) -> impl Future<Output = Option<ArchivedVersion>> + Send + use<> {
        let (reply, answer) = oneshot::channel();
        self.send(VersionRequest::Previous(name.clone(), serving, reply));
        // Without a thread nobody answers.
        async move { answer.await.ok().flatten() }
    }

    /// Keeps a version that serves now.
    pub fn keep(&self, release: Arc<Release>) {
        self.send(VersionRequest::Keep(release));
    }

    /// The pins that a daemon before this one left.
    #[must_use]
    pub fn pins(&self) -> &BTreeMap<PluginName, ReleaseDigests> {
        &self.pins
    }

    /// Returns the pinned version of each plugin that has one.
    pub fn pinned(&self) -> impl Future<Output = PinnedVersions> + Send + use<> {
        let (reply, answer) = oneshot::channel();
        self.send(VersionRequest::Pinned(reply));
        // Without a thread nobody answers.
        async move { answer.await.unwrap_or_default() }
    }

    /// Pins a version that serves now; none without a thread.
    pub fn pin(
        &self,
        release: Arc<Release>,
    ) -> impl Future<Output = Option<Result<(), ArchiveError>>> + Send + use<> {
        let (reply, answer) = oneshot::channel();
        self.send(VersionRequest::Pin(release, reply));
        async move { answer.await.ok() }
    }

    /// Ends the pin of a plugin; none without a thread.
    pub fn unpin(
        &self,
        name: &PluginName,
    ) -> impl Future<Output = Option<Result<(), ArchiveError>>> + Send + use<> {
        let (reply, answer) = oneshot::channel();
        self.send(VersionRequest::Unpin(name.clone(), reply));
        async move { answer.await.ok() }
    }

    /// Removes a version that is damaged. The others of its plugin stay, and so does its pin.
    pub fn discard(&self, version: ArchivedVersion) {
        self.send(VersionRequest::Discard(version));
    }

    /// Removes all versions of a plugin, and its pin.
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
            VersionRequest::Discard(version) => archive.discard(&version),
            // The client was answered that nothing was written.
            VersionRequest::Pin(_, reply) | VersionRequest::Unpin(_, reply)
                if reply.is_canceled() => {}
            VersionRequest::Pin(release, reply) => {
                change_pin(&mut archive, &release.name, reply, |archive| archive.pin(&release));
            }
            VersionRequest::Unpin(name, reply) => {
                change_pin(&mut archive, &name, reply, |archive| archive.unpin(&name));
            }
            VersionRequest::Pinned(reply) => drop(reply.send(archive.pinned())),
            VersionRequest::Retain(names) => archive.retain(&names),
            VersionRequest::Previous(name, serving, reply) => {
                // The one that asked may be gone.
                reply.send(archive.previous(&name, &serving).cloned()).ok();
            }
            VersionRequest::Settle(reply) => drop(reply.send(())),
        }
    }
}

/// Changes a pin. If the client gave up meanwhile, it was answered that nothing was written, so the change is undone.
fn change_pin(
    archive: &mut Archive,
    name: &PluginName,
    reply: oneshot::Sender<Result<(), ArchiveError>>,
    change: impl FnOnce(&mut Archive) -> Result<(), ArchiveError>,
) {
    let before = archive.pins().get(name).copied();
    let changed = change(archive);
    let is_changed = changed.is_ok();
    if reply.send(changed).is_ok() || !is_changed {
        return;
    }
    if let Err(error) = archive.restore_pin(name, before) {
        let error = ErrorChain(&error).to_string();
        warn!(plugin = %name, error, "pin not restored");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::{credentials::CredentialsSeen, inspection::Inspection, manifest::Manifest};
    use sha2::{Digest, Sha256};
    use std::fs;

    fn release(directory: &Path, name: &str, bytes: &str) -> Arc<Release> {
        let path = directory.join(format!("{bytes}.wasm"));
        fs::write(&path, bytes).unwrap();
        Arc::new(Release {
            name: name.parse().unwrap(),
            path,
            digest: Sha256::digest(bytes).into(),
            manifest: Manifest::default(),
            texts: Vec::new(),
            inspection: Inspection::default(),
            credentials: CredentialsSeen::default(),
        })
    }

    #[test]
    fn a_pin_that_was_written_too_late_is_taken_back() {
        let root = tempfile::tempdir().unwrap();
        let [old, new] = ["old", "new"].map(|bytes| release(root.path(), "a", bytes));
        let (name, mut archive) = (old.name.clone(), Archive::open(root.path()).unwrap());
        let gave_up = || oneshot::channel().0;
        change_pin(&mut archive, &name, gave_up(), |archive| archive.pin(&old));
        assert!(archive.pins().is_empty());
        archive.pin(&old).unwrap();
        change_pin(&mut archive, &name, gave_up(), |archive| archive.pin(&new));
        change_pin(&mut archive, &name, gave_up(), |archive| archive.unpin(&name));
        let archive = Archive::open(root.path()).unwrap();
        assert_eq!(archive.pins().get(&name), Some(&old.digests()));
    }

    #[test]
    fn a_pin_is_not_changed_when_nobody_waits_for_it_any_more() {
        let root = tempfile::tempdir().unwrap();
        let [pinned, unpinned] = ["a", "b"].map(|name| release(root.path(), name, name));
        let mut archive = Archive::open(root.path()).unwrap();
        archive.pin(&pinned).unwrap();
        let (requests, inbox) = channel();
        let gave_up = || oneshot::channel().0;
        requests.send(VersionRequest::Unpin(pinned.name.clone(), gave_up())).unwrap();
        requests.send(VersionRequest::Pin(unpinned, gave_up())).unwrap();
        drop(requests);
        keep_all(archive, &inbox);
        let archive = Archive::open(root.path()).unwrap();
        assert_eq!(Vec::from_iter(archive.pins().keys()), [&pinned.name]);
    }
}
