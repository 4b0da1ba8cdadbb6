//! The components that this program found valid before, so that a start does not validate them again.
//!
//! The result depends on the bytes of a component and on this program alone. So a file in the state directory names the
//! program, by its file, and the digests of the components. Where it cannot be used, all of them are validated.

use crate::base::file::{self, FileVersion};
use plugind_artifact::hex::{hex, parse_digest};
use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};
use tracing::debug;

/// Its name in the state directory. No plugin has such a name.
const NAME: &str = ".validated";
/// Only the daemon's user may read the directory.
const PRIVATE: u32 = 0o700;
/// The program that runs.
const PROGRAM: &str = "/proc/self/exe";
/// The largest file that is read: room for more plugins than a daemon can have.
const FILE_MAX: u64 = 4 << 20;

/// The digests of components that are valid. By default none is known, and none is kept.
#[derive(Debug, Default)]
pub struct ValidatedComponents {
    /// Where they are kept, and for which program.
    file: Option<(PathBuf, String)>,
    known: BTreeSet<[u8; 32]>,
}

impl ValidatedComponents {
    /// Those that this program kept in a state directory, which need not exist. Blocks.
    #[must_use]
    pub fn open(state: &Path) -> Self {
        // Without its version, this program cannot be distinguished from another one.
        let program = FileVersion::of(Path::new(PROGRAM)).map(|version| format!("{version:?}"));
        program.map(|program| Self::of_program(state, program)).unwrap_or_default()
    }

    fn of_program(state: &Path, program: String) -> Self {
        let path = state.join(NAME);
        let text = file::read(&path, FILE_MAX).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let known = text.and_then(|text| parse(&text, &program)).unwrap_or_default();
        Self { file: Some((path, program)), known }
    }

    /// Whether the component with this digest is known to be valid.
    #[must_use]
    pub fn contains(&self, digest: &[u8; 32]) -> bool {
        self.known.contains(digest)
    }

    /// Keeps these digests of valid components in the place of those that are known, if one of them is new. Blocks.
    pub fn keep(&mut self, valid: BTreeSet<[u8; 32]>) {
        if valid.is_subset(&self.known) {
            return;
        }
        self.known = valid;
        if let Some((path, program)) = &self.file
            && let Err(error) = write(path, &to_text(program, &self.known))
        {
            // It saves time at the next start, and nothing else depends on it.
            debug!(path = %path.display(), %error, "digests of valid components not kept");
        }
    }
}

fn to_text(program: &str, digests: &BTreeSet<[u8; 32]>) -> String {
    let lines: String = digests.iter().map(|digest| format!("{}\n", hex(digest))).collect();
    format!("{program}\n{lines}end\n")
}

/// None if another program wrote it, or not to its end.
fn parse(text: &str, program: &str) -> Option<BTreeSet<[u8; 32]>> {
    let (first, rest) = text.split_once('\n')?;
    let digests = rest.strip_suffix("end\n").filter(|_| first == program)?;
    digests.lines().map(parse_digest).collect()
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    if let Some(directory) = path.parent() {
        DirBuilder::new().recursive(true).mode(PRIVATE).create(directory)?;
    }
    fs::write(&new, text)?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_known_again_to_the_program_that_kept_them() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("new");
        let open = |program: &str| ValidatedComponents::of_program(&state, program.to_owned());
        let mut known = open("one");
        known.keep(BTreeSet::from([[1; 32], [2; 32]]));
        assert!(known.contains(&[1; 32]) && !known.contains(&[3; 32]));
        let mut again = open("one");
        assert!(again.contains(&[1; 32]) && again.contains(&[2; 32]) && !again.contains(&[3; 32]));
        again.keep(BTreeSet::from([[2; 32], [3; 32]]));
        let last = open("one");
        assert!(!last.contains(&[1; 32]), "that component is gone");
        assert!(last.contains(&[2; 32]) && last.contains(&[3; 32]));
        assert!(!open("another").contains(&[2; 32]));
    }

    #[test]
    fn an_incomplete_file_is_ignored() {
        let text = to_text("one", &BTreeSet::from([[1; 32], [2; 32]]));
        assert_eq!(parse(&text, "one").map(|digests| digests.len()), Some(2));
        for length in 0..text.len() {
            assert_eq!(parse(&text[..length], "one"), None, "{length}");
        }
        assert_eq!(parse(&text.replacen("01", "0x", 1), "one"), None);
    }

    #[test]
    fn without_a_state_directory_nothing_is_kept() {
        let mut known = ValidatedComponents::default();
        known.keep(BTreeSet::from([[1; 32]]));
        assert!(known.contains(&[1; 32]), "it is known as long as the daemon runs");
    }
}
