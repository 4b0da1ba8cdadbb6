//! States of plugins that systemd keeps while there is no daemon: the file descriptor store of systemd.service(5).
//!
//! A state is a file without a name, which systemd holds open as `PLUGIN-SEQUENCE`. Of one plugin the newest counts: the
//! older one is removed when the newer one is there, so that at any moment there is one.

use crate::base::{
    error_chain::ErrorChain,
    name::PluginName,
    quantity::Bytes,
    text::{Escaped, is_harmful},
};
use crate::systemd::{notify, saved_files::SavedFiles};
use futures::channel::oneshot;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs::{self, File},
    io::{self, IoSlice, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::{fs::FileExt, net::UnixDatagram},
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};
use tracing::{debug, warn};

/// A file that systemd held.
#[derive(Debug)]
pub struct Stored {
    /// Its name.
    pub name: String,
    /// The file.
    pub file: File,
}

/// The states that plugins keep while there is no daemon. A handle: cheap to clone, and it never waits.
///
/// A thread of its own handles requests in order. Without systemd, nothing is stored.
#[derive(Clone)]
pub struct Store {
    requests: Option<Sender<StoreRequest>>,
    handed_back: Arc<BTreeSet<PluginName>>,
}

enum StoreRequest {
    Put(PluginName, Arc<[u8]>),
    Remove(PluginName),
    Read(PluginName, Bytes, oneshot::Sender<Option<Arc<[u8]>>>),
    KeepInFiles,
    Settle(oneshot::Sender<()>),
}

