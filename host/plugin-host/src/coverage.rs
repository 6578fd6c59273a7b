//! What a declared read of a tree covers.
//!
//! The key of a step is made from what [`Coverage::visit`] finds, and `apply` may look at what [`Coverage::classify`] and
//! [`Coverage::follows`] let through: both are here so that they can't disagree.

use cofferdam_dockerfile::{
    glob::{BadPattern, Pattern, has_wildcards},
    ignore::{IgnoreError, IgnorePatterns, ParentMatches},
};
use cofferdam_plan::step::TreeRead;
use cofferdam_rootfs::{InvalidPath, Metadata, RootPath, RootfsError, Tree, TreeEntry};

/// The patterns of one read, compiled.
#[derive(Debug, Clone)]
pub struct Coverage {
    patterns: Vec<Declared>,
    exclude: IgnorePatterns,
}

#[derive(Debug, Clone)]
struct Declared {
    /// Without empty components, `.` and `..`; empty for the whole tree.
    text: Vec<u8>,
    pattern: Pattern,
    /// For a pattern that names one path.
    literal: Option<RootPath>,
}

/// A read that can't be declared.
#[derive(Debug, thiserror::Error)]
pub enum CoverageError {
    /// A wrong pattern.
    #[error(transparent)]
    Pattern(#[from] BadPattern),
    /// A wrong pattern of what is left out.
    #[error(transparent)]
    Exclude(#[from] IgnoreError),
    /// A path that can't name anything.
    #[error(transparent)]
    Path(#[from] InvalidPath),
}

/// Where a path stands to a read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Matched by a pattern, or beneath what is: everything may be known of it. Holds the path that matched.
    Covered(RootPath),
    /// A directory on the way to something that may match: its metadata may be known, not its names.
    Above,
    /// Nothing may be known of it.
    Outside,
}

/// One entry that a read covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoveredEntry {
    /// The path as the patterns see it; symlinks in the way to the match are not resolved in it.
    pub path: RootPath,
    /// Where it really is.
    pub real: RootPath,
    /// The real entry. A match that is a symlink is followed if it leads somewhere, as COPY follows its sources; symlinks
    /// beneath are entries of their own.
    pub entry: TreeEntry,
}

impl CoveredEntry {
    /// Of the real entry.
    pub const fn metadata(&self) -> &Metadata {
        &self.entry.metadata
    }
}

impl Coverage {
    /// Compiles the patterns of a read.
    ///
    /// # Errors
    /// Any [`CoverageError`].
    pub fn new(read: &TreeRead) -> Result<Self, CoverageError> {
        let declare = |text: &Vec<u8>| {
            let text = normal(text);
            let literal = !has_wildcards(&text) && !text.contains(&b'\\');
            let literal = literal.then(|| RootPath::new(&text)).transpose()?;
            Ok::<_, CoverageError>(Declared { pattern: Pattern::parse_with_any_depth(&text)?, literal, text })
        };
        let patterns = read.patterns.iter().map(declare).collect::<Result<_, _>>()?;
        Ok(Self { patterns, exclude: IgnorePatterns::new(&read.exclude)? })
    }

    /// Where a path stands, by its text alone.
    pub fn classify(&self, path: &RootPath) -> Place {
        let mut prefix = RootPath::root();
        let mut components = path.components();
        loop {
            if self.patterns.iter().any(|declared| declared.matches(&prefix)) && !self.leaves_out(path, &prefix) {
                return Place::Covered(prefix);
            }
            let Some(name) = components.next() else { break };
            prefix = prefix.child(name).expect("a prefix of a path is a path");
        }
        match self.patterns.iter().any(|declared| declared.pattern.could_match_below(path)) {
            true => Place::Above,
            false => Place::Outside,
        }
    }

    /// Whether an entry whose place is `Covered(matched)` and that really is at `real` is covered there too: by a pattern, or
    /// because the match itself leads there. A symlink beneath a match that points out of the read does not.
    ///
    /// # Errors
    /// The tree can't be read.
    pub fn follows(&self, tree: &dyn Tree, matched: &RootPath, real: &RootPath) -> Result<bool, RootfsError> {
        if matches!(self.classify(real), Place::Covered(_)) {
            return Ok(true);
        }
        let base = tree.resolve(matched)?;
        Ok(base.is_some_and(|base| real.starts_with(&base) && !self.leaves_out(real, &base)))
    }

    /// The paths that match a pattern, sorted, none twice.
    ///
    /// # Errors
    /// The tree can't be read.
    pub fn matches(&self, tree: &dyn Tree) -> Result<Vec<RootPath>, RootfsError> {
        let mut found = Vec::new();
        for declared in &self.patterns {
            match &declared.literal {
                Some(path) if tree.metadata(path, false)?.is_some() => found.push(path.clone()),
                Some(_) => {}
                None => walk(tree, &declared.pattern, RootPath::root(), &mut found)?,
            }
        }
        found.sort();
        found.dedup();
        Ok(found)
    }

