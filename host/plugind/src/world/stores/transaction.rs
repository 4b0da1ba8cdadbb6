//! A transaction of a store: the changes of all callers that wait, and the size of the entries.

use crate::{
    base::quantity::Bytes,
    world::{
        keyvalue_error::KeyValueError,
        store_change::{StoreChange, StoreOutcome, add, digest},
        stores::{
            database::{ENTRIES, FACTS},
            write_queue::StoreWrite,
        },
    },
};
use redb::{Database, ReadableTable, Table};

/// The size that an entry counts in addition to its key and its value.
const ENTRY: u64 = 64;
/// The size of all entries.
const USED: &str = "used";

type Applied = Result<StoreOutcome, KeyValueError>;

/// Makes the changes of several callers, all of them in one transaction.
pub(super) fn apply(
    database: &Database,
    writes: &[StoreWrite],
) -> Result<Vec<Applied>, redb::Error> {
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
pub(super) fn size(key: &str, value: &[u8]) -> u64 {
    (key.len() + value.len()) as u64 + ENTRY
}
