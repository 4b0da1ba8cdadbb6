//! Compiled code that cannot be kept: a file in memory without a name, which is gone with its last user.

use plugind_artifact::entry::{Key, seal};
use rustix::{
    fs::{MemfdFlags, Mode, SealFlags, fchmod, fcntl_add_seals, memfd_create},
    io::Errno,
};
use std::{
    fs::File,
    io::{self, Write},
    os::fd::OwnedFd,
};

/// Its name in lists of open files.
const NAME: &str = "plugind-code";

/// A file with `code`, sealed for `key`, that nobody can change any more.
pub(crate) fn file(key: &Key, code: &[u8]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Its code can be mapped, but the file cannot be started as a program. Kernels before 6.3 do not know the flag.
    let created = match memfd_create(NAME, flags | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => memfd_create(NAME, flags),
        created => created,
    };
    let mut file = File::from(created?);
    file.write_all(code)?;
    file.write_all(&seal(key, code))?;
    // The daemon runs as somebody else, and opens it again by its descriptor.
    fchmod(&file, Mode::from_raw_mode(0o444))?;
    fcntl_add_seals(
        &file,
        SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL,
    )?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use plugind_artifact::{engine::EngineKind, entry::check_seal};
    use std::{
        fs::{self, OpenOptions, Permissions},
        os::{fd::AsRawFd, unix::fs::PermissionsExt},
    };

    #[test]
    fn a_file_without_a_name_is_whole_and_can_be_changed_by_nobody() {
        let key = Key::new(&[1; 32], EngineKind::Native);
        let mut made = File::from(file(&key, b"code").unwrap());
        check_seal(&key, &mut made).unwrap();
        assert_eq!(made.metadata().unwrap().permissions().mode() & 0o7777, 0o444);
        assert!(made.write_all(b"x").is_err() && made.set_len(0).is_err());
        let path = format!("/proc/self/fd/{}", made.as_raw_fd());
        // Even its owner, who may allow that by the mode.
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let mut opened = OpenOptions::new().write(true).open(&path).unwrap();
        assert!(opened.write_all(b"x").is_err());
        assert!(fcntl_add_seals(&made, SealFlags::FUTURE_WRITE).is_err());
    }
}
