//! The permissions of a file by its mode or, if it has one, by its access control list (acl(5)).

use rustix::fs::getxattr;
use std::{fs::Metadata, os::unix::fs::MetadataExt, path::Path};

/// The extended attribute with the list.
const ATTRIBUTE: &str = "system.posix_acl_access";
/// A list with more entries is not read.
const ENTRIES_MAX: usize = 1000;
/// The bytes before the first entry, and those of each entry.
const HEADER: usize = 4;
const ENTRY: usize = 8;
/// The kinds of entries.
const USER_OBJECT: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJECT: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// Who may do what with a file.
pub(super) struct Acl {
    owner: u32,
    group: u32,
    entries: Vec<AclEntry>,
}

struct AclEntry {
    kind: u16,
    permissions: u32,
    /// The user or group, if the entry names one.
    id: u32,
}

impl Acl {
    /// The list of a file, or what its mode says if it has none, or none that can be read.
    pub(super) fn of(path: &Path, file: &Metadata) -> Self {
        let (owner, group) = (file.uid(), file.gid());
        let mut attribute = vec![0; HEADER + ENTRIES_MAX * ENTRY];
        let listed = getxattr(path, ATTRIBUTE, &mut attribute[..]).ok();
        let entries = listed.and_then(|length| parse(attribute.get(..length)?));
        let entries = entries.unwrap_or_else(|| of_mode(file.mode()));
        Self { owner, group, entries }
    }

    /// What a user has: one set of permissions or, by the groups of the user, several, of which one must be enough.
    pub(super) fn permissions(&self, user: Option<u32>, groups: &[u32]) -> Vec<u32> {
        let of_kind = |kind| self.entries.iter().filter(move |entry| entry.kind == kind);
        let mask = of_kind(MASK).map(|entry| entry.permissions).next().unwrap_or(!0);
        if user == Some(self.owner) {
            return of_kind(USER_OBJECT).map(|entry| entry.permissions).collect();
        }
        let named = of_kind(USER).find(|entry| user == Some(entry.id));
        if let Some(named) = named {
            return vec![named.permissions & mask];
        }
        let own = of_kind(GROUP_OBJECT).filter(|_| groups.contains(&self.group));
        let named = of_kind(GROUP).filter(|entry| groups.contains(&entry.id));
        let by_group: Vec<_> = own.chain(named).map(|entry| entry.permissions & mask).collect();
        match by_group.is_empty() {
            true => of_kind(OTHER).map(|entry| entry.permissions).collect(),
            false => by_group,
        }
    }
}

fn of_mode(mode: u32) -> Vec<AclEntry> {
    let entry =
        |(kind, shift): (u16, u32)| AclEntry { kind, permissions: mode >> shift & 0o7, id: 0 };
    [(USER_OBJECT, 6), (GROUP_OBJECT, 3), (OTHER, 0)].map(entry).into()
}

/// The entries of the attribute; none if it is of another version.
fn parse(attribute: &[u8]) -> Option<Vec<AclEntry>> {
    let (version, entries) = attribute.split_first_chunk::<HEADER>()?;
    if u32::from_le_bytes(*version) != 2 {
        return None;
    }
    let (entries, rest) = entries.as_chunks::<ENTRY>();
    let parsed = entries.iter().map(|[kind, kind_high, granted, granted_high, id @ ..]| AclEntry {
        kind: u16::from_le_bytes([*kind, *kind_high]),
        permissions: u16::from_le_bytes([*granted, *granted_high]).into(),
        id: u32::from_le_bytes(*id),
    });
    rest.is_empty().then(|| parsed.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{XattrFlags, setxattr};
    use std::{fs, os::unix::fs::PermissionsExt};

    /// The attribute with these entries.
    fn attribute(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let bytes = entries.iter().flat_map(|(kind, permissions, id)| {
            [&kind.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat()
        });
        2_u32.to_le_bytes().into_iter().chain(bytes).collect()
    }

    fn acl(entries: &[(u16, u16, u32)]) -> Acl {
        let entries = parse(&attribute(entries)).unwrap();
        Acl { owner: 1, group: 2, entries }
    }

    #[test]
    fn a_mode_gives_the_owner_the_group_and_others_their_permissions() {
        let acl = Acl { owner: 1, group: 2, entries: of_mode(0o100_741) };
        assert_eq!(acl.permissions(Some(1), &[2]), [0o7]);
        assert_eq!(acl.permissions(Some(3), &[9, 2]), [0o4]);
        assert_eq!(acl.permissions(Some(3), &[9]), [0o1]);
        assert_eq!(acl.permissions(None, &[]), [0o1]);
    }

    #[test]
    fn a_list_gives_named_users_and_groups_what_the_mask_leaves() {
        let acl = acl(&[
            (USER_OBJECT, 0o6, u32::MAX),
            (USER, 0o7, 5),
            (GROUP_OBJECT, 0, u32::MAX),
            (GROUP, 0o5, 6),
            (MASK, 0o4, u32::MAX),
            (OTHER, 0, u32::MAX),
        ]);
        assert_eq!(acl.permissions(Some(1), &[]), [0o6], "the mask is not for the owner");
        assert_eq!(acl.permissions(Some(5), &[2]), [0o4]);
        assert_eq!(acl.permissions(Some(9), &[6]), [0o4]);
        assert_eq!(acl.permissions(Some(9), &[2, 6]), [0, 0o4], "one group is enough");
        assert_eq!(acl.permissions(Some(9), &[2]), [0]);
        assert_eq!(acl.permissions(Some(9), &[9]), [0]);
    }

    #[test]
    fn bytes_that_are_not_a_list_are_not_used() {
        let list = attribute(&[(OTHER, 0o4, 0)]);
        assert_eq!(parse(&list).unwrap().len(), 1);
        let other_version = [&[3, 0, 0, 0], &list[HEADER..]].concat();
        for bytes in [&[][..], &list[..7], &other_version] {
            assert!(parse(bytes).is_none(), "{bytes:?}");
        }
    }

    #[test]
    fn the_list_of_a_file_counts_and_not_its_mode() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o600)).unwrap();
        let metadata = || file.path().metadata().unwrap();
        let other = metadata().uid() + 7;
        assert_eq!(Acl::of(file.path(), &metadata()).permissions(Some(other), &[]), [0]);
        let list = attribute(&[
            (USER_OBJECT, 0o6, u32::MAX),
            (USER, 0o4, other),
            (GROUP_OBJECT, 0, u32::MAX),
            (MASK, 0o4, u32::MAX),
            (OTHER, 0, u32::MAX),
        ]);
        // Not every file system has lists; a boot test has one.
        if setxattr(file.path(), ATTRIBUTE, &list, XattrFlags::empty()).is_ok() {
            let acl = Acl::of(file.path(), &metadata());
            assert_eq!(acl.permissions(Some(other), &[]), [0o4]);
            assert_eq!(acl.permissions(Some(other + 1), &[]), [0]);
        }
    }
}
