//! Carries a transfer out.

use std::collections::BTreeSet;

use cofferdam_plugin_sdk::{
    Diagnostic, DiagnosticExt,
    diagnostics::{error, warning},
    fs::{Attributes, CopyOptions, Error as FsError, Kind, Owner, Path, ROOT, RootFs, Tree, write_file},
    instruction::Error,
    paths,
};

use crate::{FETCHED, Origin, Source, Transfer, dangling, mode, not_found};

/// As many symlinks as the kernel follows.
const SYMLINK_LIMIT: usize = 40;

/// Takes a file that should arrive otherwise than by being copied: ADD's archives.
pub type Unpack<'a> = &'a dyn Fn(&Arrival) -> Result<bool, Error>;

/// A file on its way.
pub struct Arrival<'a> {
    /// The tree that it is in.
    pub tree: &'a dyn Tree,
    /// Its path there.
    pub path: &'a [u8],
    /// How messages call it.
    pub shown: String,
    /// Whether it was fetched.
    pub is_fetched: bool,
    /// The destination of the whole step.
    pub destination: &'a [u8],
    /// What `--chown` says, resolved.
    pub owner: Option<Owner>,
    /// The file system of the stage.
    pub rootfs: &'a dyn RootFs,
}

/// Copies; `trees` are those of [`Transfer::planned`], and `unpack` answers whether it took a file. The answer is the
/// warnings.
///
/// # Errors
/// A source that must exist does not, or the host's.
pub fn copy(
    transfer: &Transfer,
    rootfs: &dyn RootFs,
    trees: &[&dyn Tree],
    unpack: Unpack,
) -> Result<Vec<Diagnostic>, Error> {
    let (owner, mut warnings) = match &transfer.owner {
        Some(owner) => owner.resolve_or_root(rootfs).map(|(owner, warnings)| (Some(owner), warnings))?,
        None => (None, Vec::new()),
    };
    if transfer.link {
        rootfs.stand_alone()?;
    }
    let (items, more) = found(transfer, trees)?;
    warnings.extend(more);
    let destination = transfer.destination.path.as_slice();
    let options = CopyOptions {
        owner,
        mode: transfer.mode.clone(),
        exclude: transfer.exclude.clone(),
        // Files of the context belong to root (Dockerfile reference, "COPY --chown"); those of other trees keep theirs.
        keep_owner: owner.is_none() && transfer.origin != Origin::Context,
    };
    let mut made_directory = false;
    let mut taken_by: Option<&[u8]> = None;
    for item in &items {
        // Asked for each: an earlier one may have made the destination.
        let into_directory = made_directory || goes_into_directory(transfer, item, rootfs)?;
        match item {
            Item::Heredoc { name, content } => {
                let target = match into_directory {
                    true => paths::join(destination, name.as_bytes()),
                    false => followed(transfer, rootfs)?,
                };
                let owner = owner.unwrap_or(ROOT);
                make_parent(rootfs, &target, owner)?;
                let mode = mode::applied(transfer.mode.as_ref(), 0o644);
                write_file(rootfs, &target, Attributes { mode, owner, mtime: None }, content.as_bytes())?;
            }
            Item::Directory { tree, path, kept: Some(kept) } => {
                let target = keep_parents(transfer, rootfs, (*tree, path, kept), owner)?;
                rootfs.copy_tree(*tree, path, &target, &options)?;
            }
            Item::File { tree, path, kept: Some(kept) } => {
                let target = keep_parents(transfer, rootfs, (*tree, path, kept), owner)?;
                rootfs.copy_tree(*tree, path, &target, &options)?;
            }
            Item::Directory { tree, path, kept: None } => {
                rootfs.copy_tree(*tree, path, destination, &options)?;
                made_directory = true;
            }
            Item::Fetched { tree, url, name } => {
                let arrival = Arrival {
                    tree: *tree,
                    path: FETCHED,
                    shown: (*url).to_owned(),
                    is_fetched: true,
                    destination,
                    owner,
                    rootfs,
                };
                if unpack(&arrival)? {
                    warnings.extend(transfer.mode.as_ref().map(|_| mode_unused(&arrival.shown)));
                    continue;
                }
                let target = match (name, into_directory) {
                    (Some(name), true) => paths::join(destination, name),
                    (None, true) => return Err(nameless(url).into()),
                    (_, false) => destination.to_vec(),
                };
                rootfs.copy_tree(*tree, FETCHED, &target, &options)?;
            }
            Item::File { tree, path, kept: None } => {
                let shown = paths::shown(path);
                let arrival = Arrival { tree: *tree, path, shown, is_fetched: false, destination, owner, rootfs };
                if unpack(&arrival)? {
                    warnings.extend(transfer.mode.as_ref().map(|_| mode_unused(&arrival.shown)));
                    continue;
                }
                if into_directory {
                    rootfs.copy_tree(*tree, path, &paths::join(destination, b""), &options)?;
                    continue;
                }
                if let Some(earlier) = taken_by.replace(path) {
                    warnings.push(overwritten(earlier, path, destination));
                }
                rootfs.copy_tree(*tree, path, destination, &options)?;
            }
        }
    }
    Ok(warnings)
}

