//! One version of a plugin: what was read once, and is passed along from step to step.

use crate::{
    base::name::PluginName,
    plugin::{
        credentials::CredentialsSeen,
        inspection::Inspection,
        manifest::{Manifest, Mode},
    },
};
use plugind_artifact::hex::hex;
use sha2::{Digest, Sha256};
use std::{fmt, path::PathBuf, sync::Arc};

/// The bytes that a version is made of, by their digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReleaseDigests {
    /// The SHA-256 digest of the component.
    pub component: [u8; 32],
    /// The SHA-256 digest of the manifest and its drop-ins.
    pub configuration: [u8; 32],
}

impl ReleaseDigests {
    /// Those of a component with this digest, and of a manifest of these files.
    pub fn new(component: [u8; 32], texts: &[impl AsRef<[u8]>]) -> Self {
        let mut configuration = Sha256::new();
        for text in texts.iter().map(AsRef::as_ref) {
            // With its length, so that the same text in other files is another configuration.
            configuration.update((text.len() as u64).to_le_bytes());
            configuration.update(text);
        }
        Self { component, configuration: configuration.finalize().into() }
    }
}

impl fmt::Display for ReleaseDigests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", hex(&self.component), hex(&self.configuration))
    }
}

/// One version of a plugin. All steps after `verify` share it.
#[derive(Clone, Debug)]
pub struct Release {
    /// The plugin's name.
    pub name: PluginName,
    /// Where its component was read from.
    pub path: PathBuf,
    /// The SHA-256 digest of its component.
    pub digest: [u8; 32],
    /// Its manifest.
    pub manifest: Manifest,
    /// The files of its manifest: the text of each, in the order in which they count.
    pub texts: Vec<String>,
    /// Imports and exports of its component.
    pub inspection: Inspection,
    /// The credentials that it was granted.
    pub credentials: CredentialsSeen,
}

impl Release {
    /// Whether each of its calls has an instance of its own, and no other instance is kept.
    #[must_use]
    pub fn has_instance_per_call(&self) -> bool {
        let mode = self.manifest.instances.mode.unwrap_or_else(|| self.inspection.mode());
        mode == Mode::Fresh && !self.inspection.lifecycle && self.inspection.serves()
    }

    /// The digests of its bytes.
    #[must_use]
    pub fn digests(&self) -> ReleaseDigests {
        ReleaseDigests::new(self.digest, &self.texts)
    }

    /// Whether both are made of the same component and the same manifest, wherever these were read from, and have the
    /// same credentials.
    #[must_use]
    pub fn is_same(self: &Arc<Self>, other: &Arc<Self>) -> bool {
        let is_equal = || self.digest == other.digest && self.manifest == other.manifest;
        Arc::ptr_eq(self, other) || (is_equal() && self.credentials == other.credentials)
    }
}
