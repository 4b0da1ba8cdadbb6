//! A key-value store in a bucket of NATS JetStream, as other clients of NATS know them.
//!
//! A bucket is the stream `KV_BUCKET`, and the value of a key the last message with the subject `$KV.BUCKET.KEY`. Values
//! are read from the leader of the stream, so that a caller finds what it wrote. A deleted key leaves nothing behind.

use crate::{
    base::{error_chain::ErrorChain, quantity::Bytes},
    remote::nats::{ANSWER, NatsConnection},
    world::{
        keyvalue_error::KeyValueError,
        store_change::{StoreChange, StoreOutcome, add, check_key, digest},
        store_failure::StoreFailures,
        store_limits::{PAGE_BYTES_MAX, PAGE_MAX},
    },
};
use async_nats::jetstream::{
    self, Context, ErrorCode,
    consumer::{AckPolicy, DeliverPolicy, pull},
    context::{PublishError, PublishErrorKind},
    message::PublishMessage,
    stream::{Config, DiscardPolicy, LastRawMessageErrorKind, Stream},
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use std::{
    error::Error,
    fmt::{self, Write as _},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::Mutex, time::timeout};

/// Requests of one batch that wait for the server at the same time.
const PARALLEL: usize = 16;
/// Time in which a batch must be done.
const BATCH: Duration = Duration::from_secs(30);
/// Bytes of the headers of a message, at most: they count for the server's `max_payload`.
const HEADERS: usize = 256;
/// Time after which the server forgets a list of keys that was not deleted.
const LIST_FORGOTTEN: Duration = Duration::from_secs(30);
/// Header of a message that says that the key has no value, as other clients write it.
const OPERATION: &str = "KV-Operation";

/// A store in a bucket.
pub struct NatsStore {
    server: Arc<NatsConnection>,
    bucket: String,
    /// Whether only one plugin uses it. Otherwise the largest quota counts.
    is_own: bool,
    quota: Bytes,
    /// None until it is used, and after an error.
    stream: Mutex<Option<Arc<Stream>>>,
    /// Serializes the increments of this daemon, which would otherwise conflict and be repeated.
    adding: Mutex<()>,
    failures: StoreFailures,
}

/// The value of a key, and the number of its last message.
struct NatsEntry {
    /// None if there is no message, or if the last one says that the key was deleted.
    value: Option<Vec<u8>>,
    /// 0 if there is no message.
    revision: u64,
}

/// A value was not written, because the key has another revision.
struct OtherRevision;

impl fmt::Debug for NatsStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NatsStore").field(&self.bucket).finish()
    }
}

impl NatsStore {
    pub(super) fn new(
        server: Arc<NatsConnection>,
        bucket: String,
        is_own: bool,
        quota: Bytes,
    ) -> Self {
        let failures = StoreFailures::new(bucket.clone());
        let (stream, adding) = (Mutex::default(), Mutex::default());
        Self { server, bucket, is_own, quota, stream, adding, failures }
    }

    pub(super) async fn get(&self, key: String) -> Result<Option<Vec<u8>>, KeyValueError> {
        check_key(&key)?;
        let entry = self.bounded(ANSWER, self.entry(&key)).await?;
        Ok(entry.value)
    }

    pub(super) async fn get_many(
        &self,
        keys: Vec<String>,
    ) -> Result<Vec<Option<(String, Vec<u8>)>>, KeyValueError> {
        if keys.len() > PAGE_MAX {
            return Err(KeyValueError::Batch);
        }
        keys.iter().try_for_each(|key| check_key(key))?;
        self.bounded(BATCH, async {
            let read = |key: String| async move {
                let entry = self.entry(&key).await?;
                Ok::<_, KeyValueError>(entry.value.map(|value| (key, value)))
            };
            let mut entries = stream::iter(keys).map(read).buffered(PARALLEL);
            let (mut found, mut bytes) = (Vec::new(), 0);
            while let Some(entry) = entries.try_next().await? {
                bytes += entry.as_ref().map_or(0, |(_, value)| value.len());
                if bytes > PAGE_BYTES_MAX {
                    return Err(KeyValueError::Batch);
                }
                found.push(entry);
            }
            Ok(found)
        })
        .await
    }

