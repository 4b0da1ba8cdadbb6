//! `Found` → `Verified`: a plugin is read once; what is judged, hashed and compiled are those very bytes.

use super::{
    manifest::Manifest,
    offers::{Offers, OffersError},
    scan::Found,
};
use crate::{config::Complaint, name::PluginName, quantity::Bytes};
use rustix::fs::{FileType, Mode, OFlags};
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

/// The largest component that is read: the largest known toolchain makes files of about 20 MB.
const COMPONENT_MAX: u64 = 256 << 20;
/// The largest manifest that is read.
const MANIFEST_MAX: u64 = 1 << 20;

/// A plugin that was read and can be compiled. The only way to have one is to have been verified.
#[derive(Debug)]
pub struct Verified {
    name: PluginName,
    manifest: Manifest,
    offers: Offers,
    digest: [u8; 32],
    path: PathBuf,
}

/// Why a plugin is not even tried.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file is a directory, a pipe or the like.
    #[error("{} is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// A file is larger than is sensible.
    #[error("{} is larger than {}", path.display(), Bytes(*most))]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// How large it may be, in bytes.
        most: u64,
    },
    /// The manifest is wrong.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Manifest(Vec<Complaint>),
    /// The component cannot be a plugin.
    #[error("{} {why}", path.display())]
    Offers {
        /// The component.
        path: PathBuf,
        /// Why not: the end of the same sentence, and so no cause of its own.
        why: OffersError,
    },
    /// The component imports what the manifest does not grant.
    #[error(
        "{} imports {import}, which it was not granted; write {line} below [grants] in its manifest", path.display()
    )]
    Ungranted {
        /// The component.
        path: PathBuf,
        /// What it imports.
        import: String,
        /// What grants it.
        line: &'static str,
    },
}

/// A plugin that is not even tried.
#[derive(Debug)]
pub struct Rejected {
    /// Its name.
    pub name: PluginName,
    /// Its manifest, if that is not what is wrong.
    pub manifest: Option<Manifest>,
    /// Whether the daemon is not ready without it, as far as that can be read.
    pub required: bool,
    /// Why it is not tried.
    pub error: VerifyError,
}

/// Reads a plugin and vouches for what was read.
///
/// # Errors
/// When it cannot be read, its manifest has mistakes, or its component cannot be a plugin.
pub fn verify(found: Found) -> Result<Verified, Box<Rejected>> {
    let name = found.name;
    let judged = judge(&found.component);
    let imports = judged.as_ref().ok().map(|(offers, _)| offers.imports.as_slice());
    let manifest = match &found.manifest {
        None => Ok(Manifest::default()),
        Some(path) => read_manifest(path, imports),
    };
    let manifest = match manifest {
        Ok(manifest) => manifest,
        Err((error, required)) => {
            return Err(Box::new(Rejected { name, manifest: None, required, error }));
        }
    };
    let judged = judged.and_then(|(offers, digest)| {
        let path = || found.component.clone();
        match ungranted(&offers, &manifest) {
            None => Ok((offers, digest)),
            Some((import, line)) => Err(VerifyError::Ungranted { path: path(), import, line }),
        }
    });
    match judged {
        Ok((offers, digest)) => {
            Ok(Verified { name, manifest, offers, digest, path: found.component })
        }
        Err(error) => {
            let required = manifest.required;
            Err(Box::new(Rejected { name, manifest: Some(manifest), required, error }))
        }
    }
}

/// An import that is there only for who was granted it, and was not, with the line that would grant it.
///
/// What WASI has to be granted (files, sockets, requests) is there for all and refuses what was not granted: many
/// toolchains import it whether a component uses it or not.
fn ungranted(offers: &Offers, manifest: &Manifest) -> Option<(String, &'static str)> {
    let wants = |import: &&String| import.starts_with("plugind:plugin/credentials@");
    let import =
        offers.imports.iter().find(wants).filter(|_| manifest.grants.credentials.is_empty());
    Some((import?.clone(), "credentials = [\"…\"]"))
}

fn judge(path: &Path) -> Result<(Offers, [u8; 32]), VerifyError> {
    let bytes = read(path, COMPONENT_MAX)?;
    let offers =
        Offers::of(&bytes).map_err(|why| VerifyError::Offers { path: path.to_owned(), why })?;
    Ok((offers, Sha256::digest(&bytes).into()))
}

/// Reads a manifest. When it is wrong, whether it says that the plugin is required counts all the same.
fn read_manifest(path: &Path, imports: Option<&[String]>) -> Result<Manifest, (VerifyError, bool)> {
    let bytes = read(path, MANIFEST_MAX).map_err(|error| (error, true))?;
    let Ok(text) = String::from_utf8(bytes) else {
        let complaint = Complaint::about(path, "is not UTF-8 text");
        return Err((VerifyError::Manifest(vec![complaint]), true));
    };
    Manifest::parse_for(path, &text, imports)
        .map_err(|complaints| (VerifyError::Manifest(complaints), Manifest::is_required(&text)))
}

fn read(path: &Path, most: u64) -> Result<Vec<u8>, VerifyError> {
    let failed = |source: io::Error| VerifyError::Read { path: path.to_owned(), source };
    // NONBLOCK: opening a pipe that nobody writes to would wait for ever.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let descriptor =
        rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;
    let stat = rustix::fs::fstat(&descriptor).map_err(|errno| failed(errno.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(VerifyError::NotAFile(path.to_owned()));
    }
    let file = File::from(descriptor);
    let mut bytes = Vec::with_capacity(usize::try_from(stat.st_size).unwrap_or(0).min(1 << 20));
    // One byte more than allowed, to tell "just fits" from "too large".
    (&file).take(most + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > most {
        return Err(VerifyError::TooLarge { path: path.to_owned(), most });
    }
    Ok(bytes)
}

impl Verified {
    /// The plugin's name.
    #[must_use]
    pub fn name(&self) -> &PluginName {
        &self.name
    }

    /// Its manifest.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What its component has to offer.
    #[must_use]
    pub fn offers(&self) -> &Offers {
        &self.offers
    }

    /// The SHA-256 digest of its component.
    #[must_use]
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// Where its component was read from.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn found(directory: &Path, file: &str) -> Found {
        Found { name: "x".parse().unwrap(), component: directory.join(file), manifest: None }
    }

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("directory")).unwrap();
        let pipe = directory.path().join("pipe");
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, Mode::from(0o600), 0).unwrap();
        for file in ["directory", "pipe"] {
            let error = verify(found(directory.path(), file)).unwrap_err().error;
            assert!(matches!(error, VerifyError::NotAFile(_)), "{file}: {error}");
        }
        let error = verify(found(directory.path(), "none")).unwrap_err().error;
        assert!(matches!(error, VerifyError::Read { .. }));
    }

    #[test]
    fn the_error_names_the_file_the_cause_and_the_remedy() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("x.wasm"), b"\0asm\x01\0\0\0").unwrap();
        let error = verify(found(directory.path(), "x.wasm")).unwrap_err().error.to_string();
        assert!(
            error.contains("x.wasm is a core module") && error.contains("build a component"),
            "{error}"
        );
    }
}
