//! Directories → `Found`: which plugins there are, by the names of files; nothing is opened.

use crate::name::{NameError, PluginName};
use std::{
    collections::BTreeMap,
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
};

/// A plugin that has a component, and where its files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The stem of its files.
    pub name: PluginName,
    /// `NAME.wasm`
    pub component: PathBuf,
    /// `NAME.toml`, if there is one.
    pub manifest: Option<PathBuf>,
}

/// Something in a directory that is no plugin and looks like one.
#[derive(Debug, thiserror::Error)]
pub enum Stray {
    /// The file's stem is no name.
    #[error("{} is not a plugin: {source}; rename the file", path.display())]
    Name {
        /// The file.
        path: PathBuf,
        /// Why its stem is no name.
        source: NameError,
    },
    /// There is a manifest and no component.
    #[error("{} is a manifest without a component; put {} beside it", path.display(), component.display())]
    NoComponent {
        /// The manifest.
        path: PathBuf,
        /// The component that is missing.
        component: PathBuf,
    },
}

/// The directories could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the plugin directory {}; it must be there and readable", path.display())]
pub struct ScanError {
    path: PathBuf,
    source: io::Error,
}

/// Where plugins are looked for.
#[derive(Clone, Debug)]
pub enum SearchPath {
    /// These directories, the later ones before the earlier ones; none of them needs to exist.
    Hierarchy(Vec<PathBuf>),
    /// This directory alone; it must exist.
    Only(PathBuf),
}

impl SearchPath {
    /// Where a system has its plugins, below `root`.
    #[must_use]
    pub fn below(root: &Path) -> Self {
        let plugins = |directory| root.join(directory).join("plugind/plugins");
        Self::Hierarchy(["usr/lib", "run", "etc"].map(plugins).into())
    }
}

/// Finds the plugins on the search path, in the order of their names, and what only looks like one.
///
/// # Errors
/// When a directory cannot be read: then nothing is known, and the last good set should stay.
pub fn scan(path: &SearchPath) -> Result<(Vec<Found>, Vec<Stray>), ScanError> {
    let (directories, must_exist) = match path {
        SearchPath::Hierarchy(directories) => (directories.as_slice(), false),
        SearchPath::Only(directory) => (std::slice::from_ref(directory), true),
    };
    let mut files = Files::default();
    for directory in directories {
        match files.collect(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !must_exist => (),
            Err(source) => return Err(ScanError { path: directory.clone(), source }),
            Ok(()) => (),
        }
    }
    Ok(files.pair())
}

/// The files by their stems; one in a later directory has replaced its namesake.
#[derive(Default)]
struct Files {
    components: BTreeMap<PluginName, PathBuf>,
    manifests: BTreeMap<PluginName, PathBuf>,
    strays: Vec<Stray>,
}

impl Files {
    fn collect(&mut self, directory: &Path) -> io::Result<()> {
        for entry in directory.read_dir()? {
            let path = entry?.path();
            let files = match path.extension().and_then(OsStr::to_str) {
                Some("wasm") => &mut self.components,
                Some("toml") => &mut self.manifests,
                _ => continue,
            };
            match path.file_stem().unwrap_or_default().to_string_lossy().parse() {
                Ok(name) => drop(files.insert(name, path)),
                Err(source) => self.strays.push(Stray::Name { path, source }),
            }
        }
        Ok(())
    }

    fn pair(mut self) -> (Vec<Found>, Vec<Stray>) {
        let found = self
            .components
            .into_iter()
            .map(|(name, component)| Found {
                manifest: self.manifests.remove(&name),
                name,
                component,
            })
            .collect();
        for (name, path) in self.manifests {
            let component = path.with_file_name(format!("{name}.wasm"));
            self.strays.push(Stray::NoComponent { path, component });
        }
        self.strays.sort_by_key(ToString::to_string);
        (found, self.strays)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        root
    }

    #[test]
    fn a_later_directory_replaces_a_file_of_the_same_name() {
        let root = tree(&[
            "usr/lib/plugind/plugins/a.wasm",
            "usr/lib/plugind/plugins/b.wasm",
            "usr/lib/plugind/plugins/b.toml",
            "etc/plugind/plugins/b.wasm",
            "etc/plugind/plugins/notes.txt",
        ]);
        let (found, strays) = scan(&SearchPath::below(root.path())).unwrap();
        let relative = |path: &Path| path.strip_prefix(root.path()).unwrap().display().to_string();
        let components: Vec<_> = found.iter().map(|found| relative(&found.component)).collect();
        assert_eq!(components, ["usr/lib/plugind/plugins/a.wasm", "etc/plugind/plugins/b.wasm"]);
        assert!(found[0].manifest.is_none() && found[1].manifest.is_some());
        assert!(strays.is_empty());
    }

    #[test]
    fn what_only_looks_like_a_plugin_is_told_with_a_remedy() {
        let root = tree(&["Bad Name.wasm", "lonely.toml"]);
        let (found, strays) = scan(&SearchPath::Only(root.path().to_owned())).unwrap();
        assert_eq!(found, []);
        let told: Vec<_> = strays.iter().map(ToString::to_string).collect();
        assert!(
            told[0].contains("Bad Name.wasm is not a plugin") && told[0].contains("rename"),
            "{told:?}"
        );
        assert!(
            told[1].contains("without a component") && told[1].contains("lonely.wasm"),
            "{told:?}"
        );
    }

    #[test]
    fn only_a_directory_that_was_asked_for_must_exist() {
        let root = tree(&[]);
        assert!(scan(&SearchPath::below(root.path())).unwrap().0.is_empty());
        assert!(scan(&SearchPath::Only(root.path().join("none"))).is_err());
    }
}
