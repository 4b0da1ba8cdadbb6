//! The search path of configuration: directories of rising rank, in which a file replaces its namesakes in earlier
//! ones, and an empty file or a link to /dev/null masks them (UAPI.6).

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    fs, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// Where plugind looks for its settings and for plugins.
#[derive(Clone, Debug)]
pub struct SearchPath {
    /// The directories `plugind`, by rising rank; none of them needs to exist.
    directories: Vec<PathBuf>,
    /// The one directory of plugins, instead of those below `directories`.
    only_plugins: Option<PathBuf>,
    /// A directory of plugins of the highest rank.
    staged_plugins: Option<PathBuf>,
    /// Directories of plugins that have to exist.
    expected: BTreeSet<PathBuf>,
}

/// The contents of a directory are not known.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// It could not be read.
    #[error("cannot read the directory {}; {}", path.display(), remedy(source, *expected))]
    Read {
        /// The directory.
        path: PathBuf,
        /// It was there before.
        expected: bool,
        /// Why not.
        source: io::Error,
    },
    /// The file system with its plugins is not there any more.
    #[error(
        "the directory {} has no component and is on another file system than before; plugins were read from it: \
         mount it again, or restart the daemon to remove them",
        path.display()
    )]
    Unmounted {
        /// The directory.
        path: PathBuf,
    },
    /// The daemon sees the previous directory.
    #[error(
        "the directory {} was replaced or removed, and the daemon sees the previous one until its unit, or its \
         container, is restarted; replace the files in it instead",
        path.display()
    )]
    Replaced {
        /// The directory.
        path: PathBuf,
    },
}

fn remedy(error: &io::Error, expected: bool) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound if expected => {
            "plugins that were read from it are serving: restore it, or create it empty to remove them"
        }
        io::ErrorKind::NotFound => "create it, or name another one",
        io::ErrorKind::PermissionDenied => "let the user of the daemon read it",
        io::ErrorKind::NotADirectory => {
            "it must be a directory: move away the file that has its name"
        }
        _ => "it must be a directory that can be read",
    }
}

/// All files of some directories by their names, each with the paths that have the name, by rising rank.
pub type Listing = BTreeMap<OsString, Vec<PathBuf>>;

impl SearchPath {
    /// Returns the usual search path of a system, below `root`.
    #[must_use]
    pub fn below(root: &Path) -> Self {
        let directories = ["usr/lib", "run", "etc"].map(|tree| root.join(tree).join("plugind"));
        Self::of(directories.into())
    }

    /// Returns the search path of one user: `plugind` below the directories of the session and of the configuration, as
    /// far as they are known.
    #[must_use]
    pub fn of_user(runtime: Option<&Path>, config: Option<&Path>) -> Self {
        let directories = [runtime, config].into_iter().flatten();
        Self::of(directories.map(|directory| directory.join("plugind")).collect())
    }

    fn of(directories: Vec<PathBuf>) -> Self {
        Self { directories, only_plugins: None, staged_plugins: None, expected: BTreeSet::new() }
    }

    /// The same, but these directories of plugins must exist: a directory that is missing as a whole has more likely
    /// been unmounted, or is being replaced, than been emptied.
    #[must_use]
    pub fn expecting(self, expected: BTreeSet<PathBuf>) -> Self {
        Self { expected, ..self }
    }

    /// Whether plugins of this directory are expected.
    pub(super) fn expects(&self, directory: &Path) -> bool {
        self.expected.contains(directory)
    }

    /// The directories `plugind`.
    pub(super) fn directories(&self) -> &[PathBuf] {
        &self.directories
    }

    /// The same with the plugins of `directory`, which must exist, and no others.
    #[must_use]
    pub fn with_only_plugins(self, directory: PathBuf) -> Self {
        Self { only_plugins: Some(directory), ..self }
    }