enum Item<'a> {
    Heredoc {
        name: &'a str,
        content: &'a str,
    },
    /// `kept` is what `--parents` keeps of the path, with a leading slash.
    Directory {
        tree: &'a dyn Tree,
        path: Path,
        kept: Option<Path>,
    },
    File {
        tree: &'a dyn Tree,
        path: Path,
        kept: Option<Path>,
    },
    Fetched {
        tree: &'a dyn Tree,
        url: &'a str,
        name: &'a Option<Path>,
    },
}

/// Where a source goes beneath the destination if it keeps the directories that it is in; makes those, and the source
/// itself if it is one, as they are in the tree.
fn keep_parents(
    transfer: &Transfer,
    rootfs: &dyn RootFs,
    (tree, path, kept): (&dyn Tree, &[u8], &[u8]),
    owner: Option<Owner>,
) -> Result<Path, Error> {
    let destination = &transfer.destination.path;
    if destination != b"/" {
        let attributes = Attributes { mode: 0o755, owner: owner.unwrap_or(ROOT), mtime: None };
        rootfs.create_directories(destination, attributes)?;
    }
    let target = |length: usize| paths::resolve(destination, &kept[1..length]);
    let ends = (1..=kept.len()).filter(|end| kept.get(*end).is_none_or(|byte| *byte == b'/'));
    for end in ends.filter(|_| kept.len() > 1) {
        let source = &path[..path.len() - kept.len() + end];
        let Some(metadata) = tree.stat(source, true)? else { continue };
        if metadata.kind == Kind::Directory {
            let own = if transfer.origin == Origin::Context { ROOT } else { metadata.owner };
            let mode = mode::applied(transfer.mode.as_ref(), metadata.mode);
            let attributes = Attributes { mode, owner: owner.unwrap_or(own), mtime: Some(metadata.mtime) };
            rootfs.create_directories(&target(end), attributes)?;
        }
    }
    Ok(target(kept.len()))
}

/// What is left of a path without so many of its directories.
fn after_pivot(path: &[u8], pivot: usize) -> Path {
    let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).skip(pivot);
    let mut kept: Path = names.flat_map(|name| [b"/", name].concat()).collect();
    if kept.is_empty() {
        kept.push(b'/');
    }
    kept
}

/// What the sources stand for.
fn found<'a>(transfer: &'a Transfer, trees: &[&'a dyn Tree]) -> Result<(Vec<Item<'a>>, Vec<Diagnostic>), Error> {
    let mut trees = trees.iter().copied();
    let tree = if transfer.patterns().next().is_some() { trees.next() } else { None };
    let mut fetched = |written: &str| trees.next().ok_or_else(|| not_found(written, &transfer.origin));
    let mut items = Vec::new();
    let mut warnings = Vec::new();
    for source in &transfer.sources {
        let (written, pattern, pivot, wildcards) = match source {
            Source::Heredoc { name, content } => {
                items.push(Item::Heredoc { name, content });
                continue;
            }
            Source::Url { url, name } => {
                items.push(Item::Fetched { tree: fetched(url)?, url, name });
                continue;
            }
            Source::Git { written, .. } => {
                items.push(Item::Directory { tree: fetched(written)?, path: b"/".to_vec(), kept: None });
                continue;
            }
            Source::Pattern { written, pattern, pivot, wildcards } => (written, pattern, *pivot, *wildcards),
        };
        let tree = tree.ok_or_else(|| not_found(written, &transfer.origin))?;
        let mut paths = tree.glob(pattern)?;
        if paths.is_empty() {
            if !wildcards {
                return Err(nowhere(tree, written, pattern, &transfer.origin).into());
            }
            let message = format!("`{written}` matches nothing in {}", transfer.origin.shown());
            warnings.push(warning("CopyMatchesNothing", message).help("check the pattern, or remove it"));
        }
        if wildcards {
            // What a pattern matched is left out by its own name; a name that was written out is wanted.
            paths.retain(|path| !is_excluded(path, &transfer.exclude));
        }
        if transfer.parents {
            paths = outermost(tree, paths)?;
        }
        for path in paths {
            let kept = transfer.parents.then(|| after_pivot(&path, pivot));
            match tree.stat(&path, true)? {
                Some(metadata) if metadata.kind == Kind::Directory => items.push(Item::Directory { tree, path, kept }),
                Some(_) => items.push(Item::File { tree, path, kept }),
                // A symbolic link that leads nowhere.
                None => return Err(nowhere(tree, &paths::shown(&path), &path, &transfer.origin).into()),
            }
        }
    }
    Ok((items, warnings))
}

