//! Who a task is in its own eyes: ids, groups and capabilities, which the kernel knows nothing of.

use rustix::io::Errno;

use crate::ResolvedUser;

/// CAP_* of linux/capability.h.
pub mod capability {
    /// chown to anybody.
    pub const CHOWN: u32 = 0;
    /// Read and write everything.
    pub const DAC_OVERRIDE: u32 = 1;
    /// Read everything.
    pub const DAC_READ_SEARCH: u32 = 2;
    /// Act as any file's owner.
    pub const FOWNER: u32 = 3;
    /// Keep setgid when changing a file of another group.
    pub const FSETID: u32 = 4;
    /// Become any group.
    pub const SETGID: u32 = 6;
    /// Become any user.
    pub const SETUID: u32 = 7;
    /// Change the bounding and inheritable sets.
    pub const SETPCAP: u32 = 8;
    /// chroot(2).
    pub const SYS_CHROOT: u32 = 18;
    /// Make devices.
    pub const MKNOD: u32 = 27;
    /// Give capabilities to files.
    pub const SETFCAP: u32 = 31;
}

/// Docker's default set without NET_RAW: what the other executors give too on the builder's network.
pub const CONTAINER_CAPABILITIES: u64 = 1 << 0 // CHOWN
    | 1 << 1 // DAC_OVERRIDE
    | 1 << 3 // FOWNER
    | 1 << 4 // FSETID
    | 1 << 5 // KILL
    | 1 << 6 // SETGID
    | 1 << 7 // SETUID
    | 1 << 8 // SETPCAP
    | 1 << 10 // NET_BIND_SERVICE
    | 1 << 18 // SYS_CHROOT
    | 1 << 27 // MKNOD
    | 1 << 29 // AUDIT_WRITE
    | 1 << 31; // SETFCAP

/// Real, effective, saved and file system id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FourIds {
    /// Real.
    pub real: u32,
    /// Effective.
    pub effective: u32,
    /// Saved.
    pub saved: u32,
    /// For files.
    pub file: u32,
}

impl FourIds {
    /// All the same.
    pub const fn all(id: u32) -> Self {
        Self { real: id, effective: id, saved: id, file: id }
    }

    fn has(self, id: u32) -> bool {
        [self.real, self.effective, self.saved].contains(&id)
    }

    /// setuid(2) and setgid(2).
    pub fn set(&mut self, id: u32, privileged: bool) -> Result<(), Errno> {
        if privileged {
            *self = Self::all(id);
        } else if id == self.real || id == self.saved {
            (self.effective, self.file) = (id, id);
        } else {
            return Err(Errno::PERM);
        }
        Ok(())
    }

    /// setreuid(2) and setregid(2); `u32::MAX` leaves one as it is.
    pub fn set_two(&mut self, real: u32, effective: u32, privileged: bool) -> Result<(), Errno> {
        let before = *self;
        if real != u32::MAX {
            if !privileged && real != before.real && real != before.effective {
                return Err(Errno::PERM);
            }
            self.real = real;
        }
        if effective != u32::MAX {
            if !privileged && !before.has(effective) {
                *self = before;
                return Err(Errno::PERM);
            }
            self.effective = effective;
        }
        if real != u32::MAX || (effective != u32::MAX && effective != before.real) {
            self.saved = self.effective;
        }
        self.file = self.effective;
        Ok(())
    }

    /// setresuid(2) and setresgid(2).
    pub fn set_three(&mut self, wanted: [u32; 3], privileged: bool) -> Result<(), Errno> {
        if !privileged && wanted.iter().any(|&id| id != u32::MAX && !self.has(id)) {
            return Err(Errno::PERM);
        }
        let [real, effective, saved] = wanted;
        let choose = |id: u32, old: u32| if id == u32::MAX { old } else { id };
        self.real = choose(real, self.real);
        self.effective = choose(effective, self.effective);
        self.saved = choose(saved, self.saved);
        self.file = self.effective;
        Ok(())
    }

    /// setfsuid(2) and setfsgid(2): answers the old one, whatever happens.
    pub fn set_file(&mut self, id: u32, privileged: bool) -> u32 {
        let old = self.file;
        if id != u32::MAX && (privileged || self.has(id) || id == old) {
            self.file = id;
        }
        old
    }
}

/// The sets of capabilities(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// What counts.
    pub effective: u64,
    /// What may become effective.
    pub permitted: u64,
    /// What exec may keep.
    pub inheritable: u64,
    /// What exec may give.
    pub bounding: u64,
}

/// Who a task is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// User.
    pub user: FourIds,
    /// Group.
    pub group: FourIds,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Capabilities.
    pub capabilities: Capabilities,
    /// PR_SET_KEEPCAPS.
    pub keep_capabilities: bool,
    /// PR_SET_NO_NEW_PRIVS, as the task asked for it (the kernel's own is always set).
    pub no_new_privileges: bool,
    /// PR_SET_DUMPABLE, likewise.
    pub dumpable: u64,
}

