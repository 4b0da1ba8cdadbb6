//! What was seen of the directories of the search path before: to notice that one was unmounted, and that one was
//! replaced while the daemon sees the previous one through a bind mount.

use crate::config::search::{ListError, SearchPath};
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// The mounts that this process sees.
const MOUNTS: &str = "/proc/self/mountinfo";

/// The directories of a search path when they were read the last time.
#[derive(Default)]
pub struct KnownDirectories {
    /// For the mount on which a directory lies, and the directory itself, by their numbers: the directory of its file
    /// system that the mount shows. This is another path when that directory was moved or removed. A later mount may get
    /// the number of an earlier one, and shows another directory.
    roots: BTreeMap<(u64, u64, u64), String>,
    /// What was seen of the directories of plugins.
    plugins: BTreeMap<PathBuf, SeenPlugins>,
}

/// What was seen of a directory of plugins.
struct SeenPlugins {
    /// The file system on which it lies.
    device: u64,
    has_component: bool,
}

impl KnownDirectories {
    /// Checks that this process sees the same directories as others.
    ///
    /// # Errors
    /// When a directory was moved or removed since it was mounted, so that it is not the one at its path any more.
    pub fn check_mounts(&mut self, search_path: &SearchPath) -> Result<(), ListError> {
        // Without this file, nothing is known of mounts.
        let mounts = fs::read(MOUNTS).unwrap_or_default();
        let mounts = String::from_utf8_lossy(&mounts);
        let plugins = search_path.plugin_directories();
        let all = search_path.directories().iter().chain(&plugins);
        let mut roots = BTreeMap::new();
        for path in all {
            let Some(mount) = mount_of(path) else { continue };
            let Some(root) = root_of(&mounts, mount) else { continue };
            let Ok(directory) = path.metadata() else { continue };
            let numbers = (mount, directory.dev(), directory.ino());
            if self.roots.get(&numbers).is_some_and(|before| before != root) {
                return Err(ListError::Replaced { path: path.clone() });
            }
            roots.insert(numbers, root.to_owned());
        }
        self.roots = roots;
        Ok(())
    }

    /// Checks that directories with components, or whose plugins serve, were not unmounted, and notes the present ones.
    ///
    /// # Errors
    /// When such a directory has no component and is on another file system than before.
    pub fn check_devices(&mut self, search_path: &SearchPath) -> Result<(), ListError> {
        let directories = search_path.plugin_directories().into_iter();
        let seen = directories.filter_map(|path| {
            let device = path.metadata().ok()?.dev();
            let has_component = has_component(&path);
            Some((path, SeenPlugins { device, has_component }))
        });
        let seen: BTreeMap<_, _> = seen.collect();
        for (path, now) in seen.iter().filter(|(_, now)| !now.has_component) {
            let is_unmounted = self.plugins.get(path).is_some_and(|before| {
                // A pinned plugin does not serve its files, and one that failed does not serve.
                let had_plugins = before.has_component || search_path.expects(path);
                had_plugins && before.device != now.device
            });
            if is_unmounted {
                return Err(ListError::Unmounted { path: path.clone() });
            }
        }
        self.plugins = seen;
        Ok(())
    }
}

/// The number of the mount on which this lies, if the kernel says so.
fn mount_of(path: &Path) -> Option<u64> {
    let found = statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID).ok()?;
    (found.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(found.stx_mnt_id)
}

/// The directory of its file system that a mount shows, in these lines of proc_pid_mountinfo(5).
fn root_of(mounts: &str, mount: u64) -> Option<&str> {
    let number = mount.to_string();
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        (fields.next() == Some(&number)).then(|| fields.nth(2))?
    })
}

fn has_component(directory: &Path) -> bool {
    let entries = directory.read_dir().into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).any(|path| path.extension().is_some_and(|it| it == "wasm"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fixtures::tree;

    const PLUGINS: &str = "etc/plugind/plugins";

    #[test]
    fn a_mount_shows_the_directory_in_its_line() {
        let mounts = "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
                      121 21 8:1 /etc/plugind//deleted /etc/plugind ro - ext4 /dev/sda1 rw\n";
        assert_eq!(root_of(mounts, 21), Some("/"));
        assert_eq!(root_of(mounts, 121), Some("/etc/plugind//deleted"));
        assert_eq!(root_of(mounts, 1), None);
    }

    #[test]
    fn a_directory_whose_mount_shows_another_path_was_replaced() {
        let root = tree(&["etc/plugind/plugins/a.wasm"]);
        let path = SearchPath::below(root.path());
        let mut known = KnownDirectories::default();
        known.check_mounts(&path).unwrap();
        known.check_mounts(&path).unwrap();
        assert!(!known.roots.is_empty());
        known.roots.values_mut().for_each(|root| *root = "/elsewhere".to_owned());
        let error = known.check_mounts(&path).unwrap_err().to_string();
        assert!(error.contains("etc/plugind was replaced or removed"), "{error}");
    }

    #[test]
    fn a_directory_that_is_empty_on_another_file_system_was_unmounted() {
        let root = tree(&["etc/plugind/plugins/a.wasm"]);
        let plugins = root.path().join(PLUGINS);
        let path = SearchPath::below(root.path());
        let mut known = KnownDirectories::default();
        known.check_devices(&path).unwrap();
        let is_on_another = |known: &mut KnownDirectories, expected: &SearchPath| {
            known.plugins.values_mut().for_each(|seen| seen.device += 1);
            known.check_devices(expected).map_err(|error| error.to_string())
        };
        // It has plugins there as well.
        is_on_another(&mut known, &path).unwrap();
        fs::remove_file(plugins.join("a.wasm")).unwrap();
        fs::write(plugins.join("not-mounted"), "").unwrap();
        let error = is_on_another(&mut known, &path).unwrap_err();
        assert!(
            error.contains("plugins has no component and is on another file system"),
            "{error}"
        );
        // The same, until it is mounted again.
        is_on_another(&mut known, &path).unwrap_err();
        known.plugins.clear();
        known.check_devices(&path).unwrap();
        // It had none before.
        is_on_another(&mut known, &path).unwrap();
        is_on_another(&mut known, &path.expecting([plugins].into())).unwrap_err();
    }
}