/// Without what a directory among them brings along: `**` matches both.
fn outermost(tree: &dyn Tree, paths: Vec<Path>) -> Result<Vec<Path>, Error> {
    let mut directories = BTreeSet::new();
    let mut kept = Vec::new();
    for path in paths {
        let mut above = (1..path.len()).filter(|end| path[*end] == b'/').map(|end| &path[..end]);
        if above.any(|directory| directories.contains(directory)) {
            continue;
        }
        if tree.stat(&path, true)?.is_some_and(|metadata| metadata.kind == Kind::Directory) {
            directories.insert(path.clone());
        }
        kept.push(path);
    }
    Ok(kept)
}

/// Why nothing is at the end of a path: the first link on the way that leads nowhere, or else just that.
fn nowhere(tree: &dyn Tree, written: &str, path: &[u8], origin: &Origin) -> Diagnostic {
    let ends = (1..path.len()).filter(|end| path[*end] == b'/').chain([path.len()]);
    for end in ends {
        let Ok(Some(entry)) = tree.stat(&path[..end], false) else { break };
        if entry.kind == Kind::Symlink && matches!(tree.stat(&path[..end], true), Ok(None)) {
            return dangling(&paths::shown(&path[..end]), &entry.link_target, origin);
        }
    }
    not_found(written, origin)
}

/// Whether a file gets its own name beneath the destination.
fn goes_into_directory(transfer: &Transfer, item: &Item, rootfs: &dyn RootFs) -> Result<bool, Error> {
    if transfer.destination.is_directory || transfer.sources.len() > 1 {
        return Ok(true);
    }
    match item {
        // What is below does not count, and what keeps its parents has its place.
        _ if transfer.link || transfer.parents => Ok(false),
        Item::File { .. } | Item::Fetched { .. } | Item::Heredoc { .. } => {
            let existing = rootfs.stat(&transfer.destination.path, true)?;
            Ok(existing.is_some_and(|metadata| metadata.kind == Kind::Directory))
        }
        Item::Directory { .. } => Ok(false),
    }
}

/// A finding about a URL that names no file, where the file needs a name.
pub fn nameless(url: &str) -> Diagnostic {
    error("NoFileName", format!("`{url}` names no file that could be put into a directory"))
        .help("write the file's name at the end of the destination")
}

/// Where the destination leads if it is a symlink: what was named is written through, as BuildKit does; what has a name in a
/// directory is replaced.
fn followed(transfer: &Transfer, rootfs: &dyn RootFs) -> Result<Path, Error> {
    let mut place = transfer.destination.path.clone();
    if transfer.link {
        return Ok(place);
    }
    for _ in 0..SYMLINK_LIMIT {
        match rootfs.stat(&place, false) {
            Ok(Some(metadata)) if metadata.kind == Kind::Symlink => {
                place = paths::resolve(&paths::resolve(&place, b".."), &metadata.link_target);
            }
            // A link in the middle of several, which the step did not ask for.
            Ok(_) | Err(FsError::Denied(_)) => return Ok(place),
            Err(error) => return Err(error.into()),
        }
    }
    Err(FsError::SymlinkLoop(place).into())
}

/// A pattern that matched several files, and a destination that is no directory: as in BuildKit the last one stays.
fn overwritten(earlier: &[u8], path: &[u8], destination: &[u8]) -> Diagnostic {
    let message = format!("`{}` replaces `{}`", paths::shown(path), paths::shown(earlier));
    let help = format!("write `{}/` if it is to be a directory", String::from_utf8_lossy(destination));
    warning("CopyOverwrites", message).help(help)
}

fn mode_unused(shown: &str) -> Diagnostic {
    let message = format!("what is unpacked of `{shown}` keeps the modes of the archive");
    warning("FlagWithoutEffect", message).help("remove `--chmod`, or write `--unpack=false` to copy the archive itself")
}

/// The last pattern that fits decides, and `!` takes back.
fn is_excluded(path: &[u8], exclude: &[String]) -> bool {
    let name = paths::base_name(path);
    exclude.iter().fold(false, |excluded, pattern| match pattern.strip_prefix('!') {
        Some(pattern) => excluded && !paths::name_matches(pattern.as_bytes(), name),
        None => excluded || paths::name_matches(pattern.as_bytes(), name),
    })
}

fn make_parent(rootfs: &dyn RootFs, path: &[u8], owner: Owner) -> Result<(), Error> {
    let parent = paths::resolve(path, b"..");
    if parent != b"/" {
        rootfs.create_directories(&parent, Attributes { mode: 0o755, owner, mtime: None })?;
    }
    Ok(())
}
