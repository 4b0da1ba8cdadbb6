//! `wasi:keyvalue`: the stores that a plugin was granted.

use crate::{
    base::{figures::PluginFigures, name::PluginName, quantity::Bytes},
    plugin::{
        grants::keyvalue::{KeyValueGrant, OWN_STORE},
        state_files::{STORES, own_store},
    },
    world::{
        bindings::keyvalue::wasi::keyvalue::{
            atomics::{self, CasError},
            batch,
            store::{self, Error, KeyResponse},
        },
        buckets::{BackendStore, OpenBucket, OpenCas, StoreBackend, StoreKey},
        keyvalue_error::KeyValueError,
        store_change::{StoreChange, StoreOutcome, digest},
        stores::StoreOpenError,
    },
};
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};
use wasmtime::component::{HasData, Resource, ResourceTable};

/// The key that is looked up to find out whether a store can be used. It need not exist.
const TRIED_KEY: &str = "plugind";

/// The stores of a generation, by the names that its instances open them by.
#[derive(Default)]
pub struct Shared {
    stores: BTreeMap<String, BackendStore>,
    quota: Bytes,
    /// Whether stores that failed are tried again at present.
    is_trying: AtomicBool,
}

/// Opens what `plugin` was granted, below the directory of the daemon's `state`. Blocks.
///
/// # Errors
/// When a store cannot be opened.
pub(super) fn open(
    plugin: &PluginName,
    grant: Option<&KeyValueGrant>,
    state: &Path,
    backend: &StoreBackend,
) -> Result<Shared, StoreOpenError> {
    let Some(grant) = grant else { return Ok(Shared::default()) };
    let open = |key: &StoreKey<'_>, file: &Path| backend.open(key, file, grant.quota);
    let own = open(&StoreKey::Plugin(plugin), &own_store(state, plugin))?;
    let mut stores = BTreeMap::from([(OWN_STORE.to_owned(), own)]);
    for name in &grant.shared {
        let file = state.join(STORES).join(format!("shared-{name}.redb"));
        stores.insert(name.to_string(), open(&StoreKey::Shared(name), &file)?);
    }
    Ok(Shared { stores, quota: grant.quota, is_trying: AtomicBool::new(false) })
}

impl Shared {
    /// Why one of the stores cannot be used, if that is so.
    pub(super) fn failure(&self) -> Option<String> {
        self.stores.values().find_map(|store| store.failure())
    }

    /// Reads an entry of each store that failed some time ago: the plugin may not use it for long, and until then
    /// nothing would show that the store can be used again. To be called within a runtime.
    pub(super) fn try_failed(self: &Arc<Self>) {
        let failed: Vec<_> =
            self.stores.values().filter(|store| store.is_to_be_tried()).cloned().collect();
        if failed.is_empty() || self.is_trying.swap(true, Relaxed) {
            return;
        }
        let shared = self.clone();
        tokio::spawn(async move {
            for store in failed {
                // The store remembers the outcome.
                store.exists(TRIED_KEY.to_owned()).await.ok();
            }
            shared.is_trying.store(false, Relaxed);
        });
    }
}

impl HasData for Shared {
    type Data<'a> = Guest<'a>;
}

/// One instance's use of the stores.
pub struct Guest<'a> {
    pub(super) shared: &'a Shared,
    pub(super) figures: &'a Arc<PluginFigures>,
    pub(super) table: &'a mut ResourceTable,
}

impl From<KeyValueError> for Error {
    fn from(error: KeyValueError) -> Self {
        Self::Other(error.to_string())
    }
}

fn gone(error: impl std::fmt::Display) -> Error {
    Error::Other(error.to_string())
}

impl Guest<'_> {
    fn bucket(&self, bucket: &Resource<OpenBucket>) -> Result<OpenBucket, Error> {
        self.table.get(bucket).cloned().map_err(gone)
    }

    fn change(
        &self,
        bucket: &Resource<OpenBucket>,
        changes: Vec<StoreChange>,
    ) -> impl Future<Output = Result<StoreOutcome, Error>> + use<> {
        let (bucket, quota) = (self.bucket(bucket), self.shared.quota);
        async move { Ok(bucket?.change(changes, quota).await?) }
    }
}

impl store::Host for Guest<'_> {
    async fn open(&mut self, identifier: String) -> Result<Resource<OpenBucket>, Error> {
        let name = if identifier.is_empty() { OWN_STORE } else { &identifier };
        let store = self.shared.stores.get(name).ok_or(Error::AccessDenied)?;
        let (store, figures) = (store.clone(), self.figures.clone());
        self.table.push(OpenBucket { store, figures }).map_err(gone)
    }
}

