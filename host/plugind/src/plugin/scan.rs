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

/// A plugin that a file masks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Masked {
    /// Its name.
    pub name: PluginName,
    /// The file that says so.
    pub by: PathBuf,
}

/// A file in a directory of plugins that looks like one and is ignored.
#[derive(Debug, thiserror::Error)]
pub enum Ignored {
    /// The file's stem is not a name.
    #[error("{} is ignored: {source}; rename it{to}", path.display())]
    Name {
        /// The file.
        path: PathBuf,
        /// The name that it should have, after ` to `, if that is plain.
        to: String,
        /// Why its stem is not a name.
        source: NameError,
    },
    /// The file's name is not text.
    #[error("{} is ignored: its name is not UTF-8; rename it", .0.display())]
    NotText(PathBuf),
    /// There is a manifest and no component.
    #[error(
        "{} is ignored: there is no component for this manifest; add {}",
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
        "{} is ignored: there is no plugin for these drop-ins; add {}, or name the directory after a plugin",
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

/// The contents of the directories.
#[derive(Debug, Default)]
pub struct Scanned {
    /// The plugins in the order of their names.
    pub found: Vec<Found>,
    /// The plugins that a file masks.
    pub masked: Vec<Masked>,
    /// Files that only look like plugins.
    pub ignored: Vec<Ignored>,
}

/// Finds the plugins on the search path, in the order of their names, and the files that only look like one.
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
    ignored: Vec<Ignored>,
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
                return self.ignored.extend(paths.into_iter().map(Ignored::NotText));
            }
            Err(source) => {
                let better = stem.to_lowercase().replace(['_', ' ', '.'], "-");
                let to = match better.parse::<PluginName>() {
                    Ok(better) => format!(" to {better}.{extension}"),
                    Err(_) => String::new(),
                };
                let ignored = |path| Ignored::Name { path, to: to.clone(), source: source.clone() };
                return self.ignored.extend(paths.into_iter().map(ignored));
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
        let mut ignored = self.ignored;
        for (name, path) in self.manifests {
            let component = path.with_file_name(format!("{name}.wasm"));
            ignored.push(Ignored::NoComponent { path, component });
        }
        for (name, mut paths) in self.drop_ins {
            let Some(path) = paths.pop() else { continue };
            let component = path.with_file_name(format!("{name}.wasm"));
            ignored.push(Ignored::NoPlugin { path, component });
        }
        ignored.sort_by_key(ToString::to_string);
        Scanned { found, masked, ignored }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fixtures::tree;
    use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt, os::unix::fs::symlink};

    fn messages(scanned: &Scanned) -> Vec<String> {
        scanned.ignored.iter().map(ToString::to_string).collect()
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
        assert_eq!(messages(&scanned), [""; 0]);
    }

    #[test]
    fn a_mask_of_a_component_hides_the_plugin_and_one_of_a_manifest_only_that() {
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
        assert_eq!(messages(&scanned), [""; 0]);
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
    fn a_file_that_only_looks_like_a_plugin_is_reported_with_a_remedy() {
        let root = tree(&[
            "Bad Name.wasm",
            "lonely.toml",
            "gone.toml.d/x.toml",
            ".draft.wasm",
            "my_plugin.wasm",
        ]);
        fs::write(root.path().join(OsStr::from_bytes(b"bad\xff.wasm")), "x").unwrap();
        let path = SearchPath::below(root.path()).with_only_plugins(root.path().to_owned());
        let scanned = scan(&path).unwrap();
        assert_eq!(scanned.found, []);
        for (message, parts) in messages(&scanned).iter().zip([
            ["Bad Name.wasm is ignored", "rename it to bad-name.wasm"],
            ["bad\u{fffd}.wasm is ignored", "not UTF-8"],
            ["gone.toml.d is ignored: there is no plugin for these drop-ins", "add"],
            ["lonely.toml is ignored: there is no component for this manifest", "lonely.wasm"],
            ["my_plugin.wasm is ignored", "rename it to my-plugin.wasm"],
        ]) {
            assert!(parts.iter().all(|part| message.contains(part)), "{message}");
        }
        assert_eq!(scanned.ignored.len(), 5);
    }
}
