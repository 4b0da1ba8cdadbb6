//! Directories → `Found`: which plugins there are, by the names of files; nothing is opened.

use crate::{
    base::name::{NameError, PluginName},
    config::{ListError, SearchPath, is_mask},
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// A plugin that has a component, and where its files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The stem of its files.
    pub name: PluginName,
    /// `NAME.wasm`
    pub component: PathBuf,
    /// `NAME.toml`, if there is one that counts.
    pub manifest: Option<PathBuf>,
    /// The directories `NAME.toml.d`, by rising rank.
    pub drop_ins: Vec<PathBuf>,
}

/// A plugin that is not there, because a file says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Masked {
    /// Its name.
    pub name: PluginName,
    /// The file that says so.
    pub by: PathBuf,
}

/// Something in a directory that is no plugin and looks like one.
#[derive(Debug, thiserror::Error)]
pub enum Orphaned {
    /// The file's stem is no name.
    #[error("{} is not a plugin: {source}; rename {it}", path.display())]
    Name {
        /// The file.
        path: PathBuf,
        /// What is to be renamed, and into what if that is plain.
        it: String,
        /// Why its stem is no name.
        source: NameError,
    },
    /// The file's name is no text.
    #[error("{} is not a plugin: its name is not UTF-8; rename it", .0.display())]
    NotText(PathBuf),
    /// There is a manifest and no component.
    #[error(
        "{} is a manifest without a component; put {} beside it",
        path.display(),
        component.display()
    )]
    NoComponent {
        /// The manifest.
        path: PathBuf,
        /// The component that is missing.
        component: PathBuf,
    },
    /// There are drop-ins and no component.
    #[error(
        "{} has drop-ins for a plugin that is not there; put {} beside it, or name it after one that is there",
        path.display(),
        component.display()
    )]
    NoPlugin {
        /// The directory of drop-ins.
        path: PathBuf,
        /// The component that is missing.
        component: PathBuf,
    },
}

/// What there is in the directories.
#[derive(Debug, Default)]
pub struct Scanned {
    /// The plugins in the order of their names.
    pub found: Vec<Found>,
    /// Those that are not to be there.
    pub masked: Vec<Masked>,
    /// What only looks like a plugin.
    pub strays: Vec<Orphaned>,
}

/// Finds the plugins on the search path, in the order of their names, and what only looks like one.
///
/// # Errors
/// When a directory cannot be read: then nothing is known, and the last good set should stay.
pub fn scan(path: &SearchPath) -> Result<Scanned, ListError> {
    let mut files = Files::default();
    for (name, paths) in path.plugins()? {
        files.sort_in(&name.to_string_lossy(), name.to_str().is_some(), paths);
    }
    Ok(files.pair())
}

/// The plugin `name` of this component and of what lies beside it, by the same rules.
#[must_use]
pub fn scan_one(name: PluginName, component: &Path) -> Scanned {
    // A link that leads nowhere is there, too.
    let there = |extension| {
        Some(component.with_extension(extension)).filter(|path| path.symlink_metadata().is_ok())
    };
    let mut files = Files::default();
    files.manifests.extend(there("toml").map(|path| (name.clone(), path)));
    files.drop_ins.extend(there("toml.d").map(|path| (name.clone(), vec![path])));
    files.components.insert(name, vec![component.to_owned()]);
    files.pair()
}

/// The files by their stems.
#[derive(Default)]
struct Files {
    /// Each with those of its namesakes of lower rank.
    components: BTreeMap<PluginName, Vec<PathBuf>>,
    manifests: BTreeMap<PluginName, PathBuf>,
    drop_ins: BTreeMap<PluginName, Vec<PathBuf>>,
    strays: Vec<Orphaned>,
}

impl Files {
    /// Takes up all files of one name, by rising rank.
    fn sort_in(&mut self, file_name: &str, is_text: bool, paths: Vec<PathBuf>) {
        let (stem, extension) = match file_name.strip_suffix(".toml.d") {
            Some(stem) => (stem, "toml.d"),
            None => file_name.rsplit_once('.').unwrap_or_default(),
        };
        if !matches!(extension, "wasm" | "toml" | "toml.d") {
            return;
        }
        let name = match stem.parse::<PluginName>() {
            Ok(name) => name,
            Err(_) if !is_text => {
                return self.strays.extend(paths.into_iter().map(Orphaned::NotText));
            }
            Err(source) => {
                let better = stem.to_lowercase().replace(['_', ' ', '.'], "-");
                let it = match better.parse::<PluginName>() {
                    Ok(better) => format!("it {better}.{extension}"),
                    Err(_) => "it".to_owned(),
                };
                let stray = |path| Orphaned::Name { path, it: it.clone(), source: source.clone() };
                return self.strays.extend(paths.into_iter().map(stray));
            }
        };
        match extension {
            "toml.d" => drop(self.drop_ins.insert(name, paths)),
            "toml" => self.manifests.extend(paths.into_iter().next_back().map(|path| (name, path))),
            _ => drop(self.components.insert(name, paths)),
        }
    }

    fn pair(mut self) -> Scanned {
        let (mut found, mut masked) = (Vec::new(), Vec::new());
        for (name, mut components) in self.components {
            let Some(component) = components.pop() else { continue };
            let manifest = self.manifests.remove(&name).filter(|path| !is_mask(path));
            let drop_ins = self.drop_ins.remove(&name).unwrap_or_default();
            // An empty file without anything that it would hide was rather meant to be more: it is being written, or the
            // disk is full.
            let hides = !components.is_empty() || component.is_symlink();
            match hides && is_mask(&component) {
                true => masked.push(Masked { name, by: component }),
                false => found.push(Found { name, component, manifest, drop_ins }),
            }
        }
        let mut strays = self.strays;
        for (name, path) in self.manifests {
            let component = path.with_file_name(format!("{name}.wasm"));
            strays.push(Orphaned::NoComponent { path, component });
        }
        for (name, mut paths) in self.drop_ins {
            let Some(path) = paths.pop() else { continue };
            let component = path.with_file_name(format!("{name}.wasm"));
            strays.push(Orphaned::NoPlugin { path, component });
        }
        strays.sort_by_key(ToString::to_string);
        Scanned { found, masked, strays }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt, os::unix::fs::symlink};

