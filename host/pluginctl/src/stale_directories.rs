//! Directories of the machine that were replaced after systemd had bound them into the daemon's view.

use crate::{
    systemctl,
    unit::{UNIT, Unit},
};
use std::{
    collections::BTreeMap,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Where the daemon sees its configuration, below its root.
const CONFIGURATION: [&str; 3] = ["/usr/lib/plugind", "/run/plugind", "/etc/plugind"];

/// The message about directories of which the daemon of this machine sees an older one, if there are any and this user
/// may know.
pub(crate) fn note() -> Option<String> {
    let pid = systemctl::ask(&["show", "--property=MainPID", "--value", UNIT]).ok()?;
    // Only root may look there.
    let view = Path::new("/proc").join(pid.trim()).join("root");
    view.metadata().ok()?;
    let unit = systemctl::unit().ok().flatten()?;
    let replaced = replaced(Path::new("/"), &view, &unit);
    (!replaced.is_empty()).then(|| {
        let replaced: Vec<_> = replaced.iter().map(|path| path.display().to_string()).collect();
        format!(
            "{UNIT} sees an older directory than the machine: {}; `systemctl restart {UNIT}` shows it the present one",
            replaced.join(", ")
        )
    })
}

/// The directories below `root` that are bound to where the daemon sees its configuration, and are not what it sees
/// there below `view`.
fn replaced(root: &Path, view: &Path, unit: &Unit) -> Vec<PathBuf> {
    let below = |root: &Path, path: &str| root.join(path.trim_start_matches('/'));
    let mut bound = BTreeMap::new();
    // Of several mounts at one place, the last one counts.
    for entry in ["BindPaths", "BindReadOnlyPaths"].iter().flat_map(|name| unit.paths(name)) {
        let mut parts = entry.split(':');
        let from = parts.next().unwrap_or_default().trim_start_matches(['-', '+']);
        let at = parts.next().unwrap_or(from);
        if CONFIGURATION.contains(&at) {
            bound.insert(at, from);
        }
    }
    let is_replaced = |(at, from): &(&str, &str)| {
        let directories = below(root, from).metadata().ok().zip(below(view, at).metadata().ok());
        directories.is_some_and(|(one, other)| (one.dev(), one.ino()) != (other.dev(), other.ino()))
    };
    bound.into_iter().filter(is_replaced).map(|(_, from)| PathBuf::from(from)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    #[test]
    fn a_directory_is_named_if_the_daemon_sees_another_one_at_its_place() {
        let root = tempfile::tempdir().unwrap();
        let view = tempfile::tempdir().unwrap();
        for directory in ["etc/plugind", "usr/lib/plugind", "run/plugind", "srv/other"] {
            fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        for directory in ["etc", "usr/lib/plugind", "run/plugind"] {
            fs::create_dir_all(view.path().join(directory)).unwrap();
        }
        // A link is as good as a bind mount, which only root could make.
        symlink(root.path().join("etc/plugind"), view.path().join("etc/plugind")).unwrap();
        let replaced = |bound: &str| {
            let shown = format!("LoadState=loaded\nBindReadOnlyPaths={bound}\n");
            let unit = Unit::parse(&shown, None).unwrap();
            replaced(root.path(), view.path(), &unit)
        };
        let etc = "/etc/plugind:/etc/plugind:rbind";
        assert_eq!(replaced(etc), [""; 0].map(PathBuf::from));
        let usr = "/usr/lib/plugind:/usr/lib/plugind:norbind";
        assert_eq!(replaced(&format!("{etc} {usr}")), [Path::new("/usr/lib/plugind")]);
        // These are other directories on purpose, or not there.
        assert_eq!(replaced("/srv/other:/mnt -/srv/none:/run/plugind"), [""; 0].map(PathBuf::from));
        let moved = format!("{etc} /srv/other:/etc/plugind");
        assert_eq!(replaced(&moved), [Path::new("/srv/other")]);
        fs::remove_file(view.path().join("etc/plugind")).unwrap();
        symlink(root.path().join("srv/other"), view.path().join("etc/plugind")).unwrap();
        assert_eq!(replaced(&moved), [""; 0].map(PathBuf::from));
        assert_eq!(replaced(etc), [Path::new("/etc/plugind")]);
    }
}
