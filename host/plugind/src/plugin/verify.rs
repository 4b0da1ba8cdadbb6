//! `Found` → `Verified`: a plugin is read once, and the same bytes are inspected, hashed and compiled.

use crate::{
    base::{file, limits::ComponentLimits, name::PluginName},
    config::{Document, list_drop_ins},
    plugin::{
        credentials::CredentialsSeen,
        inspect_error::InspectError,
        inspection::Inspection,
        manifest::{ComponentFacts, Manifest},
        mismatch::mismatches,
        release::Release,
        scan::Found,
        validated::ValidatedComponents,
        verify_error::{Rejected, VerifyError},
    },
};
use sha2::{Digest, Sha256};
use std::{
    panic::catch_unwind,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The largest component that is read: the largest known toolchain makes files of about 20 MB.
pub const COMPONENT_MAX: u64 = 256 << 20;
/// The largest manifest that is read.
pub const MANIFEST_MAX: u64 = 1 << 20;

/// A plugin that was read and can be compiled. The only way to have one is to have been verified.
#[derive(Clone, Debug)]
pub struct Verified(Arc<Release>);

/// Reads and verifies a plugin, whose component may have as much as these limits say.
///
/// # Errors
/// When it cannot be read, its manifest has mistakes, or its component cannot be a plugin.
pub fn verify(found: Found, limits: &ComponentLimits) -> Result<Verified, Box<Rejected>> {
    verify_unless_known(found, limits, &ValidatedComponents::default())
}

/// The same, where a component that is known to be valid is not validated again.
///
/// # Errors
/// When it cannot be read, its manifest has mistakes, or its component cannot be a plugin.
pub fn verify_unless_known(
    found: Found,
    limits: &ComponentLimits,
    validated: &ValidatedComponents,
) -> Result<Verified, Box<Rejected>> {
    let outcome = inspect_component(&found.component, limits, validated);
    let known = outcome.as_ref().ok().map(|(inspection, _)| ComponentFacts {
        imports: &inspection.imports,
        hands_over: inspection.handover,
        serves: inspection.serves(),
    });
    let manifest = read_manifest(&found, known);
    let rejected = |manifest, required, errors| {
        let autostart = starts_with_daemon(&found);
        let Found { name, component, .. } = found.clone();
        let required = required && autostart;
        Err(Box::new(Rejected { name, component, manifest, required, autostart, errors }))
    };
    match (manifest, outcome) {
        (Ok((manifest, texts)), Ok((inspection, digest))) => {
            let errors = mismatches(&found.component, &inspection, &manifest);
            if !errors.is_empty() {
                return rejected(Some(manifest.clone()), manifest.required, errors);
            }
            let Found { name, component: path, .. } = found;
            Ok(Verified(Arc::new(Release {
                name,
                path,
                digest,
                manifest,
                texts,
                inspection,
                credentials: CredentialsSeen::default(),
            })))
        }
        (Ok((manifest, _)), Err(error)) => {
            let required = manifest.required;
            rejected(Some(manifest), required, vec![error])
        }
        (Err((error, required)), outcome) => {
            let errors = [Some(error), outcome.err()].into_iter().flatten().collect();
            rejected(None, required, errors)
        }
    }
}

/// Whether a rejected plugin would start with the daemon. Each file counts by itself: one with mistakes must not enable a
/// plugin that another one disables.
fn starts_with_daemon(found: &Found) -> bool {
    let drop_ins = list_drop_ins(&found.drop_ins).unwrap_or_default();
    let written = |path: &PathBuf| {
        let mut document = Document::default();
        document.add_bytes(path, file::read(path, MANIFEST_MAX).ok()?).ok()?;
        Manifest::autostart(&document)
    };
    let values: Vec<_> = found.manifest.iter().chain(&drop_ins).filter_map(written).collect();
    values.last().is_none_or(|autostart| *autostart)
}

fn inspect_component(
    path: &Path,
    limits: &ComponentLimits,
    validated: &ValidatedComponents,
) -> Result<(Inspection, [u8; 32]), VerifyError> {
    let bytes = file::read(path, COMPONENT_MAX)?;
    let digest = Sha256::digest(&bytes).into();
    let inspect = match validated.contains(&digest) {
        true => Inspection::of_valid,
        false => Inspection::of,
    };
    // The library that validates a component panics at types that it did not expect to be nested so deeply: that
    // concerns this component alone.
    let inspection = catch_unwind(|| inspect(&bytes))
        .unwrap_or_else(|_| {
            Err(InspectError::Damaged("its types are nested too deeply".to_owned()))
        })
        .and_then(|inspection| {
            inspection.footprint.check(limits)?;
            Ok(inspection)
        })
        .map_err(|why| VerifyError::Inspect { path: path.to_owned(), why })?;
    Ok((inspection, digest))
}

/// Reads a manifest, and the texts of its files. When it is wrong, whether it says that the plugin is required counts
/// all the same.
fn read_manifest(
    found: &Found,
    component: Option<ComponentFacts<'_>>,
) -> Result<(Manifest, Vec<String>), (VerifyError, bool)> {
    let document = manifest_of(found).map_err(|error| (error, true))?;
    let manifest = Manifest::parse_for(&found.name, component, &document)
        .map_err(|mistakes| (VerifyError::Manifest(mistakes), Manifest::is_required(&document)))?;
    Ok((manifest, document.texts().map(str::to_owned).collect()))
}

/// A plugin's manifest and its drop-ins, read and not yet interpreted.
///
/// # Errors
/// If a file cannot be read or is not UTF-8.
pub fn manifest_of(found: &Found) -> Result<Document, VerifyError> {
    let drop_ins = list_drop_ins(&found.drop_ins)?;
    let mut document = Document::default();
    for path in found.manifest.iter().chain(&drop_ins) {
        let bytes = file::read(path, MANIFEST_MAX)?;
        document.add_bytes(path, bytes).map_err(|mistake| VerifyError::Manifest(vec![mistake]))?;
    }
    Ok(document)
}

impl Verified {
    /// A release that a test assumes to be verified.
    #[cfg(test)]
    #[must_use]
    pub fn assumed(release: Arc<Release>) -> Self {
        Self(release)
    }

    /// A version that was verified when it was read, and is used again.
    #[cfg(feature = "runtime")]
    #[must_use]
    pub fn again(release: Arc<Release>) -> Self {
        Self(release)
    }

    /// The same, with the credentials that it was granted as they are now. Blocks.
    #[must_use]
    pub fn with_credentials(&self, directory: Option<&Path>) -> Self {
        let keys = &self.0.manifest.grants.credentials;
        let credentials = CredentialsSeen::look(&self.0.name, keys, directory);
        match credentials == self.0.credentials {
            true => self.clone(),
            false => Self(Arc::new(Release { credentials, ..Release::clone(&self.0) })),
        }
    }

    /// The version that was verified.
    #[must_use]
    pub fn release(&self) -> &Arc<Release> {
        &self.0
    }

    /// The plugin's name.
    #[must_use]
    pub fn name(&self) -> &PluginName {
        &self.0.name
    }

    /// Its manifest.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.0.manifest
    }

    /// Imports and exports of its component.
    #[must_use]
    pub fn inspection(&self) -> &Inspection {
        &self.0.inspection
    }

    /// The SHA-256 digest of its component.
    #[must_use]
    pub fn digest(&self) -> &[u8; 32] {
        &self.0.digest
    }

    /// Where its component was read from.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }
}

#[cfg(test)]
mod tests;
