//! Files that this program reads for the user who runs it, and not for the daemon.

use plugind::base::{
    error_chain::ErrorChain,
    file::{self, FileError},
};
use std::{
    fmt, fs,
    io::{self, ErrorKind},
    path::Path,
};

/// Why such a file was not read, with the error of the system.
#[derive(Debug)]
pub(crate) struct OwnFileError(FileError);

impl std::error::Error for OwnFileError {}

impl fmt::Display for OwnFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            // The remedies of these errors are about the daemon.
            FileError::Read { path, source } if is_of_this_user(source) => {
                write!(f, "cannot read {}: ", path.display())?;
                if let Ok(target) = fs::read_link(path) {
                    write!(f, "it is a link to {}: ", target.display())?;
                }
                write!(f, "{source}")
            }
            other => write!(f, "{}", ErrorChain(other)),
        }
    }
}

/// Whether the file may still be there for the daemon.
fn is_of_this_user(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied)
}

/// Reads a file of at most so many bytes.
///
/// # Errors
/// As those of [`file::read`].
pub(crate) fn read(path: &Path, max: u64) -> Result<Vec<u8>, OwnFileError> {
    file::read(path, max).map_err(OwnFileError)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn the_error_of_the_system_is_shown_and_the_daemon_is_not_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let [long, missing, link] = [&*"a".repeat(300), "missing", "link"].map(path);
        symlink(&missing, &link).unwrap();
        for (path, why) in [
            (&long, "File name too long (os error 36)".to_owned()),
            (&missing, "No such file or directory (os error 2)".to_owned()),
            (
                &link,
                format!(
                    "it is a link to {}: No such file or directory (os error 2)",
                    missing.display()
                ),
            ),
        ] {
            let error = read(path, 1).unwrap_err().to_string();
            assert_eq!(error, format!("cannot read {}: {why}", path.display()));
        }
    }

    #[test]
    fn a_file_that_this_user_cannot_read_is_no_matter_of_the_daemon() {
        let denied = FileError::Read {
            path: "/source/hello.toml".into(),
            source: io::Error::from_raw_os_error(13),
        };
        let error = OwnFileError(denied).to_string();
        assert_eq!(error, "cannot read /source/hello.toml: Permission denied (os error 13)");
    }
}
