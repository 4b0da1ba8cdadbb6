//! Key-value stores, in files or on a server, and the handles that guests have opened.

use crate::{
    base::{
        figures::{PluginFigures, UseFigures},
        name::{PluginName, StoreName},
        quantity::Bytes,
    },
    config::settings::KeyValueBackend,
    remote::{error::RemoteError, nats::NatsConnection, valkey::ValkeyConnection},
    world::{
        keyvalue_error::KeyValueError,
        nats_store::NatsStore,
        store_change::{StoreChange, StoreOutcome, ValueDigest, digest},
        stores::{KeyValueStore, StoreOpenError, StoreRegistry},
        valkey_store::ValkeyStore,
    },
};
use std::{fmt, path::Path, sync::Arc};
use tokio::runtime::Handle;

/// The name of the daemon's connection, as the server shows it.
const CONNECTION_NAME: &str = "plugind keyvalue";

/// Where stores are.
pub enum StoreBackend {
    /// In files.
    Files(StoreRegistry),
    /// In buckets of NATS JetStream.
    Nats(Arc<NatsConnection>),
    /// On a server that speaks the protocol of Redis.
    Valkey(Arc<ValkeyConnection>),
}

impl Default for StoreBackend {
    fn default() -> Self {
        Self::Files(StoreRegistry::default())
    }
}

impl fmt::Debug for StoreBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Files(_) => "Files",
            Self::Nats(_) => "Nats",
            Self::Valkey(_) => "Valkey",
        })
    }
}

/// Identifies a store, and so decides which plugins use it.
pub(super) enum StoreKey<'a> {
    /// The store of one plugin.
    Plugin(&'a PluginName),
    /// A store that plugins share.
    Shared(&'a StoreName),
}

impl StoreBackend {
    /// Starts to connect to the server of `[keyvalue]`, if it names one. The tasks run in `runtime`.
    ///
    /// # Errors
    /// When the server cannot be used as it is configured.
    pub fn start(
        setting: &KeyValueBackend,
        credentials: Option<&Path>,
        runtime: &Handle,
    ) -> Result<Self, RemoteError> {
        let section = "keyvalue";
        Ok(match setting {
            KeyValueBackend::Embedded => Self::default(),
            KeyValueBackend::Nats(server) => Self::Nats(Arc::new(NatsConnection::start(
                section,
                server,
                credentials,
                CONNECTION_NAME,
                runtime,
            )?)),
            KeyValueBackend::Valkey(server) => Self::Valkey(Arc::new(ValkeyConnection::start(
                section,
                server,
                credentials,
                runtime,
            )?)),
        })
    }

    /// Waits until its server can no longer be reached, or can be again. A change between the call and the first poll
    /// counts.
    pub fn changed(&self) -> impl Future<Output = ()> + use<> {
        let changed = match self {
            Self::Files(_) => None,
            Self::Nats(server) => Some(server.availability().changed()),
            Self::Valkey(server) => Some(server.availability().changed()),
        };
        async {
            match changed {
                Some(changed) => changed.await,
                None => std::future::pending().await,
            }
        }
    }

    /// Opens a store. `file` is where it is, if stores are in files. Blocks.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub(super) fn open(
        &self,
        key: &StoreKey<'_>,
        file: &Path,
        quota: Bytes,
    ) -> Result<BackendStore, StoreOpenError> {
        let is_own = matches!(key, StoreKey::Plugin(_));
        let (kind, name) = match key {
            StoreKey::Plugin(name) => ("plugin", name.as_str()),
            StoreKey::Shared(name) => ("shared", name.as_str()),
        };
        Ok(match self {
            Self::Files(registry) => BackendStore::File(registry.open(file)?),
            Self::Nats(server) => {
                let bucket = format!("plugind-{kind}-{name}");
                let store = NatsStore::new(server.clone(), bucket, is_own, quota);
                BackendStore::Nats(Arc::new(store))
            }
            Self::Valkey(server) => {
                let store = ValkeyStore::new(server.clone(), &format!("plugind:{kind}:{name}"));
                BackendStore::Valkey(Arc::new(store))
            }
        })
    }
}

/// A store, wherever it is.
#[derive(Clone, Debug)]
pub(super) enum BackendStore {
    File(Arc<KeyValueStore>),
    Nats(Arc<NatsStore>),
    Valkey(Arc<ValkeyStore>),
}

