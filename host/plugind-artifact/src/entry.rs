//! A compiled file in the cache: its name says what it was made from, its seal that it is whole and in its place.
//!
//! The seal is a checksum, not a signature: it finds what was cut short, mixed up or half written. That nobody
//! else wrote the file is for the directory's permissions to guarantee.

use crate::{
    engine::{self, EngineKind},
    hex::hex,
};
use std::{
    fmt,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
};
use xxhash_rust::xxh3::Xxh3;

/// Stands at the end of every compiled file, behind the seal.
const MAGIC: &[u8; 16] = b"plugind compiled";
/// The length of a seal, which is the checksum of key and code.
const SEAL: usize = size_of::<u128>();
/// The length of what follows the code: its seal and [`MAGIC`].
const TRAILER: usize = SEAL + MAGIC.len();

/// Names one compiled file: the component it was made from, and the engine it was made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    component: String,
    engine: String,
}

impl Key {
    /// The key under which the component with this SHA-256 digest is compiled for this build, this kind of engine and,
    /// where that matters, this processor.
    #[must_use]
    pub fn new(component: &[u8; 32], kind: EngineKind) -> Self {
        Self { component: hex(component), engine: engine::identity(kind) }
    }

    /// The file's name in the cache.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("{self}.cwasm")
    }

    /// The component's SHA-256 digest in hexadecimal digits.
    #[must_use]
    pub fn component(&self) -> &str {
        &self.component
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.component, self.engine)
    }
}

/// Returns the trailer to write behind `code` in the file named by `key`.
#[must_use]
pub fn seal(key: &Key, code: &[u8]) -> Vec<u8> {
    let mut trailer = Vec::with_capacity(TRAILER);
    let mut checksum = checksum_of(key);
    checksum.update(code);
    trailer.extend(checksum.digest128().to_be_bytes());
    trailer.extend(MAGIC);
    trailer
}

/// The checksum of a file's key, to be continued with its code. A start reads every compiled file, so it must be fast.
fn checksum_of(key: &Key) -> Xxh3 {
    let mut checksum = Xxh3::new();
    checksum.update(key.to_string().as_bytes());
    checksum
}

/// Why a compiled file is not to be used.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// It could not be read to its end.
    #[error("cannot read the compiled file")]
    Read(#[source] io::Error),
    /// It ends before its seal, or with something else.
    #[error("the compiled file is incomplete, or was not written by plugind-compile")]
    Missing,
    /// Its contents are not what was sealed, or were sealed for another component or engine.
    #[error("the compiled file is damaged or belongs to another component")]
    Broken,
}

/// Reads `file` from its beginning and checks that it is whole and was made for `key`.
///
/// # Errors
/// If the seal does not match. Such a file must be compiled again and must not be loaded.
pub fn check_seal(key: &Key, file: &mut File) -> Result<(), SealError> {
    let length = file.seek(SeekFrom::End(0)).map_err(SealError::Read)?;
    let code = length.checked_sub(TRAILER as u64).ok_or(SealError::Missing)?;
    file.rewind().map_err(SealError::Read)?;

    let mut checksum = checksum_of(key);
    let mut left = code;
    let mut buffer = [0; 16 * 1024];
    while left > 0 {
        let want = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        file.read_exact(&mut buffer[..want]).map_err(SealError::Read)?;
        checksum.update(&buffer[..want]);
        left -= want as u64;
    }
    let mut trailer = [0; TRAILER];
    file.read_exact(&mut trailer).map_err(SealError::Read)?;

    let (sealed, magic) = trailer.split_at(SEAL);
    if magic != MAGIC {
        return Err(SealError::Missing);
    }
    if sealed != checksum.digest128().to_be_bytes() {
        return Err(SealError::Broken);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file_with(parts: &[&[u8]]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        for part in parts {
            file.write_all(part).unwrap();
        }
        file
    }

    #[test]
    fn a_sealed_file_is_accepted_for_its_own_key_only() {
        let key = Key::new(&[1; 32], EngineKind::Native);
        let mut file = file_with(&[b"code", &seal(&key, b"code")]);
        assert!(check_seal(&key, &mut file).is_ok());
        for other in
            [Key::new(&[2; 32], EngineKind::Native), Key::new(&[1; 32], EngineKind::Pulley)]
        {
            assert!(matches!(check_seal(&other, &mut file), Err(SealError::Broken)));
        }
    }

    #[test]
    fn whatever_is_cut_off_or_changed_is_found() {
        let key = Key::new(&[1; 32], EngineKind::Native);
        let whole = [b"some code".as_slice(), &seal(&key, b"some code")].concat();
        for length in 0..whole.len() {
            assert!(check_seal(&key, &mut file_with(&[&whole[..length]])).is_err(), "{length}");
        }
        for place in 0..whole.len() {
            let mut changed = whole.clone();
            changed[place] ^= 1;
            assert!(check_seal(&key, &mut file_with(&[&changed])).is_err(), "{place}");
        }
    }
}
