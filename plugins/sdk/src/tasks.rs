//! Background tasks and timers, and ways to end them when the instance must stop.
//!
//! ```no_run
//! use plugind_sdk::{Lifecycle, StartError, info, tasks};
//! use std::time::Duration;
//!
//! struct Plugin;
//!
//! impl Lifecycle for Plugin {
//!     async fn start() -> Result<(), StartError> {
//!         tasks::spawn(async {
//!             while tasks::until_stop(tasks::sleep(Duration::from_secs(60))).await.is_some() {
//!                 info!("cache refreshed");
//!             }
//!             info!("cache written");
//!         });
//!         Ok(())
//!     }
//! }
//!
//! plugind_sdk::export!(Plugin);
//! # fn main() {}
//! ```
//!
//! When the instance must stop, [`until_stop`] ends each wait, in every task. The host's call of `stop` first waits for
//! the tasks of [`spawn`] to return, and then calls [`Lifecycle::stop`](crate::Lifecycle::stop); both together have
//! `timeout-stop-sec`. A plugin that does not export the lifecycle is never asked to stop: its tasks end with the
//! instance.
//!
//! Each instance has its own tasks, and a plugin may have several instances. For a task of which there must be only one,
//! write `max = 1` below `[instances]` of the manifest.
//!
//! Tasks take turns: one that computes without waiting keeps all others in the instance from their turn.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::poll_fn,
    pin::pin,
    task::Poll,
    time::Duration,
};
use wasip3::{
    clocks::monotonic_clock,
    spawn_local,
    wit_bindgen::{StreamReader, StreamWriter},
    wit_stream,
};

thread_local! {
    /// The writers of the streams at which tasks wait for the stop, by number. Dropping a writer wakes its task. A
    /// waker would not work: tasks of different calls of the host cannot wake each other.
    static WAITING: RefCell<BTreeMap<u64, StreamWriter<u8>>> = const { RefCell::new(BTreeMap::new()) };
    /// The number of the next writer.
    static NEXT: Cell<u64> = const { Cell::new(0) };
    static STOPPING: Cell<bool> = const { Cell::new(false) };
    static RUNNING: Cell<usize> = const { Cell::new(0) };
    /// Dropped when the last task has returned, if `stop` waits for that.
    static ALL_RETURNED: RefCell<Option<StreamWriter<u8>>> = const { RefCell::new(None) };
}

/// One wait for the stop, and its number.
struct Wait(u64);

/// Counts a task until it returns or is dropped.
struct Running;

/// Runs a task beside everything else in the instance. It may outlast the call that spawned it.
///
/// A task does not end by itself when the instance must stop: wait by [`until_stop`] in it.
pub fn spawn(task: impl Future<Output = ()> + 'static) {
    let running = Running::new();
    spawn_local(async move {
        task.await;
        drop(running);
    });
}

/// Waits for this time, and lets other tasks run.
pub async fn sleep(time: Duration) {
    monotonic_clock::wait_for(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)).await;
}

/// The output of a future, or `None` if it takes longer than this time. It is dropped then.
///
/// ```no_run
/// use plugind_sdk::tasks::timeout;
/// use std::time::Duration;
///
/// # async fn answer() -> u32 { 42 }
/// # async fn example() {
/// let answer = timeout(Duration::from_secs(5), answer()).await;
/// # }
/// ```
pub async fn timeout<T>(time: Duration, future: impl Future<Output = T>) -> Option<T> {
    either(future, sleep(time)).await
}

/// The output of a future, or `None` if the instance must stop first. The future is dropped then.
///
/// If the future is ready, its output is returned even if the instance must stop.
pub async fn until_stop<T>(future: impl Future<Output = T>) -> Option<T> {
    either(future, stopping()).await
}

/// Waits until the instance must stop.
pub async fn stopping() {
    if STOPPING.get() {
        return;
    }
    let (writer, reader) = wit_stream::new();
    let _wait = Wait::new(writer);
    end_of(reader).await;
}

/// Ends all waits, and returns when all tasks have returned.
pub(crate) async fn stop() {
    STOPPING.set(true);
    drop(WAITING.take());
    if RUNNING.get() == 0 {
        return;
    }
    let (writer, reader) = wit_stream::new();
    ALL_RETURNED.set(Some(writer));
    end_of(reader).await;
}

impl Wait {
    fn new(writer: StreamWriter<u8>) -> Self {
        let number = NEXT.replace(NEXT.get() + 1);
        WAITING.with_borrow_mut(|waiting| waiting.insert(number, writer));
        Self(number)
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        drop(WAITING.with_borrow_mut(|waiting| waiting.remove(&self.0)));
    }
}

impl Running {
    fn new() -> Self {
        RUNNING.set(RUNNING.get() + 1);
        Self
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.set(RUNNING.get() - 1);
        if RUNNING.get() == 0 {
            drop(ALL_RETURNED.take());
        }
    }
}

/// Waits until the writer is dropped. Nothing is ever written.
async fn end_of(mut reader: StreamReader<u8>) {
    drop(reader.read(Vec::with_capacity(1)).await);
}

/// The output of the first future, unless the second is ready before it.
async fn either<T>(first: impl Future<Output = T>, second: impl Future<Output = ()>) -> Option<T> {
    let (mut first, mut second) = (pin!(first), pin!(second));
    poll_fn(|context| {
        if let Poll::Ready(output) = first.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        second.as_mut().poll(context).map(|()| None)
    })
    .await
}
