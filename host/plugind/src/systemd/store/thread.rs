//! The thread that keeps the states: it writes files, and sends them to systemd.

use crate::{
    base::{
        error_chain::ErrorChain,
        name::PluginName,
        quantity::Bytes,
        text::{Escaped, is_harmful},
    },
    systemd::{
        saved_files::{SavedFiles, remove_saved},
        store::socket::StoreSocket,
    },
};
use futures::channel::oneshot;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Write},
    os::{fd::AsFd, unix::fs::FileExt},
    path::{Path, PathBuf},
    sync::{Arc, mpsc::Receiver},
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

/// A request to the thread.
pub(super) enum StoreRequest {
    Put(PluginName, Arc<[u8]>),
    Remove(PluginName),
    Read(PluginName, Bytes, oneshot::Sender<Option<Arc<[u8]>>>),
    RemoveFiles,
    KeepInFiles,
    Settle(oneshot::Sender<()>),
}

/// The reason that a state is not stored or cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    #[error("cannot write a file in {}", directory.display())]
    Write { directory: PathBuf, source: io::Error },
    #[error("cannot read the file that systemd kept")]
    Read(#[source] io::Error),
    #[error("it has {size} bytes, and handover.state-max is {max}; raise it to restore the state")]
    TooLarge { size: u64, max: Bytes },
    #[error("cannot notify systemd at $NOTIFY_SOCKET")]
    Send(#[source] io::Error),
}

/// The thread's side.
pub(super) struct StoreThread {
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

/// The newest file of one plugin that systemd holds, and the number in its name.
struct StoredState {
    sequence: u64,
    file: File,
}

/// The name of a file while systemd holds it.
fn name_of(plugin: &PluginName, sequence: u64) -> String {
    format!("{plugin}-{sequence}")
}

/// The message with which systemd takes a file. A file is always readable, so there is nothing to poll for.
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
    pub(super) fn new(
        way: StoreSocket,
        directory: PathBuf,
        handed_back: Vec<Stored>,
    ) -> (Self, Vec<String>) {
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

    /// The plugins that have a state.
    pub(super) fn plugins(&self) -> BTreeSet<PluginName> {
        self.newest.keys().cloned().collect()
    }

    /// Removes what is not needed any more, and handles requests until the last handle is gone.
    pub(super) fn run(mut self, old: &[String], inbox: &Receiver<StoreRequest>) {
        for name in old {
            self.discard(name);
        }
        self.send_files();
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
                    if let Err(error) = remove_saved(&self.directory, &plugin) {
                        debug!(%plugin, %error, "cannot remove saved state");
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
                StoreRequest::RemoveFiles => self.files.remove(),
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

    /// Gives systemd the states that the last daemon left in files. The files stay: if the start fails, systemd forgets
    /// the states.
    fn send_files(&mut self) {
        for plugin in std::mem::take(&mut self.left) {
            let Some(kept) = self.newest.get(&plugin) else { continue };
            let message = store_message(&name_of(&plugin, kept.sequence));
            if let Err(error) = self.way.send(&message, Some(kept.file.as_fd())) {
                let error = ErrorChain(&StoreError::Send(error)).to_string();
                warn!(%plugin, error, "cannot save state to the file descriptor store");
            }
        }
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

/// Reads a file from its beginning, unless it is larger than `max`.
pub(super) fn read(file: &File, max: Bytes) -> Result<Arc<[u8]>, StoreError> {
    let size = file.metadata().map_err(StoreError::Read)?.len();
    let length = usize::try_from(size).ok().filter(|_| Bytes(size) <= max);
    let length = length.ok_or(StoreError::TooLarge { size, max })?;
    let mut state = vec![0; length];
    // At an explicit offset: all who have the file open share one file offset.
    file.read_exact_at(&mut state, 0).map_err(StoreError::Read)?;
    Ok(state.into())
}
