//! `plugind:plugin/credentials`: secrets that a plugin was granted.

use crate::base::name::PluginName;
use crate::plugin::{credentials::CREDENTIAL_MAX, grants::credential_file};
use crate::world::bindings::plugind::plugin::credentials::Host;
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};
use wasmtime::component::HasData;

/// A generation's credentials. They were read when it was linked.
#[derive(Default)]
pub struct Shared(BTreeMap<String, Vec<u8>>);

/// A credential that was granted cannot be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the credential, and what is said of its file")]
pub enum CredentialsError {
    /// There is no directory of credentials.
    #[error(
        "was granted the credential {file}, and the daemon has no credentials; write LoadCredential={file}:PATH into \
         its unit and restart it"
    )]
    None { file: String },
    /// The directory does not contain this credential, or the credential cannot be read.
    #[error(
        "was granted the credential {file}, and {} cannot be read; write LoadCredential={file}:PATH into the daemon's \
         unit and restart it", path.display()
    )]
    Read { file: String, path: PathBuf, source: io::Error },
    /// It is larger than any credential.
    #[error("was granted the credential {file}, which is larger than 1M; make it smaller")]
    TooLarge { file: String },
}

/// Reads the credentials `keys` of `plugin`. Blocks.
///
/// # Errors
/// When one is missing, cannot be read, or is too large.
pub fn read(
    plugin: &PluginName,
    keys: &[String],
    directory: Option<&Path>,
) -> Result<Shared, CredentialsError> {
    let mut all = BTreeMap::new();
    for key in keys {
        let file = credential_file(plugin, key);
        let Some(directory) = directory else { return Err(CredentialsError::None { file }) };
        let path = directory.join(&file);
        let mut value = Vec::new();
        let read = File::open(&path)
            .and_then(|opened| opened.take(CREDENTIAL_MAX + 1).read_to_end(&mut value));
        if let Err(source) = read {
            return Err(CredentialsError::Read { file, path, source });
        }
        if value.len() as u64 > CREDENTIAL_MAX {
            return Err(CredentialsError::TooLarge { file });
        }
        all.insert(key.clone(), value);
    }
    Ok(Shared(all))
}

impl HasData for Shared {
    type Data<'a> = Guest<'a>;
}

/// One instance's view of them.
pub struct Guest<'a> {
    pub(super) shared: &'a Shared,
}

impl Host for Guest<'_> {
    fn get(&mut self, key: String) -> Option<Vec<u8>> {
        self.shared.0.get(&key).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_has_its_own_credentials_and_no_others() {
        let directory = tempfile::tempdir().unwrap();
        for (file, value) in
            [("plugind.a.token", "of a"), ("plugind.b.token", "of b"), ("token", "")]
        {
            std::fs::write(directory.path().join(file), value).unwrap();
        }
        let keys = ["token".to_owned()];
        let shared = read(&"a".parse().unwrap(), &keys, Some(directory.path())).unwrap();
        let mut guest = Guest { shared: &shared };
        assert_eq!(guest.get("token".to_owned()), Some(b"of a".to_vec()));
        for key in ["", "other", "b.token", "../token", "plugind.b.token"] {
            assert_eq!(guest.get(key.to_owned()), None, "{key:?}");
        }
        let missing = read(&"c".parse().unwrap(), &keys, Some(directory.path())).err().unwrap();
        assert!(missing.to_string().contains("LoadCredential=plugind.c.token:PATH"), "{missing}");
        let none = read(&"c".parse().unwrap(), &keys, None).err().unwrap();
        assert!(none.to_string().contains("LoadCredential=plugind.c.token:PATH"), "{none}");
    }
}
