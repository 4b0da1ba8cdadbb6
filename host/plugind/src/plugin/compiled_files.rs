//! The compiled files of one plugin in the cache, for a tool that removes them.

use crate::{
    base::{
        directory::{open, remove_file_at},
        file,
        name::PluginName,
    },
    config::SearchPath,
    plugin::{archive, scan::scan, verify::COMPONENT_MAX},
};
pub use plugind_artifact::hex::{hex, parse_digest};
use rustix::{fs::Dir, io::Errno};
use sha2::{Digest, Sha256};
use std::{collections::BTreeSet, io, path::Path};

/// The digests of the components of a plugin: that of its files and those of the versions that are kept below `state`,
/// as far as they can be read. Blocks.
#[must_use]
pub fn components(search_path: &SearchPath, state: &Path, name: &PluginName) -> BTreeSet<[u8; 32]> {
    let found = scan(search_path).map(|scanned| scanned.found).unwrap_or_default();
    let found = found.into_iter().find(|found| found.name == *name);
    let bytes = found.and_then(|found| file::read(&found.component, COMPONENT_MAX).ok());
    let own = bytes.map(|bytes| <[u8; 32]>::from(Sha256::digest(bytes)));
    own.into_iter().chain(archive::components(state, name)).collect()
}

/// Removes the compiled files of these components, for all engines. Processes that have mapped one keep it. Returns the
/// number of files. Blocks.
///
/// # Errors
/// When the cache cannot be read, or a file cannot be removed.
pub fn remove(cache: &Path, components: &BTreeSet<[u8; 32]>) -> io::Result<u64> {
    let opened = match open(cache) {
        Err(Errno::NOENT) => return Ok(0),
        opened => opened?,
    };
    let prefixes: Vec<_> = components.iter().map(|digest| format!("{}-", hex(digest))).collect();
    let mut removed = 0;
    for entry in Dir::read_from(&opened)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy();
        if name.ends_with(".cwasm") && prefixes.iter().any(|prefix| name.starts_with(prefix)) {
            // A directory is not a compiled file, and no other tool makes one here.
            removed += u64::from(remove_file_at(&opened, entry.file_name())?);
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn only_compiled_files_of_the_given_components_are_removed() {
        let cache = tempfile::tempdir().unwrap();
        let [own, other] = [[1; 32], [2; 32]];
        let [own_hex, other_hex] = [own, other].map(|digest| hex(&digest));
        let stays = [format!("{other_hex}-x.cwasm"), format!("{own_hex}-x.tmp")];
        for name in
            [format!("{own_hex}-x.cwasm"), format!("{own_hex}-y.cwasm")].iter().chain(&stays)
        {
            fs::write(cache.path().join(name), "").unwrap();
        }
        let components = BTreeSet::from([own]);
        assert_eq!(remove(cache.path(), &components).unwrap(), 2);
        assert_eq!(remove(cache.path(), &components).unwrap(), 0);
        assert!(stays.iter().all(|name| cache.path().join(name).exists()));
        assert_eq!(remove(&cache.path().join("none"), &components).unwrap(), 0);
    }
}
