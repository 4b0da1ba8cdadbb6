//! Gives made-up manifests, settings, components and trees to the sources of the daemon that read such things.
//!
//! `$TARGET` selects one: `manifest`, `component` or `tree`. No input causes a panic, and each mistake is reported on
//! one line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plugind::{
    base::limits::ComponentLimits,
    config::{self, Document, SearchPath},
    plugin::{inspection::Inspection, manifest::Manifest, scan::scan, verify::verify},
};
use std::{env, fs, os::unix::fs::symlink, path::Path, sync::LazyLock};

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| match env::var("TARGET").as_deref() {
    Ok("manifest") => manifest,
    Ok("component") => component,
    Ok("tree") => tree,
    other => panic!("$TARGET is manifest, component or tree, not {other:?}"),
});

fuzz_target!(|data: &[u8]| TARGET(data));

fn assert_one_line(reported: &str) {
    assert!(!reported.is_empty() && !reported.contains(char::is_control), "{reported:?}");
}

/// Files, separated by zeros, that are merged into one manifest, and into settings.
fn manifest(data: &[u8]) {
    let mut document = Document::default();
    for (nth, bytes) in data.split(|byte| *byte == 0).enumerate() {
        if let Err(complaint) =
            document.add_bytes(Path::new(&format!("{nth}.toml")), bytes.to_vec())
        {
            return assert_one_line(&complaint.to_string());
        }
    }
    match Manifest::parse(&document) {
        Ok(manifest) => {
            assert_eq!(manifest.required, Manifest::is_required(&document));
            assert_eq!(Manifest::parse(&document).as_ref(), Ok(&manifest));
            document.settings().expect("what is a manifest is TOML");
        }
        Err(complaints) => {
            assert!(!complaints.is_empty());
            complaints.iter().for_each(|complaint| assert_one_line(&complaint.to_string()));
        }
    }
    let complaints = config::settings::Settings::parse(&document).err();
    complaints.iter().flatten().for_each(|complaint| assert_one_line(&complaint.to_string()));
}

/// A component, in bytes or as text.
fn component(data: &[u8]) {
    if let Err(error) = Inspection::of(data) {
        assert!(!error.to_string().is_empty());
    }
    if let Ok(bytes) = wat::parse_bytes(data) {
        Inspection::of(&bytes).ok();
    }
}

/// Files below `etc`, `run` or `usr/lib`, separated by zeros: each a line with its path and then its contents, or a
/// link to /dev/null where that line ends with `@`.
fn tree(data: &[u8]) {
    let root = tempfile::tempdir().expect("there is room for temporary files");
    for file in data.split(|byte| *byte == 0).take(20) {
        let end = file.iter().position(|byte| *byte == b'\n').unwrap_or(file.len());
        let Ok(line) = std::str::from_utf8(&file[..end]) else { continue };
        let (line, is_mask) = line.strip_suffix('@').map_or((line, false), |line| (line, true));
        let plain =
            |part: &str| !part.is_empty() && part != "." && part != ".." && part.len() < 100;
        if line.split('/').count() > 6 || !line.split('/').all(plain) {
            continue;
        }
        let path = root.path().join(line);
        // A path that conflicts with another is left out.
        if path.parent().is_some_and(|parent| fs::create_dir_all(parent).is_ok()) && !path.exists()
        {
            match is_mask {
                true => symlink("/dev/null", path).ok(),
                false => fs::write(path, file.get(end + 1..).unwrap_or_default()).ok(),
            };
        }
    }
    let search_path = SearchPath::below(root.path());
    config::settings::read(&search_path).ok();
    let Ok(scanned) = scan(&search_path) else { return };
    assert!(scanned.found.is_sorted_by(|one, other| one.name < other.name));
    for found in scanned.found {
        let name = found.name.clone();
        assert!(scanned.masked.iter().all(|masked| masked.name != name));
        match verify(found, &ComponentLimits::DEFAULT) {
            Ok(verified) => assert_eq!(*verified.name(), name),
            Err(rejected) => assert!(!rejected.lines().is_empty()),
        }
    }
}
