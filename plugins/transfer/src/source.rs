//! Sources: patterns in a tree, what is fetched, and here-documents.

use cofferdam_plugin_sdk::{fs::Path, instruction::Step, paths};

/// The tree that sources are in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The build context.
    Context,
    /// What `--from` names.
    Named(String),
}

impl Origin {
    /// For messages.
    pub fn shown(&self) -> String {
        match self {
            Self::Context => "the build context".to_owned(),
            Self::Named(name) => format!("`{name}`"),
        }
    }
}

/// One source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Entries of the tree.
    Pattern {
        /// As written, for messages.
        written: String,
        /// Absolute in the tree, and cleaned: `..` can't leave it.
        pattern: Path,
        /// How many of its directories `--parents` does not keep: those before `/./`.
        pivot: usize,
        /// Whether it may match nothing.
        wildcards: bool,
    },
    /// A file that the host fetches.
    Url {
        /// As written, for messages and for the host.
        url: String,
        /// What it is called in a directory; `None` where the URL names none.
        name: Option<Path>,
    },
    /// A git repository that the host fetches.
    Git {
        /// As written, for messages.
        written: String,
        /// What the host is asked for.
        url: String,
    },
    /// A file whose content stands in the Dockerfile.
    Heredoc {
        /// The file's name.
        name: String,
        /// The file's content.
        content: String,
    },
}

/// The sources among the words of a step; `<<NAME` stands for the next here-document of that name. As in BuildKit
/// here-documents come after the others, wherever they stand. Only with `--parents` a `**` is any number of directories.
pub(crate) fn read(words: &[String], step: &Step, parents: bool) -> Vec<Source> {
    let mut heredocs: Vec<_> = step.heredocs.iter().collect();
    let mut sources: Vec<Source> = words
        .iter()
        .map(|word| {
            let name = word.strip_prefix("<<").map(|rest| rest.strip_prefix('-').unwrap_or(rest));
            let name = name.map(|name| name.trim_matches(['"', '\'']));
            if let Some(index) = name.and_then(|name| heredocs.iter().position(|heredoc| heredoc.name == name)) {
                let heredoc = heredocs.remove(index);
                return Source::Heredoc { name: heredoc.name.clone(), content: heredoc.content.clone() };
            }
            let wildcards = paths::has_wildcards(word.as_bytes());
            let before = word.split_once("/./").map_or_else(Vec::new, |(before, _)| paths::clean(before.as_bytes()));
            let pivot = before.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).count();
            let pattern = paths::clean(word.as_bytes());
            let pattern = if parents { pattern } else { with_single_stars(&pattern) };
            Source::Pattern { written: word.clone(), pattern, pivot, wildcards }
        })
        .collect();
    sources.sort_by_key(|source| matches!(source, Source::Heredoc { .. }));
    sources
}

/// `**` is no more than `*` to Go's `filepath.Match`.
fn with_single_stars(pattern: &[u8]) -> Path {
    let components: Vec<&[u8]> =
        pattern.split(|byte| *byte == b'/').map(|name| if name == b"**" { b"*" } else { name }).collect();
    components.join(&b'/')
}
