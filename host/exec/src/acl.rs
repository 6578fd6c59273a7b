//! POSIX access control lists (acl(5)) as the kernel keeps them in extended attributes, and what it makes of them.
//!
//! Images hold none: a list is true as long as the command runs, and its mask stays in the mode.

use rustix::io::Errno;

/// The attribute with the list that access is checked against.
pub const ACCESS: &[u8] = b"system.posix_acl_access";
/// The attribute of a directory with the list that new entries get.
pub const DEFAULT: &[u8] = b"system.posix_acl_default";

/// `POSIX_ACL_XATTR_VERSION` of linux/posix_acl_xattr.h.
const VERSION: u32 = 2;
const HEADER_BYTES: usize = 4;
const ENTRY_BYTES: usize = 8;

/// ACL_* tags of linux/posix_acl.h, in the order in which a list has them.
const OWNER: u16 = 0x01;
const USER: u16 = 0x02;
const OWNING_GROUP: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    tag: u16,
    permissions: u16,
    id: u32,
}

/// A list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessList(Vec<Entry>);

impl AccessList {
    /// Reads the value of an attribute; `None` is a list of nothing, which stands for no list. Whether it makes sense, only
    /// [`AccessList::check`] tells.
    ///
    /// # Errors
    /// EINVAL, or EOPNOTSUPP for another version.
    pub fn parse(value: &[u8]) -> Result<Option<Self>, Errno> {
        if value.is_empty() {
            return Ok(None);
        }
        let (version, entries) = value.split_at_checked(HEADER_BYTES).ok_or(Errno::INVAL)?;
        if u32::from_le_bytes(version.try_into().expect("four bytes")) != VERSION {
            return Err(Errno::OPNOTSUPP);
        }
        if !entries.len().is_multiple_of(ENTRY_BYTES) {
            return Err(Errno::INVAL);
        }
        let entry = |bytes: &[u8]| Entry {
            tag: u16::from_le_bytes([bytes[0], bytes[1]]),
            permissions: u16::from_le_bytes([bytes[2], bytes[3]]),
            id: u32::from_le_bytes(bytes[4..].try_into().expect("four bytes")),
        };
        let list = Self(entries.chunks_exact(ENTRY_BYTES).map(entry).collect());
        if list.0.iter().any(|entry| ![OWNER, USER, OWNING_GROUP, GROUP, MASK, OTHER].contains(&entry.tag)) {
            return Err(Errno::INVAL);
        }
        Ok((!list.0.is_empty()).then_some(list))
    }

    /// One owner, group and rest each, in order, and a mask where others are named (fs/posix_acl.c, posix_acl_valid).
    ///
    /// # Errors
    /// EINVAL.
    pub fn check(&self) -> Result<(), Errno> {
        let count = |tag: u16| self.0.iter().filter(|entry| entry.tag == tag).count();
        let named = count(USER) + count(GROUP) > 0;
        let possible = self.0.iter().all(|entry| entry.permissions <= 7);
        let ordered = self.0.is_sorted_by_key(|entry| entry.tag);
        let once = [OWNER, OWNING_GROUP, OTHER].iter().all(|&tag| count(tag) == 1);
        if possible && ordered && once && count(MASK) <= 1 && (!named || count(MASK) == 1) {
            Ok(())
        } else {
            Err(Errno::INVAL)
        }
    }