    /// The directories above matches that may be looked at though they are not covered, sorted: their attributes are part of
    /// what is read. The root is not among them: nothing of it is told.
    ///
    /// # Errors
    /// The tree can't be read.
    pub fn above(&self, tree: &dyn Tree) -> Result<Vec<RootPath>, RootfsError> {
        let mut found = Vec::new();
        for declared in &self.patterns {
            match &declared.literal {
                Some(path) => {
                    let mut parent = path.parent();
                    while let Some(directory) = parent.filter(|directory| !directory.is_root()) {
                        parent = directory.parent();
                        found.push(directory);
                    }
                }
                None => walk_above(tree, &declared.pattern, RootPath::root(), &mut found)?,
            }
        }
        found.retain(|path| self.classify(path) == Place::Above);
        found.sort();
        found.dedup();
        Ok(found)
    }

    /// Everything that the read covers, each match followed by what lies beneath it. Paths may come twice where one pattern
    /// matches beneath another's match.
    ///
    /// # Errors
    /// The tree can't be read, or the visitor's own.
    pub fn visit<E: From<RootfsError>>(
        &self,
        tree: &dyn Tree,
        visitor: &mut dyn FnMut(CoveredEntry) -> Result<(), E>,
    ) -> Result<(), E> {
        for path in self.matches(tree)? {
            let followed = tree.resolve(&path)?;
            // A symlink that leads nowhere is read as itself.
            let real = followed.unwrap_or_else(|| path.clone());
            let Some(entry) = tree.entry(&real)? else { continue };
            let directory = entry.metadata.is_directory();
            visitor(CoveredEntry { path: path.clone(), real: real.clone(), entry })?;
            if directory {
                self.visit_beneath(tree, &path, &real, &RootPath::root(), &ParentMatches::default(), visitor)?;
            }
        }
        Ok(())
    }

    fn visit_beneath<E: From<RootfsError>>(
        &self,
        tree: &dyn Tree,
        path: &RootPath,
        real: &RootPath,
        relative: &RootPath,
        above: &ParentMatches,
        visitor: &mut dyn FnMut(CoveredEntry) -> Result<(), E>,
    ) -> Result<(), E> {
        for (name, entry) in tree.entries(real, &|_| false)? {
            let child = |of: &RootPath| of.child(&name).map_err(RootfsError::from);
            let (path, real, relative) = (child(path)?, child(real)?, child(relative)?);
            let (excluded, matches) = self.exclude.excluded_in(above, &relative);
            let directory = entry.metadata.is_directory();
            if !excluded && !directory {
                visitor(CoveredEntry { path, real, entry })?;
                continue;
            }
            if !excluded {
                visitor(CoveredEntry { path: path.clone(), real: real.clone(), entry })?;
            }
            if directory && (!excluded || self.exclude.might_reinclude_below(&relative)) {
                self.visit_beneath(tree, &path, &real, &relative, &matches, visitor)?;
            }
        }
        Ok(())
    }

    /// Whether `path`, beneath the match `base`, is one of those that the read leaves out.
    pub fn leaves_out(&self, path: &RootPath, base: &RootPath) -> bool {
        !self.exclude.is_empty()
            && path.strip_prefix(base).is_some_and(|relative| !relative.is_root() && self.exclude.excluded(&relative))
    }

    /// Whether anything beneath a match may be left out.
    pub fn leaves_something_out(&self) -> bool {
        !self.exclude.is_empty()
    }

    /// Whether a pattern was declared in these words.
    pub fn declares(&self, pattern: &[u8]) -> bool {
        let text = normal(pattern);
        self.patterns.iter().any(|declared| declared.text == text)
    }

