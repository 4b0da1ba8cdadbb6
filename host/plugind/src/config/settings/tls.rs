//! `[[sockets.NAME.tls]]`: certificates of the daemon and of clients.

use crate::config::{Origin, Table};
use std::{path::PathBuf, str::FromStr};

/// systemd's limit for the name of a credential.
const CREDENTIAL_NAME_MAX: usize = 255;

/// `[[sockets.NAME.tls]]`: a certificate of the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The certificate, and those that lead to an authority.
    pub certificate: (CredentialFile, Origin),
    /// Its private key.
    pub key: (CredentialFile, Origin),
}

/// The authority that signs the certificates of clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCa {
    /// The certificates of the authorities.
    pub file: CredentialFile,
    /// Where that was written.
    pub origin: Origin,
    /// Whether a client without a certificate is served.
    pub optional: bool,
}

/// A file: that of a credential, or one with an absolute path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialFile {
    /// A credential that systemd passes to the daemon.
    Credential(String),
    /// Any other file.
    Path(PathBuf),
}

/// A text is neither a credential nor a path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a name of a credential or an absolute path; write \"NAME\" or \"/PATH\"")]
pub struct CredentialFileError(String);

impl FromStr for CredentialFile {
    type Err = CredentialFileError;

    fn from_str(text: &str) -> Result<Self, CredentialFileError> {
        if text.starts_with('/') {
            return Ok(Self::Path(text.into()));
        }
        let is_name = !text.is_empty()
            && text.len() <= CREDENTIAL_NAME_MAX
            && !text.starts_with('.')
            && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b':');
        if is_name {
            Ok(Self::Credential(text.to_owned()))
        } else {
            Err(CredentialFileError(text.to_owned()))
        }
    }
}

impl Tls {
    pub(super) fn read(table: &Table<'_>) -> Option<Self> {
        let (certificate, key) = (table.parsed("certificate"), table.parsed("key"));
        for key in ["certificate", "key"] {
            if table.origin(key).0.is_none() {
                table.complain_about(key, format!("[[sockets.NAME.tls]] must have {key}"));
            }
        }
        let (certificate, key) = certificate.zip(key)?;
        let certificate = (certificate, table.origin("certificate"));
        Some(Self { certificate, key: (key, table.origin("key")) })
    }
}