impl Identity {
    /// The one that a command begins with.
    pub fn of(user: &ResolvedUser) -> Self {
        let permitted = if user.uid == 0 { CONTAINER_CAPABILITIES } else { 0 };
        Self {
            user: FourIds::all(user.uid),
            group: FourIds::all(user.gid),
            groups: user.groups.clone(),
            capabilities: Capabilities {
                effective: permitted,
                permitted,
                inheritable: 0,
                bounding: CONTAINER_CAPABILITIES,
            },
            keep_capabilities: false,
            no_new_privileges: false,
            dumpable: 1,
        }
    }

    /// Whether a capability counts.
    pub fn can(&self, capability: u32) -> bool {
        self.capabilities.effective & 1 << capability != 0
    }

    /// Whether a group is one of its own, for access to files.
    pub fn is_in_group(&self, group: u32) -> bool {
        self.group.file == group || self.groups.contains(&group)
    }

    /// Changes user ids, with what that means for capabilities (capabilities(7), "Effect of user ID changes on
    /// capabilities").
    pub fn change_user(&mut self, change: impl FnOnce(&mut FourIds, bool) -> Result<(), Errno>) -> Result<(), Errno> {
        let before = self.user;
        change(&mut self.user, self.capabilities.effective & 1 << capability::SETUID != 0)?;
        let any_root = |ids: FourIds| ids.real == 0 || ids.effective == 0 || ids.saved == 0;
        if any_root(before) && !any_root(self.user) && !self.keep_capabilities {
            self.capabilities.permitted = 0;
            self.capabilities.effective = 0;
        }
        if before.effective == 0 && self.user.effective != 0 {
            self.capabilities.effective = 0;
        }
        if before.effective != 0 && self.user.effective == 0 {
            self.capabilities.effective = self.capabilities.permitted;
        }
        self.follow_file_user(before.file);
        Ok(())
    }

    /// CAP_CHOWN to FSETID follow the file system user.
    pub fn follow_file_user(&mut self, before: u32) {
        const OF_FILES: u64 = 0b1_1111;
        if before == 0 && self.user.file != 0 {
            self.capabilities.effective &= !OF_FILES;
        } else if before != 0 && self.user.file == 0 {
            self.capabilities.effective |= self.capabilities.permitted & OF_FILES;
        }
    }

    /// Changes group ids.
    pub fn change_group(&mut self, change: impl FnOnce(&mut FourIds, bool) -> Result<(), Errno>) -> Result<(), Errno> {
        let privileged = self.can(capability::SETGID);
        change(&mut self.group, privileged)
    }

    /// What exec makes of it; `owner` are the user and group that the file's setuid and setgid bits give. Answers whether
    /// the program has to be careful (AT_SECURE).
    pub fn exec(&mut self, owner: (Option<u32>, Option<u32>)) -> bool {
        let (user, group) = if self.no_new_privileges { (None, None) } else { owner };
        self.user.effective = user.unwrap_or(self.user.effective);
        self.group.effective = group.unwrap_or(self.group.effective);
        (self.user.saved, self.user.file) = (self.user.effective, self.user.effective);
        (self.group.saved, self.group.file) = (self.group.effective, self.group.effective);
        let sets = &mut self.capabilities;
        // capabilities(7), "Capabilities and execution of programs by root"; files of other users' programs have none here.
        sets.permitted =
            if self.user.effective == 0 || self.user.real == 0 { sets.inheritable | sets.bounding } else { 0 };
        sets.effective = if self.user.effective == 0 { sets.permitted } else { 0 };
        self.keep_capabilities = false;
        self.dumpable = 1;
        self.user.real != self.user.effective || self.group.real != self.group.effective
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> Identity {
        Identity::of(&ResolvedUser::root())
    }

    #[test]
    fn root_that_becomes_a_user_loses_everything_for_good() {
        let mut who = root();
        who.change_user(|ids, privileged| ids.set(33, privileged)).unwrap();
        assert_eq!(who.user, FourIds::all(33));
        assert_eq!((who.capabilities.permitted, who.capabilities.effective), (0, 0));
        assert_eq!(who.change_user(|ids, privileged| ids.set(0, privileged)), Err(Errno::PERM));
    }

    #[test]
    fn root_that_lends_its_effective_id_gets_it_back() {
        let mut who = root();
        who.change_user(|ids, privileged| ids.set_three([u32::MAX, 33, u32::MAX], privileged)).unwrap();
        assert!(!who.can(capability::DAC_OVERRIDE));
        who.change_user(|ids, privileged| ids.set_three([u32::MAX, 0, u32::MAX], privileged)).unwrap();
        assert_eq!(who, root());
    }

    #[test]
    fn a_setuid_program_gives_root() {
        let mut who = Identity::of(&ResolvedUser { uid: 5, gid: 5, groups: Vec::new(), home: "/".into() });
        assert!(who.exec((Some(0), None)));
        assert_eq!((who.user.real, who.user.effective), (5, 0));
        assert!(who.can(capability::CHOWN));
    }
}