/// The reason that a state is not stored or cannot be read.
#[derive(Debug, thiserror::Error)]
enum StoreError {
    #[error("cannot write a file in {}", directory.display())]
    Write { directory: PathBuf, source: io::Error },
    #[error("cannot read the file that systemd kept")]
    Read(#[source] io::Error),
    #[error("it has {size} bytes, and handover.state-max is {max}; raise it to restore the state")]
    TooLarge { size: u64, max: Bytes },
    #[error("cannot notify systemd at $NOTIFY_SOCKET")]
    Send(#[source] io::Error),
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
        let (supervisor, old) =
            StoreThread::new(StoreSocket { path, socket: None }, directory, handed_back);
        let handed_back = Arc::new(supervisor.newest.keys().cloned().collect());
        let (requests, inbox) = channel();
        let run = move || supervisor.run(&old, &inbox);
        thread::Builder::new().name("store".to_owned()).spawn(run)?;
        Ok(Self { requests: Some(requests), handed_back })
    }

    /// The plugins of which systemd handed something back when the daemon started.
    #[must_use]
    pub fn handed_back(&self) -> &BTreeSet<PluginName> {
        &self.handed_back
    }

    /// Stores `state` with systemd, in the place of the stored state of this plugin.
    pub fn put(&self, plugin: &PluginName, state: Arc<[u8]>) {
        self.send(StoreRequest::Put(plugin.clone(), state));
    }

    /// Removes the state of this plugin from systemd.
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

/// The thread's side.
struct StoreThread {
    way: StoreSocket,
    directory: PathBuf,
    newest: BTreeMap<PluginName, StoredState>,
    /// Larger than any that systemd has.
    next: u64,
    files: SavedFiles,
    /// The states are left in files.
    keeps_in_files: bool,
    /// Plugins whose states the last daemon left in files, and systemd does not have yet.
    left: Vec<PluginName>,
}

/// The files of one plugin that systemd holds.
struct StoredState {
    sequence: u64,
    file: File,
}

/// The name of a file while systemd holds it.
fn name_of(plugin: &PluginName, sequence: u64) -> String {
    format!("{plugin}-{sequence}")
}

/// The message with which systemd takes a file. One is always readable, so that there would be nothing to wait for.
fn store_message(name: &str) -> String {
    format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0\n")
}

fn parse_name(name: &str) -> Option<(PluginName, u64)> {
    let (plugin, sequence) = name.rsplit_once('-')?;
    let parsed = (plugin.parse().ok()?, sequence.parse().ok()?);
    (name_of(&parsed.0, parsed.1) == name).then_some(parsed)
}

impl StoreThread {
    /// Also returns the names of what is not needed any more.
    fn new(way: StoreSocket, directory: PathBuf, handed_back: Vec<Stored>) -> (Self, Vec<String>) {
        let (mut newest, mut old, mut last) = (BTreeMap::<_, StoredState>::new(), Vec::new(), 0);
        for Stored { name, file } in handed_back {
            let Some((plugin, sequence)) = parse_name(&name) else {
                warn!(name = %Escaped(&name), "orphaned state removed from the file descriptor store");
                old.push(name);
                continue;
            };
            last = last.max(sequence);
            let other = match newest.get(&plugin) {
                Some(kept) if kept.sequence >= sequence => Some(sequence),
                _ => {
                    let older = newest.insert(plugin.clone(), StoredState { sequence, file });
                    older.map(|kept| kept.sequence)
                }
            };
            old.extend(other.map(|sequence| name_of(&plugin, sequence)));
        }
        let (files, mut left) = (SavedFiles::of(&directory), Vec::new());
        for (plugin, file) in files.open() {
            // What systemd kept is at least as new.
            if !newest.contains_key(&plugin) {
                last = last.saturating_add(1);
                newest.insert(plugin.clone(), StoredState { sequence: last, file });
                left.push(plugin);
            }
        }
        let (next, keeps_in_files) = (last.saturating_add(1), false);
        (Self { way, directory, newest, next, files, keeps_in_files, left }, old)
    }

    fn run(mut self, old: &[String], inbox: &Receiver<StoreRequest>) {
        for name in old {
            self.discard(name);
        }
        self.take_over_files();
        // Ends when the last handle is gone.
        for request in inbox {
            match request {
                StoreRequest::Put(plugin, state) => match self.put(&plugin, &state) {
                    Ok(()) => {
                        debug!(%plugin, bytes = state.len(), "state saved to the file descriptor store")
                    }
                    Err(error) => {
                        let error = ErrorChain(&error).to_string();
                        warn!(%plugin, error, "cannot save state to the file descriptor store");
                    }
                },
                StoreRequest::Remove(plugin) => {
                    if let Some(kept) = self.newest.remove(&plugin) {
                        self.discard(&name_of(&plugin, kept.sequence));
                    }
                }
                StoreRequest::Read(plugin, max, reply) => {
                    let read = self.newest.get(&plugin).map(|kept| read(&kept.file, max));
                    let state = read.and_then(|read| {
                        let reported = |error| {
                            let error = ErrorChain(&error).to_string();
                            warn!(%plugin, error, "cannot restore state from the file descriptor store");
                        };
                        read.map_err(reported).ok()
                    });
                    // The receiver may have been dropped.
                    reply.send(state).ok();
                }
                StoreRequest::KeepInFiles => self.keeps_in_files = true,
                StoreRequest::Settle(reply) => {
                    if self.keeps_in_files {
                        self.leave_in_files();
                    }
                    // The receiver may have been dropped.
                    reply.send(()).ok();
                }
            }
        }
    }

    /// Gives systemd the states that the last daemon left in files, and removes the files.
    fn take_over_files(&mut self) {
        for plugin in std::mem::take(&mut self.left) {
            let Some(kept) = self.newest.get(&plugin) else { continue };
            let message = store_message(&name_of(&plugin, kept.sequence));
            if let Err(error) = self.way.send(&message, Some(kept.file.as_fd())) {
                let error = ErrorChain(&StoreError::Send(error)).to_string();
                warn!(%plugin, error, "cannot save state to the file descriptor store");
            }
        }
        self.files.remove();
    }

    fn leave_in_files(&self) {
        for (plugin, kept) in &self.newest {
            let left = read(&kept.file, Bytes(u64::MAX)).and_then(|state| {
                self.files.write(plugin, &state).map_err(|source| StoreError::Write {
                    directory: self.directory.clone(),
                    source,
                })
            });
            if let Err(error) = left {
                let error = ErrorChain(&error).to_string();
                warn!(%plugin, error, "cannot save state for the next start");
            }
        }
    }

    fn put(&mut self, plugin: &PluginName, state: &[u8]) -> Result<(), StoreError> {
        let file = write(&self.directory, state)
            .map_err(|source| StoreError::Write { directory: self.directory.clone(), source })?;
        let sequence = self.next;
        self.next = sequence.saturating_add(1);
        let name = name_of(plugin, sequence);
        self.way.send(&store_message(&name), Some(file.as_fd())).map_err(StoreError::Send)?;
        if let Some(older) = self.newest.insert(plugin.clone(), StoredState { sequence, file }) {
            self.discard(&name_of(plugin, older.sequence));
        }
        Ok(())
    }

    fn discard(&mut self, name: &str) {
        // It comes from systemd, and must not become another variable on its way back.
        if name.contains(is_harmful) {
            return;
        }
        let message = format!("FDSTOREREMOVE=1\nFDNAME={name}\n");
        if let Err(error) = self.way.send(&message, None) {
            warn!(name, %error, "cannot remove state from the file descriptor store");
        }
    }
}

/// Writes a file that has no name.
fn write(directory: &Path, state: &[u8]) -> io::Result<File> {
    fs::create_dir_all(directory)?;
    let mut file = tempfile::tempfile_in(directory)?;
    file.write_all(state)?;
    Ok(file)
}

fn read(file: &File, max: Bytes) -> Result<Arc<[u8]>, StoreError> {
    let size = file.metadata().map_err(StoreError::Read)?.len();
    let length = usize::try_from(size).ok().filter(|_| Bytes(size) <= max);
    let length = length.ok_or(StoreError::TooLarge { size, max })?;
    let mut state = vec![0; length];
    // Wherever it was read or written last: the place in the file is the same for all who have it open.
    file.read_exact_at(&mut state, 0).map_err(StoreError::Read)?;
    Ok(state.into())
}

/// The way to systemd, which may take its time. That of sd-notify reads the environment for each message, and
/// finds no socket with an abstract name.
struct StoreSocket {
    path: OsString,
    socket: Option<UnixDatagram>,
}

impl StoreSocket {
    fn send(&mut self, message: &str, file: Option<BorrowedFd<'_>>) -> io::Result<()> {
        if let Some(socket) = &self.socket
            && send(socket, message, file).is_ok()
        {
            return Ok(());
        }
        // It is the first time, or systemd itself has been replaced.
        let socket = self.socket.insert(notify::connect(&self.path)?);
        send(socket, message, file)
    }
}

fn send(socket: &UnixDatagram, message: &str, file: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let files = file.as_slice();
    if !files.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(files));
    }
    sendmsg(socket, &[IoSlice::new(message.as_bytes())], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::executor::block_on;
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    use std::{io::IoSliceMut, os::unix::fs::MetadataExt};

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
    fn of_the_stored_states_the_newest_is_kept_and_the_others_are_removed() {
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
        let left = fs::exists(systemd.directory.path().join("state/.saved")).unwrap();
        assert!(!left, "systemd has it now");
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
