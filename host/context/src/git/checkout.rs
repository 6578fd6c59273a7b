//! Writing a commit's files, as `git checkout` would, into an empty directory.
//!
//! Attributes that change line endings or the encoding count, as they do for git; filters that are programs (LFS) do not,
//! and are named in a warning.

use std::path::Path;

use gix::{bstr::BString, bstr::ByteSlice, objs::tree::EntryKind};

use super::text;
use crate::{FetchError, FetchLimits, filling::Filling};

/// gix reads a file whole.
const FILE_LIMIT_BYTES: u64 = 4 << 30;

/// More directories in each other than a path has room for.
const DEPTH_LIMIT: usize = 2048;

/// How the content of a file begins that stands for one in Git LFS (its specification, "The Pointer").
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/v1\n";

/// What a checkout found.
#[derive(Debug, Default)]
pub(super) struct CheckedOut {
    /// Paths and commits of submodules, whose directories are there and empty.
    pub(super) submodules: Vec<(BString, gix::ObjectId)>,
    /// The content of `.gitmodules`.
    pub(super) modules: Option<Vec<u8>>,
    /// How many files are LFS pointers, and the first of them.
    pub(super) lfs: Option<(usize, BString)>,
}

/// Writes the tree's entries.
pub(super) fn write(
    repository: &gix::Repository,
    tree: gix::ObjectId,
    into: &Path,
    url: &str,
    limits: FetchLimits,
    stopped: &dyn Fn() -> bool,
) -> Result<CheckedOut, FetchError> {
    let broken = |reason: String| FetchError::Git { url: url.to_owned(), reason };
    let mut filling = Filling::new(into, url, limits)?;
    let (mut filters, _) = repository.filter_pipeline(Some(tree)).map_err(|error| broken(error.to_string()))?;
    let options = gix::filter::plumbing::pipeline::convert::to_worktree::Options {
        unknown_encoding: gix::filter::plumbing::pipeline::convert::to_worktree::UnknownEncoding::Fail,
        ..Default::default()
    };
    let mut found = CheckedOut::default();
    let mut waiting = vec![(tree, BString::default(), 0)];
    while let Some((id, directory, depth)) = waiting.pop() {
        if stopped() {
            return Err(FetchError::Stopped);
        }
        if depth > DEPTH_LIMIT {
            return Err(broken(format!("it has more than {DEPTH_LIMIT} directories in each other")));
        }
        super::check_size(repository, id).map_err(broken)?;
        let mut beneath = Vec::new();
        for entry in repository.find_tree(id).map_err(|error| broken(text(error)))?.iter() {
            let entry = entry.map_err(|error| broken(error.to_string()))?;
            let name = entry.filename();
            if is_reserved(name) {
                return Err(broken(format!("it has an entry `{name}` in `/{directory}`, which nothing may be called")));
            }
            let mut path = directory.clone();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name);
            let content = |limit| {
                let size = repository.find_header(entry.object_id()).map_err(|error| broken(text(error)))?.size();
                if size > limit {
                    return Err(FetchError::TooLarge { url: url.to_owned(), limit, unit: "bytes in one file" });
                }
                repository.find_blob(entry.object_id()).map_err(|error| broken(text(error)))
            };
            match entry.mode().kind() {
                EntryKind::Tree => {
                    filling.directory(&path, 0o755)?;
                    beneath.push((entry.object_id(), path, depth + 1));
                }
                EntryKind::Commit => {
                    filling.directory(&path, 0o755)?;
                    found.submodules.push((path, entry.object_id()));
                }
                EntryKind::Link => filling.symlink(&path, &content(4096)?.data)?,
                kind @ (EntryKind::Blob | EntryKind::BlobExecutable) => {
                    let blob = content(FILE_LIMIT_BYTES)?;
                    if blob.data.len() < 1024 && blob.data.starts_with(LFS_POINTER) {
                        found.lfs.get_or_insert_with(|| (0, path.clone())).0 += 1;
                    }
                    if path == ".gitmodules" {
                        found.modules = Some(blob.data.clone());
                    }
                    let converted = filters.convert_to_worktree(&blob.data, path.as_bstr(), options);
                    let mut converted = converted.map_err(|error| broken(format!("`{path}`: {error}")))?;
                    let mode = if kind == EntryKind::BlobExecutable { 0o755 } else { 0o644 };
                    filling.file(&path, mode, &mut converted)?;
                }
            }
        }
        // The first is to come next: attributes are then looked up once for each directory.
        waiting.extend(beneath.into_iter().rev());
    }
    filling.finish()?;
    Ok(found)
}

/// What git refuses in a tree (git-fsck(1), hasDot, hasDotdot, hasDotgit, fullPathname): `.git` would be the repository's own.
fn is_reserved(name: &[u8]) -> bool {
    matches!(name, b"" | b"." | b"..") || name.eq_ignore_ascii_case(b".git") || name.contains(&b'/')
}
