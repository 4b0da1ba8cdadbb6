//! The grants of a manifest, made real for one generation: opened, read, ready to be handed to its instances.

use crate::world::{
    buckets::StoreBackend, credentials, files, keyvalue, network, stores::StoreOpenError,
};
use crate::{base::name::PluginName, plugin::grants::Grants};
use std::{path::PathBuf, sync::Arc};

/// Where the machine keeps what plugins may be granted.
#[derive(Clone, Debug)]
pub struct GrantDirectories {
    /// The directories of plugins' own are below this one.
    pub state: PathBuf,
    /// Where credentials are, if there are any.
    pub credentials: Option<PathBuf>,
    /// Where key-value stores are.
    pub stores: Arc<StoreBackend>,
}

/// The rights of one generation's instances beyond those of all plugins.
#[derive(Clone, Default)]
pub struct Granted {
    pub(super) environment: Arc<[(String, String)]>,
    pub(super) files: files::Shared,
    pub(super) credentials: Arc<credentials::Shared>,
    pub(super) network: network::Shared,
    pub(super) keyvalue: Arc<keyvalue::Shared>,
}

/// A grant that cannot be fulfilled.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
#[expect(missing_docs, reason = "one for each kind of grant")]
pub enum GrantError {
    Files(#[from] files::FilesError),
    Credentials(#[from] credentials::CredentialsError),
    Network(#[from] network::NetworkError),
    KeyValue(#[from] StoreOpenError),
}

impl Granted {
    /// Opens what `plugin` was granted. Blocks.
    ///
    /// # Errors
    /// When a grant cannot be fulfilled.
    pub fn open(
        plugin: &PluginName,
        grants: &Grants,
        places: &GrantDirectories,
    ) -> Result<Self, GrantError> {
        let state = grants.state.then(|| places.state.join(plugin.as_str()));
        let directory = places.credentials.as_deref();
        let environment = grants.environment.iter();
        network::open(grants.tcp_connect.iter().chain(&grants.outgoing_http))?;
        Ok(Self {
            environment: environment.map(|(name, value)| (name.clone(), value.clone())).collect(),
            files: files::open(&grants.read, state.as_deref())?,
            credentials: Arc::new(credentials::read(plugin, &grants.credentials, directory)?),
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
        self.keyvalue.failure()
    }
}