    /// The same with the plugins of `directory`, which replace their namesakes, as if they were installed.
    #[must_use]
    pub fn with_staged_plugins(self, directory: PathBuf) -> Self {
        Self { staged_plugins: Some(directory), ..self }
    }

    /// Whether this file is one of the plugins that are to be installed.
    #[must_use]
    pub fn is_staged(&self, path: &Path) -> bool {
        self.staged_plugins.as_ref().is_some_and(|directory| path.starts_with(directory))
    }

    /// The directory of plugins for the files of the administrator, or of the user, if it does not exist.
    #[must_use]
    pub fn missing_directory(&self) -> Option<PathBuf> {
        let last = self.plugin_directories().pop()?;
        let error = last.metadata().err()?;
        (error.kind() == io::ErrorKind::NotFound).then_some(last)
    }

    /// Returns the directories of plugins, which need not exist.
    #[must_use]
    pub fn plugin_directories(&self) -> Vec<PathBuf> {
        let below = self.directories.iter().map(|directory| directory.join("plugins"));
        match &self.only_plugins {
            Some(directory) => vec![directory.clone()],
            None => below.chain(self.staged_plugins.clone()).collect(),
        }
    }

    /// `plugind.toml` and its drop-ins, in the order in which they count.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub fn settings(&self) -> Result<Vec<PathBuf>, ListError> {
        let file = Path::new("plugind.toml");
        let all: Vec<_> = self.directories.iter().map(|directory| directory.join(file)).collect();
        // A dangling link counts too, so that it is reported.
        let there = all.into_iter().rfind(|path| path.symlink_metadata().is_ok());
        let drop_ins: Vec<_> =
            self.directories.iter().map(|directory| directory.join("plugind.toml.d")).collect();
        let mut files: Vec<_> = there.into_iter().filter(|path| !is_mask(path)).collect();
        files.extend(list_drop_ins(&drop_ins)?);
        Ok(files)
    }

    /// All that lies in the directories of plugins.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub fn plugins(&self) -> Result<Listing, ListError> {
        let mut listing = Listing::new();
        for directory in self.plugin_directories() {
            let expected = self.expected.contains(&directory);
            match self.only_plugins {
                Some(_) => list(&directory, &mut listing).map_err(|source| ListError::Read {
                    path: directory,
                    expected,
                    source,
                })?,
                None => list_if_there(&directory, expected, &mut listing)?,
            }
        }
        Ok(listing)
    }
}

/// The drop-ins of these directories that count, in the order in which they do: that of their names.
///
/// # Errors
/// When a directory is there and cannot be read.
pub fn list_drop_ins(directories: &[PathBuf]) -> Result<Vec<PathBuf>, ListError> {
    let mut listing = Listing::new();
    for directory in directories {
        list_if_there(directory, false, &mut listing)?;
    }
    let is_drop_in = |name: &OsStr| Path::new(name).extension() == Some(OsStr::new("toml"));
    let drop_ins = listing.into_iter().filter(|(name, _)| is_drop_in(name));
    Ok(drop_ins.filter_map(|(_, mut paths)| paths.pop()).filter(|path| !is_mask(path)).collect())
}

/// Whether a file masks itself and its namesakes of lower rank.
#[must_use]
pub fn is_mask(path: &Path) -> bool {
    // By the link's own text: below another root, or in a sandbox, there may be no /dev/null.
    let is_nothing = fs::read_link(path).is_ok_and(|target| target == Path::new("/dev/null"));
    is_nothing || fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() == 0)
}

fn list_if_there(directory: &Path, expected: bool, listing: &mut Listing) -> Result<(), ListError> {
    match list(directory, listing) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !expected => Ok(()),
        Err(source) => Err(ListError::Read { path: directory.to_owned(), expected, source }),
        Ok(()) => Ok(()),
    }
}

