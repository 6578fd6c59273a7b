//! Whether the tracked files are those of the commit.
//!
//! As `git status` decides it, without filters: HEAD against the index, then the index against the files. A file whose size and
//! time are those of the index is taken to be unchanged, any other is hashed. Where a filter changes what is written to
//! disk (line endings, LFS), a file that was touched since the checkout counts as changed.

use std::{io::Read, path::Path};

use cofferdam_rootfs::{ConfinedDir, Kind, RootPath};
use gix::{
    bstr::{BString, ByteSlice},
    index::entry::{Flags, Mode, Stage},
};

use super::{OBJECT_LIMIT_BYTES, text};

/// How many trees are read before the comparison gives up: a tree bomb names the same one again and again.
const TREES_LIMIT: usize = 1_000_000;

/// Whether a tracked file differs from the commit with this tree.
pub(super) fn differs(repository: &gix::Repository, worktree: &Path, tree: gix::ObjectId) -> Result<bool, String> {
    let Some(index) = repository.try_index().map_err(text)? else {
        // No index at all: `git status` shows every file as removed.
        return Ok(true);
    };
    Ok(!is_tree(repository, &index, tree)? || files_differ(repository, &index, worktree)?)
}

/// Whether the index is what the tree says.
fn is_tree(repository: &gix::Repository, index: &gix::index::State, root: gix::ObjectId) -> Result<bool, String> {
    if index
        .entries()
        .iter()
        .any(|entry| entry.stage() != Stage::Unconflicted || entry.flags.contains(Flags::INTENT_TO_ADD))
    {
        return Ok(false);
    }
    if index.tree().is_some_and(|cached| cached.num_entries.is_some() && cached.id == root) {
        return Ok(true);
    }
    let (mut matched, mut trees) = (0, 0);
    let mut waiting = vec![(root, BString::default())];
    while let Some((id, prefix)) = waiting.pop() {
        trees += 1;
        if trees > TREES_LIMIT {
            return Err(format!("its commit has more than {TREES_LIMIT} directories"));
        }
        if repository.find_header(id).map_err(text)?.size() > OBJECT_LIMIT_BYTES {
            return Err(format!("the object {id} is larger than {OBJECT_LIMIT_BYTES} bytes"));
        }
        for entry in repository.find_tree(id).map_err(text)?.iter() {
            let entry = entry.map_err(text)?;
            let mut path = prefix.clone();
            path.extend_from_slice(entry.filename());
            if entry.mode().is_tree() {
                path.push(b'/');
                waiting.push((entry.object_id(), path));
                continue;
            }
            let known = index.entry_by_path(path.as_bstr());
            let same = |known: &&gix::index::Entry| {
                known.id == entry.object_id() && known.mode.to_tree_entry_mode() == Some(entry.mode())
            };
            if known.filter(same).is_none() {
                return Ok(false);
            }
            matched += 1;
        }
    }
    Ok(matched == index.entries().len())
}

/// Whether a file differs from the index.
fn files_differ(repository: &gix::Repository, index: &gix::index::State, worktree: &Path) -> Result<bool, String> {
    let root = ConfinedDir::open(worktree).map_err(text)?;
    let modes_count = repository.config_snapshot().boolean("core.fileMode").unwrap_or(true);
    for entry in index.entries() {
        let given = Flags::SKIP_WORKTREE | Flags::ASSUME_VALID;
        if entry.mode == Mode::COMMIT || entry.mode == Mode::DIR || entry.flags.intersects(given) {
            continue;
        }
        let path = RootPath::new(entry.path(index)).map_err(text)?;
        // A directory on the way that is something else now: the file is gone.
        let Ok(Some(found)) = root.entry(&path) else { return Ok(true) };
        let metadata = found.metadata;
        let same = match (&metadata.kind, entry.mode) {
            (Kind::Symlink { target }, Mode::SYMLINK) => {
                hash(repository, target.len() as u64, &mut &target[..])? == Some(entry.id)
            }
            (Kind::File { size }, Mode::FILE | Mode::FILE_EXECUTABLE) => {
                let executable = metadata.mode & 0o100 != 0;
                let mode_differs = modes_count && executable != (entry.mode == Mode::FILE_EXECUTABLE);
                let stat = &entry.stat;
                let time = (metadata.mtime.seconds, metadata.mtime.nanoseconds);
                let recorded = (i64::from(stat.mtime.secs), stat.mtime.nsecs);
                // Written in the same moment as the index: could have changed without a trace (git's "racy" entries).
                let racy = recorded.0 >= index.timestamp().unix_seconds();
                // Git may be built without nanoseconds.
                let untouched = time.0 == recorded.0 && (recorded.1 == 0 || time.1 == recorded.1);
                let unchanged = !racy && untouched && *size as u32 == stat.size;
                !mode_differs
                    && (unchanged || {
                        let mut file = root.open_file(&path).map_err(text)?;
                        hash(repository, *size, &mut file)? == Some(entry.id)
                    })
            }
            _ => false,
        };
        if !same {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The id of a blob with this content; `None` if it has another size by now.
fn hash(repository: &gix::Repository, size: u64, content: &mut dyn Read) -> Result<Option<gix::ObjectId>, String> {
    let mut hasher = gix::hash::hasher(repository.object_hash());
    hasher.update(format!("blob {size}\0").as_bytes());
    let mut buffer = vec![0; 64 << 10];
    let mut bytes = 0;
    loop {
        let count = content.read(&mut buffer).map_err(text)?;
        if count == 0 {
            break;
        }
        bytes += count as u64;
        // It grows while it is read.
        if bytes > size {
            return Ok(None);
        }
        hasher.update(&buffer[..count]);
    }
    let id = hasher.try_finalize().map_err(|error| error.to_string())?;
    Ok((bytes == size).then_some(id))
}
