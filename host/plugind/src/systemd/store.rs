//! States of plugins that systemd keeps while there is no daemon: the file descriptor store of systemd.service(5).
//!
//! A state is a file without a name, which systemd holds open as `PLUGIN-SEQUENCE`. The newest of a plugin counts: the
//! older one is removed when the newer one is there, so that at any moment there is one.

mod socket;
mod thread;

pub use thread::Stored;

use crate::{
    base::{name::PluginName, quantity::Bytes},
    systemd::store::{
        socket::StoreSocket,
        thread::{StoreRequest, StoreThread},
    },
};
use futures::channel::oneshot;
use std::{
    collections::BTreeSet,
    ffi::OsString,
    io,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Sender, channel},
    },
    thread::Builder,
};
use tracing::debug;

/// The states of plugins that systemd keeps while there is no daemon. A handle: cheap to clone, and it never waits.
///
/// A thread of its own handles requests in order. Without systemd, nothing is stored.
#[derive(Clone)]
pub struct Store {
    requests: Option<Sender<StoreRequest>>,
    handed_back: Arc<BTreeSet<PluginName>>,
}

impl Store {
    /// One that keeps nothing.
    #[must_use]
    pub fn none() -> Self {
        Self { requests: None, handed_back: Arc::default() }
    }

    /// One that begins with what systemd handed back, and writes files in `directory`. Without the socket of
    /// `$NOTIFY_SOCKET` there is nobody to leave anything with.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(
        notify_socket: Option<OsString>,
        directory: PathBuf,
        handed_back: Vec<Stored>,
    ) -> io::Result<Self> {
        let Some(path) = notify_socket else {
            debug!("no file descriptor store, saved states are lost when the daemon ends");
            return Ok(Self::none());
        };
        let (thread, old) = StoreThread::new(StoreSocket::new(path), directory, handed_back);
        let handed_back = Arc::new(thread.plugins());
        let (requests, inbox) = channel();
        let run = move || thread.run(&old, &inbox);
        Builder::new().name("store".to_owned()).spawn(run)?;
        Ok(Self { requests: Some(requests), handed_back })
    }

    /// The plugins whose state systemd handed back, or an idle daemon left in a file, when this daemon started.
    #[must_use]
    pub fn handed_back(&self) -> &BTreeSet<PluginName> {
        &self.handed_back
    }

    /// Stores `state` with systemd, in the place of the stored state of this plugin.
    pub fn put(&self, plugin: &PluginName, state: Arc<[u8]>) {
        self.send(StoreRequest::Put(plugin.clone(), state));
    }

    /// Removes the state of this plugin from systemd, and the file that an idle daemon left of it.
    pub fn remove(&self, plugin: &PluginName) {
        self.send(StoreRequest::Remove(plugin.clone()));
    }

    /// The state that systemd stores for this plugin, unless it is larger than `max`. It stays there.
    pub fn read(
        &self,
        plugin: &PluginName,
        max: Bytes,
    ) -> impl Future<Output = Option<Arc<[u8]>>> + Send + use<> {
        let (reply, answer) = oneshot::channel();
        self.send(StoreRequest::Read(plugin.clone(), max, reply));
        // Without a thread nobody answers, and there is nothing.
        async move { answer.await.ok().flatten() }
    }

    /// Removes the files that an idle daemon left: this one is ready, so that systemd keeps their states if it fails.
    pub fn remove_files(&self) {
        self.send(StoreRequest::RemoveFiles);
    }

    /// From now on, the states are also left in files of the state directory when [`Store::settled`] is called: the daemon
    /// ends, and systemd keeps nothing.
    pub fn keep_in_files(&self) {
        self.send(StoreRequest::KeepInFiles);
    }

    /// Waits until all earlier requests are done.
    pub fn settled(&self) -> impl Future<Output = ()> + Send + use<> {
        let (reply, answer) = oneshot::channel();
        self.send(StoreRequest::Settle(reply));
        async move { answer.await.unwrap_or_default() }
    }

    fn send(&self, request: StoreRequest) {
        if let Some(requests) = &self.requests {
            // The thread ends when the last handle is gone.
            requests.send(request).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{thread::read, *};
    use futures::executor::block_on;
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    use std::{
        fs::{self, File},
        io::{IoSliceMut, Write},
        mem::MaybeUninit,
        os::unix::{fs::MetadataExt, net::UnixDatagram},
    };

    /// A systemd that only listens.
    struct ListeningSystemd {
        directory: tempfile::TempDir,
        socket: UnixDatagram,
    }

    impl ListeningSystemd {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let socket = UnixDatagram::bind(directory.path().join("notify")).unwrap();
            Self { directory, socket }
        }

        fn start(&self, handed_back: Vec<Stored>) -> Store {
            let path = self.directory.path().join("notify").into();
            Store::start(Some(path), self.directory.path().join("state"), handed_back).unwrap()
        }

        fn heard(&self) -> (String, Option<File>) {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut buffer = [0; 500];
            let mut parts = [IoSliceMut::new(&mut buffer)];
            let flags = RecvFlags::CMSG_CLOEXEC;
            let length = recvmsg(&self.socket, &mut parts, &mut control, flags).unwrap().bytes;
            let mut files = Vec::new();
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                    files.extend(descriptors.map(File::from));
                }
            }
            assert!(files.len() < 2);
            (String::from_utf8(buffer[..length].to_vec()).unwrap(), files.pop())
        }
    }

    fn plugin(name: &str) -> PluginName {
        name.parse().unwrap()
    }

    fn state(text: &str) -> Arc<[u8]> {
        Arc::from(text.as_bytes())
    }

    fn stored(name: &str, contents: &str) -> Stored {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(contents.as_bytes()).unwrap();
        Stored { name: name.to_owned(), file }
    }

    #[test]
    fn systemd_has_a_state_at_any_moment_and_the_older_one_is_removed_last() {
        let systemd = ListeningSystemd::new();
        let store = systemd.start(Vec::new());
        store.put(&plugin("counts"), state("one"));
        let (heard, file) = systemd.heard();
        assert_eq!(heard, "FDSTORE=1\nFDNAME=counts-1\nFDPOLL=0\n");
        let file = file.unwrap();
        assert_eq!(&*read(&file, Bytes(3)).unwrap(), b"one");
        assert_eq!(file.metadata().unwrap().nlink(), 0, "nobody else finds it");
        store.put(&plugin("counts"), state("two"));
        assert_eq!(systemd.heard().0, "FDSTORE=1\nFDNAME=counts-2\nFDPOLL=0\n");
        assert_eq!(systemd.heard().0, "FDSTOREREMOVE=1\nFDNAME=counts-1\n");
        assert_eq!(
            block_on(store.read(&plugin("counts"), Bytes(100))).as_deref(),
            Some(&b"two"[..])
        );
        store.remove(&plugin("counts"));
        let (heard, file) = systemd.heard();
        assert!(heard == "FDSTOREREMOVE=1\nFDNAME=counts-2\n" && file.is_none(), "{heard}");
        assert_eq!(block_on(store.read(&plugin("counts"), Bytes(100))), None);
    }

    #[test]
    fn the_newest_stored_state_is_kept_and_the_others_are_removed() {
        let systemd = ListeningSystemd::new();
        let store = systemd.start(vec![
            stored("a-1-9", "old"),
            stored("a-1-10", "new"),
            stored("a-1-2", "oldest"),
            stored("b-3", "of another"),
            stored("Nobody's", ""),
            stored("c-+4", ""),
        ]);
        let discard: BTreeSet<_> = [(); 4].map(|()| systemd.heard().0).into();
        let expected = ["a-1-9", "a-1-2", "Nobody's", "c-+4"];
        assert_eq!(
            discard,
            expected.map(|name| format!("FDSTOREREMOVE=1\nFDNAME={name}\n")).into()
        );
        assert_eq!(store.handed_back(), &BTreeSet::from([plugin("a-1"), plugin("b")]));
        let read = |name: &str, max| block_on(store.read(&plugin(name), Bytes(max)));
        assert_eq!(read("a-1", 3).as_deref(), Some(&b"new"[..]));
        assert_eq!(read("a-1", 3).as_deref(), Some(&b"new"[..]), "as often as one likes");
        assert_eq!(read("b", 9), None, "it is larger than it may be");
        assert_eq!(read("c", 100), None);
        store.put(&plugin("b"), state("later"));
        assert_eq!(systemd.heard().0, "FDSTORE=1\nFDNAME=b-11\nFDPOLL=0\n");
    }

    #[test]
    fn states_that_are_left_in_files_are_those_of_the_next_daemon() {
        let systemd = ListeningSystemd::new();
        let store = systemd.start(Vec::new());
        for (name, text) in [("a", "one"), ("b", "of b"), ("a", "two")] {
            store.put(&plugin(name), state(text));
        }
        store.keep_in_files();
        store.remove(&plugin("b"));
        block_on(store.settled());
        // systemd keeps nothing of a service that is inactive.
        let systemd = ListeningSystemd { directory: systemd.directory, ..ListeningSystemd::new() };
        let path = systemd.directory.path().join("again");
        let socket = UnixDatagram::bind(&path).unwrap();
        let systemd = ListeningSystemd { socket, ..systemd };
        let state_directory = systemd.directory.path().join("state");
        let store = Store::start(Some(path.into()), state_directory, Vec::new()).unwrap();
        assert_eq!(store.handed_back(), &BTreeSet::from([plugin("a")]));
        let (heard, file) = systemd.heard();
        assert_eq!(heard, "FDSTORE=1\nFDNAME=a-1\nFDPOLL=0\n");
        assert_eq!(&*read(&file.unwrap(), Bytes(3)).unwrap(), b"two");
        assert_eq!(block_on(store.read(&plugin("a"), Bytes(3))).as_deref(), Some(&b"two"[..]));
        store.remove_files();
        block_on(store.settled());
        let left = fs::exists(systemd.directory.path().join("state/.saved")).unwrap();
        assert!(!left, "systemd has it now");
    }

    #[test]
    fn files_of_states_stay_until_the_daemon_is_ready_or_the_state_is_removed() {
        let systemd = ListeningSystemd::new();
        let store = systemd.start(Vec::new());
        for name in ["a", "b"] {
            store.put(&plugin(name), state(name));
            systemd.heard();
        }
        store.keep_in_files();
        block_on(store.settled());
        drop(store);
        let left = |name| systemd.directory.path().join("state/.saved").join(name).exists();
        // These starts fail, and systemd keeps nothing of a service that has failed.
        for _ in 0..2 {
            let store = systemd.start(Vec::new());
            assert_eq!(store.handed_back(), &BTreeSet::from([plugin("a"), plugin("b")]));
            block_on(store.settled());
            assert!(left("a") && left("b"));
            assert!([(); 2].iter().all(|()| systemd.heard().0.starts_with("FDSTORE=1\n")));
        }
        let store = systemd.start(Vec::new());
        store.remove(&plugin("b"));
        block_on(store.settled());
        assert!(left("a") && !left("b"));
        store.remove_files();
        block_on(store.settled());
        assert!(!left("a"));
    }

    #[test]
    fn a_name_that_could_add_a_variable_is_not_sent() {
        let systemd = ListeningSystemd::new();
        let store = systemd.start(vec![stored("x\nWATCHDOG=trigger", "")]);
        store.put(&plugin("a"), state(""));
        assert!(systemd.heard().0.starts_with("FDSTORE=1\n"));
    }

    #[test]
    fn without_systemd_nothing_is_kept_and_nobody_waits() {
        let store = Store::start(None, PathBuf::from("/nowhere"), Vec::new()).unwrap();
        store.put(&plugin("a"), state("x"));
        assert_eq!(block_on(store.read(&plugin("a"), Bytes(1))), None);
        store.remove(&plugin("a"));
        block_on(store.settled());
    }

    #[test]
    fn a_state_that_cannot_be_kept_leaves_the_one_before() {
        let systemd = ListeningSystemd::new();
        let store = systemd.start(vec![stored("a-1", "old")]);
        fs::write(systemd.directory.path().join("state"), "in the way").unwrap();
        store.put(&plugin("a"), state("new"));
        block_on(store.settled());
        assert_eq!(block_on(store.read(&plugin("a"), Bytes(3))).as_deref(), Some(&b"old"[..]));
    }
}