    pub(super) async fn exists(&self, key: String) -> Result<bool, KeyValueError> {
        self.get(key).await.map(|value| value.is_some())
    }

    /// Keys in the order in which they were written, those behind `cursor`, and the cursor for more.
    pub(super) async fn keys(
        &self,
        cursor: Option<String>,
    ) -> Result<(Vec<String>, Option<String>), KeyValueError> {
        let start = match cursor {
            Some(cursor) => cursor.parse::<u64>().map_err(|_| KeyValueError::Cursor)?,
            None => 0,
        };
        self.bounded(BATCH, self.list(start.saturating_add(1))).await
    }

    pub(super) async fn change(
        &self,
        changes: Vec<StoreChange>,
    ) -> Result<StoreOutcome, KeyValueError> {
        changes.iter().try_for_each(StoreChange::check)?;
        let time = if changes.len() > 1 { BATCH } else { ANSWER };
        let make = |change| self.make(change);
        let outcome = |_, outcome| async move { Ok(outcome) };
        self.bounded(time, async {
            let made = stream::iter(changes).map(make).buffer_unordered(PARALLEL);
            made.try_fold(StoreOutcome::Done, outcome).await
        })
        .await
    }

    /// The reason why its last use failed, if it did.
    pub(super) fn failure(&self) -> Option<String> {
        self.failures.current(self.server.availability())
    }

    /// Whether a read may show that it can be used again.
    pub(super) fn is_to_be_tried(&self) -> bool {
        self.failures.is_to_be_tried(self.server.availability(), Instant::now())
    }

    /// Does some work within a time limit, and remembers whether the store could be used.
    async fn bounded<T>(
        &self,
        time: Duration,
        work: impl Future<Output = Result<T, KeyValueError>>,
    ) -> Result<T, KeyValueError> {
        let availability = self.server.availability();
        availability.wait().await?;
        let done = tokio::select! {
            done = timeout(time, work) => done.unwrap_or_else(|_| Err(KeyValueError::timed_out())),
            unreachable = availability.until_unreachable() => Err(unreachable.into()),
        };
        if let Err(KeyValueError::Storage(_)) = &done {
            // It is looked up again, as it may have been deleted.
            *self.stream.lock().await = None;
        }
        self.failures.note(&done);
        done
    }

    async fn make(&self, change: StoreChange) -> Result<StoreOutcome, KeyValueError> {
        match change {
            StoreChange::Set(key, value) => {
                // Without an expected revision, a put cannot conflict.
                self.put(&key, value, None).await?.ok();
                Ok(StoreOutcome::Done)
            }
            StoreChange::Delete(key) => {
                let stream = self.stream().await?;
                let purged = stream.purge().filter(self.subject(&key)).await;
                purged.map_err(|error| storage(&error)).map(|_| StoreOutcome::Done)
            }
            StoreChange::Swap(key, expected, value) => {
                let entry = self.entry(&key).await?;
                if digest(entry.value.as_deref()) != expected {
                    return Ok(StoreOutcome::Differs);
                }
                let put = self.put(&key, value, Some(entry.revision)).await?;
                Ok(put.map_or(StoreOutcome::Differs, |()| StoreOutcome::Done))
            }
            StoreChange::Add(key, delta) => {
                let _adding = self.adding.lock().await;
                // Another daemon may be faster. The caller limits the time.
                loop {
                    let entry = self.entry(&key).await?;
                    let sum = add(entry.value.as_deref(), delta)?;
                    let value = sum.to_string().into_bytes();
                    if self.put(&key, value, Some(entry.revision)).await?.is_ok() {
                        return Ok(StoreOutcome::Sum(sum));
                    }
                }
            }
        }
    }

