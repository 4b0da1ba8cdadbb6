//! Which directories of the machine the daemon sees, by its unit.

use crate::unit::Unit;
use std::path::{Path, PathBuf};

/// The directories that `ProtectHome=` hides.
const HOMES: [&str; 3] = ["/home", "/root", "/run/user"];

/// Where systemd puts the credentials of the unit.
const CREDENTIALS: &str = "/run/credentials/plugind.service";

/// The directories that the daemon can see.
pub(crate) struct View(Vec<Mount>);

/// A path, and the reason that it is hidden; none where the daemon sees the machine's own.
struct Mount {
    at: PathBuf,
    hidden_by: Option<String>,
    /// Nobody but root gets through it, to what may be mounted below.
    closed: bool,
}

impl View {
    /// Returns the directories that a daemon of this unit can see.
    pub(crate) fn of(unit: &Unit) -> Self {
        let mut view = Self(Vec::new());
        for name in ["RootDirectory", "RootImage"] {
            if let Some(root) = unit.get(name).filter(|root| !matches!(*root, "" | "/")) {
                let why = format!("{name}={root} shows only the paths that are bound into it");
                view.hide("/", why);
                // systemd's own mounts, whatever they show.
                ["/dev", "/proc", "/sys"].into_iter().for_each(|at| view.show(at));
            }
        }
        if let Some(home) = unit.get("ProtectHome").filter(|home| matches!(*home, "yes" | "tmpfs"))
        {
            for at in HOMES {
                view.hide(at, format!("ProtectHome={home} hides it"));
                view.close_last_if(home == "yes");
            }
        }
        if unit.has("PrivateTmp") && !unit.is("PrivateTmp", "no") {
            for at in ["/tmp", "/var/tmp"] {
                view.hide(at, "PrivateTmp= replaces it by an empty directory".to_owned());
            }
        }
        for entry in unit.paths("TemporaryFileSystem") {
            let at = entry.split(':').next().unwrap_or_default();
            view.hide(at, format!("TemporaryFileSystem={at} hides it"));
        }
        // systemd shows the service its own directories, wherever else the root is.
        for own in unit.get("StateDirectory").unwrap_or_default().split_whitespace() {
            view.show(&format!("/var/lib/{own}"));
        }
        view.show(CREDENTIALS);
        // Of several mounts at one place, the last one counts.
        for entry in ["BindPaths", "BindReadOnlyPaths"].iter().flat_map(|name| unit.paths(name)) {
            let mut parts = entry.split(':');
            let from = parts.next().unwrap_or_default();
            view.show(parts.next().unwrap_or(from));
        }
        for at in unit.paths("InaccessiblePaths") {
            let at = at.trim_start_matches(['-', '+']);
            view.hide(at, format!("InaccessiblePaths={at} hides it"));
            view.close_last_if(true);
        }
        view
    }

    fn hide(&mut self, at: &str, why: String) {
        self.0.push(Mount { at: at.into(), hidden_by: Some(why), closed: false });
    }

    fn close_last_if(&mut self, closed: bool) {
        if let Some(last) = self.0.last_mut() {
            last.closed = closed;
        }
    }

    fn show(&mut self, at: &str) {
        self.0.push(Mount {
            at: at.trim_start_matches(['-', '+']).into(),
            hidden_by: None,
            closed: false,
        });
    }

    /// Why the daemon does not see what the machine has under this path, if it does not.
    pub(crate) fn hides(&self, path: &Path) -> Option<&str> {
        let above = || self.0.iter().filter(|mount| path.starts_with(&mount.at));
        let closed = above().find(|mount| mount.closed);
        let nearest = || above().max_by_key(|mount| mount.at.components().count());
        closed.or_else(nearest)?.hidden_by.as_deref()
    }
}

/// Whether this is below a home directory, into which only `ProtectHome=tmpfs` allows bind mounts.
pub(crate) fn is_home(path: &Path) -> bool {
    HOMES.iter().any(|home| path.starts_with(home))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hides(shown: &str, path: &str) -> Option<String> {
        let unit = Unit::parse(&format!("LoadState=loaded\n{shown}"), None).unwrap();
        View::of(&unit).hides(Path::new(path)).map(str::to_owned)
    }

    #[test]
    fn the_state_and_the_credentials_of_the_unit_are_seen() {
        let shown = "RootDirectory=/r\nStateDirectory=plugind\n";
        assert_eq!(hides(shown, "/var/lib/plugind/tls/site.crt"), None);
        assert_eq!(hides(shown, "/run/credentials/plugind.service/site.key"), None);
        assert!(hides(shown, "/var/lib/other").is_some());
    }

    #[test]
    fn a_hidden_path_is_reported_with_the_line_that_hides_it() {
        for (shown, path, line) in [
            ("RootDirectory=/r", "/usr/share/zoneinfo", "RootDirectory=/r"),
            (
                "RootDirectory=/r\nBindReadOnlyPaths=/usr/share/zoneinfo:/usr/share/zoneinfo:rbind",
                "/usr/share",
                "RootDirectory=/r",
            ),
            ("RootImage=/r.raw", "/srv", "RootImage=/r.raw"),
            ("ProtectHome=yes", "/home/me/public", "ProtectHome=yes"),
            ("ProtectHome=tmpfs", "/root", "ProtectHome=tmpfs"),
            (
                "ProtectHome=yes\nBindReadOnlyPaths=/home/me/public",
                "/home/me/public",
                "ProtectHome=yes",
            ),
            ("PrivateTmp=yes", "/var/tmp/x", "PrivateTmp="),
            ("PrivateTmp=disconnected", "/tmp", "PrivateTmp="),
            ("TemporaryFileSystem=/var:ro,mode=0700 /opt", "/opt/x", "TemporaryFileSystem=/opt"),
            ("InaccessiblePaths=-/srv", "/srv/www", "InaccessiblePaths=/srv"),
            ("InaccessiblePaths=/srv\nBindPaths=/srv", "/srv", "InaccessiblePaths=/srv"),
        ] {
            let why = hides(shown, path);
            assert!(
                why.as_ref().is_some_and(|why| why.starts_with(line)),
                "{shown} {path}: {why:?}"
            );
        }
    }

    #[test]
    fn a_visible_path_is_not_reported() {
        for (shown, path) in [
            ("", "/home"),
            ("RootDirectory=\nRootImage=", "/srv"),
            ("RootDirectory=/", "/srv"),
            ("RootDirectory=/r\nBindPaths=-/srv:/srv:rbind", "/srv/www"),
            ("RootDirectory=/r\nBindReadOnlyPaths=/data/x:/srv", "/srv"),
            ("ProtectHome=read-only", "/home/me"),
            ("ProtectHome=strange", "/home/me"),
            ("ProtectHome=tmpfs\nBindReadOnlyPaths=/home/me/public", "/home/me/public"),
            ("ProtectHome=yes", "/homes"),
            ("PrivateTmp=no", "/tmp"),
            ("PrivateTmp=yes\nBindPaths=/tmp/x", "/tmp/x/y"),
        ] {
            assert_eq!(hides(shown, path), None, "{shown} {path}");
        }
    }
}
