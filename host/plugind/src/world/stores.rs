//! Key-value stores, each a file that the daemon alone opens. An acknowledged change survives every crash.
//!
//! The methods of a store wait for the disk on blocking threads. Writes that wait at the same time share a transaction,
//! and so the time that the disk takes to keep it.

use crate::{
    base::quantity::Bytes, remote::availability::Unreachable, runtime::file_threads::executor,
};
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, Table, TableDefinition,
};
use sha2::{Digest, Sha256};
use std::{
    collections::{HashMap, VecDeque},
    fmt,
    fs::{self, DirBuilder},
    io,
    ops::Bound::{Excluded, Unbounded},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;
use tracing::warn;

/// The longest key, in bytes.
pub(super) const KEY_MAX: usize = 1024;
/// The longest value, in bytes.
pub(super) const VALUE_MAX: usize = 1 << 20;
/// The most keys that one call returns, and the most bytes of keys or values.
pub(super) const PAGE_MAX: usize = 1000;
pub(super) const PAGE_BYTES_MAX: usize = 4 << 20;
/// The size that an entry counts in addition to its key and its value.
const ENTRY: u64 = 64;
/// The part of a store that is kept in memory, in bytes.
const CACHE: usize = 1 << 20;
/// The most bytes in a transaction, unless a single write is larger.
const TRANSACTION_MAX: usize = 4 << 20;
/// The time to wait until earlier users have closed the file, and the interval of the checks.
const CLOSE_WAIT: Duration = Duration::from_secs(5);
const CLOSE_LOOK: Duration = Duration::from_millis(10);
/// Time for which a failure is remembered although entries can be read.
const FAILURE_REMEMBERED: Duration = Duration::from_secs(60);
/// Only the user of the daemon can read the stores of plugins.
const PRIVATE: u32 = 0o700;

const ENTRIES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("entries");
/// Numbers about the entries.
const FACTS: TableDefinition<'_, &str, u64> = TableDefinition::new("facts");
/// The size of all entries.
const USED: &str = "used";

/// Why a store did not do what was asked of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyValueError {
    /// The key is empty or too long.
    #[error("a key must have 1 to {KEY_MAX} bytes, not {0}")]
    Key(usize),
    /// The value is too long.
    #[error("a value must have at most {VALUE_MAX} bytes, not {0}")]
    Value(usize),
    /// Too much is asked for at once.
    #[error("a batch must have at most {PAGE_MAX} keys, and {PAGE_BYTES_MAX} bytes of values")]
    Batch,
    /// The store is full.
    #[error(
        "the store must not exceed {0}; delete keys, or raise quota of keyvalue below [grants] in the manifest"
    )]
    Quota(Bytes),
    /// The value to increment is not a number.
    #[error("the value must be a whole number of 64 bits in decimal digits")]
    NotNumber,
    /// The sum is too large or too small.
    #[error("the sum must be a number of 64 bits")]
    Overflow,
    /// The cursor is from elsewhere.
    #[error("the cursor must be one that list-keys returned for this store")]
    Cursor,
    /// The value is too long for the server.
    #[error(
        "a value must have at most {most} bytes on this server, as its max_payload says, not {length}"
    )]
    ServerValue {
        /// The most bytes.
        most: usize,
        /// Those of the value.
        length: usize,
    },
    /// The file or the server cannot be used.
    #[error("the store cannot be used at present: {0}")]
    Storage(String),
    /// There is no connection to the server.
    #[error("the store cannot be used at present: {0}")]
    Unreachable(#[from] Unreachable),
}

impl KeyValueError {
    /// The server does not answer in time.
    pub(super) fn timed_out() -> Self {
        let error = "the server does not answer in time; a change may have been made";
        Self::Storage(error.to_owned())
    }
}

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

/// A change of one key.
pub(super) enum StoreChange {
    /// Sets the value of the key.
    Set(String, Vec<u8>),
    /// Deletes the key.
    Delete(String),
    /// Adds to the value, which must be a number.
    Add(String, i64),
    /// Sets the value, if the present one has this digest; none: if there is none.
    Swap(String, Option<ValueDigest>, Vec<u8>),
}

/// A digest that identifies a value.
pub(super) type ValueDigest = [u8; 32];