impl BackendStore {
    pub(super) async fn get(&self, key: String) -> Result<Option<Vec<u8>>, KeyValueError> {
        match self {
            Self::File(store) => store.get(key).await,
            Self::Nats(store) => store.get(key).await,
            Self::Valkey(store) => store.get(key).await,
        }
    }

    pub(super) async fn get_many(
        &self,
        keys: Vec<String>,
    ) -> Result<Vec<Option<(String, Vec<u8>)>>, KeyValueError> {
        match self {
            Self::File(store) => store.get_many(keys).await,
            Self::Nats(store) => store.get_many(keys).await,
            Self::Valkey(store) => store.get_many(keys).await,
        }
    }

    pub(super) async fn exists(&self, key: String) -> Result<bool, KeyValueError> {
        match self {
            Self::File(store) => store.exists(key).await,
            Self::Nats(store) => store.exists(key).await,
            Self::Valkey(store) => store.exists(key).await,
        }
    }

    /// Keys behind `cursor`, and the cursor for more.
    pub(super) async fn keys(
        &self,
        cursor: Option<String>,
    ) -> Result<(Vec<String>, Option<String>), KeyValueError> {
        match self {
            Self::File(store) => store.keys(cursor).await,
            Self::Nats(store) => store.keys(cursor).await,
            Self::Valkey(store) => store.keys(cursor).await,
        }
    }

    /// Makes changes. In NATS, the quota is a limit of the bucket.
    pub(super) async fn change(
        &self,
        changes: Vec<StoreChange>,
        quota: Bytes,
    ) -> Result<StoreOutcome, KeyValueError> {
        match self {
            Self::File(store) => store.change(changes, quota).await,
            Self::Nats(store) => store.change(changes).await,
            Self::Valkey(store) => store.change(changes, quota).await,
        }
    }

    /// Whether its last failure is so long ago that a read may show that it can be used again.
    pub(super) fn is_to_be_tried(&self) -> bool {
        match self {
            Self::File(store) => store.is_to_be_tried(),
            Self::Nats(store) => store.is_to_be_tried(),
            Self::Valkey(store) => store.is_to_be_tried(),
        }
    }

    /// Why it cannot be used, as far as that is known.
    pub(super) fn failure(&self) -> Option<String> {
        match self {
            Self::File(store) => store.failure(),
            Self::Nats(store) => store.failure(),
            Self::Valkey(store) => store.failure(),
        }
    }
}

/// A store that a guest has opened. Its operations are counted.
#[derive(Clone)]
pub struct OpenBucket {
    pub(super) store: BackendStore,
    pub(super) figures: Arc<PluginFigures>,
}

impl OpenBucket {
    fn begin(&self) -> &UseFigures {
        self.figures.keyvalue.begin()
    }

    pub(super) async fn get(&self, key: String) -> Result<Option<Vec<u8>>, KeyValueError> {
        self.begin().end(self.store.get(key).await)
    }

    pub(super) async fn get_many(
        &self,
        keys: Vec<String>,
    ) -> Result<Vec<Option<(String, Vec<u8>)>>, KeyValueError> {
        self.begin().end(self.store.get_many(keys).await)
    }

    pub(super) async fn exists(&self, key: String) -> Result<bool, KeyValueError> {
        self.begin().end(self.store.exists(key).await)
    }

    /// Keys behind `cursor`, and the cursor for more.
    pub(super) async fn keys(
        &self,
        cursor: Option<String>,
    ) -> Result<(Vec<String>, Option<String>), KeyValueError> {
        self.begin().end(self.store.keys(cursor).await)
    }

    /// Makes changes, as one operation.
    pub(super) async fn change(
        &self,
        changes: Vec<StoreChange>,
        quota: Bytes,
    ) -> Result<StoreOutcome, KeyValueError> {
        self.begin().end(self.store.change(changes, quota).await)
    }
}

/// A value that a guest wants to replace if it has not changed.
pub struct OpenCas {
    pub(super) bucket: OpenBucket,
    pub(super) key: String,
    /// The digest of the value; none if there was no value.
    pub(super) seen: Option<ValueDigest>,
}

impl OpenCas {
    pub(super) async fn new(bucket: OpenBucket, key: String) -> Result<Self, KeyValueError> {
        let value = bucket.get(key.clone()).await?;
        Ok(Self { bucket, key, seen: digest(value.as_deref()) })
    }

    /// Returns the number of bytes that it keeps.
    pub(super) fn bytes(&self) -> usize {
        self.key.len()
    }
}
