//! The memory that the cgroup of this process may use.

use crate::base::quantity::Bytes;
use std::{fs, path::Path};

/// The file system of all cgroups.
const ROOT: &str = "/sys/fs/cgroup";

/// The lowest limit (`memory.high` or `memory.max`) of the cgroup of this process and of its parents; none, if
/// there is no limit, or none that can be seen.
#[must_use]
pub fn memory_limit() -> Option<Bytes> {
    let cgroups = text(Path::new("/proc/self/cgroup"))?;
    limit_below(Path::new(ROOT), &cgroups)
}

/// The same for another cgroup, by its path.
#[must_use]
pub fn limit_of(cgroup: &Path) -> Option<Bytes> {
    limit_below(Path::new(ROOT), &format!("0::{}", cgroup.display()))
}

/// The contents of a kernel file, if it exists.
fn text(path: &Path) -> Option<String> {
    String::from_utf8(fs::read(path).ok()?).ok()
}

fn limit_below(root: &Path, cgroups: &str) -> Option<Bytes> {
    let own = cgroups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let around = Path::new(own).ancestors().filter(|path| !path.as_os_str().is_empty());
    let files = around
        .flat_map(|cgroup| ["memory.high", "memory.max"].map(|file| root.join(cgroup).join(file)));
    // The file of a cgroup without a limit says "max".
    let limits = files.filter_map(|file| text(&file)?.trim().parse().ok());
    limits.min().map(Bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_limit_of_all_cgroups_around_counts() {
        let root = tempfile::tempdir().unwrap();
        let service = root.path().join("system.slice/plugind.service");
        fs::create_dir_all(&service).unwrap();
        let cgroups = "1:name=systemd:/other\n0::/system.slice/plugind.service\n";
        assert_eq!(limit_below(root.path(), cgroups), None);
        fs::write(service.join("memory.max"), "4096000\n").unwrap();
        fs::write(service.join("memory.high"), "max\n").unwrap();
        assert_eq!(limit_below(root.path(), cgroups), Some(Bytes(4_096_000)));
        fs::write(root.path().join("system.slice/memory.high"), "1024000\n").unwrap();
        assert_eq!(limit_below(root.path(), cgroups), Some(Bytes(1_024_000)));
        assert_eq!(limit_below(root.path(), "0::/\n"), None);
    }
}