/// The outcome of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StoreOutcome {
    /// It was made.
    Done,
    /// It was made, and this is the sum.
    Sum(i64),
    /// It was not made: the value is another one.
    Differs,
}

/// Changes of one caller, in their order.
struct StoreWrite {
    changes: Vec<StoreChange>,
    quota: Bytes,
    reply: oneshot::Sender<Result<StoreOutcome, KeyValueError>>,
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

/// The database of a file.
struct OpenDatabase {
    database: Arc<Database>,
    file: FileIdentity,
}

impl OpenDatabase {
    /// Opens a file, which is made if it is missing.
    fn of(path: &Path) -> Result<Self, redb::Error> {
        let database = Arc::new(open_file(path)?);
        Ok(Self { database, file: FileIdentity::of(path)? })
    }
}

/// Device and inode of a file.
#[derive(PartialEq, Eq)]
struct FileIdentity(u64, u64);

impl FileIdentity {
    fn of(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|it| Self(it.dev(), it.ino()))
    }
}

/// Why a store cannot be used.
struct StoreFailure {
    error: String,
    /// When it last failed.
    at: Instant,
}

#[derive(Default)]
struct WriteQueue {
    waiting: VecDeque<StoreWrite>,
    /// Whether a thread serves the queue.
    is_served: bool,
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

