//! Users and groups as `--chown` and USER spell them, resolved by the image's own files.

use std::fmt;

use crate::{
    diagnostics::{Diagnostic, DiagnosticExt, error, warning},
    fs::{CHUNK_BYTES, Error as FsError, Owner, RootFs},
    instruction::Error,
};

/// Where users stand (passwd(5)).
pub const PASSWD: &[u8] = b"/etc/passwd";
/// Where groups stand (group(5)).
pub const GROUP: &[u8] = b"/etc/group";

/// The code of the finding about a name that the image does not have.
pub const UNKNOWN: &str = "UnknownAccount";

/// `user`, `uid`, `user:group`, `uid:gid` and what lies between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    user: Id,
    group: Option<Id>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Id {
    Number(u32),
    Name(String),
}

impl Account {
    /// Takes `user[:group]` apart.
    ///
    /// # Errors
    /// A part is empty, or a number too large for an id.
    pub fn parse(text: &str) -> Result<Self, Diagnostic> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        let id = |part: &str| {
            if part.is_empty() || part.contains(':') {
                let problem = error("InvalidOwner", format!("`{text}` does not name an owner"));
                return Err(problem.help("write `user`, `user:group`, `uid` or `uid:gid`"));
            }
            if part.bytes().all(|byte| byte.is_ascii_digit()) {
                let problem = || error("InvalidOwner", format!("`{part}` is larger than any user or group id"));
                // The last value means "unchanged" to chown(2).
                return part.parse().ok().filter(|id| *id < u32::MAX).map(Id::Number).ok_or_else(problem);
            }
            Ok(Id::Name(part.to_owned()))
        };
        Ok(Self { user: id(user)?, group: group.map(id).transpose()? })
    }

    /// The files of the image that [`Account::resolve`] reads.
    pub fn reads(&self) -> Vec<&'static [u8]> {
        let mut reads = Vec::new();
        if matches!(self.user, Id::Name(_)) {
            reads.push(PASSWD);
        }
        if matches!(self.group, Some(Id::Name(_))) {
            reads.push(GROUP);
        }
        reads
    }

    /// Whether it is root, however it is spelled.
    pub fn is_root(&self) -> bool {
        let root = |id: &Id| matches!(id, Id::Number(0)) || matches!(id, Id::Name(name) if name == "root");
        root(&self.user) && self.group.as_ref().is_none_or(root)
    }

    /// The ids. Without a group, a name brings its group from the image's passwd file, and a number is its own group.
    ///
    /// # Errors
    /// A name that the image does not know, or files that were not declared as read.
    pub fn resolve(&self, rootfs: &dyn RootFs) -> Result<Owner, Error> {
        let unknown = |missing: Missing| {
            let help = format!("add the {} in an earlier step, or write the numeric id", missing.what);
            Err(error(UNKNOWN, missing.to_string()).help(help).into())
        };
        self.ids(rootfs, unknown)
    }

    /// The ids as BuildKit takes them for files: root stands for a user that the image does not know, and the user's own group for
    /// such a group. The findings are warnings about that.
    ///
    /// # Errors
    /// The files were not declared as read.
    pub fn resolve_or_root(&self, rootfs: &dyn RootFs) -> Result<(Owner, Vec<Diagnostic>), Error> {
        let mut warnings = Vec::new();
        let owner = self.ids(rootfs, |missing| {
            let instead = if missing.what == "user" { "root" } else { "the group of its user" };
            let message = format!("{missing}: {instead} stands for it");
            let help = format!("add the {} in an earlier step, or write the numeric id", missing.what);
            warnings.push(warning(UNKNOWN, message).help(help));
            Ok(())
        })?;
        Ok((owner, warnings))
    }

    /// The ids; of a name that the image does not know those of root, if `unknown` lets that pass.
    fn ids(&self, rootfs: &dyn RootFs, mut unknown: impl FnMut(Missing) -> Result<(), Error>) -> Result<Owner, Error> {
        let (uid, own_gid) = match &self.user {
            Id::Number(uid) => (*uid, *uid),
            Id::Name(name) => {
                let found = look_up(rootfs, PASSWD, name, (0, 0), |fields| Some((id(fields, 2)?, id(fields, 3)?)))?;
                match found {
                    Some(ids) => ids,
                    None => {
                        unknown(Missing { what: "user", name: name.clone(), file: "/etc/passwd" })?;
                        (0, 0)
                    }
                }
            }
        };
        let gid = match &self.group {
            None => own_gid,
            Some(Id::Number(gid)) => *gid,
            Some(Id::Name(name)) => match look_up(rootfs, GROUP, name, 0, |fields| id(fields, 2))? {
                Some(gid) => gid,
                None => {
                    unknown(Missing { what: "group", name: name.clone(), file: "/etc/group" })?;
                    own_gid
                }
            },
        };
        Ok(Owner { uid, gid })
    }
}

