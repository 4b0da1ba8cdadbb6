//! `wasi:filesystem`: the directories that a plugin sees, and the one that is its own.

use crate::{plugin::grants::state::STATE, world::state_limit::StateLimit};
use std::{
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};
use wasmtime_wasi::{FsPerms, WasiCtx, filesystem::WasiFilesystemCtx};

/// Only the user of the daemon can read the state of plugins.
const PRIVATE: u32 = 0o700;

/// The directories that a generation's instances see. Each was opened once, and stays the same if its path changes.
#[derive(Clone, Default)]
pub struct Shared {
    context: WasiFilesystemCtx,
    /// The limit of the state, if it has one.
    state_limit: Option<StateLimit>,
}

/// A granted directory that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the directory, and what the system says of it")]
pub enum FilesError {
    /// One of `read`.
    #[error(
        "was granted the directory {}, which cannot be read; make it readable for the daemon, or take it out of read \
         below [grants]", path.display()
    )]
    Read { path: PathBuf, source: io::Error },
    /// The one of its own.
    #[error(
        "was granted a state, and its directory {} cannot be opened; the daemon must be able to create it and \
         write to it",
        path.display()
    )]
    State { path: PathBuf, source: io::Error },
}

/// Opens the directories in `read`, and `state`, which is made if it is missing. Blocks.
///
/// # Errors
/// When one of them cannot be opened.
pub fn open(read: &[PathBuf], state: Option<&Path>) -> Result<Shared, FilesError> {
    let mut context = WasiCtx::builder();
    for path in read {
        let failed = |source| FilesError::Read { path: path.clone(), source };
        // Opening it says whether it is there, and reading it whether it may be read.
        path.read_dir().map_err(failed)?;
        let Some(text) = path.to_str() else {
            return Err(failed(io::ErrorKind::InvalidInput.into()));
        };
        context
            .preopened_dir(path, text, FsPerms::ReadOnly)
            .map_err(|error| failed(io_error(&error)))?;
    }
    if let Some(path) = state {
        let failed = |source| FilesError::State { path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(PRIVATE).create(path).map_err(failed)?;
        context
            .preopened_dir(path, STATE, FsPerms::ReadWrite)
            .map_err(|error| failed(io_error(&error)))?;
    }
    Ok(Shared { context: context.build().filesystem().clone(), state_limit: None })
}

fn io_error(error: &wasmtime::Error) -> io::Error {
    io::Error::other(format!("{error:#}"))
}

impl Shared {
    /// The same with a limit of the state.
    pub(super) fn with_state_limit(self, state_limit: Option<StateLimit>) -> Self {
        Self { state_limit, ..self }
    }

    /// The limit of the state, if it has one.
    pub(super) fn state_limit(&self) -> Option<&StateLimit> {
        self.state_limit.as_ref()
    }

    /// Lets the guest with this context see the directories.
    pub(super) fn give_to(&self, context: &mut WasiCtx) {
        *context.filesystem() = self.context.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_state_is_made_when_it_is_missing_and_for_nobody_else() {
        let root = tempfile::tempdir().unwrap();
        let state = root.path().join("var/lib/plugind/notes");
        for _ in 0..2 {
            open(&[], Some(&state)).unwrap();
        }
        assert_eq!(state.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_directory_that_cannot_be_had_is_named_with_a_remedy() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        std::fs::write(&file, "").unwrap();
        for path in [file.clone(), root.path().join("none")] {
            let error = open(std::slice::from_ref(&path), None).err().unwrap().to_string();
            assert!(
                error.contains(path.to_str().unwrap()) && error.contains("take it out of read")
            );
        }
        let error = open(&[], Some(&file.join("below"))).err().unwrap().to_string();
        assert!(
            error.contains("file/below") && error.contains("must be able to create"),
            "{error}"
        );
    }
}
