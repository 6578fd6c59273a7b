//! USER, resolved in the image's own user database.

use serde::{Deserialize, Serialize};

/// Who a command runs as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedUser {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary group ids, sorted.
    pub groups: Vec<u32>,
    /// The home directory, for `HOME`; `/` when the user has no line in /etc/passwd, as container engines have it.
    pub home: String,
}

impl ResolvedUser {
    /// User and group 0 of an image that has no user database.
    pub fn root() -> Self {
        Self { uid: 0, gid: 0, groups: Vec::new(), home: "/root".into() }
    }
}

/// Why a user specification names nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// No such user.
    #[error("the image's /etc/passwd has no user `{name}`; create it in an earlier step, or give a number")]
    UnknownUser {
        /// As written.
        name: String,
    },
    /// No such group.
    #[error("the image's /etc/group has no group `{name}`; create it in an earlier step, or give a number")]
    UnknownGroup {
        /// As written.
        name: String,
    },
    /// A number that no id can have.
    #[error("`{id}` is not a user or group id: ids go from 0 to 2147483647")]
    OutOfRange {
        /// As written.
        id: String,
    },
}

/// Resolves `user`, `user:group`, `uid` and `uid:gid` (empty means root) with the rules that container engines share:
///
/// - A name is looked up in /etc/passwd (then it must be there), a number need not be there.
/// - What is both a name in the database and a number is taken as the name.
/// - Without a group, the primary group is the one of the user's line (0 if there is none), and the supplementary groups
///   are those of /etc/group that list the user's name. With a group, there are no supplementary groups.
///
/// `passwd` and `group` are the bytes of the image's files (empty if it has none); lines that can't be read are skipped.
///
/// # Errors
/// A name is not in the database, or a number is out of range.
pub fn resolve_user(spec: &str, passwd: &[u8], group: &[u8]) -> Result<ResolvedUser, UserError> {
    let (user, wanted_group) = match spec.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (spec, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let passwd: Vec<PasswdLine<'_>> = lines(passwd).filter_map(PasswdLine::parse).collect();

    let named = passwd.iter().find(|line| line.name == user);
    let line = match (named, number(user)?) {
        (Some(line), _) => Some(line),
        (None, Some(uid)) => passwd.iter().find(|line| line.uid == uid),
        (None, None) => return Err(UserError::UnknownUser { name: user.into() }),
    };
    let uid = match line {
        Some(line) => line.uid,
        None => number(user)?.unwrap_or(0),
    };
    let mut resolved = ResolvedUser {
        uid,
        gid: line.map_or(0, |line| line.gid),
        groups: Vec::new(),
        home: line.map(|line| line.home).filter(|home| !home.is_empty()).unwrap_or("/").into(),
    };
    match wanted_group {
        Some(name) => {
            let named = lines(group).filter_map(GroupLine::parse).find(|line| line.name == name);
            resolved.gid = match (named, number(name)?) {
                (Some(line), _) => line.gid,
                (None, Some(gid)) => gid,
                (None, None) => return Err(UserError::UnknownGroup { name: name.into() }),
            };
        }
        None => {
            if let Some(line) = line {
                let member_of = lines(group)
                    .filter_map(GroupLine::parse)
                    .filter(|group| group.members.split(',').any(|member| member == line.name))
                    .map(|group| group.gid);
                resolved.groups = member_of.collect();
                resolved.groups.sort_unstable();
                resolved.groups.dedup();
            }
        }
    }
    Ok(resolved)
}

struct PasswdLine<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

impl<'a> PasswdLine<'a> {
    /// `name:password:uid:gid:comment:home:shell`, passwd(5).
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let home = fields.nth(1).unwrap_or("");
        Some(Self { name, uid, gid, home })
    }
}

struct GroupLine<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

impl<'a> GroupLine<'a> {
    /// `name:password:gid:members`, group(5).
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some(Self { name, gid, members: fields.next().unwrap_or("") })
    }
}

