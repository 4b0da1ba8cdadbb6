//! One version of a plugin: what was read once, and is passed along from step to step.

use crate::{
    base::name::PluginName,
    plugin::{inspection::Inspection, manifest::Manifest},
};
use std::{path::PathBuf, sync::Arc};

/// One version of a plugin. All steps after `verify` share it.
#[derive(Debug)]
pub struct Release {
    /// The plugin's name.
    pub name: PluginName,
    /// Where its component was read from.
    pub path: PathBuf,
    /// The SHA-256 digest of its component.
    pub digest: [u8; 32],
    /// Its manifest.
    pub manifest: Manifest,
    /// Imports and exports of its component.
    pub inspection: Inspection,
}

impl Release {
    /// Whether both are made of the same component and the same manifest, wherever these were read from.
    #[must_use]
    pub fn is_same(self: &Arc<Self>, other: &Arc<Self>) -> bool {
        Arc::ptr_eq(self, other) || (self.digest == other.digest && self.manifest == other.manifest)
    }
}
