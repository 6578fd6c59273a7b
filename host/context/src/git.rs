//! What a git checkout says of itself: for tagging policies, and for the epoch.
//!
//! The checkout is untrusted. It is only read: no hook, filter, file system monitor or other command of its configuration
//! runs, no `git` program either; configuration outside the repository, includes and environment variables do not count;
//! nothing is fetched. Files that would make a reader wait are refused before anything is opened, and what is read whole
//! is bounded.

mod checkout;
mod daemon;
mod failure;
mod fetch;
mod locate;
mod smart_http;
mod source;
mod ssh;
mod worktree;

use std::path::Path;

use gix::bstr::ByteSlice;

pub(crate) use fetch::beneath;
pub use fetch::{FetchedGit, fetch_git};
pub(crate) use source::decoded;
pub use source::{GitOptions, GitSource};

use crate::ContextError;

/// The largest commit or tag object that is read, in bytes. Real ones have a few hundred.
const OBJECT_LIMIT_BYTES: u64 = 16 << 20;

/// How many tags are looked at. The largest public repositories have some ten thousand.
const TAGS_LIMIT: usize = 200_000;

/// A tag of a tag of a tag: nobody nests deeper.
const TAG_DEPTH: usize = 5;

/// What is known of a checkout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitFacts {
    /// The commit's full id, in hexadecimal.
    pub commit: String,
    /// The branch that is checked out; `None` if HEAD is detached, as CI systems leave it.
    pub branch: Option<String>,
    /// The tags of this commit, sorted by name.
    pub tags: Vec<String>,
    /// The branch that `origin/HEAD` means; `None` if the clone does not know it.
    pub default_branch: Option<String>,
    /// When it was committed: seconds since 1970-01-01T00:00:00Z.
    pub commit_time: i64,
    /// Whether a tracked file differs from the commit. Untracked files do not count.
    pub dirty: bool,
}

/// Reads the facts of the checkout that `directory` is, or lies in. `None` if it is none, or has no commit yet.
///
/// A repository above `directory` counts only if it belongs to the owner of `directory`, to this user or to root: otherwise
/// anybody could decide the tags of what is built beneath /tmp.
///
/// # Errors
/// [`ContextError::Git`]: the repository is broken, of a kind that is not read, or beyond a bound.
pub fn git_facts(directory: &Path) -> Result<Option<GitFacts>, ContextError> {
    let failed = |why: String| ContextError::Git { directory: directory.to_path_buf(), why };
    let Some(found) = locate::find(directory).map_err(failed)? else { return Ok(None) };
    read(&found).map_err(failed)
}

fn read(found: &locate::Checkout) -> Result<Option<GitFacts>, String> {
    let repository = open(&found.git_directory)?;
    let head = repository.head().map_err(text)?;
    if head.is_unborn() {
        return Ok(None);
    }
    let branch = head.referent_name().and_then(|name| short_name(name.as_bstr(), "refs/heads/"));
    let id = repository.head_id().map_err(text)?.detach();
    check_size(&repository, id)?;
    let commit = repository.find_commit(id).map_err(text)?;
    let default_branch = match repository.try_find_reference("refs/remotes/origin/HEAD").map_err(text)? {
        Some(reference) => {
            reference.target().try_name().and_then(|name| short_name(name.as_bstr(), "refs/remotes/origin/"))
        }
        None => None,
    };
    Ok(Some(GitFacts {
        commit: id.to_string(),
        branch,
        tags: tags_of(&repository, id)?,
        default_branch,
        commit_time: commit.time().map_err(text)?.seconds,
        dirty: worktree::differs(&repository, &found.worktree, commit.tree_id().map_err(text)?.detach())?,
    }))
}

fn open(git_directory: &Path) -> Result<gix::Repository, String> {
    // Reduced trust: gix then ignores whatever in the repository's configuration could run something.
    let options =
        gix::open::Options::isolated().with(gix::sec::Trust::Reduced).open_path_as_is(true).strict_config(false);
    Ok(options.open(git_directory).map_err(text)?.to_thread_local())
}

fn tags_of(repository: &gix::Repository, commit: gix::ObjectId) -> Result<Vec<String>, String> {
    let mut tags = Vec::new();
    let references = repository.references().map_err(text)?;
    for (count, reference) in references.tags().map_err(text)?.enumerate() {
        if count >= TAGS_LIMIT {
            return Err(format!("it has more than {TAGS_LIMIT} tags"));
        }
        let reference = reference.map_err(text)?.detach();
        // Packed references carry what an annotated tag leads to.
        let target = match reference.peeled {
            Some(peeled) => Some(peeled),
            None => match reference.target.try_id() {
                Some(target) => peel(repository, target.to_owned(), commit)?,
                None => None,
            },
        };
        if target == Some(commit) {
            tags.extend(short_name(reference.name.as_bstr(), "refs/tags/"));
        }
    }
    tags.sort();
    Ok(tags)
}

/// Follows annotated tags.
fn peel(
    repository: &gix::Repository,
    mut id: gix::ObjectId,
    commit: gix::ObjectId,
) -> Result<Option<gix::ObjectId>, String> {
    for _ in 0..TAG_DEPTH {
        if id == commit {
            break;
        }
        // A shallow clone has references to objects that it does not have.
        let Some(header) = repository.try_find_header(id).map_err(text)? else { return Ok(None) };
        if header.kind() != gix::object::Kind::Tag {
            break;
        }
        check_size(repository, id)?;
        id = repository.find_tag(id).map_err(text)?.target_id().map_err(text)?.detach();
    }
    Ok(Some(id))
}

/// gix reads objects whole: a compressed one of a kilobyte can be a gigabyte.
fn check_size(repository: &gix::Repository, id: gix::ObjectId) -> Result<(), String> {
    match repository.find_header(id).map_err(text)?.size() {
        size if size > OBJECT_LIMIT_BYTES => Err(format!("the object {id} is larger than {OBJECT_LIMIT_BYTES} bytes")),
        _ => Ok(()),
    }
}

fn short_name(name: &gix::bstr::BStr, prefix: &str) -> Option<String> {
    name.strip_prefix(prefix.as_bytes()).map(|short| short.to_str_lossy().into_owned())
}

fn text(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