    /// A tree with these files, each with its own path as its contents.
    fn tree(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        root
    }

    fn told(scanned: &Scanned) -> Vec<String> {
        scanned.strays.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_later_directory_replaces_a_file_of_the_same_name() {
        let root = tree(&[
            "usr/lib/plugind/plugins/a.wasm",
            "usr/lib/plugind/plugins/b.wasm",
            "usr/lib/plugind/plugins/b.toml",
            "usr/lib/plugind/plugins/b.toml.d/x.toml",
            "run/plugind/plugins/b.toml.d/x.toml",
            "etc/plugind/plugins/b.wasm",
            "etc/plugind/plugins/notes.txt",
        ]);
        let scanned = scan(&SearchPath::below(root.path())).unwrap();
        let relative = |path: &Path| path.strip_prefix(root.path()).unwrap().display().to_string();
        let [a, b] = scanned.found.as_slice() else { panic!("{:?}", scanned.found) };
        assert_eq!(relative(&a.component), "usr/lib/plugind/plugins/a.wasm");
        assert_eq!(relative(&b.component), "etc/plugind/plugins/b.wasm");
        assert_eq!((a.manifest.is_none(), b.manifest.is_some()), (true, true));
        let drop_ins: Vec<_> = b.drop_ins.iter().map(|path| relative(path)).collect();
        assert_eq!(drop_ins, ["usr/lib/plugind/plugins/b.toml.d", "run/plugind/plugins/b.toml.d"]);
        assert_eq!(told(&scanned), [""; 0]);
    }

    #[test]
    fn a_mask_takes_a_component_away_and_of_a_manifest_only_the_manifest() {
        let root = tree(&[
            "usr/lib/plugind/plugins/a.wasm",
            "usr/lib/plugind/plugins/a.toml",
            "usr/lib/plugind/plugins/a.toml.d/x.toml",
            "usr/lib/plugind/plugins/b.wasm",
            "usr/lib/plugind/plugins/b.toml",
            "usr/lib/plugind/plugins/b.toml.d/x.toml",
            "usr/lib/plugind/plugins/c.wasm",
            "etc/plugind/plugins/c.wasm",
        ]);
        let etc = root.path().join("etc/plugind/plugins");
        symlink("/dev/null", etc.join("a.wasm")).unwrap();
        fs::write(etc.join("b.toml"), "").unwrap();
        fs::write(root.path().join("usr/lib/plugind/plugins/c.wasm"), "").unwrap();
        let scanned = scan(&SearchPath::below(root.path())).unwrap();
        assert_eq!(scanned.masked, [Masked { name: "a".parse().unwrap(), by: etc.join("a.wasm") }]);
        let [b, c] = scanned.found.as_slice() else { panic!("{:?}", scanned.found) };
        assert_eq!((b.manifest.as_ref(), b.drop_ins.len()), (None, 1));
        assert_eq!(c.component, etc.join("c.wasm"));
        assert_eq!(told(&scanned), [""; 0]);
    }

    #[test]
    fn a_component_alone_has_what_lies_beside_it_by_the_same_rules() {
        let root = tree(&["a.wasm", "b.wasm", "b.toml.d/x.toml", "c.wasm", "c.toml"]);
        let path = |file: &str| root.path().join(file);
        symlink("/dev/null", path("a.toml")).unwrap();
        symlink("/nowhere/at/all", path("b.toml")).unwrap();
        symlink("/dev/null", path("d.wasm")).unwrap();
        fs::write(path("e.wasm"), "").unwrap();
        for name in ["a", "b", "c", "d", "e"] {
            let all = SearchPath::below(root.path()).with_only_plugins(root.path().to_owned());
            let mut all = scan(&all).unwrap();
            all.found.retain(|found| found.name.as_str() == name);
            all.masked.retain(|masked| masked.name.as_str() == name);
            let one = scan_one(name.parse().unwrap(), &path(name).with_extension("wasm"));
            assert_eq!((one.found, one.masked), (all.found, all.masked), "{name}");
        }
    }

    #[test]
    fn what_only_looks_like_a_plugin_is_told_with_a_remedy() {
        let root = tree(&["Bad Name.wasm", "lonely.toml", "gone.toml.d/x.toml", ".draft.wasm"]);
        fs::write(root.path().join(OsStr::from_bytes(b"bad\xff.wasm")), "x").unwrap();
        let path = SearchPath::below(root.path()).with_only_plugins(root.path().to_owned());
        let scanned = scan(&path).unwrap();
        assert_eq!(scanned.found, []);
        for (told, parts) in told(&scanned).iter().zip([
            ["Bad Name.wasm is not a plugin", "rename"],
            ["bad\u{fffd}.wasm is not a plugin", "not UTF-8"],
            ["gone.toml.d has drop-ins for a plugin that is not there", "gone.wasm"],
            ["lonely.toml is a manifest without a component", "lonely.wasm"],
        ]) {
            assert!(parts.iter().all(|part| told.contains(part)), "{told}");
        }
        assert_eq!(scanned.strays.len(), 4);
    }
}
