//! The credentials of a plugin, looked at to notice that they have changed.

use crate::{base::name::PluginName, plugin::grants::credential_file};
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

/// The largest credential: systemd has as much for all of a unit's together.
pub const CREDENTIAL_MAX: u64 = 1 << 20;

/// The credentials of a plugin as they were when its files were read, without their values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CredentialsSeen {
    /// The SHA-256 digest of all values; none, if none was granted.
    digest: Option<[u8; 32]>,
    /// Those that did not exist.
    missing: Vec<String>,
}

impl CredentialsSeen {
    /// Looks at the credentials `keys` of `plugin`. Blocks.
    #[must_use]
    pub fn look(plugin: &PluginName, keys: &[String], directory: Option<&Path>) -> Self {
        let (mut digest, mut missing) = (Sha256::new(), Vec::new());
        for key in keys {
            let path = directory.map(|directory| directory.join(credential_file(plugin, key)));
            let value = path.ok_or_else(|| io::ErrorKind::NotFound.into()).and_then(|path| {
                let mut value = Vec::new();
                File::open(path)?.take(CREDENTIAL_MAX + 1).read_to_end(&mut value)?;
                Ok::<_, io::Error>(value)
            });
            if value.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
                missing.push(key.clone());
            }
            // One that cannot be read is reported when it is needed.
            let value = value.unwrap_or_default();
            for part in [key.as_bytes(), &value] {
                digest.update((part.len() as u64).to_le_bytes());
                digest.update(part);
            }
        }
        Self { digest: (!keys.is_empty()).then(|| digest.finalize().into()), missing }
    }

    /// A credential that existed `before` and does not any more.
    #[must_use]
    pub fn withdrawn_since(&self, before: &Self) -> Option<&str> {
        let existed = |key: &&String| before.digest.is_some() && !before.missing.contains(key);
        self.missing.iter().find(existed).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_value_and_a_withdrawn_credential_are_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("plugind.a.token");
        let (name, keys) = ("a".parse().unwrap(), ["token".to_owned()]);
        let look = || CredentialsSeen::look(&name, &keys, Some(directory.path()));
        std::fs::write(&path, "one").unwrap();
        let one = look();
        assert_eq!(look(), one);
        std::fs::write(&path, "two").unwrap();
        let two = look();
        assert_ne!(one, two);
        assert_eq!(two.withdrawn_since(&one), None);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(look().withdrawn_since(&two), Some("token"));
        assert_eq!(look().withdrawn_since(&look()), None, "it did not exist before");
        let none = CredentialsSeen::look(&name, &[], None);
        assert_eq!(
            (none.clone(), look().withdrawn_since(&none)),
            (CredentialsSeen::default(), None)
        );
    }
}