/// A name that is not in its file.
struct Missing {
    what: &'static str,
    name: String,
    file: &'static str,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the image has no {} `{}` in {}", self.what, self.name, self.file)
    }
}

/// The ids of the line that begins with the name, if there is one.
fn look_up<T>(
    rootfs: &dyn RootFs,
    path: &[u8],
    name: &str,
    roots: T,
    ids: impl Fn(&[&[u8]]) -> Option<T>,
) -> Result<Option<T>, Error> {
    let content = match rootfs.read_file(path, CHUNK_BYTES) {
        Ok(content) => content,
        Err(FsError::NotFound(_)) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    for line in content.split(|byte| *byte == b'\n') {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
        if fields[0] == name.as_bytes()
            && let Some(ids) = ids(&fields)
        {
            return Ok(Some(ids));
        }
    }
    // Root needs no entry: images from scratch have no /etc/passwd at all.
    Ok((name == "root").then_some(roots))
}

fn id(fields: &[&[u8]], index: usize) -> Option<u32> {
    std::str::from_utf8(fields.get(index)?).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::MemoryRoot;

    fn root() -> MemoryRoot {
        let root = MemoryRoot::default();
        root.add_file(PASSWD, b"root:x:0:0::/root:/bin/sh\nbroken\nweb:x:33:44:web:/:/bin/false\n");
        root.add_file(GROUP, b"root:x:0:\nstaff:x:50:web\n");
        root
    }

    fn resolve(text: &str) -> Result<Owner, Error> {
        Account::parse(text).map_err(Error::from)?.resolve(&root())
    }

    #[test]
    fn names_come_from_the_image_and_numbers_from_the_text() {
        for (text, uid, gid) in [
            ("web", 33, 44),
            ("web:staff", 33, 50),
            ("web:7", 33, 7),
            ("1000", 1000, 1000),
            ("1000:staff", 1000, 50),
            ("1000:2000", 1000, 2000),
        ] {
            assert_eq!(resolve(text).unwrap(), Owner { uid, gid }, "{text}");
        }
    }

    #[test]
    fn unknown_names_and_malformed_texts_are_errors() {
        for text in ["nobody", "web:nobody", "broken", "", ":staff", "web:", "a:b:c", "4294967295", "99999999999"] {
            assert!(resolve(text).is_err(), "{text}");
        }
    }

    #[test]
    fn files_get_root_instead_of_an_unknown_user_and_its_group_instead_of_an_unknown_group() {
        for (text, uid, gid, count) in [
            ("web:staff", 33, 50, 0),
            ("nobody", 0, 0, 1),
            ("nobody:staff", 0, 50, 1),
            ("web:nobody", 33, 44, 1),
            ("nobody:nobody", 0, 0, 2),
            ("7:nobody", 7, 7, 1),
        ] {
            let (owner, warnings) = Account::parse(text).unwrap().resolve_or_root(&root()).unwrap();
            assert_eq!((owner, warnings.len()), (Owner { uid, gid }, count), "{text}");
            assert!(warnings.iter().all(|warning| warning.code == UNKNOWN), "{text}");
        }
    }

    #[test]
    fn root_needs_no_files() {
        assert_eq!(
            Account::parse("root:root").unwrap().resolve(&MemoryRoot::default()).unwrap(),
            Owner { uid: 0, gid: 0 }
        );
    }

    #[test]
    fn only_names_are_looked_up() {
        assert!(Account::parse("1:2").unwrap().reads().is_empty());
        assert_eq!(Account::parse("web").unwrap().reads(), [PASSWD]);
        assert_eq!(Account::parse("web:staff").unwrap().reads(), [PASSWD, GROUP]);
        assert!(Account::parse("1:2").unwrap().resolve(&MemoryRoot::default()).is_ok());
    }
}