/// Files whose names begin with a dot are drafts: of editors, or of programs that write a file and then rename it.
fn list(directory: &Path, listing: &mut Listing) -> io::Result<()> {
    for entry in directory.read_dir()? {
        let entry = entry?;
        if !entry.file_name().as_bytes().starts_with(b".") {
            listing.entry(entry.file_name()).or_default().push(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fixtures::tree;
    use std::os::unix::fs::symlink;

    fn settings(root: &Path) -> Vec<String> {
        let files = SearchPath::below(root).settings().unwrap();
        let relative = |path: &PathBuf| path.strip_prefix(root).unwrap().display().to_string();
        files.iter().map(relative).collect()
    }

    #[test]
    fn drop_ins_count_by_their_names_across_directories_and_behind_the_file_itself() {
        let root = tree(&[
            "usr/lib/plugind/plugind.toml",
            "run/plugind/plugind.toml",
            "usr/lib/plugind/plugind.toml.d/50-a.toml",
            "usr/lib/plugind/plugind.toml.d/90-z.toml",
            "etc/plugind/plugind.toml.d/10-b.toml",
            "run/plugind/plugind.toml.d/50-a.toml",
            "etc/plugind/plugind.toml.d/README",
            "etc/plugind/plugind.toml.d/.60-draft.toml",
        ]);
        let expected = [
            "run/plugind/plugind.toml",
            "etc/plugind/plugind.toml.d/10-b.toml",
            "run/plugind/plugind.toml.d/50-a.toml",
            "usr/lib/plugind/plugind.toml.d/90-z.toml",
        ];
        assert_eq!(settings(root.path()), expected);
    }

    #[test]
    fn a_mask_hides_its_namesakes_of_lower_rank_and_nothing_else() {
        let root = tree(&[
            "usr/lib/plugind/plugind.toml",
            "usr/lib/plugind/plugind.toml.d/a.toml",
            "usr/lib/plugind/plugind.toml.d/b.toml",
            "run/plugind/plugind.toml.d/c.toml",
            "etc/plugind/plugind.toml",
            "etc/plugind/plugind.toml.d/d.toml",
        ]);
        let etc = root.path().join("etc/plugind");
        fs::write(etc.join("plugind.toml"), "").unwrap();
        symlink("/dev/null", etc.join("plugind.toml.d/a.toml")).unwrap();
        fs::write(root.path().join("usr/lib/plugind/plugind.toml.d/c.toml"), "").unwrap();
        let expected = [
            "usr/lib/plugind/plugind.toml.d/b.toml",
            "run/plugind/plugind.toml.d/c.toml",
            "etc/plugind/plugind.toml.d/d.toml",
        ];
        assert_eq!(settings(root.path()), expected);
    }

    #[test]
    fn a_directory_whose_plugins_serve_must_exist() {
        let root = tree(&["etc/plugind/plugins/a.wasm"]);
        let plugins = root.path().join("etc/plugind/plugins");
        let path = SearchPath::below(root.path()).expecting([plugins.clone()].into());
        assert_eq!(path.plugins().unwrap().len(), 1);
        fs::remove_dir_all(&plugins).unwrap();
        let error = path.plugins().unwrap_err().to_string();
        assert!(error.contains("etc/plugind/plugins; plugins that were read from it"), "{error}");
    }

    #[test]
    fn only_a_directory_that_was_asked_for_must_exist() {
        let root = tree(&[]);
        let path = SearchPath::below(root.path());
        assert!(path.plugins().unwrap().is_empty());
        assert_eq!(settings(root.path()), [""; 0]);
        assert!(path.clone().with_only_plugins(root.path().join("none")).plugins().is_err());
        let own = root.path().join("etc/plugind/plugins");
        assert_eq!(path.missing_directory(), Some(own.clone()));
        fs::create_dir_all(own).unwrap();
        assert_eq!(path.missing_directory(), None);
        let root = tree(&["etc/plugind/plugins"]);
        let error = SearchPath::below(root.path()).plugins().unwrap_err().to_string();
        assert!(error.contains("it must be a directory"), "{error}");
    }
}