    /// The value of the attribute.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = VERSION.to_le_bytes().to_vec();
        for entry in &self.0 {
            bytes.extend_from_slice(&entry.tag.to_le_bytes());
            bytes.extend_from_slice(&entry.permissions.to_le_bytes());
            let named = matches!(entry.tag, USER | GROUP);
            bytes.extend_from_slice(&if named { entry.id } else { u32::MAX }.to_le_bytes());
        }
        bytes
    }

    fn has(&self, tag: u16) -> Option<u16> {
        self.0.iter().find(|entry| entry.tag == tag).map(|entry| entry.permissions)
    }

    /// What stands behind the group's bits of the mode: the mask, or else the group.
    fn group_class(&self) -> u16 {
        self.has(MASK).or_else(|| self.has(OWNING_GROUP)).unwrap_or(0)
    }

    /// The permission bits that say the same, as far as bits can.
    pub fn mode(&self) -> u32 {
        let bits = |tag: u16| u32::from(self.has(tag).unwrap_or(0));
        bits(OWNER) << 6 | u32::from(self.group_class()) << 3 | bits(OTHER)
    }

    /// Whether the bits say it all.
    pub fn is_mode(&self) -> bool {
        self.0.iter().all(|entry| !matches!(entry.tag, USER | GROUP | MASK))
    }

    /// chmod(2) changes the owner's entry, the mask or else the group's, and the others'.
    pub fn set_mode(&mut self, mode: u32) {
        let has_mask = self.has(MASK).is_some();
        for entry in &mut self.0 {
            entry.permissions = match entry.tag {
                OWNER => mode >> 6 & 7,
                OWNING_GROUP if !has_mask => mode >> 3 & 7,
                MASK => mode >> 3 & 7,
                OTHER => mode & 7,
                _ => continue,
            } as u16;
        }
    }

    /// What something new in a directory with this default list gets: the list, in which no more is allowed than `mode`
    /// asks for, stands in place of the umask.
    #[must_use]
    pub fn for_new(&self, mode: u32) -> Self {
        let mut list = self.clone();
        list.set_mode(mode & self.mode());
        list
    }

    /// Whether somebody who is not the owner may (`wanted`: read 4, write 2, execute 1).
    pub fn allows(&self, user: u32, is_in_group: impl Fn(u32) -> bool, owning_group: u32, wanted: u32) -> bool {
        let masked = |permissions: u16| u32::from(permissions & self.has(MASK).unwrap_or(7)) & wanted == wanted;
        if let Some(entry) = self.0.iter().find(|entry| entry.tag == USER && entry.id == user) {
            return masked(entry.permissions);
        }
        let group = |entry: &&Entry| match entry.tag {
            OWNING_GROUP => is_in_group(owning_group),
            GROUP => is_in_group(entry.id),
            _ => false,
        };
        let mut groups = self.0.iter().filter(group).peekable();
        if groups.peek().is_some() {
            return groups.any(|entry| masked(entry.permissions));
        }
        u32::from(self.has(OTHER).unwrap_or(0)) & wanted == wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(u16, u16, u32)]) -> AccessList {
        AccessList(entries.iter().map(|&(tag, permissions, id)| Entry { tag, permissions, id }).collect())
    }

    #[test]
    fn a_list_is_what_the_kernel_would_take() {
        let named = [
            (OWNER, 7, u32::MAX),
            (USER, 6, 33),
            (OWNING_GROUP, 5, u32::MAX),
            (MASK, 4, u32::MAX),
            (OTHER, 0, u32::MAX),
        ];
        let whole = list(&named);
        assert_eq!(AccessList::parse(&whole.to_bytes()), Ok(Some(whole.clone())));
        assert_eq!(whole.check(), Ok(()));
        assert_eq!((whole.mode(), whole.is_mode()), (0o740, false));
        assert!(list(&[(OWNER, 7, 0), (OWNING_GROUP, 5, 0), (OTHER, 1, 0)]).is_mode());
        for missing in 0..named.len() {
            let mut cut = named.to_vec();
            cut.remove(missing);
            let without_user = missing == 1;
            assert_eq!(list(&cut).check().is_ok(), without_user, "{missing}");
        }
        assert_eq!(AccessList::parse(&1_u32.to_le_bytes()), Err(Errno::OPNOTSUPP));
        assert_eq!(AccessList::parse(&VERSION.to_le_bytes()), Ok(None));
    }

    #[test]
    fn the_mask_holds_for_all_but_owner_and_others() {
        let list =
            list(&[(OWNER, 7, 0), (USER, 7, 33), (OWNING_GROUP, 6, 0), (GROUP, 1, 9), (MASK, 5, 0), (OTHER, 2, 0)]);
        let may = |user, groups: &[u32], wanted| list.allows(user, |group| groups.contains(&group), 4, wanted);
        assert!(may(33, &[], 5) && !may(33, &[], 2));
        assert!(may(1, &[4], 4) && !may(1, &[4], 2) && may(1, &[9], 1) && !may(1, &[4, 9], 5));
        assert!(may(1, &[], 2) && !may(1, &[], 4));
    }
}
