//! Versions that serve in the place of the files of their plugins, because an operator pinned them or rolled back to them.

use crate::{
    base::{error_chain::ErrorChain, name::PluginName},
    plugin::{
        archive::ArchivedVersion,
        directories::{VerifyResult, autostart_of, name_of},
        release::{Release, ReleaseDigests},
        verify::Verified,
        verify_error::{Rejected, VerifyError},
    },
    supervisor::versions::PinnedVersions,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The held versions of all plugins that have one.
#[derive(Default)]
pub struct HeldVersions(BTreeMap<PluginName, HeldVersion>);

/// A version that serves in the place of the files of its plugin.
struct HeldVersion {
    files: UnusedFiles,
    source: HeldSource,
}

/// The files that are not used.
#[derive(Clone, Copy)]
enum UnusedFiles {
    /// Those of all versions but this one.
    AllBut(ReleaseDigests),
    /// Those of this version.
    Only(ReleaseDigests),
}

/// Where a held version comes from.
enum HeldSource {
    /// It serves.
    Serving(Verified),
    /// It is read from the versions that are kept, if it is among them.
    Archived(Option<ArchivedVersion>),
}

impl HeldVersions {
    /// Holds the version that an operator pinned. `serving` is the version that serves, if one does.
    pub fn pin(
        &mut self,
        name: &PluginName,
        pinned: ReleaseDigests,
        serving: Option<&Arc<Release>>,
    ) {
        let serving = serving.filter(|serving| serving.digests() == pinned);
        let source = match serving {
            Some(serving) => HeldSource::Serving(Verified::again(serving.clone())),
            None => HeldSource::Archived(None),
        };
        let files = UnusedFiles::AllBut(pinned);
        self.0.insert(name.clone(), HeldVersion { files, source });
    }

    /// Holds the version that serves because an operator rolled back from another one.
    pub fn roll_back(&mut self, name: &PluginName, from: ReleaseDigests, serving: &Arc<Release>) {
        let source = HeldSource::Serving(Verified::again(serving.clone()));
        self.0.insert(name.clone(), HeldVersion { files: UnusedFiles::Only(from), source });
    }

    /// Adds the versions that are kept.
    pub fn with_archived(mut self, versions: PinnedVersions) -> Self {
        for (name, version) in versions {
            if let Some(HeldVersion { source: HeldSource::Archived(archived), .. }) =
                self.0.get_mut(&name)
            {
                *archived = version;
            }
        }
        self
    }

    /// Puts held versions in the place of the files that were found, and returns the plugins whose files are not
    /// used. Blocks.
    pub fn hold(&self, found: &mut [VerifyResult]) -> BTreeSet<PluginName> {
        let mut held = BTreeSet::new();
        for outcome in found {
            let name = name_of(outcome).clone();
            if let Some(version) = self.0.get(&name).filter(|it| it.replaces(outcome)) {
                *outcome = version.read(outcome);
                held.insert(name);
            }
        }
        held
    }
}

impl HeldVersion {
    fn replaces(&self, found: &VerifyResult) -> bool {
        let found = found.as_ref().ok().map(|verified| verified.release().digests());
        match self.files {
            UnusedFiles::AllBut(pinned) => found != Some(pinned),
            UnusedFiles::Only(from) => found == Some(from),
        }
    }

    fn read(&self, found: &VerifyResult) -> VerifyResult {
        let archived = match &self.source {
            HeldSource::Serving(verified) => return Ok(verified.clone()),
            HeldSource::Archived(archived) => archived,
        };
        let loaded = match archived {
            Some(version) => version.load().map_err(|error| ErrorChain(&error).to_string()),
            None => Err("it is not among the versions that the daemon keeps".to_owned()),
        };
        loaded.map_err(|why| Box::new(unreadable(found, why)))
    }
}

fn unreadable(found: &VerifyResult, why: String) -> Rejected {
    // It keeps the routes of its files, so that their requests are answered with 503.
    let (component, manifest, required) = match found {
        Ok(verified) => {
            let manifest = verified.manifest();
            (verified.path().to_owned(), Some(manifest.clone()), manifest.required)
        }
        Err(rejected) => (rejected.component.clone(), rejected.manifest.clone(), rejected.required),
    };
    let autostart = autostart_of(found);
    let name = name_of(found).clone();
    let errors = vec![VerifyError::Pinned { name: name.clone(), why }];
    Rejected { name, component, manifest, required, autostart, errors }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::tests::release;

    /// The first byte of the digest of the version that is used when this one is found.
    fn used(held: &HeldVersions, found: u8) -> (Option<u8>, bool) {
        let mut found = [Ok(Verified::again(release(found)))];
        let is_held = !held.hold(&mut found).is_empty();
        (found[0].as_ref().ok().map(|used| used.digest()[0]), is_held)
    }

    #[test]
    fn a_pinned_version_replaces_all_others_and_one_rolled_back_to_a_single_one() {
        let (name, serving) = ("a".parse().unwrap(), release(1));
        assert_eq!(used(&HeldVersions::default(), 2), (Some(2), false));
        let mut held = HeldVersions::default();
        held.pin(&name, serving.digests(), Some(&serving));
        assert_eq!(used(&held, 1), (Some(1), false));
        assert_eq!([used(&held, 2), used(&held, 3)], [(Some(1), true); 2]);
        held.roll_back(&name, release(2).digests(), &serving);
        assert_eq!([used(&held, 2), used(&held, 3)], [(Some(1), true), (Some(3), false)]);
    }

    #[test]
    fn no_other_version_is_used_when_the_pinned_one_cannot_be_read() {
        let (name, pinned) = ("a".parse().unwrap(), release(1));
        let mut held = HeldVersions::default();
        held.pin(&name, pinned.digests(), Some(&release(2)));
        assert_eq!(used(&held, 2), (None, true));
        let mut found = [Ok(Verified::again(release(2)))];
        held.hold(&mut found);
        let lines = found[0].as_ref().err().unwrap().lines();
        assert!(lines[0].contains("`pluginctl unpin a`"), "{lines:?}");
    }
}
