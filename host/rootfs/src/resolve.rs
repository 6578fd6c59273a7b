//! Walking a path inside a root, symlinks included, as chroot would.

use crate::{RootPath, RootfsError};

/// As many symlinks as the kernel follows in one resolution (path_resolution(7), MAXSYMLINKS).
const MAX_SYMLINKS: usize = 40;

/// What stands at a path whose parents hold no symlink.
pub(crate) enum Node {
    Missing,
    Directory,
    /// With its target, as stored.
    Symlink(Vec<u8>),
    Other,
}

/// Where a walk ended.
pub(crate) struct Resolved {
    /// No parent is a symlink; what does not exist yet is appended as it was spelled.
    pub path: RootPath,
    pub exists: bool,
    pub is_directory: bool,
    /// The path runs through this, which is neither a directory nor a symlink. Then nothing exists at `path`.
    pub blocked_by: Option<RootPath>,
}

/// Walks `path` component by component; `look` tells what stands at a path whose parents are real directories. An absolute
/// target starts at the root again, `..` stops there. The last component is followed only if `follow`.
pub(crate) fn resolve(
    path: &RootPath,
    follow: bool,
    mut look: impl FnMut(&RootPath) -> Result<Node, RootfsError>,
) -> Result<Resolved, RootfsError> {
    let mut ahead: Vec<Vec<u8>> = path.components().rev().map(<[u8]>::to_vec).collect();
    let mut here = Resolved { path: RootPath::root(), exists: true, is_directory: true, blocked_by: None };
    let mut followed = 0;
    while let Some(name) = ahead.pop() {
        if name == b".." {
            let above = here.path.parent().unwrap_or_default();
            // What is above something that exists is a directory. Above what does not, only a look can tell.
            let is_directory = here.exists || matches!(look(&above)?, Node::Directory);
            here = Resolved { path: above, exists: is_directory, is_directory, blocked_by: here.blocked_by };
            continue;
        }
        let child = here.path.child(&name)?;
        if !here.is_directory {
            if here.exists && here.blocked_by.is_none() {
                here.blocked_by = Some(here.path);
            }
            here = Resolved { path: child, exists: false, is_directory: false, blocked_by: here.blocked_by };
            continue;
        }
        here = match look(&child)? {
            Node::Symlink(target) if follow || !ahead.is_empty() => {
                followed += 1;
                if followed > MAX_SYMLINKS {
                    return Err(RootfsError::SymlinkLoop(path.clone()));
                }
                // Checks the length and the bytes; the walk itself takes the components as they stand.
                RootPath::new(&target)?;
                let start = if target.starts_with(b"/") { RootPath::root() } else { here.path };
                let components = target.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b"."));
                ahead.extend(components.rev().map(<[u8]>::to_vec));
                Resolved { path: start, exists: true, is_directory: true, blocked_by: None }
            }
            Node::Directory => Resolved { path: child, exists: true, is_directory: true, blocked_by: None },
            Node::Missing => Resolved { path: child, exists: false, is_directory: false, blocked_by: None },
            Node::Symlink(_) | Node::Other => {
                Resolved { path: child, exists: true, is_directory: false, blocked_by: None }
            }
        };
    }
    Ok(here)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// `None` is a directory, `Some("")` a file, `Some(target)` a symlink.
    fn walk(entries: &[(&str, Option<&str>)], path: &str, follow: bool) -> Result<Resolved, RootfsError> {
        let entries: BTreeMap<RootPath, Option<&str>> =
            entries.iter().map(|(path, node)| (RootPath::new(path).unwrap(), *node)).collect();
        resolve(&RootPath::new(path).unwrap(), follow, |path| {
            Ok(match entries.get(path) {
                None => Node::Missing,
                Some(None) => Node::Directory,
                Some(Some("")) => Node::Other,
                Some(Some(target)) => Node::Symlink(target.as_bytes().to_vec()),
            })
        })
    }

    #[test]
    fn absolute_and_climbing_symlinks_stay_in_the_root() {
        let entries = [
            ("etc", None),
            ("etc/passwd", Some("")),
            ("abs", Some("/etc")),
            ("a", None),
            ("a/up", Some("../../../../etc")),
            ("a/dot", Some("./../a/./up/passwd")),
        ];
        for path in ["abs/passwd", "a/up/passwd", "a/dot"] {
            let found = walk(&entries, path, true).unwrap();
            assert_eq!((found.path.to_string().as_str(), found.exists), ("/etc/passwd", true), "{path}");
        }
        assert_eq!(walk(&entries, "a/dot", false).unwrap().path.to_string(), "/a/dot");
    }

    #[test]
    fn loops_end_and_forty_links_do_not() {
        let looping = [("a", Some("b")), ("b", Some("a"))];
        assert!(matches!(walk(&looping, "a/x", true), Err(RootfsError::SymlinkLoop(_))));
        for (links, resolves) in [(40, true), (41, false)] {
            let names: Vec<String> = (0..=links).map(|number| format!("l{number}")).collect();
            let mut entries: Vec<(&str, Option<&str>)> =
                names.windows(2).map(|pair| (pair[0].as_str(), Some(pair[1].as_str()))).collect();
            entries.push((names[links].as_str(), Some("")));
            assert_eq!(walk(&entries, "l0", true).is_ok(), resolves, "{links}");
        }
    }

    #[test]
    fn a_dangling_symlink_names_the_place_where_something_would_be_made() {
        let found = walk(&[("link", Some("/new/place"))], "link/file", true).unwrap();
        assert_eq!((found.path.to_string().as_str(), found.exists), ("/new/place/file", false));
        let found = walk(&[("link", Some("/new/../other"))], "link/file", true).unwrap();
        assert_eq!(found.path.to_string(), "/other/file");
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let found = walk(&[("file", Some(""))], "file/x/y", true).unwrap();
        assert_eq!((found.exists, found.blocked_by.unwrap().to_string().as_str()), (false, "/file"));
    }
}
