//! Reads the files that settings name: credentials that systemd passes to the daemon, or others.

use crate::{
    base::{error_chain::ErrorChain, file},
    config::{Diagnostic, Origin, Position, settings::CredentialFile},
};
use std::{
    io,
    path::{Path, PathBuf},
};

/// The largest file: systemd allows as much for all credentials of a unit together.
const FILE_MAX: u64 = 1 << 20;

/// The path of a file that the setting `label` names.
///
/// # Errors
/// When it is a credential, and the daemon has none.
pub fn path(
    label: &str,
    file: &CredentialFile,
    origin: &Origin,
    credentials: Option<&Path>,
) -> Result<PathBuf, Diagnostic> {
    match (file, credentials) {
        (CredentialFile::Path(path), _) => Ok(path.clone()),
        (CredentialFile::Credential(name), Some(directory)) => Ok(directory.join(name)),
        (CredentialFile::Credential(name), None) => {
            let message = format!(
                "{label}: the daemon has no credentials; write LoadCredential={name}:PATH into its unit and restart it"
            );
            Err(mistake(origin, message))
        }
    }
}

/// Reads a file that the setting `label` names. Blocks.
///
/// # Errors
/// When it cannot be read.
pub fn read(
    label: &str,
    file: &CredentialFile,
    origin: &Origin,
    credentials: Option<&Path>,
) -> Result<Vec<u8>, Diagnostic> {
    let path = path(label, file, origin, credentials)?;
    file::read(&path, FILE_MAX).map_err(|error| {
        let cause = match is_missing(&path) {
            true => format!("cannot read {}: it does not exist", path.display()),
            false => ErrorChain(&error).to_string(),
        };
        let remedy = match file {
            CredentialFile::Path(_) if is_missing(&path) => {
                "; the daemon sees only the directories that its unit binds".to_owned()
            }
            CredentialFile::Path(_) => String::new(),
            CredentialFile::Credential(name) => {
                format!("; write LoadCredential={name}:PATH into the daemon's unit and restart it")
            }
        };
        mistake(origin, format!("{label}: {cause}{remedy}"))
    })
}

/// Whether there is nothing at a path, not even a link.
fn is_missing(path: &Path) -> bool {
    path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// Reads a file of one line that the setting `label` names. Blocks.
///
/// # Errors
/// When it cannot be read, or is not one line.
pub fn read_line(
    label: &str,
    file: &CredentialFile,
    origin: &Origin,
    credentials: Option<&Path>,
) -> Result<String, Diagnostic> {
    let text = String::from_utf8(read(label, file, origin, credentials)?).unwrap_or_default();
    let text = text.trim_end_matches(['\n', '\r']);
    if text.is_empty() || text.contains('\n') {
        let message =
            format!("{label} must name a file with one line of UTF-8, such as USER:PASSWORD");
        return Err(mistake(origin, message));
    }
    Ok(text.to_owned())
}

/// A mistake at the place of a setting.
#[must_use]
pub fn mistake(origin: &Origin, message: String) -> Diagnostic {
    let place = origin.0.clone().unwrap_or_else(|| Position::whole(Path::new("plugind.toml")));
    Diagnostic::at(place, message)
}
