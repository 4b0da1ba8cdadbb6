//! Stores keep their entries, within their quota, through faults of their files.

use super::{transaction::size, *};
use futures::FutureExt as _;
use std::fs;

const QUOTA: Bytes = Bytes(1 << 20);

fn set(key: &str, value: &str) -> Vec<StoreChange> {
    vec![StoreChange::Set(key.to_owned(), value.as_bytes().to_vec())]
}

#[tokio::test]
async fn a_file_is_one_store_however_often_it_is_opened_and_keeps_its_entries() {
    let directory = tempfile::tempdir().unwrap();
    let (registry, path) = (StoreRegistry::default(), directory.path().join("new/a.redb"));
    let store = registry.open(&path).unwrap();
    let same = registry.open(&path).unwrap();
    assert!(Arc::ptr_eq(&store, &same));
    store.change(set("key", "value"), QUOTA).await.unwrap();
    assert_eq!(same.get("key".to_owned()).await.unwrap().as_deref(), Some(&b"value"[..]));
    drop((store, same));
    let again = registry.open(&path).unwrap();
    assert_eq!(again.get("key".to_owned()).await.unwrap().as_deref(), Some(&b"value"[..]));
}

#[tokio::test]
async fn a_deleted_or_shorter_entry_frees_its_part_of_the_quota() {
    let directory = tempfile::tempdir().unwrap();
    let store = StoreRegistry::default().open(&directory.path().join("a.redb")).unwrap();
    let quota = Bytes(size("a", b"12345"));
    let full = Err(KeyValueError::Quota(quota));
    assert!(store.change(set("a", "12345"), quota).await.is_ok());
    assert_eq!(store.change(set("a", "123456"), quota).await, full);
    assert_eq!(store.change(set("b", ""), quota).await, full);
    assert!(store.change(set("a", "1"), quota).await.is_ok());
    assert!(store.change(vec![StoreChange::Delete("a".to_owned())], quota).await.is_ok());
    assert!(store.change(set("b", "12345"), quota).await.is_ok());
    let sum = vec![StoreChange::Add("b".to_owned(), i64::MAX)];
    assert_eq!(store.change(sum, QUOTA).await, Err(KeyValueError::Overflow));
}

#[tokio::test]
async fn changes_that_wait_together_are_made_in_their_order() {
    let directory = tempfile::tempdir().unwrap();
    let store = StoreRegistry::default().open(&directory.path().join("a.redb")).unwrap();
    let add = |_| store.change(vec![StoreChange::Add("n".to_owned(), 1)], QUOTA);
    let sums = futures::future::join_all((0..100).map(add)).await;
    for (nth, sum) in sums.into_iter().enumerate() {
        assert_eq!(sum, Ok(StoreOutcome::Sum(i64::try_from(nth).unwrap() + 1)));
    }
}

#[tokio::test]
async fn a_write_whose_caller_is_gone_before_it_is_begun_is_not_kept_and_not_made() {
    let directory = tempfile::tempdir().unwrap();
    let store = StoreRegistry::default().open(&directory.path().join("a.redb")).unwrap();
    let waiting = || lock(&store.queue).waiting.len();
    let (first, later) = {
        // The disk does not answer.
        let _disk = lock(&store.database);
        let mut first = Box::pin(store.change(set("first", "1"), QUOTA));
        assert!(first.as_mut().now_or_never().is_none());
        while waiting() > 0 {
            std::thread::yield_now();
        }
        for _ in 0..100 {
            let mut abandoned = Box::pin(store.change(set("abandoned", "1"), QUOTA));
            assert!(abandoned.as_mut().now_or_never().is_none());
            assert_eq!(waiting(), 1);
        }
        assert_eq!(waiting(), 0);
        let mut later = Box::pin(store.change(set("later", "1"), QUOTA));
        assert!(later.as_mut().now_or_never().is_none());
        (first, later)
    };
    assert!(first.await.is_ok() && later.await.is_ok());
    let (keys, _) = store.keys(None).await.unwrap();
    assert_eq!(keys, ["first", "later"]);
}