impl store::HostBucket for Guest<'_> {
    async fn get(
        &mut self,
        bucket: Resource<OpenBucket>,
        key: String,
    ) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.bucket(&bucket)?.get(key).await?)
    }

    async fn set(
        &mut self,
        bucket: Resource<OpenBucket>,
        key: String,
        value: Vec<u8>,
    ) -> Result<(), Error> {
        self.change(&bucket, vec![StoreChange::Set(key, value)]).await.map(drop)
    }

    async fn delete(&mut self, bucket: Resource<OpenBucket>, key: String) -> Result<(), Error> {
        self.change(&bucket, vec![StoreChange::Delete(key)]).await.map(drop)
    }

    async fn exists(&mut self, bucket: Resource<OpenBucket>, key: String) -> Result<bool, Error> {
        Ok(self.bucket(&bucket)?.exists(key).await?)
    }

    async fn list_keys(
        &mut self,
        bucket: Resource<OpenBucket>,
        cursor: Option<String>,
    ) -> Result<KeyResponse, Error> {
        let (keys, cursor) = self.bucket(&bucket)?.keys(cursor).await?;
        Ok(KeyResponse { keys, cursor })
    }

    async fn drop(&mut self, bucket: Resource<OpenBucket>) -> wasmtime::Result<()> {
        self.table.delete(bucket)?;
        Ok(())
    }
}

impl atomics::Host for Guest<'_> {
    async fn increment(
        &mut self,
        bucket: Resource<OpenBucket>,
        key: String,
        delta: i64,
    ) -> Result<i64, Error> {
        match self.change(&bucket, vec![StoreChange::Add(key, delta)]).await? {
            StoreOutcome::Sum(sum) => Ok(sum),
            StoreOutcome::Done | StoreOutcome::Differs => Err(gone("the store returned no sum")),
        }
    }

    async fn swap(&mut self, cas: Resource<OpenCas>, value: Vec<u8>) -> Result<(), CasError> {
        let OpenCas { bucket, key, seen } =
            self.table.delete(cas).map_err(|error| CasError::StoreError(gone(error)))?;
        let change = StoreChange::Swap(key.clone(), seen, value);
        let outcome = bucket.change(vec![change], self.shared.quota).await;
        match outcome.map_err(|error| CasError::StoreError(error.into()))? {
            StoreOutcome::Done | StoreOutcome::Sum(_) => Ok(()),
            StoreOutcome::Differs => {
                let next = OpenCas::new(bucket, key).await;
                let next = next.map_err(|error| CasError::StoreError(error.into()))?;
                let next =
                    self.table.push(next).map_err(|error| CasError::StoreError(gone(error)))?;
                Err(CasError::CasFailed(next))
            }
        }
    }
}

impl atomics::HostCas for Guest<'_> {
    async fn new(
        &mut self,
        bucket: Resource<OpenBucket>,
        key: String,
    ) -> Result<Resource<OpenCas>, Error> {
        let cas = OpenCas::new(self.bucket(&bucket)?, key).await?;
        self.table.push(cas).map_err(gone)
    }

    /// Returns the value that must not have changed at the swap.
    async fn current(&mut self, cas: Resource<OpenCas>) -> Result<Option<Vec<u8>>, Error> {
        let seen = self.table.get(&cas).map_err(gone)?;
        let (bucket, key) = (seen.bucket.clone(), seen.key.clone());
        let value = bucket.get(key).await?;
        self.table.get_mut(&cas).map_err(gone)?.seen = digest(value.as_deref());
        Ok(value)
    }

    async fn drop(&mut self, cas: Resource<OpenCas>) -> wasmtime::Result<()> {
        self.table.delete(cas)?;
        Ok(())
    }
}

impl batch::Host for Guest<'_> {
    async fn get_many(
        &mut self,
        bucket: Resource<OpenBucket>,
        keys: Vec<String>,
    ) -> Result<Vec<Option<(String, Vec<u8>)>>, Error> {
        Ok(self.bucket(&bucket)?.get_many(keys).await?)
    }

    async fn set_many(
        &mut self,
        bucket: Resource<OpenBucket>,
        entries: Vec<(String, Vec<u8>)>,
    ) -> Result<(), Error> {
        let set = |(key, value)| StoreChange::Set(key, value);
        self.change(&bucket, entries.into_iter().map(set).collect()).await.map(drop)
    }

    async fn delete_many(
        &mut self,
        bucket: Resource<OpenBucket>,
        keys: Vec<String>,
    ) -> Result<(), Error> {
        let changes = keys.into_iter().map(StoreChange::Delete).collect();
        self.change(&bucket, changes).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_store_that_failed_is_tried_although_its_plugin_does_not_use_it() {
        let (directory, plugin) = (tempfile::tempdir().unwrap(), "a".parse().unwrap());
        let grant = KeyValueGrant { quota: Bytes(1 << 20), shared: Vec::new() };
        let backend = StoreBackend::default();
        let opened = open(&plugin, Some(&grant), directory.path(), &backend).unwrap();
        let shared = Arc::new(opened);
        let BackendStore::File(store) = &shared.stores[OWN_STORE] else { panic!("{backend:?}") };
        store.fail_long_ago();
        assert!(shared.failure().is_some());
        shared.try_failed();
        while shared.is_trying.load(Relaxed) {
            tokio::task::yield_now().await;
        }
        assert_eq!(shared.failure(), None);
    }
}