    async fn entry(&self, key: &str) -> Result<NatsEntry, KeyValueError> {
        let stream = self.stream().await?;
        match stream.get_last_raw_message_by_subject(&self.subject(key)).await {
            Ok(message) => {
                // Another client may have deleted the key, and the message that says so has a number as well.
                let is_deleted = message.headers.get(OPERATION).is_some();
                let value = (!is_deleted).then(|| message.payload.to_vec());
                Ok(NatsEntry { value, revision: message.sequence })
            }
            Err(error) => match error.kind() {
                LastRawMessageErrorKind::NoMessageFound => {
                    Ok(NatsEntry { value: None, revision: 0 })
                }
                _ => Err(storage(&error)),
            },
        }
    }

    /// Writes a value, if the last message of the key has the number `revision`; 0: if there is none.
    async fn put(
        &self,
        key: &str,
        value: Vec<u8>,
        revision: Option<u64>,
    ) -> Result<Result<(), OtherRevision>, KeyValueError> {
        // The bucket must exist.
        let stream = self.stream().await?;
        let jetstream = self.jetstream().await?;
        let most = jetstream.client().max_payload().saturating_sub(HEADERS);
        if value.len() > most {
            return Err(KeyValueError::ServerValue { most, length: value.len() });
        }
        let message = PublishMessage::build().payload(value.into());
        let message = message.expected_stream(&stream.cached_info().config.name);
        let message = match revision {
            Some(revision) => message.expected_last_subject_sequence(revision),
            None => message,
        };
        let acknowledged = match jetstream.send_publish(self.subject(key), message).await {
            Ok(acknowledgement) => acknowledgement.await,
            Err(error) => Err(error),
        };
        match acknowledged {
            Ok(_) => Ok(Ok(())),
            Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => {
                Ok(Err(OtherRevision))
            }
            Err(error) if is_full(&error) => {
                Err(KeyValueError::Quota(quota_of(&stream.cached_info().config)))
            }
            Err(error) => Err(storage(&error)),
        }
    }

    /// Lists keys whose values have the number `start` or a higher one.
    async fn list(&self, start: u64) -> Result<(Vec<String>, Option<String>), KeyValueError> {
        let stream = self.stream().await?;
        let config = pull::Config {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: start },
            ack_policy: AckPolicy::Explicit,
            max_ack_pending: i64::try_from(PAGE_MAX).unwrap_or(i64::MAX),
            filter_subject: self.subject_of(">"),
            headers_only: true,
            memory_storage: true,
            inactive_threshold: LIST_FORGOTTEN,
            ..pull::Config::default()
        };
        let consumer = stream.create_consumer(config).await.map_err(|error| storage(&error))?;
        let page = self.page(&consumer).await;
        // The server forgets it by itself as well.
        stream.delete_consumer(&consumer.cached_info().name).await.ok();
        page
    }

    async fn page(
        &self,
        consumer: &jetstream::consumer::PullConsumer,
    ) -> Result<(Vec<String>, Option<String>), KeyValueError> {
        let mut keys = Vec::new();
        if consumer.cached_info().num_pending == 0 {
            return Ok((keys, None));
        }
        let fetched = consumer.fetch().max_messages(PAGE_MAX).messages().await;
        let mut messages = fetched.map_err(|error| storage(&error))?;
        let prefix = self.subject_of("");
        let mut cursor = None;
        while let Some(message) = messages.next().await {
            let message = message.map_err(|error| KeyValueError::Storage(error.to_string()))?;
            let info = message.info().map_err(|error| KeyValueError::Storage(error.to_string()))?;
            cursor = (info.pending > 0).then(|| info.stream_sequence.to_string());
            let is_deleted = message.headers.as_ref().is_some_and(|it| it.get(OPERATION).is_some());
            // Other clients may have written keys that no plugin can have written.
            let key = message.subject.strip_prefix(&prefix).and_then(decode);
            keys.extend(key.filter(|_| !is_deleted));
        }
        Ok((keys, cursor))
    }

    async fn jetstream(&self) -> Result<&Context, KeyValueError> {
        Ok(self.server.jetstream().await?)
    }

    /// The stream of the bucket, which is made if it is missing, with the quota.
    async fn stream(&self) -> Result<Arc<Stream>, KeyValueError> {
        let jetstream = self.jetstream().await?;
        let mut known = self.stream.lock().await;
        if let Some(stream) = &*known {
            return Ok(stream.clone());
        }
        let max_bytes = i64::try_from(self.quota.0).unwrap_or(i64::MAX);
        let config = Config {
            name: format!("KV_{}", self.bucket),
            subjects: vec![self.subject_of(">")],
            max_bytes,
            max_messages_per_subject: 1,
            discard: DiscardPolicy::New,
            allow_rollup: true,
            deny_delete: true,
            num_replicas: 1,
            ..Config::default()
        };
        let mut stream =
            jetstream.get_or_create_stream(config).await.map_err(|error| storage(&error))?;
        let config = &stream.cached_info().config;
        let is_right = match self.is_own {
            true => config.max_bytes == max_bytes,
            false => config.max_bytes >= max_bytes,
        };
        if !is_right {
            let config = Config { max_bytes, ..config.clone() };
            jetstream.update_stream(&config).await.map_err(|error| storage(&error))?;
            stream.info().await.map_err(|error| storage(&error))?;
        }
        Ok(known.insert(Arc::new(stream)).clone())
    }

    fn subject(&self, key: &str) -> String {
        self.subject_of(&encode(key))
    }

    fn subject_of(&self, encoded: &str) -> String {
        format!("$KV.{}.{encoded}", self.bucket)
    }
}

