//! A key-value store on a server that speaks the protocol of Redis, such as Valkey.
//!
//! A store has three keys there: a hash of the entries, a sorted set of their keys, and the size of all. A script that the
//! server runs as a whole changes them, so that they agree however many daemons use the store.

use crate::{
    base::quantity::Bytes,
    remote::valkey::ValkeyConnection,
    world::{
        keyvalue_error::KeyValueError,
        store_change::{StoreChange, StoreOutcome, check_key, digest},
        store_failure::StoreFailures,
        store_limits::{PAGE_BYTES_MAX, PAGE_MAX},
    },
};
use redis::{Cmd, FromRedisValue, RedisError, RedisResult, Script, aio::MultiplexedConnection};
use std::{
    fmt,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};
use tokio::time::timeout;

/// Time in which a command or script must be done: longer than the limit of the connection, whose error says more.
const COMMAND: Duration = Duration::from_secs(10);
/// Time in which a batch must be done.
const BATCH: Duration = Duration::from_secs(30);
/// The most changes of one script, and the most bytes: the server answers nobody else while it runs.
const CHANGES_MAX: usize = 500;
const CHANGES_BYTES_MAX: usize = 4 << 20;

/// Makes changes in their order, and stops at the first one that is refused.
static CHANGE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("valkey_change.lua")));
/// Returns the values of keys, unless they are too large together.
static GET_MANY: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local bytes = 0
        for nth = 2, #ARGV do bytes = bytes + redis.call('HSTRLEN', KEYS[1], ARGV[nth]) end
        if bytes > tonumber(ARGV[1]) then return redis.error_reply('TOOLARGE') end
        local values = {}
        for nth = 2, #ARGV do values[nth - 1] = redis.call('HGET', KEYS[1], ARGV[nth]) end
        return values",
    )
});

/// A store on a server.
pub struct ValkeyStore {
    server: Arc<ValkeyConnection>,
    /// The keys of the server that belong to it. They share a slot of a cluster.
    entries: String,
    keys: String,
    used: String,
    failures: StoreFailures,
}

impl fmt::Debug for ValkeyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ValkeyStore").field(&self.entries).finish()
    }
}

impl ValkeyStore {
    pub(super) fn new(server: Arc<ValkeyConnection>, name: &str) -> Self {
        let key = |kind| format!("{{{name}}}:{kind}");
        let failures = StoreFailures::new(name.to_owned());
        Self { server, entries: key("entries"), keys: key("keys"), used: key("used"), failures }
    }

    pub(super) async fn get(&self, key: String) -> Result<Option<Vec<u8>>, KeyValueError> {
        check_key(&key)?;
        self.run(redis::cmd("HGET").arg(&self.entries).arg(key)).await
    }

    pub(super) async fn get_many(
        &self,
        keys: Vec<String>,
    ) -> Result<Vec<Option<(String, Vec<u8>)>>, KeyValueError> {
        if keys.len() > PAGE_MAX {
            return Err(KeyValueError::Batch);
        }
        keys.iter().try_for_each(|key| check_key(key))?;
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut script = GET_MANY.prepare_invoke();
        script.key(&self.entries).arg(PAGE_BYTES_MAX);
        for key in &keys {
            script.arg(key);
        }
        let values: Vec<Option<Vec<u8>>> =
            self.bounded(async |mut server| script.invoke_async(&mut server).await).await?;
        let entry = |(key, value): (String, Option<Vec<u8>>)| value.map(|value| (key, value));
        Ok(keys.into_iter().zip(values).map(entry).collect())
    }

    pub(super) async fn exists(&self, key: String) -> Result<bool, KeyValueError> {
        check_key(&key)?;
        self.run(redis::cmd("HEXISTS").arg(&self.entries).arg(key)).await
    }

    /// Keys in their order, those behind `cursor`, and the cursor for more.
    pub(super) async fn keys(
        &self,
        cursor: Option<String>,
    ) -> Result<(Vec<String>, Option<String>), KeyValueError> {
        let start = cursor.map_or("-".to_owned(), |cursor| format!("({cursor}"));
        let mut command = redis::cmd("ZRANGEBYLEX");
        command.arg(&self.keys).arg(start).arg("+").arg("LIMIT").arg(0).arg(PAGE_MAX + 1);
        let mut keys: Vec<String> = self.run(&command).await?;
        let is_more = keys.len() > PAGE_MAX;
        keys.truncate(PAGE_MAX);
        let cursor = keys.last().filter(|_| is_more).cloned();
        Ok((keys, cursor))
    }

