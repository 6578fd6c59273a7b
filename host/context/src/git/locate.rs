//! Finding the repository, and looking at its files before anything reads them.

use std::{
    fs::{self, OpenOptions},
    io::Read,
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// More files than the git directory of any repository has in use: loose objects and references.
const FILES_LIMIT: usize = 2_000_000;

/// How many repositories one may borrow objects from, directly or not.
const ALTERNATES_LIMIT: usize = 16;

/// Files that gix reads whole, and how large they may be, in bytes.
const WHOLE_FILES: [(&str, u64); 5] =
    [("HEAD", 4096), ("config", 4 << 20), ("index", 512 << 20), ("packed-refs", 256 << 20), ("shallow", 16 << 20)];

/// A checkout.
pub(super) struct Checkout {
    /// Where the files are.
    pub(super) worktree: PathBuf,
    /// Where the repository is: `.git`, or what that file names.
    pub(super) git_directory: PathBuf,
}

/// The checkout that the directory is or lies in.
pub(super) fn find(directory: &Path) -> Result<Option<Checkout>, String> {
    let reading = |path: &Path, error: std::io::Error| format!("can't read `{}`: {error}", path.display());
    let start = fs::canonicalize(directory).map_err(|error| reading(directory, error))?;
    let metadata = fs::metadata(&start).map_err(|error| reading(&start, error))?;
    let trusted = [metadata.uid(), rustix::process::geteuid().as_raw(), 0];
    for worktree in start.ancestors() {
        let entry = worktree.join(".git");
        let Ok(found) = fs::symlink_metadata(&entry) else { continue };
        if worktree != start && !trusted.contains(&found.uid()) {
            return Ok(None);
        }
        let git_directory = if found.is_dir() {
            entry
        } else if found.is_file() {
            // A linked worktree or a submodule (gitrepository-layout(5)).
            let content = read_small(&entry)?;
            let Some(target) = content.strip_prefix("gitdir:").map(str::trim) else { return Ok(None) };
            worktree.join(target)
        } else {
            return Ok(None);
        };
        if !git_directory.join("HEAD").exists() {
            return Ok(None);
        }
        inspect(&git_directory)?;
        let common = git_directory.join("commondir");
        if common.exists() {
            inspect(&git_directory.join(read_small(&common)?.trim()))?;
        }
        return Ok(Some(Checkout { worktree: worktree.to_path_buf(), git_directory }));
    }
    Ok(None)
}

/// Refuses files that make a reader wait (fifos, devices), that lead elsewhere (symlinks), or that are too large.
pub(super) fn inspect(git_directory: &Path) -> Result<(), String> {
    for (name, limit) in WHOLE_FILES {
        if fs::symlink_metadata(git_directory.join(name)).is_ok_and(|file| file.len() > limit) {
            return Err(format!("its `{name}` is larger than {limit} bytes"));
        }
    }
    let mut count = 0;
    inspect_files(git_directory, &mut count)?;
    // Object directories of other repositories that this one borrows from (gitrepository-layout(5), objects/info/alternates).
    let mut objects = vec![git_directory.join("objects")];
    for depth in 0.. {
        let Some(directory) = objects.pop() else { break };
        if depth > ALTERNATES_LIMIT {
            return Err(format!("it borrows objects from more than {ALTERNATES_LIMIT} repositories"));
        }
        let list = directory.join("info/alternates");
        if !list.exists() {
            continue;
        }
        for line in read_small(&list)?.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let borrowed = directory.join(line);
            inspect_files(&borrowed, &mut count)?;
            objects.push(borrowed);
        }
    }
    Ok(())
}

fn inspect_files(top: &Path, count: &mut usize) -> Result<(), String> {
    let mut directories = vec![top.to_path_buf()];
    while let Some(directory) = directories.pop() {
        let failed = |error| format!("can't list `{}`: {error}", directory.display());
        for entry in fs::read_dir(&directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let kind = entry.file_type().map_err(failed)?;
            *count += 1;
            if *count > FILES_LIMIT {
                return Err(format!("it has more than {FILES_LIMIT} files"));
            }
            if kind.is_dir() {
                // Hooks are never run, and submodules are repositories of their own.
                let skipped = directory == top && (entry.file_name() == "hooks" || entry.file_name() == "modules");
                if !skipped {
                    directories.push(entry.path());
                }
            } else if kind.is_fifo() || kind.is_char_device() || kind.is_block_device() || kind.is_symlink() {
                return Err(format!("`{}` is not a regular file", entry.path().display()));
            }
        }
    }
    Ok(())
}

fn read_small(path: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("can't read `{}`: {error}", path.display());
    let flags = (rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOFOLLOW).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed)?;
    let mut text = String::new();
    file.take(4096).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}
