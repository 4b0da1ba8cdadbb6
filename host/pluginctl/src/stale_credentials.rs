//! Credentials of the daemon's unit that changed after systemd had passed them to the daemon.

use crate::{
    systemctl,
    unit::{CredentialSource, UNIT},
};
use plugind::base::file;
use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// The credentials that systemd has passed to services, below the root.
const PASSED: &str = "run/credentials";
/// The directories in which systemd looks for credentials without a path, below the root.
const STORES: [&str; 6] = [
    "etc/credstore",
    "etc/credstore.encrypted",
    "run/credstore",
    "run/credstore.encrypted",
    "usr/lib/credstore",
    "usr/lib/credstore.encrypted",
];
/// The largest credential that systemd passes on, in bytes.
const SIZE_MAX: u64 = 1 << 20;

/// The message about credentials that the daemon of this machine cannot see, if there are any and this user may know.
pub(crate) fn note() -> Option<String> {
    let root = Path::new("/");
    // Only root may list them.
    fs::read_dir(root.join(PASSED).join(UNIT)).ok()?;
    let unit = systemctl::unit().ok().flatten()?;
    let changed = changed(root, &unit.credential_sources());
    (!changed.is_empty()).then(|| {
        format!(
            "warning: {UNIT} has older credentials than the machine: {}; `systemctl restart {UNIT}` passes them on, \
             and so does `systemctl reload {UNIT}` with systemd 260 and later",
            changed.into_iter().collect::<Vec<_>>().join(", ")
        )
    })
}

/// The names of the credentials whose files were changed after they were passed on.
fn changed(root: &Path, sources: &[CredentialSource]) -> BTreeSet<String> {
    let passed = root.join(PASSED).join(UNIT);
    let files = sources.iter().flat_map(|source| match source {
        CredentialSource::File { name, path } => {
            let below = path.strip_prefix("/").unwrap_or(path);
            vec![(name.clone(), root.join(below))]
        }
        CredentialSource::Store { glob } => stored(root, glob),
    });
    let changed = files.filter(|(name, path)| is_changed(&passed, name, path));
    changed.map(|(name, _)| name).collect()
}

/// The credentials in the stores whose names match `glob`, of which only the end may be a `*`.
fn stored(root: &Path, glob: &str) -> Vec<(String, PathBuf)> {
    let entries = STORES.iter().filter_map(|store| fs::read_dir(root.join(store)).ok());
    let names = entries.flatten().filter_map(|entry| {
        let entry = entry.ok()?;
        Some((entry.file_name().into_string().ok()?, entry.path()))
    });
    let matches = |(name, _): &(String, PathBuf)| match glob.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == glob,
    };
    names.filter(matches).collect()
}

/// Whether a file was changed after it was passed on, and differs. One that is encrypted always differs.
fn is_changed(passed: &Path, name: &str, path: &Path) -> bool {
    let Ok((view, source)) = passed.metadata().and_then(|view| Ok((view, path.metadata()?))) else {
        return false;
    };
    if (source.ctime(), source.ctime_nsec()) <= (view.mtime(), view.mtime_nsec()) {
        return false;
    }
    let Ok(now) = file::read(path, SIZE_MAX) else { return false };
    file::read(&passed.join(name), SIZE_MAX).map_or(true, |before| before != now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    #[test]
    fn a_credential_that_was_changed_after_it_was_passed_on_is_named() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let store = |name: &str| format!("etc/credstore/{name}");
        for name in ["plugind.a.same", "plugind.a.changed", "other"] {
            write(&format!("{PASSED}/{UNIT}/{name}"), "old");
        }
        let passed = fs::File::open(root.path().join(PASSED).join(UNIT)).unwrap();
        for (name, text) in [
            ("plugind.a.same", "old"),
            ("plugind.a.changed", "new"),
            ("plugind.a.added", "new"),
            ("other", "new"),
        ] {
            write(&store(name), text);
        }
        write("etc/file", "new");
        let file = |name: &str, path: &str| CredentialSource::File {
            name: name.to_owned(),
            path: PathBuf::from(path),
        };
        let sources = [
            CredentialSource::Store { glob: "plugind.*".to_owned() },
            file("plugind.a.file", "/etc/file"),
            file("plugind.a.none", "/etc/none"),
        ];
        let found = |offset: Duration, is_later: bool| {
            let now = SystemTime::now();
            let time = if is_later { now + offset } else { now - offset };
            passed.set_modified(time).unwrap();
            Vec::from_iter(changed(root.path(), &sources))
        };
        let hour = Duration::from_secs(3600);
        assert_eq!(found(hour, false), ["plugind.a.added", "plugind.a.changed", "plugind.a.file"]);
        assert_eq!(found(hour, true), [] as [&str; 0]);
    }
}