    pub(super) async fn change(
        &self,
        changes: Vec<StoreChange>,
        quota: Bytes,
    ) -> Result<StoreOutcome, KeyValueError> {
        changes.iter().try_for_each(StoreChange::check)?;
        let changed = timeout(BATCH, self.change_in_parts(changes, quota)).await;
        changed.unwrap_or_else(|_| Err(KeyValueError::timed_out()))
    }

    async fn change_in_parts(
        &self,
        changes: Vec<StoreChange>,
        quota: Bytes,
    ) -> Result<StoreOutcome, KeyValueError> {
        let mut outcome = StoreOutcome::Done;
        let mut rest = changes.into_iter().peekable();
        while rest.peek().is_some() {
            let (mut script, mut bytes, mut count) = (CHANGE.prepare_invoke(), 0, 0);
            script.key(&self.entries).key(&self.keys).key(&self.used).arg(quota.0);
            while let Some(change) =
                rest.next_if(|_| count < CHANGES_MAX && bytes < CHANGES_BYTES_MAX)
            {
                bytes += change.bytes();
                count += 1;
                match change {
                    StoreChange::Set(key, value) => script.arg("set").arg(key).arg(value).arg(""),
                    StoreChange::Delete(key) => script.arg("delete").arg(key).arg("").arg(""),
                    StoreChange::Add(key, delta) => script.arg("add").arg(key).arg(delta).arg(""),
                    StoreChange::Swap(key, expected, value) => {
                        // The script compares values instead of digests: a server offers SHA-1 only.
                        let now = self.get(key.clone()).await?;
                        if digest(now.as_deref()) != expected {
                            return Ok(StoreOutcome::Differs);
                        }
                        let now = now.map_or(Vec::new(), |now| [b"=", &*now].concat());
                        script.arg("swap").arg(key).arg(value).arg(now)
                    }
                };
            }
            let reply = self.bounded(async |mut server| script.invoke_async(&mut server).await);
            outcome = read_reply(reply.await?, quota)?;
        }
        Ok(outcome)
    }

    /// The reason why its last use failed, if it did.
    pub(super) fn failure(&self) -> Option<String> {
        self.failures.current(self.server.availability())
    }

    /// Whether a read may show that it can be used again.
    pub(super) fn is_to_be_tried(&self) -> bool {
        self.failures.is_to_be_tried(self.server.availability(), Instant::now())
    }

    async fn run<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, KeyValueError> {
        self.bounded(async |mut server| command.query_async(&mut server).await).await
    }

    /// Does some work within a time limit, and remembers whether the store could be used.
    async fn bounded<T>(
        &self,
        work: impl AsyncFnOnce(MultiplexedConnection) -> RedisResult<T>,
    ) -> Result<T, KeyValueError> {
        let server = self.server.commands().await?;
        let done = match timeout(COMMAND, work(server)).await {
            Ok(done) => done.map_err(|error| self.error(&error)),
            Err(_) => Err(KeyValueError::timed_out()),
        };
        self.failures.note(&done);
        done
    }

    fn error(&self, error: &RedisError) -> KeyValueError {
        if error.code() == Some("TOOLARGE") {
            return KeyValueError::Batch;
        }
        match self.server.note(error) {
            Some(unreachable) => unreachable.into(),
            None => KeyValueError::Storage(error.to_string()),
        }
    }
}

fn read_reply((word, sum): (String, String), quota: Bytes) -> Result<StoreOutcome, KeyValueError> {
    match &*word {
        "done" => Ok(StoreOutcome::Done),
        "differs" => Ok(StoreOutcome::Differs),
        "sum" => sum.parse().map(StoreOutcome::Sum).map_err(|_| {
            KeyValueError::Storage(format!("the server has returned the sum {sum:?}"))
        }),
        "quota" => Err(KeyValueError::Quota(quota)),
        "number" => Err(KeyValueError::NotNumber),
        "overflow" => Err(KeyValueError::Overflow),
        word => Err(KeyValueError::Storage(format!("the server has returned {word:?}"))),
    }
}
