//! Versions are kept, found again, pinned and removed.

use super::*;
use crate::plugin::{
    archive::files::{INCOMPLETE, component, drop_ins},
    credentials::CredentialsSeen,
    inspection::Inspection,
    manifest::Manifest,
};
use sha2::{Digest, Sha256};
use std::{fs, os::unix::fs::symlink};

struct Kept {
    root: tempfile::TempDir,
}

impl Kept {
    fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap() }
    }

    fn open(&self) -> Archive {
        Archive::open(&self.root.path().join("state")).unwrap()
    }

    /// A version of a plugin with these bytes and this manifest.
    fn release(&self, name: &str, bytes: &[u8], text: &str) -> Release {
        let path = self.root.path().join(format!("{name}.wasm"));
        fs::write(&path, bytes).unwrap();
        Release {
            name: name.parse().unwrap(),
            path,
            digest: Sha256::digest(bytes).into(),
            manifest: Manifest::default(),
            texts: vec![text.to_owned()],
            inspection: Inspection::default(),
            credentials: CredentialsSeen::default(),
        }
    }

    fn files(&self) -> usize {
        entries(&self.root.path().join("state/.versions/a")).unwrap().len()
    }
}

/// The smallest component there is.
const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

fn last(archive: &Archive, name: &str) -> Option<ReleaseDigests> {
    let last_good = archive.last_good();
    last_good.get(&name.parse::<PluginName>().unwrap()).map(|version| version.digests)
}

#[test]
fn the_version_that_served_last_is_found_again() {
    let kept = Kept::new();
    let mut archive = kept.open();
    assert!(archive.last_good().is_empty());
    let [one, two] = ["one", "two"].map(|text| kept.release("a", b"bytes", text));
    for release in [&one, &two, &one, &one] {
        archive.keep(release).unwrap();
        assert_eq!(last(&archive, "a"), Some(release.digests()));
        assert_eq!(last(&kept.open(), "a"), Some(release.digests()));
    }
    assert_eq!(kept.files(), 2);
}

#[test]
fn older_versions_are_removed() {
    let kept = Kept::new();
    let mut archive = kept.open();
    for text in ["1", "2", "3", "4"] {
        archive.keep(&kept.release("a", b"bytes", text)).unwrap();
    }
    assert_eq!(kept.files(), VERSIONS_MAX);
    archive.remove(&"a".parse().unwrap());
    assert_eq!((kept.files(), kept.open().versions.len()), (0, 0));
}

#[test]
fn a_pinned_version_is_known_again_until_it_is_unpinned_or_removed() {
    let kept = Kept::new();
    let (mut archive, name) = (kept.open(), "a".parse::<PluginName>().unwrap());
    let [one, two] = ["one", "two"].map(|text| kept.release("a", b"bytes", text));
    archive.pin(&one).unwrap();
    let pinned = |archive: &Archive| {
        let version = archive.pinned().remove(&name)?;
        Some(version.map(|version| version.digests))
    };
    for archive in [&archive, &kept.open()] {
        assert_eq!(archive.pins().get(&name), Some(&one.digests()));
        assert_eq!(pinned(archive), Some(Some(one.digests())));
    }
    let stored = archive.last_good().remove(&name).unwrap();
    archive.discard(&stored);
    assert_eq!((pinned(&archive), pinned(&kept.open())), (Some(None), Some(None)));
    archive.unpin(&name).unwrap();
    archive.unpin(&name).unwrap();
    assert_eq!((pinned(&archive), pinned(&kept.open())), (None, None));
    archive.pin(&two).unwrap();
    archive.remove(&name);
    assert_eq!((pinned(&archive), pinned(&kept.open())), (None, None));
}

#[test]
fn a_pin_that_cannot_be_read_is_not_removed() {
    let kept = Kept::new();
    kept.open().pin(&kept.release("a", b"bytes", "")).unwrap();
    let pin = kept.root.path().join("state/.versions/a/pinned");
    let text = fs::read(&pin).unwrap();
    fs::write(&pin, "damaged").unwrap();
    assert!(kept.open().pins().is_empty());
    fs::write(&pin, text).unwrap();
    assert_eq!(kept.open().pins().len(), 1);
}

