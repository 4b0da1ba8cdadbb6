//! Files of the configuration that the daemon cannot read, because of the user or the view of its unit.

use crate::{
    check::acl::Acl,
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
    path::{Component, Path, PathBuf},
    process::{Command, Stdio},
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
        let access =
            FileAccess { view: View::of(unit), user: DaemonUser::of(unit, look_up, groups_of) };
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
    /// It is root, or nothing is known.
    Unlimited,
    Limited {
        /// None: systemd will choose one that owns no file, and that no ACL names.
        user: Option<u32>,
        groups: Vec<u32>,
    },
}

impl DaemonUser {
    /// `look_up` returns the number in this field of an entry of a database of getent(1), and `groups_of` the groups of
    /// which a user is a member.
    fn of(
        unit: &Unit,
        look_up: impl Fn(&str, &str, usize) -> Option<u32>,
        groups_of: impl Fn(&str) -> Vec<u32>,
    ) -> Self {
        let number = |name| unit.get(name).and_then(|text| text.parse::<u32>().ok());
        // While the unit runs, systemd knows the numbers.
        let (uid, gid) = (number("UID"), number("GID"));
        let (user, group) = (unit.get("User"), unit.get("Group").filter(|group| !group.is_empty()));
        let names = unit.get("SupplementaryGroups").unwrap_or_default().split_whitespace();
        let supplementary = names.filter_map(|name| look_up("group", name, 2));
        let own = user.filter(|user| !user.is_empty()).map(groups_of).unwrap_or_default();
        let supplementary: Vec<_> = supplementary.chain(own).collect();
        // systemd names both after the unit.
        let is_dynamic = unit.is("DynamicUser", "yes") && unit.get("Group") == user;
        let (user, group) = match user {
            // One that exists already is used.
            name if is_dynamic => (
                uid.or_else(|| look_up("passwd", name?, 2)),
                gid.or_else(|| look_up("group", name?, 2)),
            ),
            None | Some("" | "root" | "0") => return Self::Unlimited,
            Some(name) => {
                let user = uid.or_else(|| look_up("passwd", name, 2));
                let own = || look_up("passwd", name, 3);
                let group = group.map_or_else(own, |group| look_up("group", group, 2));
                (user, gid.or(group))
            }
        };
        match user {
            Some(0) => Self::Unlimited,
            None if !is_dynamic => Self::Unlimited,
            user => {
                Self::Limited { user, groups: group.into_iter().chain(supplementary).collect() }
            }
        }
    }

    /// Whether it has these permissions for a file.
    fn may(&self, permissions: u32, path: &Path, file: &Metadata) -> bool {
        let Self::Limited { user, groups } = self else { return true };
        let acl = Acl::of(path, file);
        acl.permissions(*user, groups).iter().any(|granted| granted & permissions == permissions)
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
            if is_way && !self.user.may(ENTER, &next, &found) {
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
        (!self.user.may(needed, &at, &found)).then(|| unreadable(path, &at, change))
    }
}

/// A number of an entry in a database of getent(1), by the name or the number of the entry.
fn look_up(database: &str, key: &str, field: usize) -> Option<u32> {
    let asked = Command::new("getent").args([database, key]).stdin(Stdio::null()).output().ok()?;
    let entry = String::from_utf8(asked.stdout).ok()?;
    entry.trim_end().split(':').nth(field)?.parse().ok()
}

/// The groups of which a user is a member. systemd adds them to those of the unit.
fn groups_of(user: &str) -> Vec<u32> {
    let asked = Command::new("getent").args(["initgroups", user]).stdin(Stdio::null()).output();
    let entry = asked.ok().and_then(|asked| String::from_utf8(asked.stdout).ok());
    let entry = entry.unwrap_or_default();
    // The first word is the name of the user.
    entry.split_whitespace().skip(1).filter_map(|group| group.parse().ok()).collect()
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
            "{shown}: it leads to {at}, which {UNIT} hides from the daemon: {why}; put the file itself in place of \
             the link"
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
        FileAccess { view: View::of(&unit), user: user(shown) }
    }

    /// The user of such a unit on a machine with the users `a` and `member`, the groups `a` and `b`, and a group of which
    /// `member` is a member.
    fn user(shown: &str) -> DaemonUser {
        let look_up = |database: &str, key: &str, field| match (database, key, field) {
            ("passwd", "a" | "member", 2) => Some(7),
            ("passwd", "a" | "member", 3) | ("group", "a", 2) => Some(8),
            ("group", "b", 2) => Some(9),
            _ => None,
        };
        let groups_of = |user: &str| if user == "member" { vec![10] } else { Vec::new() };
        DaemonUser::of(&unit(shown), look_up, groups_of)
    }

    #[test]
    fn the_user_of_the_daemon_is_the_one_that_its_unit_defines() {
        let limited = |user, groups: &[u32]| DaemonUser::Limited { user, groups: groups.to_vec() };
        for (shown, expected) in [
            ("", DaemonUser::Unlimited),
            ("User=\n", DaemonUser::Unlimited),
            ("User=root\nUID=0\nGID=0\n", DaemonUser::Unlimited),
            ("User=unknown\n", DaemonUser::Unlimited),
            ("DynamicUser=yes\nUser=\nGroup=\n", limited(None, &[])),
            ("DynamicUser=yes\nUser=p\nGroup=p\nUID=[not set]\n", limited(None, &[])),
            ("DynamicUser=yes\nUser=p\nGroup=p\nUID=5\nGID=6\n", limited(Some(5), &[6])),
            ("DynamicUser=yes\nUser=a\nGroup=a\n", limited(Some(7), &[8])),
            ("DynamicUser=yes\nSupplementaryGroups=b unknown\n", limited(None, &[9])),
            ("User=a\nUID=[not set]\nGID=[not set]\n", limited(Some(7), &[8])),
            ("User=a\nGroup=b\n", limited(Some(7), &[9])),
            ("User=a\nUID=1\nGID=2\nSupplementaryGroups=b\n", limited(Some(1), &[2, 9])),
            ("User=member\nSupplementaryGroups=b\n", limited(Some(7), &[8, 9, 10])),
        ] {
            assert_eq!(user(shown), expected, "{shown}");
        }
        assert_eq!(look_up("passwd", "root", 3), Some(0));
        assert_eq!(look_up("passwd", "no such user", 2), None);
        assert_eq!(groups_of("no such user"), [0; 0]);
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
