//! The threads on which the calls of one plugin for files block, for as long as the file system does not answer.
//!
//! The library has a blocking thread do such a call: one of the runtime in whose context the guest is polled. A plugin
//! with files is therefore polled in the context of a runtime of its own, which has few of these threads. Further calls
//! of the plugin wait for them, and those of other plugins do not.
//!
//! Timers and sockets that a guest makes then belong to that runtime, too, whose own thread wakes their instance. The
//! client's connection, key-value stores, and requests to other plugins belong to the [`executor`] of the instance.

use crate::{base::name::PluginName, runtime::executors};
use std::{
    cell::RefCell,
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};
use tokio::runtime::Handle;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Limit of calls for files that block at a time, of all instances of a plugin.
const THREADS_MAX: usize = 16;

thread_local! {
    /// The executor that polls a guest, while this happens in the context of its file threads.
    static EXECUTOR: RefCell<Option<Handle>> = const { RefCell::new(None) };
}

/// The file threads of a plugin. They end with the last clone.
#[derive(Clone)]
pub struct FileThreads {
    runtime: Handle,
    /// The number of threads for calls that block.
    blocking: Arc<AtomicUsize>,
    end: Arc<DropGuard>,
}

/// The file threads of all plugins. Those of a plugin that is gone are kept while a call blocks, which may never return: a
/// plugin that is loaded again must not get more of them.
#[derive(Clone, Default)]
pub struct AllFileThreads(Arc<Mutex<BTreeMap<PluginName, FileThreads>>>);

impl AllFileThreads {
    /// The file threads of a plugin, which are started if there are none.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn of(&self, plugin: &PluginName) -> io::Result<FileThreads> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(threads) = all.get(plugin) {
            return Ok(threads.clone());
        }
        all.retain(|_, threads| threads.is_needed());
        let threads = FileThreads::start()?;
        all.insert(plugin.clone(), threads.clone());
        Ok(threads)
    }
}

impl FileThreads {
    fn start() -> io::Result<Self> {
        let end = CancellationToken::new();
        let blocking = Arc::default();
        let runtime = executors::start_single("files", THREADS_MAX, &blocking, end.clone())?;
        Ok(Self { runtime, blocking, end: Arc::new(end.drop_guard()) })
    }

    /// Whether anything but [`AllFileThreads`] has a clone, or a call blocks or has blocked lately.
    fn is_needed(&self) -> bool {
        Arc::strong_count(&self.end) > 1 || self.blocking.load(SeqCst) > 0
    }

    /// Polls a guest on this thread, in the context of these threads or, if there are none, in that of its executor.
    pub fn poll<T>(threads: Option<&Self>, poll: impl FnOnce() -> T) -> T {
        let outer = EXECUTOR.with_borrow(Option::clone);
        match (threads, outer) {
            (None, None) => poll(),
            // Its request comes from the guest of another plugin, in whose context it is polled.
            (None, Some(executor)) => within(&executor, None, poll),
            (Some(threads), outer) => {
                within(&threads.runtime, Some(outer.unwrap_or_else(Handle::current)), poll)
            }
        }
    }
}

fn within<T>(context: &Handle, executor: Option<Handle>, poll: impl FnOnce() -> T) -> T {
    let _restore = Restore(EXECUTOR.replace(executor));
    let _entered = context.enter();
    poll()
}

/// Restores the previous value, even after a panic.
struct Restore(Option<Handle>);

impl Drop for Restore {
    fn drop(&mut self) {
        EXECUTOR.set(self.0.take());
    }
}

/// The executor of this thread, also while it polls a guest in the context of file threads.
///
/// # Panics
/// On a thread without one.
#[must_use]
pub fn executor() -> Handle {
    EXECUTOR.with_borrow(Option::clone).unwrap_or_else(Handle::current)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use tokio::task::spawn_blocking;

    #[tokio::test]
    async fn a_plugin_whose_calls_block_keeps_no_other_plugin_waiting() {
        let all = AllFileThreads::default();
        let [slow, other] = ["slow", "other"].map(|name| all.of(&name.parse().unwrap()).unwrap());
        let (release, blocked) = channel::<()>();
        let blocked = Arc::new(Mutex::new(blocked));
        let (begin, begun) = channel();
        let calls: Vec<_> = (0..2 * THREADS_MAX)
            .map(|_| {
                let (begin, blocked) = (begin.clone(), blocked.clone());
                let call = move || {
                    begin.send(()).unwrap();
                    blocked.lock().unwrap().recv().unwrap_err();
                };
                FileThreads::poll(Some(&slow), || spawn_blocking(call))
            })
            .collect();
        for _ in 0..THREADS_MAX {
            begun.recv().unwrap();
        }
        FileThreads::poll(Some(&other), || spawn_blocking(|| ())).await.unwrap();
        FileThreads::poll(None, || spawn_blocking(|| ())).await.unwrap();
        assert!(begun.try_recv().is_err(), "the others wait for a thread");
        drop(release);
        for call in calls {
            call.await.unwrap();
        }
    }

    #[tokio::test]
    async fn each_guest_is_polled_in_its_own_context_and_knows_its_executor() {
        let threads = AllFileThreads::default().of(&"files".parse().unwrap()).unwrap();
        let own = Handle::current().id();
        FileThreads::poll(Some(&threads), || {
            assert_eq!(Handle::current().id(), threads.runtime.id());
            assert_eq!(executor().id(), own);
            FileThreads::poll(None, || {
                assert_eq!((Handle::current().id(), executor().id()), (own, own));
                FileThreads::poll(Some(&threads), || assert_eq!(executor().id(), own));
            });
            assert_eq!(Handle::current().id(), threads.runtime.id());
        });
        assert_eq!(Handle::current().id(), own);
        assert!(EXECUTOR.with_borrow(Option::is_none));
    }

    /// Those of a plugin that has this name.
    fn threads_of(all: &AllFileThreads, name: &str) -> FileThreads {
        all.of(&name.parse().unwrap()).unwrap()
    }

    /// The names of the plugins that have any.
    fn names(all: &AllFileThreads) -> Vec<String> {
        all.0.lock().unwrap().keys().map(ToString::to_string).collect()
    }

    #[test]
    fn the_threads_of_a_plugin_are_the_same_whenever_it_is_loaded() {
        let all = AllFileThreads::default();
        let of = |name: &str| threads_of(&all, name).runtime.id();
        assert_eq!(of("one"), of("one"));
        let _loaded = threads_of(&all, "one");
        assert_ne!(of("one"), of("two"));
        assert_eq!(of("one"), of("one"));
    }

    #[tokio::test]
    async fn the_threads_of_a_plugin_that_is_gone_end_unless_a_call_blocks() {
        let all = AllFileThreads::default();
        let (loaded, stuck) = (threads_of(&all, "loaded"), threads_of(&all, "stuck"));
        drop(threads_of(&all, "gone"));
        let (release, blocked) = channel::<()>();
        let (begin, begun) = channel();
        let call = move || {
            begin.send(()).unwrap();
            blocked.recv().unwrap_err();
        };
        let call = FileThreads::poll(Some(&stuck), || spawn_blocking(call));
        begun.recv().unwrap();
        let before = stuck.runtime.id();
        drop(stuck);
        drop(threads_of(&all, "another"));
        assert_eq!(names(&all), ["another", "loaded", "stuck"]);
        assert_eq!(threads_of(&all, "stuck").runtime.id(), before, "it gets no more threads");
        drop((release, loaded));
        call.await.unwrap();
    }
}
