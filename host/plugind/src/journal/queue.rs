//! The queue between the callers that log and the one thread that writes.

use crate::{
    base::{figures::Count, priority::Priority},
    journal::{
        access::AccessEntry,
        lines,
        native::Native,
        record::{HostRecord, LogEntry, Record, priority},
    },
    systemd::environment::LogTarget,
};
use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::Duration,
};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt},
};

/// Limit of entries that wait to be written.
const QUEUE: usize = 4096;
/// Limit of bytes of entries that wait to be written.
const QUEUE_BYTES: usize = 16 << 20;
/// Time limit for writing the last entries: the reader may have stopped.
const FINAL_FLUSH: Duration = Duration::from_secs(2);

/// The handle for logging. Cheap to clone.
#[derive(Clone)]
pub struct Journal {
    /// Entries; `None` means the end.
    queue: Sender<Option<Record>>,
    shared: Arc<QueueState>,
}

struct QueueState {
    /// Entries beyond this priority are not kept.
    max: AtomicU8,
    dropped: AtomicU64,
    /// The total number of lost entries.
    lost: Count,
    /// The number of the entries that wait to be written, and about their length.
    entries: AtomicUsize,
    waiting: AtomicUsize,
}

impl QueueState {
    fn new(max: Priority) -> Self {
        Self {
            max: AtomicU8::new(max as u8),
            dropped: AtomicU64::new(0),
            lost: Count::default(),
            entries: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Whether there is room for another entry of this length. If there is, the entry counts as waiting.
    fn admit(&self, length: usize) -> bool {
        let waiting = self.waiting.fetch_add(length, Relaxed);
        let entries = self.entries.fetch_add(1, Relaxed);
        let has_room = waiting <= QUEUE_BYTES && entries < QUEUE;
        if !has_room {
            self.remove(length);
        }
        has_room
    }

    /// An entry of this length does not wait any more.
    fn remove(&self, length: usize) {
        self.entries.fetch_sub(1, Relaxed);
        self.waiting.fetch_sub(length, Relaxed);
    }
}

/// The thread that writes.
pub struct Writer {
    queue: Sender<Option<Record>>,
    /// Closed when the thread ends.
    ended: Receiver<()>,
}

/// Starts the journal, which keeps entries up to `max` and writes them to `target`.
///
/// # Errors
/// When no thread can be started.
pub fn start(max: Priority, target: LogTarget) -> io::Result<(Journal, Writer)> {
    // Bounded by what is counted, so that it has no memory for entries that do not wait.
    let (queue, records) = channel();
    let shared = Arc::new(QueueState::new(max));
    let journal = Journal { queue: queue.clone(), shared: shared.clone() };
    let (ends, ended) = channel();
    let run = move || {
        write(&records, &shared, target);
        drop(ends);
    };
    thread::Builder::new().name("journal".to_owned()).spawn(run)?;
    Ok((journal, Writer { queue, ended }))
}

/// A journal whose entries wait until the other part is dropped.
#[cfg(test)]
pub(crate) fn stalled() -> (Journal, impl Sized) {
    let (queue, records) = channel();
    (Journal { queue, shared: Arc::new(QueueState::new(Priority::Debug)) }, records)
}

impl Writer {
    /// Waits until all entries so far are written, but not for long, and ends.
    pub fn finish(self) {
        // A thread that has ended has written them.
        self.queue.send(None).ok();
        // Nothing is ever sent: it ends by being closed, or the time is up.
        self.ended.recv_timeout(FINAL_FLUSH).ok();
    }
}

impl Journal {
    /// Whether entries of this priority are kept.
    #[must_use]
    pub fn keeps(&self, priority: Priority) -> bool {
        priority as u8 <= self.shared.max.load(Relaxed)
    }

    /// From now on keeps entries up to this priority.
    pub fn keep(&self, max: Priority) {
        self.shared.max.store(max as u8, Relaxed);
        // Tracing remembers, for each place in the code, whether anybody listens.
        tracing::callsite::rebuild_interest_cache();
    }

    /// Returns the number of entries that were lost so far because they could not be written.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.shared.lost.get()
    }

    /// Writes down what a plugin says.
    pub fn send(&self, entry: LogEntry<'_>) {
        if self.keeps(entry.priority) {
            self.push(Record::of(entry));
        }
    }

    /// Writes down a request that was answered.
    pub fn log_access(&self, entry: Box<AccessEntry>) {
        if self.keeps(Priority::Info) {
            self.push(Record::Access(entry));
        }
    }

    /// Returns the subscriber that brings the host's own events here.
    pub fn subscribe(&self) -> impl Subscriber + Send + Sync + use<> {
        tracing_subscriber::registry().with(HostLayer(self.clone()))
    }

    fn push(&self, record: Record) {
        // The thread that takes them ends with the daemon.
        let is_queued = self.shared.admit(record.length()) && self.queue.send(Some(record)).is_ok();
        if !is_queued {
            self.shared.dropped.fetch_add(1, Relaxed);
            self.shared.lost.add(1);
        }
    }
}

fn write(records: &Receiver<Option<Record>>, shared: &QueueState, target: LogTarget) {
    // If journald cannot be reached, the entry is at least on standard error.
    let native = (target == LogTarget::Journald).then(Native::new).and_then(Result::ok);
    let put = |record: &Record| match &native {
        Some(native) => native.put(record),
        // Standard error may be gone; then there is nobody to tell.
        // In one call, since others may write there as well.
        None => io::stderr().write_all((lines::line(record) + "\n").as_bytes()).is_ok(),
    };
    loop {
        let next = records.recv_timeout(Duration::from_secs(1));
        let mut written = true;
        if let Ok(Some(record)) = &next {
            shared.remove(record.length());
            written = put(record);
            shared.dropped.fetch_add(u64::from(!written), Relaxed);
            shared.lost.add(u64::from(!written));
        }
        // While nothing can be written, this cannot be either. It bypasses the queue, which may be full.
        let dropped = if written { shared.dropped.swap(0, Relaxed) } else { 0 };
        if dropped > 0 && !put(&Record::Dropped(dropped)) {
            shared.dropped.fetch_add(dropped, Relaxed);
        }
        if let Ok(None) | Err(RecvTimeoutError::Disconnected) = next {
            return;
        }
    }
}

/// Hands events over to the journal.
struct HostLayer(Journal);

impl<S: Subscriber> Layer<S> for HostLayer {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        let target = metadata.target();
        // Only warnings and errors of libraries: their hot paths are full of spans and events. async-nats logs each of
        // its attempts to connect, and an outage is logged once.
        metadata.is_event()
            && self.0.keeps(priority(metadata.level()))
            && (target.starts_with("plugind")
                || *metadata.level() <= Level::WARN && !target.starts_with("async_nats"))
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.0.push(Record::Host(HostRecord::of(event)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_beyond_the_limit_are_lost_until_others_are_written() {
        let (queue, records) = channel();
        let shared = Arc::new(QueueState::new(Priority::Info));
        let journal = Journal { queue, shared };
        for _ in 0..QUEUE {
            journal.push(Record::Dropped(1));
        }
        assert_eq!(journal.lost(), 0);
        journal.push(Record::Dropped(1));
        assert_eq!(journal.lost(), 1);
        let taken = records.recv().unwrap().unwrap();
        journal.shared.remove(taken.length());
        journal.push(Record::Dropped(1));
        assert_eq!(journal.lost(), 1);
    }
}
