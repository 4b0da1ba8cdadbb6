//! A directory as plugind finds it on a machine, with plugins in it.

use crate::{built, eventually};
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};
use tempfile::TempDir;

const PLUGINS: &str = "etc/plugind/plugins";
const CACHE: &str = "var/cache/plugind";
const VERSIONS: &str = "var/lib/plugind/.versions";

/// A directory tree for a daemon. It is gone when this and every daemon that runs on it have been dropped.
#[derive(Clone)]
pub struct Tree {
    root: Arc<TempDir>,
}

impl Tree {
    /// A tree without plugins, whose compiled files are shared with other trees, since compiling takes time.
    #[must_use]
    pub fn new() -> Self {
        let shared = built::temporary().join("compiled");
        fs::create_dir_all(&shared).expect("target/ is writable");
        let tree = Self::with_own_cache();
        fs::remove_dir(tree.cache()).expect("it was made empty");
        symlink(shared, tree.cache()).expect("nothing is in its place");
        tree
    }

    /// A tree without plugins whose compiled files are its own.
    #[must_use]
    pub fn with_own_cache() -> Self {
        let root = tempfile::tempdir().expect("there is room for temporary files");
        let tree = Self { root: Arc::new(root) };
        for directory in [tree.plugins(), tree.cache()] {
            fs::create_dir_all(directory).expect("the tree is writable");
        }
        tree
    }

    /// With this guest under its own name, in which `_` becomes `-`.
    #[must_use]
    pub fn with(self, guest: &str) -> Self {
        self.with_manifest(guest, "")
    }

    /// With this guest under its own name, and a manifest.
    #[must_use]
    pub fn with_manifest(self, guest: &str, manifest: &str) -> Self {
        self.with_named(&guest.replace('_', "-"), guest, manifest)
    }

    /// With this guest under another name, and a manifest.
    #[must_use]
    pub fn with_named(self, name: &str, guest: &str, manifest: &str) -> Self {
        self.put_guest(name, guest);
        if !manifest.is_empty() {
            self.put(&format!("{name}.toml"), manifest);
        }
        self
    }

    /// With settings in `plugind.toml`.
    #[must_use]
    pub fn with_settings(self, settings: &str) -> Self {
        let file = self.root().join("etc/plugind/plugind.toml");
        fs::write(file, settings).expect("the tree is writable");
        self
    }

    /// Puts a guest in the place of the component `name`.
    pub fn put_guest(&self, name: &str, guest: &str) {
        let component = fs::read(built::guest(guest)).expect("what was built is readable");
        self.put(&format!("{name}.wasm"), component);
    }

    /// Puts a file among the plugins at once, as a deployment should: written beside and renamed.
    pub fn put(&self, file: &str, contents: impl AsRef<[u8]>) {
        let draft = self.plugins().join(format!(".{file}.new"));
        fs::write(&draft, contents).expect("the tree is writable");
        fs::rename(draft, self.plugins().join(file)).expect("the tree is writable");
    }

    /// Waits until the daemon has copied the first version of a plugin that serves. A test that rolls back to this
    /// version must wait for it before it replaces the files.
    ///
    /// # Panics
    /// When no version is copied.
    pub fn wait_for_version(&self, name: &str) {
        let versions = self.root().join(VERSIONS).join(name);
        eventually(&format!("a version in {}", versions.display()), || {
            // An incomplete one is hidden.
            let entries = fs::read_dir(&versions).ok()?.flatten();
            let mut names = entries.map(|entry| entry.file_name());
            names.any(|name| !name.to_string_lossy().starts_with('.')).then_some(())
        });
    }

    /// Removes a file from among the plugins.
    pub fn remove(&self, file: &str) {
        fs::remove_file(self.plugins().join(file)).expect("the file is there");
    }

    /// The tree's root.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// Where its plugins are.
    #[must_use]
    pub fn plugins(&self) -> PathBuf {
        self.root().join(PLUGINS)
    }

    /// Where its compiled files are.
    #[must_use]
    pub fn cache(&self) -> PathBuf {
        self.root().join(CACHE)
    }
}

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}

/// The component of a guest, made different from all that ever were: it has one more custom section, which nothing
/// reads.
///
/// # Panics
/// When the guest was not built.
#[must_use]
pub fn another(guest: &str) -> Vec<u8> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let mut component = fs::read(built::guest(guest)).expect("what was built is readable");
    let name = format!("{}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
    let since_1970 = std::time::UNIX_EPOCH.elapsed().expect("it is later than 1970").as_nanos();
    let contents = format!("{name} {since_1970}");
    // A custom section: 0, its size, the size of its name, its name, anything. Sizes below 128 are one byte.
    let size = |length: usize| u8::try_from(length).expect("the section is small");
    component.extend([0, size(1 + name.len() + contents.len()), size(name.len())]);
    component.extend(name.bytes());
    component.extend(contents.bytes());
    component
}
