//! Key-value stores, each a file that the daemon alone opens. An acknowledged change survives every crash.
//!
//! The methods of a store wait for the disk on blocking threads. Writes that wait at the same time share a transaction,
//! and so the time that the disk takes to keep it.

mod database;
mod transaction;
mod write_queue;

use crate::{
    base::quantity::Bytes,
    runtime::file_threads::executor,
    world::{
        keyvalue_error::KeyValueError,
        store_change::{StoreChange, StoreOutcome, check_key},
        store_limits::{FAILURE_REMEMBERED, PAGE_BYTES_MAX, PAGE_MAX},
        stores::{
            database::{ENTRIES, FileIdentity, OpenDatabase, ReadEntries, contain},
            transaction::apply,
            write_queue::{StoreWrite, WriteQueue},
        },
    },
};
use redb::{Database, ReadableDatabase};
use std::{
    collections::HashMap,
    fmt, io,
    ops::Bound::{Excluded, Unbounded},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Instant,
};
use tokio::sync::oneshot;
use tracing::warn;

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error(
    "was granted a key-value store, and its file {} cannot be opened; the daemon must be able to read and write it; if \
     it is damaged, move it away", path.display()
)]
pub struct StoreOpenError {
    path: PathBuf,
    source: redb::Error,
}

/// The stores that are open.
#[derive(Debug, Default)]
pub struct StoreRegistry(Mutex<HashMap<PathBuf, Arc<Mutex<Weak<KeyValueStore>>>>>);

impl StoreRegistry {
    /// The store in this file, which is made if it is missing. Blocks.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(super) fn open(&self, path: &Path) -> Result<Arc<KeyValueStore>, StoreOpenError> {
        // Another store is not kept waiting while this one is repaired after a crash.
        let slot = lock(&self.0).entry(path.to_owned()).or_default().clone();
        let mut slot = lock(&slot);
        if let Some(store) = slot.upgrade() {
            return Ok(store);
        }
        let failed = |source| StoreOpenError { path: path.to_owned(), source };
        let opened = OpenDatabase::of(path).map_err(failed)?;
        let store = Arc::new(KeyValueStore {
            path: path.to_owned(),
            database: Mutex::new(Some(opened)),
            queue: Mutex::default(),
            failure: Mutex::default(),
        });
        *slot = Arc::downgrade(&store);
        Ok(store)
    }
}

/// A store.
pub struct KeyValueStore {
    path: PathBuf,
    /// None after an error of the disk, until it is opened again.
    database: Mutex<Option<OpenDatabase>>,
    queue: Mutex<WriteQueue>,
    failure: Mutex<Option<StoreFailure>>,
}

/// Why a store cannot be used.
struct StoreFailure {
    error: String,
    /// When it last failed.
    at: Instant,
}

impl fmt::Debug for KeyValueStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeyValueStore").field(&self.path).finish()
    }
}

impl KeyValueStore {
    /// The value of a key.
    pub(super) async fn get(
        self: &Arc<Self>,
        key: String,
    ) -> Result<Option<Vec<u8>>, KeyValueError> {
        check_key(&key)?;
        self.read(move |entries| Ok(entries.get(&*key)?.map(|value| value.value().to_vec()))).await
    }

    /// The values of several keys.
    pub(super) async fn get_many(
        self: &Arc<Self>,
        keys: Vec<String>,
    ) -> Result<Vec<Option<(String, Vec<u8>)>>, KeyValueError> {
        if keys.len() > PAGE_MAX {
            return Err(KeyValueError::Batch);
        }
        keys.iter().try_for_each(|key| check_key(key))?;
        let look = move |entries: &ReadEntries| {
            let mut found = Vec::with_capacity(keys.len());
            let mut bytes = 0;
            for key in keys {
                let value = entries.get(&*key)?.map(|value| value.value().to_vec());
                bytes += value.as_ref().map_or(0, Vec::len);
                if bytes > PAGE_BYTES_MAX {
                    return Ok(None);
                }
                found.push(value.map(|value| (key, value)));
            }
            Ok(Some(found))
        };
        self.read(look).await?.ok_or(KeyValueError::Batch)
    }

    /// Whether a key has a value.
    pub(super) async fn exists(self: &Arc<Self>, key: String) -> Result<bool, KeyValueError> {
        check_key(&key)?;
        self.read(move |entries| Ok(entries.get(&*key)?.is_some())).await
    }

    /// Keys in their order, those behind `cursor`, and the cursor for more.
    pub(super) async fn keys(
        self: &Arc<Self>,
        cursor: Option<String>,
    ) -> Result<(Vec<String>, Option<String>), KeyValueError> {
        self.read(move |entries| {
            let start = cursor.as_deref().map_or(Unbounded, Excluded);
            let (mut keys, mut bytes) = (Vec::new(), 0);
            for entry in entries.range::<&str>((start, Unbounded))? {
                let (key, _) = entry?;
                bytes += key.value().len();
                if keys.len() == PAGE_MAX || bytes > PAGE_BYTES_MAX {
                    let cursor = keys.last().cloned();
                    return Ok((keys, cursor));
                }
                keys.push(key.value().to_owned());
            }
            Ok((keys, None))
        })
        .await
    }