#[test]
fn the_versions_of_a_plugin_whose_pin_cannot_be_read_are_not_removed_for_newer_ones() {
    let kept = Kept::new();
    kept.open().pin(&kept.release("a", b"pinned", "")).unwrap();
    let pin = kept.root.path().join("state/.versions/a/pinned");
    let text = fs::read(&pin).unwrap();
    fs::write(&pin, "damaged").unwrap();
    let mut archive = Archive { size_max: 25, ..kept.open() };
    for bytes in [&[2; 6], &[3; 6]] {
        archive.keep(&kept.release("a", bytes, "")).unwrap();
    }
    for name in ["a", "b"] {
        let large = archive.keep(&kept.release(name, &[4; 20], ""));
        assert!(matches!(large, Err(ArchiveError::TooLarge { .. })), "{large:?}");
    }
    fs::write(&pin, text).unwrap();
    let pinned = kept.open().pinned().into_values().next().unwrap();
    assert!(pinned.is_some(), "it is kept as long as it is pinned");
    assert_eq!(kept.files(), 4);
    // The number is limited again when the pin has ended.
    fs::write(&pin, "damaged").unwrap();
    let mut archive = kept.open();
    archive.unpin(&"a".parse().unwrap()).unwrap();
    archive.keep(&kept.release("a", b"newest", "")).unwrap();
    assert_eq!(kept.files(), VERSIONS_MAX);
}

#[test]
fn all_versions_together_have_a_maximum_size() {
    let kept = Kept::new();
    let mut archive = Archive { size_max: 25, ..kept.open() };
    for (name, bytes) in [("a", [1; 10]), ("a", [2; 10]), ("b", [3; 10])] {
        archive.keep(&kept.release(name, &bytes, "")).unwrap();
    }
    assert_eq!(kept.files(), 1, "the older version of a makes room");
    let large = kept.release("c", &[4; 10], "");
    assert!(matches!(archive.keep(&large), Err(ArchiveError::TooLarge { size: 10, max: 25 })));
    assert!(last(&archive, "a").is_some() && last(&archive, "b").is_some());
    archive.retain(&["c".parse().unwrap()].into());
    archive.keep(&large).unwrap();
    assert_eq!(kept.open().versions.len(), 1);
}

#[test]
fn a_version_that_cannot_be_written_costs_no_other_one() {
    let kept = Kept::new();
    let mut archive = Archive { size_max: 25, ..kept.open() };
    for bytes in [[1; 10], [2; 10]] {
        archive.keep(&kept.release("a", &bytes, "")).unwrap();
    }
    fs::write(kept.root.path().join("state/.versions/b"), "in its place").unwrap();
    let kept_not = archive.keep(&kept.release("b", &[3; 10], ""));
    assert!(matches!(kept_not, Err(ArchiveError::Write { .. })), "{kept_not:?}");
    assert_eq!(kept.files(), 2);
}

#[test]
fn a_component_that_was_replaced_meanwhile_is_not_kept() {
    let kept = Kept::new();
    let release = kept.release("a", b"verified", "");
    fs::write(&release.path, b"another").unwrap();
    let mut archive = kept.open();
    assert!(matches!(archive.keep(&release), Err(ArchiveError::Replaced(_))));
    assert_eq!(last(&archive, "a"), None);
}

#[test]
fn a_version_that_was_changed_or_is_incomplete_is_not_used() {
    let kept = Kept::new();
    kept.open().keep(&kept.release("a", EMPTY, "")).unwrap();
    let versions = kept.root.path().join("state/.versions/a");
    fs::create_dir_all(versions.join(INCOMPLETE)).unwrap();
    fs::write(versions.join("file"), "").unwrap();
    let version = kept.open().last_good().into_values().next().unwrap();
    assert_eq!(kept.files(), 1, "what is incomplete is removed");
    let text = drop_ins(&version.directory, &version.name).join("0000.toml");
    fs::write(&text, "required = true\n").unwrap();
    assert!(matches!(version.load(), Err(ArchiveError::Changed(_))));
    let component = component(&version.directory, &version.name);
    fs::write(&component, "no component").unwrap();
    assert!(version.load().is_err_and(|error| error.is_damage()));
    fs::remove_file(&component).unwrap();
    assert!(version.load().is_err_and(|error| error.is_damage()), "it cannot come back");
}