fn storage(error: &(dyn Error + 'static)) -> KeyValueError {
    let chain = ErrorChain(error).to_string();
    // The client repeats "timed out" at each of its layers, so the text of the chain is of no use.
    if chain.contains("timed out") {
        KeyValueError::timed_out()
    } else {
        KeyValueError::Storage(chain)
    }
}

fn quota_of(config: &Config) -> Bytes {
    Bytes(u64::try_from(config.max_bytes).unwrap_or(u64::MAX))
}

/// Whether the bucket has reached its limit.
fn is_full(error: &PublishError) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<jetstream::Error>());
    cause.is_some_and(|cause| {
        // The server has no code of its own for it.
        cause.error_code() == ErrorCode::STREAM_STORE_FAILED
            && cause.to_string().contains("maximum bytes exceeded")
    })
}

/// Writes a key with the characters that a key of NATS can have: others as `=XX`, the number of the byte.
fn encode(key: &str) -> String {
    let mut encoded = String::with_capacity(key.len());
    for byte in key.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'/' => {
                encoded.push(char::from(byte));
            }
            // Writing to a text does not fail.
            _ => write!(encoded, "={byte:02X}").unwrap_or_default(),
        }
    }
    encoded
}

/// Reads a key that `encode` has written.
fn decode(encoded: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'=' => {
                let digits = [rest.next()?, rest.next()?];
                let digits = std::str::from_utf8(&digits).ok()?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_any_characters_survives_its_encoding_for_nats() {
        for (key, encoded) in [
            ("visits/2026-11", "visits/2026-11"),
            ("a.b", "a=2Eb"),
            ("a=b", "a=3Db"),
            (" *>", "=20=2A=3E"),
            ("é", "=C3=A9"),
        ] {
            assert_eq!(encode(key), encoded);
            assert_eq!(decode(encoded).as_deref(), Some(key));
        }
        assert_eq!(decode("a=2"), None);
        assert_eq!(decode("a=C3"), None, "it is not UTF-8");
        // A subject must fit in a line of the server's protocol, which has 4096 bytes.
        assert!(encode(&"é".repeat(512)).len() <= 3072);
    }
}