    /// Makes changes. When this returns, they are on the disk. If its caller leaves before they are begun, they are not
    /// made: otherwise those of callers that are gone would pile up while the disk does not answer.
    pub(super) async fn change(
        self: &Arc<Self>,
        changes: Vec<StoreChange>,
        quota: Bytes,
    ) -> Result<StoreOutcome, KeyValueError> {
        changes.iter().try_for_each(StoreChange::check)?;
        let (reply, outcome) = oneshot::channel();
        let mut caller = Caller { store: self, outcome };
        let is_served = {
            let mut queue = lock(&self.queue);
            queue.waiting.push_back(StoreWrite { changes, quota, reply });
            std::mem::replace(&mut queue.is_served, true)
        };
        if !is_served {
            let store = self.clone();
            drop(executor().spawn_blocking(move || store.serve_queue()));
        }
        (&mut caller.outcome).await.unwrap_or_else(|_| Err(interrupted()))
    }

    /// Looks something up on a thread that may wait for the disk.
    async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        look: impl FnOnce(&ReadEntries) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, KeyValueError> {
        let store = self.clone();
        let looked = executor().spawn_blocking(move || {
            let database = store.database()?;
            let looked = contain(|| look(&database.begin_read()?.open_table(ENTRIES)?));
            if looked.is_ok() {
                store.note_read();
            }
            looked.map_err(|error| store.failed(&error))
        });
        looked.await.unwrap_or_else(|_| Err(interrupted()))
    }

    /// Does the writes that wait, until there are none.
    fn serve_queue(&self) {
        loop {
            let writes = {
                let mut queue = lock(&self.queue);
                let writes = queue.take();
                queue.is_served = !writes.is_empty();
                writes
            };
            if writes.is_empty() {
                return;
            }
            // Writes that are dropped by a panic have no reply, which is an error for the callers.
            if catch_unwind(AssertUnwindSafe(|| self.write(writes))).is_err() {
                self.close();
            }
        }
    }

    fn write(&self, writes: Vec<StoreWrite>) {
        let written = self.database().and_then(|database| {
            let written = contain(|| apply(&database, &writes));
            written.map_err(|error| self.failed(&error))
        });
        if written.is_ok() {
            *lock(&self.failure) = None;
        }
        let mut outcomes = written.map(Vec::into_iter);
        for write in writes {
            let outcome = match &mut outcomes {
                Ok(outcomes) => outcomes.next().unwrap_or_else(|| Err(interrupted())),
                Err(error) => Err(error.clone()),
            };
            // Its caller may be gone.
            write.reply.send(outcome).ok();
        }
    }

    /// The database, opened again if there was an error.
    fn database(&self) -> Result<Arc<Database>, KeyValueError> {
        let mut open = lock(&self.database);
        if let Some(OpenDatabase { database, file }) = &*open {
            if FileIdentity::of(&self.path).is_ok_and(|now| now == *file) {
                return Ok(database.clone());
            }
            // The next call opens the file that has the name then. What is written to one without a name is lost.
            drop(open);
            let error = io::Error::other("its file was removed or replaced while it was in use");
            return Err(self.failed(&redb::Error::Io(error)));
        }
        let opened = OpenDatabase::of(&self.path).map_err(|error| self.failed_with(&error))?;
        Ok(open.insert(opened).database.clone())
    }

    /// After an error, a database answers nothing until it is opened again.
    fn failed(&self, error: &redb::Error) -> KeyValueError {
        self.close();
        self.failed_with(error)
    }

    fn close(&self) {
        let database = lock(&self.database).take();
        // Closing writes as well, and fails as other writes do.
        contain(|| {
            drop(database);
            Ok(())
        })
        .ok();
    }

    fn failed_with(&self, error: &redb::Error) -> KeyValueError {
        let failure = StoreFailure { error: error.to_string(), at: Instant::now() };
        if lock(&self.failure).replace(failure).is_none() {
            let path = self.path.display();
            warn!(%path, %error, "cannot use key-value store");
        }
        KeyValueError::Storage(error.to_string())
    }

    /// Something was read. Parts of a damaged file can be read, so that a failure is not forgotten at once.
    fn note_read(&self) {
        lock(&self.failure).take_if(|failure| failure.at.elapsed() >= FAILURE_REMEMBERED);
    }

    /// Whether a read may show that it can be used again.
    pub(super) fn is_to_be_tried(&self) -> bool {
        let failure = lock(&self.failure);
        failure.as_ref().is_some_and(|failure| failure.at.elapsed() >= FAILURE_REMEMBERED)
    }

    /// The last failure, until a write succeeds, or a read at least a minute after it.
    pub(super) fn failure(&self) -> Option<String> {
        let failure = lock(&self.failure);
        let StoreFailure { error, .. } = failure.as_ref()?;
        Some(format!("its key-value store {} cannot be used: {error}", self.path.display()))
    }
}

/// Who waits for the outcome of changes.
struct Caller<'a> {
    store: &'a KeyValueStore,
    outcome: oneshot::Receiver<Result<StoreOutcome, KeyValueError>>,
}

impl Drop for Caller<'_> {
    fn drop(&mut self) {
        if !self.outcome.is_terminated() {
            self.outcome.close();
            lock(&self.store.queue).forget_abandoned();
        }
    }
}

fn interrupted() -> KeyValueError {
    KeyValueError::Storage("the daemon interrupted the operation".to_owned())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