#[test]
fn a_version_that_this_daemon_refuses_or_cannot_read_now_is_not_damaged() {
    let kept = Kept::new();
    let texts = ["unknown = 1\n", "required = \n", "\u{feff}"];
    for (bytes, text) in texts.map(|text| (EMPTY, text)).into_iter().chain([(&b"none"[..], "\n")]) {
        let mut archive = kept.open();
        let release = kept.release("a", bytes, text);
        archive.keep(&release).unwrap();
        let version = archive.last_good().into_values().next().unwrap();
        assert_eq!(version.digests, release.digests());
        let error = version.load().unwrap_err();
        assert!(matches!(error, ArchiveError::Rejected(_)) && !error.is_damage(), "{error}");
    }
    kept.open().keep(&kept.release("a", EMPTY, "")).unwrap();
    let version = kept.open().last_good().into_values().next().unwrap();
    let component = component(&version.directory, &version.name);
    fs::remove_file(&component).unwrap();
    // Not even root can open it.
    symlink("a.wasm", &component).unwrap();
    let error = version.load().unwrap_err();
    assert!(matches!(error, ArchiveError::Read(_)) && !error.is_damage(), "{error}");
}

#[test]
fn a_damaged_version_is_removed_and_the_one_before_it_is_the_last_good_one() {
    let kept = Kept::new();
    let mut archive = kept.open();
    let [one, two] = ["1", "2"].map(|text| kept.release("a", EMPTY, text));
    for release in [&one, &two] {
        archive.keep(release).unwrap();
    }
    let damaged = archive.last_good().into_values().next().unwrap();
    archive.discard(&damaged);
    for archive in [&archive, &kept.open()] {
        assert_eq!(last(archive, "a"), Some(one.digests()));
    }
    archive.keep(&two).unwrap();
    assert_eq!(last(&kept.open(), "a"), Some(two.digests()));
}

#[test]
fn without_a_daemon_a_pin_is_removed_and_no_link_is_followed() {
    let root = tempfile::tempdir().unwrap();
    let [state, linked, partly] = ["state", "linked", "partly"].map(|name| root.path().join(name));
    let plugin = "a".parse().unwrap();
    assert!(!unpin(&state, &plugin).unwrap());
    let pinned = state.join(DIRECTORY).join("a");
    fs::create_dir_all(&pinned).unwrap();
    let digests = ReleaseDigests { component: [1; 32], configuration: [2; 32] };
    pins::write(&pinned, &digests).unwrap();

    fs::create_dir(&linked).unwrap();
    symlink(state.join(DIRECTORY), linked.join(DIRECTORY)).unwrap();
    fs::create_dir_all(partly.join(DIRECTORY)).unwrap();
    symlink(&pinned, partly.join(DIRECTORY).join("a")).unwrap();
    for state in [&linked, &partly] {
        let error = unpin(state, &plugin).unwrap_err().to_string();
        assert!(
            error.contains(".versions/a and the directory above it must be directories"),
            "{error}"
        );
    }
    assert!(is_pinned(&state, &plugin));
    let file = root.path().join("file");
    fs::write(&file, "").unwrap();
    let error = unpin(&file, &plugin).unwrap_err().to_string();
    assert_eq!(error, format!("{} must be a directory", file.display()));

    let elsewhere = root.path().join("elsewhere");
    fs::rename(pinned.join(PINNED), &elsewhere).unwrap();
    symlink(&elsewhere, pinned.join(PINNED)).unwrap();
    assert!(unpin(&state, &plugin).unwrap());
    assert!(elsewhere.exists(), "only the link is removed");
    assert!(!unpin(&state, &plugin).unwrap());
}