/// The lines of a database that are text and no comments.
fn lines(database: &[u8]) -> impl Iterator<Item = &str> {
    database
        .split(|&byte| byte == b'\n')
        .filter_map(|line| std::str::from_utf8(line).ok())
        .map(|line| line.trim())
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// The number that a word is, if it is one.
fn number(word: &str) -> Result<Option<u32>, UserError> {
    // A number is digits only: `-1` and `+1` are names that nobody has.
    if word.is_empty() || !word.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match word.parse::<u32>() {
        Ok(id) if id <= i32::MAX as u32 => Ok(Some(id)),
        _ => Err(UserError::OutOfRange { id: word.into() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n\xff broken\napp:x:1000:100::/srv/app:/bin/sh\n\
        # comment:x:9:9::/:\n4242:x:7:8::/odd:\nshort:x:5\n";
    const GROUP: &[u8] = b"root:x:0:\nusers:x:100:\nwheel:x:10:app,other\naudio:x:29:app\nstaff:x:50:apple\n";

    fn resolve(spec: &str) -> Result<ResolvedUser, UserError> {
        resolve_user(spec, PASSWD, GROUP)
    }

    fn user(uid: u32, gid: u32, groups: &[u32], home: &str) -> ResolvedUser {
        ResolvedUser { uid, gid, groups: groups.to_vec(), home: home.into() }
    }

    #[test]
    fn a_name_gets_its_group_and_the_groups_that_list_it() {
        assert_eq!(resolve("app"), Ok(user(1000, 100, &[10, 29], "/srv/app")));
    }

    #[test]
    fn a_number_of_a_known_user_is_that_user() {
        assert_eq!(resolve("1000"), Ok(user(1000, 100, &[10, 29], "/srv/app")));
    }

    #[test]
    fn an_unknown_number_has_group_zero_and_the_root_directory_as_home() {
        assert_eq!(resolve("65532"), Ok(user(65532, 0, &[], "/")));
    }

    #[test]
    fn a_group_takes_the_supplementary_groups_away() {
        assert_eq!(resolve("app:wheel"), Ok(user(1000, 10, &[], "/srv/app")));
        assert_eq!(resolve("app:7"), Ok(user(1000, 7, &[], "/srv/app")));
        assert_eq!(resolve("65532:65532"), Ok(user(65532, 65532, &[], "/")));
    }

    #[test]
    fn empty_means_root() {
        assert_eq!(resolve(""), Ok(user(0, 0, &[], "/root")));
        assert_eq!(resolve(":users"), Ok(user(0, 100, &[], "/root")));
        assert_eq!(resolve("app:"), Ok(user(1000, 100, &[10, 29], "/srv/app")));
    }

    #[test]
    fn a_name_of_digits_wins_over_the_number() {
        assert_eq!(resolve("4242"), Ok(user(7, 8, &[], "/odd")));
    }

    #[test]
    fn unknown_names_and_impossible_numbers_are_errors() {
        assert_eq!(resolve("nobody"), Err(UserError::UnknownUser { name: "nobody".into() }));
        assert_eq!(resolve("comment"), Err(UserError::UnknownUser { name: "comment".into() }));
        assert_eq!(resolve("short"), Err(UserError::UnknownUser { name: "short".into() }));
        assert_eq!(resolve("app:nogroup"), Err(UserError::UnknownGroup { name: "nogroup".into() }));
        assert_eq!(resolve("4294967295"), Err(UserError::OutOfRange { id: "4294967295".into() }));
        assert_eq!(resolve("-1"), Err(UserError::UnknownUser { name: "-1".into() }));
    }

    #[test]
    fn an_image_without_databases_knows_numbers_only() {
        assert_eq!(resolve_user("0", b"", b""), Ok(user(0, 0, &[], "/")));
        assert!(resolve_user("root", b"", b"").is_err());
    }
}
