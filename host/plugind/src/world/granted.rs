//! The grants of a manifest, made real for one generation: opened, read, ready to be handed to its instances.

use crate::world::{
    broker::Broker, buckets::StoreBackend, credentials, files, keyvalue, messaging, network,
    network_access, state_limit::StateUsages, stores::StoreOpenError,
};
use crate::{base::name::PluginName, plugin::manifest::Manifest};
use std::{path::PathBuf, sync::Arc};

/// Where the machine keeps what plugins may be granted.
#[derive(Clone, Debug)]
pub struct GrantDirectories {
    /// The directories of plugins' own are below this one.
    pub state: PathBuf,
    /// The usage of those with a limit.
    pub state_usages: StateUsages,
    /// Where credentials are, if there are any.
    pub credentials: Option<PathBuf>,
    /// Where key-value stores are.
    pub stores: Arc<StoreBackend>,
    /// The NATS server, if there is a connection to it.
    pub broker: Broker,
    /// Whether `plugind.toml` names a NATS server. A check knows that without a connection.
    pub has_broker: bool,
}

/// The rights of one generation's instances beyond those of all plugins.
#[derive(Clone, Default)]
pub struct Granted {
    pub(super) environment: Arc<[(String, String)]>,
    pub(super) files: files::Shared,
    pub(super) credentials: Arc<credentials::Shared>,
    pub(super) network: network::Shared,
    pub(super) keyvalue: Arc<keyvalue::Shared>,
    pub(super) messaging: Arc<messaging::Shared>,
}

/// A grant that cannot be fulfilled.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
#[expect(missing_docs, reason = "one for each kind of grant")]
pub enum GrantError {
    Files(#[from] files::FilesError),
    Credentials(#[from] credentials::CredentialsError),
    Network(#[from] network_access::NetworkError),
    KeyValue(#[from] StoreOpenError),
    Messaging(#[from] MessagingError),
}

/// A plugin uses messages, and `plugind.toml` names no NATS server.
#[derive(Debug, thiserror::Error)]
#[error(
    "{use_of} messages, but the daemon has no NATS server; write url = \"nats://HOST:4222\" below [messaging] in \
     plugind.toml, and restart the daemon"
)]
pub struct MessagingError {
    use_of: &'static str,
}

impl Granted {
    /// Opens what the manifest of `plugin` grants. Blocks.
    ///
    /// # Errors
    /// When a grant cannot be fulfilled.
    pub fn open(
        plugin: &PluginName,
        manifest: &Manifest,
        places: &GrantDirectories,
    ) -> Result<Self, GrantError> {
        let grants = &manifest.grants;
        let state = grants.state.then(|| places.state.join(plugin.as_str()));
        let directory = places.credentials.as_deref();
        let environment = grants.environment.iter();
        if !places.has_broker
            && let Some(use_of) = use_of_messages(manifest)
        {
            return Err(MessagingError { use_of }.into());
        }
        let files = files::open(&grants.read, state.as_deref())?;
        // It exists now.
        let state_limit = state
            .zip(manifest.limits.state_max)
            .map(|(path, max)| places.state_usages.limit(plugin, path, max));
        network_access::open(grants.tcp_connect.iter().chain(&grants.outgoing_http))?;
        Ok(Self {
            environment: environment.map(|(name, value)| (name.clone(), value.clone())).collect(),
            files: files.with_state_limit(state_limit),
            credentials: Arc::new(credentials::read(plugin, &grants.credentials, directory)?),
            messaging: Arc::new(messaging::Shared::new(&grants.publish, &places.broker)),
            network: network::Shared::new(&grants.tcp_connect),
            keyvalue: Arc::new(keyvalue::open(
                plugin,
                grants.keyvalue.as_ref(),
                &places.state,
                &places.stores,
            )?),
        })
    }

    /// Why something that was granted cannot be used at present, if that is so.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        let state_limit = self.files.state_limit();
        self.keyvalue.failure().or_else(|| state_limit?.failure())
    }
}

/// The use of messages, if a manifest has one.
fn use_of_messages(manifest: &Manifest) -> Option<&'static str> {
    if !manifest.subscribe.is_empty() {
        return Some("subscribes to");
    }
    (!manifest.grants.publish.is_empty()).then_some("was granted permission to publish")
}
