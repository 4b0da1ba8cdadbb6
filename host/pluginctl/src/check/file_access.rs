//! Files of the configuration that the daemon cannot read, because of the user or the view of its unit.

use crate::{
    unit::{UNIT, Unit},
    view::View,
};
use plugind::{
    base::name::PluginName,
    config::{SearchPath, list_drop_ins},
    plugin::scan::{Found, scan},
};
use std::{
    collections::BTreeMap,
    fs::{self, Metadata},
    os::unix::fs::MetadataExt,
    path::{Component, Path, PathBuf},
};

/// The largest number of links that are followed, as the kernel has it.
const LINKS_MAX: usize = 40;
/// The permissions of files and directories.
const READ: u32 = 0o4;
const READ_AND_ENTER: u32 = 0o5;
const ENTER: u32 = 0o1;

/// The files that the daemon cannot read, each with the reason.
#[derive(Default)]
pub(super) struct UnreadableFiles {
    /// Settings and directories, without which it does not start.
    pub(super) configuration: Vec<String>,
    pub(super) plugins: BTreeMap<PluginName, Vec<String>>,
}

impl UnreadableFiles {
    /// Finds them. What this program cannot read itself is left out: others report it.
    pub(super) fn find(search_path: &SearchPath, unit: &Unit) -> Self {
        let access = FileAccess { view: View::of(unit), user: DaemonUser::of(unit) };
        let settings = search_path.settings().unwrap_or_default();
        let directories = search_path.plugin_directories();
        let configuration = settings.iter().chain(&directories);
        let configuration = configuration.filter_map(|path| access.problem(path)).collect();
        let mut plugins = BTreeMap::new();
        for plugin in scan(search_path).unwrap_or_default().found {
            let drop_ins = list_drop_ins(&plugin.drop_ins).unwrap_or_default();
            let Found { name, component, manifest, drop_ins: directories } = plugin;
            let files = [component].into_iter().chain(manifest).chain(directories).chain(drop_ins);
            let problems: Vec<_> = files.filter_map(|path| access.problem(&path)).collect();
            if !problems.is_empty() {
                plugins.insert(name, problems);
            }
        }
        Self { configuration, plugins }
    }
}

/// The user of the daemon, as far as the unit defines it.
#[derive(Debug, PartialEq, Eq)]
enum DaemonUser {
    /// It owns no file of the configuration, and is in no group of one.
    Other,
    Known {
        user: u32,
        group: u32,
    },
    /// It is root, or nothing is known.
    Unlimited,
}

impl DaemonUser {
    fn of(unit: &Unit) -> Self {
        let number = |name| unit.get(name).and_then(|text| text.parse().ok());
        if unit.has("SupplementaryGroups") {
            return Self::Unlimited;
        }
        let user = unit.get("User");
        // systemd names both after the unit.
        let is_dynamic = unit.is("DynamicUser", "yes") && unit.get("Group") == user;
        match (user, number("UID"), number("GID")) {
            _ if is_dynamic => Self::Other,
            (None | Some("" | "root" | "0"), ..) => Self::Unlimited,
            // They are known while the unit runs.
            (Some(_), Some(user), Some(group)) => Self::Known { user, group },
            (Some(_), ..) => Self::Unlimited,
        }
    }

    /// Whether it has these permissions.
    fn may(&self, permissions: u32, file: &Metadata) -> bool {
        let mode = match self {
            Self::Unlimited => return true,
            Self::Known { user: 0, .. } => return true,
            Self::Known { user, .. } if *user == file.uid() => file.mode() >> 6,
            Self::Known { group, .. } if *group == file.gid() => file.mode() >> 3,
            Self::Known { .. } | Self::Other => file.mode(),
        };
        mode & permissions == permissions
    }
}

/// What the daemon can do with files.
struct FileAccess {
    view: View,
    user: DaemonUser,
}

impl FileAccess {
    /// Why the daemon cannot read this file or list this directory, if it is there and the daemon cannot.
    fn problem(&self, path: &Path) -> Option<String> {
        let mut left: Vec<_> = reversed(path);
        let (mut at, mut links) = (PathBuf::from("/"), 0);
        while let Some(part) = left.pop() {
            if part == Path::new("..") {
                at.pop();
                continue;
            }
            let next = at.join(&part);
            let found = next.symlink_metadata().ok()?;
            if found.is_symlink() {
                links += 1;
                if links > LINKS_MAX {
                    return None;
                }
                if let Some(why) = self.view.hides(&next) {
                    return Some(hidden(path, &next, why));
                }
                left.extend(reversed(&fs::read_link(&next).ok()?));
                continue;
            }
            // Of a directory that is hidden, the daemon sees another one.
            let is_way = found.is_dir() && !left.is_empty() && self.view.hides(&next).is_none();
            if is_way && !self.user.may(ENTER, &found) {
                return Some(unreadable(path, &next, "a+x"));
            }
            at = next;
        }
        if let Some(why) = self.view.hides(&at) {
            return Some(hidden(path, &at, why));
        }
        let found = at.metadata().ok()?;
        let (needed, change) =
            if found.is_dir() { (READ_AND_ENTER, "a+rx") } else { (READ, "a+r") };
        (!self.user.may(needed, &found)).then(|| unreadable(path, &at, change))
    }
}

/// The parts of a path, the first one last. The root is a part that replaces those before it.
fn reversed(path: &Path) -> Vec<PathBuf> {
    let parts = path.components().filter(|part| *part != Component::CurDir);
    parts.map(|part| PathBuf::from(part.as_os_str())).rev().collect()
}

