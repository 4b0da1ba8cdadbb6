//! The file of a store, opened as a database, and opened again when another file has taken its place.

use redb::{Builder, Database, DatabaseError, TableDefinition};
use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

/// The part of a store that is kept in memory, in bytes.
const CACHE: usize = 1 << 20;
/// The time to wait until earlier users have closed the file, and the interval of the checks.
const CLOSE_WAIT: Duration = Duration::from_secs(5);
const CLOSE_LOOK: Duration = Duration::from_millis(10);
/// Only the user of the daemon can read the stores of plugins.
const PRIVATE: u32 = 0o700;

pub(super) const ENTRIES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("entries");
/// Numbers about the entries.
pub(super) const FACTS: TableDefinition<'_, &str, u64> = TableDefinition::new("facts");

/// The database of a file.
pub(super) struct OpenDatabase {
    pub(super) database: Arc<Database>,
    pub(super) file: FileIdentity,
}

impl OpenDatabase {
    /// Opens a file, which is made if it is missing.
    pub(super) fn of(path: &Path) -> Result<Self, redb::Error> {
        let database = Arc::new(open_file(path)?);
        Ok(Self { database, file: FileIdentity::of(path)? })
    }
}

/// Device and inode of a file.
#[derive(PartialEq, Eq)]
pub(super) struct FileIdentity(u64, u64);

impl FileIdentity {
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|it| Self(it.dev(), it.ino()))
    }
}

pub(super) type ReadEntries = redb::ReadOnlyTable<&'static str, &'static [u8]>;

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
pub(super) fn contain<T>(work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, redb::Error> {
    let damaged = |_| {
        let why = "it is damaged; stop the plugins that use it, and move it away";
        Err(redb::Error::Corrupted(why.to_owned()))
    };
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_the_library_is_an_error_with_a_remedy() {
        let error = contain::<()>(|| panic!("damage was found")).unwrap_err().to_string();
        assert!(error.contains("damaged") && error.contains("move it away"), "{error}");
    }
}