#[tokio::test]
async fn a_store_whose_file_was_removed_or_replaced_fails_once_and_uses_the_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let (path, other) = (directory.path().join("a.redb"), directory.path().join("b.redb"));
    let registry = StoreRegistry::default();
    let store = registry.open(&path).unwrap();
    store.change(set("key", "lost"), QUOTA).await.unwrap();
    fs::remove_file(&path).unwrap();
    let refused = store.change(set("key", "value"), QUOTA).await;
    assert!(matches!(refused, Err(KeyValueError::Storage(_))), "{refused:?}");
    assert!(store.failure().is_some_and(|failure| failure.contains("was removed or replaced")));
    store.change(set("key", "value"), QUOTA).await.unwrap();
    assert_eq!(store.failure(), None);

    registry.open(&other).unwrap().change(set("key", "other"), QUOTA).await.unwrap();
    fs::rename(&other, &path).unwrap();
    assert!(store.get("key".to_owned()).await.is_err());
    assert_eq!(store.get("key".to_owned()).await.unwrap().as_deref(), Some(&b"other"[..]));
}

#[tokio::test]
async fn a_store_is_opened_again_after_an_error_of_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let store = StoreRegistry::default().open(&directory.path().join("a.redb")).unwrap();
    store.change(set("key", "value"), QUOTA).await.unwrap();
    let error = redb::Error::Io(std::io::ErrorKind::StorageFull.into());
    assert!(matches!(store.failed(&error), KeyValueError::Storage(_)));
    assert_eq!(store.get("key".to_owned()).await.unwrap().as_deref(), Some(&b"value"[..]));
    assert!(store.failure().is_some(), "what can be read does not show that the disk works");
    store.change(set("key", "other"), QUOTA).await.unwrap();
    assert_eq!(store.failure(), None);
}

impl KeyValueStore {
    /// It failed so long ago that a read may show that it can be used again.
    pub(in crate::world) fn fail_long_ago(&self) {
        self.failed(&redb::Error::Io(std::io::ErrorKind::StorageFull.into()));
        let mut failure = lock(&self.failure);
        failure.as_mut().unwrap().at -= FAILURE_REMEMBERED;
    }
}

#[tokio::test]
async fn a_read_a_minute_after_a_failure_shows_that_the_store_can_be_used() {
    let directory = tempfile::tempdir().unwrap();
    let store = StoreRegistry::default().open(&directory.path().join("a.redb")).unwrap();
    store.failed(&redb::Error::Io(std::io::ErrorKind::StorageFull.into()));
    assert!(!store.is_to_be_tried());
    store.fail_long_ago();
    assert!(store.is_to_be_tried() && store.failure().is_some());
    assert_eq!(store.exists("key".to_owned()).await, Ok(false));
    assert!(!store.is_to_be_tried() && store.failure().is_none());
}

#[test]
fn a_file_that_is_no_store_is_named_with_a_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.redb");
    std::fs::write(&path, "x".repeat(1 << 16)).unwrap();
    let error = StoreRegistry::default().open(&path).unwrap_err().to_string();
    assert!(error.contains(path.to_str().unwrap()) && error.contains("move it away"), "{error}");
}

#[tokio::test]
async fn a_file_that_is_damaged_in_use_is_an_error_and_no_panic() {
    let directory = tempfile::tempdir().unwrap();
    let (registry, path) = (StoreRegistry::default(), directory.path().join("a.redb"));
    let store = registry.open(&path).unwrap();
    for nth in 0..200 {
        store
            .change(set(&format!("key-{nth}"), &"x".repeat(20_000)), Bytes(100 << 20))
            .await
            .unwrap();
    }
    let length = std::fs::metadata(&path).unwrap().len();
    std::fs::write(&path, "damage ".repeat(usize::try_from(length).unwrap() / 7)).unwrap();
    for nth in 0..200 {
        // Entries that are still in memory may be found.
        let found = store.get(format!("key-{nth}")).await;
        assert!(matches!(found, Ok(_) | Err(KeyValueError::Storage(_))), "{found:?}");
    }
    let written = store.change(set("key", "value"), Bytes(100 << 20)).await;
    assert!(matches!(written, Err(KeyValueError::Storage(_))), "{written:?}");
    let interrupted = interrupted();
    assert!(written.is_err_and(|error| error != interrupted), "it says why");
    let failure = store.failure().unwrap();
    assert!(failure.contains("a.redb cannot be used: "), "{failure}");
}