fn hidden(path: &Path, at: &Path, why: &str) -> String {
    let (shown, at) = (path.display(), at.display());
    match shown.to_string() == at.to_string() {
        true => format!("{shown}: {UNIT} hides it from the daemon: {why}"),
        false => format!(
            "{shown}: it leads to {at}, which {UNIT} hides from the daemon: {why}; put the file itself there"
        ),
    }
}

fn unreadable(path: &Path, at: &Path, change: &str) -> String {
    let (shown, at) = (path.display(), at.display());
    format!("{shown}: the user of {UNIT} cannot read it; `chmod {change} {at}` permits it")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn unit(shown: &str) -> Unit {
        Unit::parse(&format!("LoadState=loaded\n{shown}"), None).unwrap()
    }

    fn access(shown: &str) -> FileAccess {
        let unit = unit(shown);
        FileAccess { view: View::of(&unit), user: DaemonUser::of(&unit) }
    }

    #[test]
    fn only_a_user_that_the_unit_defines_is_limited() {
        for name in ["", "plugind"] {
            let dynamic =
                format!("DynamicUser=yes\nUser={name}\nGroup={name}\nSupplementaryGroups=\n");
            assert_eq!(DaemonUser::of(&unit(&dynamic)), DaemonUser::Other);
        }
        let known = DaemonUser::Known { user: 7, group: 8 };
        assert_eq!(DaemonUser::of(&unit("User=a\nUID=7\nGID=8\n")), known);
        for shown in [
            "",
            "User=\n",
            "User=root\nUID=0\nGID=0\n",
            "User=a\nUID=[not set]\nGID=[not set]\n",
            "User=a\nUID=7\nGID=8\nSupplementaryGroups=b\n",
            "DynamicUser=yes\nUser=a\nGroup=b\n",
        ] {
            assert_eq!(DaemonUser::of(&unit(shown)), DaemonUser::Unlimited, "{shown}");
        }
    }

    #[test]
    fn a_file_or_directory_without_permission_is_reported() {
        let root = tempfile::tempdir().unwrap();
        let (directory, file) = (root.path().join("plugins"), root.path().join("plugins/a.wasm"));
        fs::create_dir(&directory).unwrap();
        fs::write(&file, "").unwrap();
        let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
        set(root.path(), 0o755).unwrap();
        let (other, root_user) = (access("DynamicUser=yes\nUser=a\nGroup=a\n"), access(""));
        for (of_directory, of_file, remedy) in [
            (0o755, 0o644, None),
            (0o755, 0o640, Some(format!("`chmod a+r {}`", file.display()))),
            (0o750, 0o644, Some(format!("`chmod a+x {}`", directory.display()))),
        ] {
            set(&directory, of_directory).unwrap();
            set(&file, of_file).unwrap();
            assert_eq!(root_user.problem(&file), None);
            let problem = other.problem(&file);
            match remedy {
                None => assert_eq!(problem, None),
                Some(remedy) => assert!(problem.unwrap().contains(&remedy), "{remedy}"),
            }
        }
        set(&directory, 0o711).unwrap();
        assert!(other.problem(&directory).unwrap().contains("`chmod a+rx "));
        assert_eq!(other.problem(&root.path().join("none")), None);
    }

    #[test]
    fn the_owner_and_the_group_of_a_file_have_their_permissions() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let found = file.as_file().metadata().unwrap();
        let (user, group) = (found.uid(), found.gid());
        let may = |mode, user, group| {
            file.as_file().set_permissions(fs::Permissions::from_mode(mode)).unwrap();
            DaemonUser::Known { user, group }.may(READ, &file.as_file().metadata().unwrap())
        };
        let (other_user, other_group) = (user + 7, group + 7);
        assert!(may(0o040, other_user, group) && !may(0o404, other_user, group));
        assert!(may(0o004, other_user, other_group) && !may(0o440, other_user, other_group));
        assert!(may(0o400, user, other_group));
    }

    #[test]
    fn a_link_is_followed_as_far_as_the_daemon_sees() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        for directory in ["seen", "unseen"] {
            fs::create_dir(path(directory)).unwrap();
            fs::write(path(directory).join("file"), "").unwrap();
        }
        symlink("file", path("seen/near")).unwrap();
        symlink("../unseen/file", path("seen/far")).unwrap();
        symlink(path("seen/file"), path("unseen/back")).unwrap();
        symlink(path("unseen/back"), path("seen/round")).unwrap();
        symlink(path("unseen"), path("seen/directory")).unwrap();
        symlink("circle", path("seen/circle")).unwrap();
        let access =
            access(&format!("RootDirectory=/r\nBindReadOnlyPaths={}\n", path("seen").display()));
        for (name, leads_to) in [
            ("seen/file", None),
            ("seen/near", None),
            ("seen/circle", None),
            ("seen/far", Some("unseen/file")),
            ("seen/round", Some("unseen/back")),
            ("seen/directory/file", Some("unseen/file")),
        ] {
            let problem = access.problem(&path(name));
            let Some(leads_to) = leads_to else {
                assert_eq!(problem, None, "{name}");
                continue;
            };
            let problem = problem.unwrap();
            let part =
                format!("it leads to {}, which plugind.service hides", path(leads_to).display());
            assert!(problem.contains(&part) && problem.contains("RootDirectory=/r"), "{problem}");
        }
    }
}