    /// The patterns as text, for messages.
    pub fn describe(&self) -> String {
        let text = |declared: &Declared| format!("`/{}`", String::from_utf8_lossy(&declared.text));
        match self.patterns.is_empty() {
            true => "nothing".to_owned(),
            false => self.patterns.iter().take(10).map(text).collect::<Vec<_>>().join(", "),
        }
    }
}

impl Declared {
    fn matches(&self, path: &RootPath) -> bool {
        match self.text.is_empty() {
            true => path.is_root(),
            false => !path.is_root() && self.pattern.matches(path),
        }
    }
}

fn walk(tree: &dyn Tree, pattern: &Pattern, directory: RootPath, found: &mut Vec<RootPath>) -> Result<(), RootfsError> {
    for name in tree.read_directory(&directory)? {
        let path = directory.child(&name)?;
        if pattern.matches(&path) {
            found.push(path.clone());
        }
        if pattern.could_match_below(&path) && is_entered(tree, pattern, &path)? {
            walk(tree, pattern, path, found)?;
        }
    }
    Ok(())
}

/// Whether matches are looked for in a directory. One on the way to a name may be a symlink; but `**` would go round in circles
/// there, and BuildKit enters none.
fn is_entered(tree: &dyn Tree, pattern: &Pattern, path: &RootPath) -> Result<bool, RootfsError> {
    let metadata = tree.metadata(path, !pattern.has_any_depth())?;
    Ok(metadata.is_some_and(|metadata| metadata.is_directory()))
}

fn walk_above(
    tree: &dyn Tree,
    pattern: &Pattern,
    directory: RootPath,
    found: &mut Vec<RootPath>,
) -> Result<(), RootfsError> {
    for name in tree.read_directory(&directory)? {
        let path = directory.child(&name)?;
        if pattern.could_match_below(&path) && is_entered(tree, pattern, &path)? {
            found.push(path.clone());
            walk_above(tree, pattern, path, found)?;
        }
    }
    Ok(())
}

/// Components joined by single slashes, `.` and empty ones left out, `..` taken back as far as there is something: what
/// [`RootPath`] does for paths.
fn normal(pattern: &[u8]) -> Vec<u8> {
    let mut components: Vec<&[u8]> = Vec::new();
    for component in pattern.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                components.pop();
            }
            name => components.push(name),
        }
    }
    components.join(&b'/')
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use cofferdam_plan::step::TreeSource;
    use cofferdam_rootfs::{ConfinedDir, DirectoryTree};

    use super::*;

    fn coverage(patterns: &[&str], exclude: &[&str]) -> Coverage {
        Coverage::new(&TreeRead {
            source: TreeSource::Context,
            patterns: patterns.iter().map(|pattern| pattern.as_bytes().to_vec()).collect(),
            exclude: exclude.iter().map(|&pattern| pattern.to_owned()).collect(),
        })
        .unwrap()
    }

    fn place(coverage: &Coverage, path: &str) -> Place {
        coverage.classify(&RootPath::new(path).unwrap())
    }

    #[test]
    fn a_match_and_everything_beneath_it_is_covered() {
        let read = coverage(&["src/*.d"], &[]);
        let matched = RootPath::new("src/a.d").unwrap();
        assert_eq!(place(&read, "/src/a.d"), Place::Covered(matched.clone()));
        assert_eq!(place(&read, "src/a.d/x/y"), Place::Covered(matched));
        assert_eq!(place(&read, "src"), Place::Above);
        assert_eq!(place(&read, "/"), Place::Above);
        assert_eq!(place(&read, "src/a.c"), Place::Outside);
        assert_eq!(place(&read, "src2"), Place::Outside);
        assert_eq!(place(&read, "src/../secret"), Place::Outside);
    }

    #[test]
    fn the_root_pattern_is_the_whole_tree() {
        for pattern in ["/", "", ".", "./"] {
            assert_eq!(place(&coverage(&[pattern], &[]), "a/b"), Place::Covered(RootPath::root()), "{pattern}");
        }
        assert_eq!(place(&coverage(&[], &[]), "a"), Place::Outside);
    }

    #[test]
    fn two_stars_are_any_depth_but_go_through_no_links() {
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(place.path().join("x/y")).unwrap();
        std::os::unix::fs::symlink("..", place.path().join("x/up")).unwrap();
        for file in ["top.t", "x/one.t", "x/y/two.t"] {
            std::fs::write(place.path().join(file), "").unwrap();
        }
        let tree = DirectoryTree::new(Arc::new(ConfinedDir::open(place.path()).unwrap()));
        let found = |pattern: &str| {
            let paths = coverage(&[pattern], &[]).matches(&tree).unwrap();
            paths.iter().map(RootPath::to_string).collect::<Vec<_>>()
        };
        assert_eq!(found("**/*.t"), ["/top.t", "/x/one.t", "/x/y/two.t"]);
        assert_eq!(found("x/**"), ["/x/one.t", "/x/up", "/x/y", "/x/y/two.t"]);
        assert_eq!(found("x/up/x/*.t"), ["/x/up/x/one.t"]);
        assert!(matches!(super::tests::place(&coverage(&["**/y"], &[]), "x/y/two.t"), Place::Covered(_)));
    }

    #[test]
    fn what_is_left_out_is_relative_to_the_match() {
        let read = coverage(&["src"], &["*.o", "doc", "!doc/keep"]);
        assert_eq!(place(&read, "src/a.o"), Place::Outside);
        assert!(matches!(place(&read, "src/sub/a.o"), Place::Covered(_)));
        assert_eq!(place(&read, "src/doc/x"), Place::Outside);
        assert!(matches!(place(&read, "src/doc/keep"), Place::Covered(_)));
    }
}