    /// Makes changes. When this returns, they are on the disk.
    pub(super) async fn change(
        self: &Arc<Self>,
        changes: Vec<StoreChange>,
        quota: Bytes,
    ) -> Result<StoreOutcome, KeyValueError> {
        changes.iter().try_for_each(StoreChange::check)?;
        let (reply, outcome) = oneshot::channel();
        let is_served = {
            let mut queue = lock(&self.queue);
            queue.waiting.push_back(StoreWrite { changes, quota, reply });
            std::mem::replace(&mut queue.is_served, true)
        };
        if !is_served {
            let store = self.clone();
            drop(executor().spawn_blocking(move || store.serve_queue()));
        }
        outcome.await.unwrap_or_else(|_| Err(interrupted()))
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

    /// The reason why its last use failed, if it did.
    pub(super) fn failure(&self) -> Option<String> {
        let failure = lock(&self.failure);
        let StoreFailure { error, .. } = failure.as_ref()?;
        Some(format!("its key-value store {} cannot be used: {error}", self.path.display()))
    }
}

type ReadEntries = redb::ReadOnlyTable<&'static str, &'static [u8]>;

impl WriteQueue {
    /// Takes the writes for one transaction.
    fn take(&mut self) -> Vec<StoreWrite> {
        let (mut writes, mut bytes) = (Vec::new(), 0);
        while let Some(next) = self.waiting.front() {
            bytes += next.changes.iter().map(StoreChange::bytes).sum::<usize>();
            if !writes.is_empty() && bytes > TRANSACTION_MAX {
                break;
            }
            writes.extend(self.waiting.pop_front());
        }
        writes
    }
}

impl StoreChange {
    pub(super) fn check(&self) -> Result<(), KeyValueError> {
        check_key(match self {
            Self::Set(key, _) | Self::Delete(key) | Self::Add(key, _) | Self::Swap(key, _, _) => {
                key
            }
        })?;
        match self {
            Self::Set(_, value) | Self::Swap(_, _, value) if value.len() > VALUE_MAX => {
                Err(KeyValueError::Value(value.len()))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Set(key, value) | Self::Swap(key, _, value) => key.len() + value.len(),
            Self::Delete(key) | Self::Add(key, _) => key.len(),
        }
    }
}

/// Returns the digest that identifies this value.
pub(super) fn digest(value: Option<&[u8]>) -> Option<ValueDigest> {
    value.map(|value| Sha256::digest(value).into())
}

pub(super) fn check_key(key: &str) -> Result<(), KeyValueError> {
    match key.len() {
        1..=KEY_MAX => Ok(()),
        length => Err(KeyValueError::Key(length)),
    }
}

fn interrupted() -> KeyValueError {
    KeyValueError::Storage("the daemon interrupted it".to_owned())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens a file, and waits for those that are about to close it.
fn open_file(path: &Path) -> Result<Database, redb::Error> {
    if let Some(directory) = path.parent() {
        DirBuilder::new().recursive(true).mode(PRIVATE).create(directory)?;
    }
    let deadline = Instant::now() + CLOSE_WAIT;
    contain(|| {
        let database = loop {
            match Builder::new().set_cache_size(CACHE).create(path) {
                Err(DatabaseError::DatabaseAlreadyOpen) if Instant::now() < deadline => {
                    thread::sleep(CLOSE_LOOK);
                }
                opened => break opened?,
            }
        };
        let transaction = database.begin_write()?;
        transaction.open_table(ENTRIES)?;
        transaction.open_table(FACTS)?;
        transaction.commit()?;
        Ok(database)
    })
}

/// Uses the library, which panics at some damage that it finds in a file. To its caller that is an error like others.
fn contain<T>(work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, redb::Error> {
    let damaged = |_| {
        let why = "it is damaged; stop the plugins that use it, and move it away";
        Err(redb::Error::Corrupted(why.to_owned()))
    };
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(damaged)
}

type Applied = Result<StoreOutcome, KeyValueError>;

/// Makes the changes of several callers, all of them in one transaction.
fn apply(database: &Database, writes: &[StoreWrite]) -> Result<Vec<Applied>, redb::Error> {
    let mut transaction = database.begin_write()?;
    // Guests choose what is written, so a checksum alone should not decide which transaction was complete.
    transaction.set_two_phase_commit(true);
    let mut outcomes = Vec::with_capacity(writes.len());
    {
        let mut entries = transaction.open_table(ENTRIES)?;
        let mut facts = transaction.open_table(FACTS)?;
        let mut used = facts.get(USED)?.map_or(0, |used| used.value());
        for write in writes {
            let mut outcome = Ok(StoreOutcome::Done);
            for change in &write.changes {
                outcome = change_entry(&mut entries, &mut used, change, write.quota)?;
                if outcome.is_err() {
                    break;
                }
            }
            outcomes.push(outcome);
        }
        facts.insert(USED, used)?;
    }
    transaction.commit()?;
    Ok(outcomes)
}

fn change_entry(
    entries: &mut Table<'_, &str, &[u8]>,
    used: &mut u64,
    change: &StoreChange,
    Bytes(quota): Bytes,
) -> Result<Applied, redb::Error> {
    let (key, value, outcome) = match change {
        StoreChange::Delete(key) => {
            if let Some(old) = entries.remove(&**key)? {
                *used = used.saturating_sub(size(key, old.value()));
            }
            return Ok(Ok(StoreOutcome::Done));
        }
        StoreChange::Set(key, value) => (key, value.clone(), StoreOutcome::Done),
        StoreChange::Swap(key, expected, value) => {
            let old = entries.get(&**key)?;
            if digest(old.as_ref().map(|old| old.value())) != *expected {
                return Ok(Ok(StoreOutcome::Differs));
            }
            (key, value.clone(), StoreOutcome::Done)
        }
        StoreChange::Add(key, delta) => {
            let old = entries.get(&**key)?;
            match add(old.as_ref().map(|old| old.value()), *delta) {
                Ok(sum) => (key, sum.to_string().into_bytes(), StoreOutcome::Sum(sum)),
                Err(error) => return Ok(Err(error)),
            }
        }
    };
    let old = entries.get(&**key)?.map_or(0, |old| size(key, old.value()));
    let next = used.saturating_sub(old).saturating_add(size(key, &value));
    if next > *used && next > quota {
        return Ok(Err(KeyValueError::Quota(Bytes(quota))));
    }
    entries.insert(&**key, &*value)?;
    *used = next;
    Ok(Ok(outcome))
}

/// Returns the size that counts for an entry.
fn size(key: &str, value: &[u8]) -> u64 {
    (key.len() + value.len()) as u64 + ENTRY
}

/// Returns the sum of a value and `delta`.
pub(super) fn add(old: Option<&[u8]>, delta: i64) -> Result<i64, KeyValueError> {
    let number = |old: &[u8]| std::str::from_utf8(old).ok()?.parse::<i64>().ok();
    let old = old.map_or(Some(0), number).ok_or(KeyValueError::NotNumber)?;
    old.checked_add(delta).ok_or(KeyValueError::Overflow)
}

#[cfg(test)]
mod tests;
