//! `--ignore-path`: what a step leaves at these paths is in no layer, and gone when the step is done.

use std::collections::BTreeMap;

use cofferdam_rootfs::{Change, ChangeSet, RootPath};

/// Takes the ignored paths, and what is beneath them, out of a step's changes. Answers whether there was anything.
pub fn take_out(changes: &mut ChangeSet, ignored: &[RootPath]) -> bool {
    let is_ignored = |path: &RootPath| ignored.iter().any(|ignored| path.starts_with(ignored));
    let (out, kept) = std::mem::take(&mut changes.changes).into_iter().partition(|(path, _)| is_ignored(path));
    let out: BTreeMap<RootPath, Change> = out;
    changes.changes = kept;
    // Another name of a file whose content goes becomes the one that has it.
    let mut heirs: BTreeMap<RootPath, RootPath> = BTreeMap::new();
    for (path, change) in &mut changes.changes {
        let Change::Put { content, hard_link, .. } = change else { continue };
        let Some(Change::Put { content: lost, .. }) = hard_link.as_ref().and_then(|target| out.get(target)) else {
            continue;
        };
        let target = hard_link.take().unwrap_or_else(RootPath::root);
        match heirs.get(&target) {
            Some(heir) => *hard_link = Some(heir.clone()),
            None => {
                content.clone_from(lost);
                heirs.insert(target, path.clone());
            }
        }
    }
    !out.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cofferdam_rootfs::{Content, Kind, Metadata};

    #[test]
    fn a_path_goes_with_what_is_beneath_and_a_link_inherits() {
        let path = |text: &str| RootPath::new(text).unwrap();
        let metadata = Metadata {
            kind: Kind::File { size: 1 },
            mode: 0o644,
            owner: Default::default(),
            mtime: Default::default(),
            xattrs: Default::default(),
        };
        let put = |link: Option<&str>| Change::Put {
            metadata: metadata.clone(),
            content: link.is_none().then(|| Content::Bytes(b"x"[..].into())),
            hard_link: link.map(path),
            opaque: false,
        };
        let pairs = [("a/x", None), ("ab", None), ("b", Some("a/x")), ("c", Some("a/x")), ("d", Some("ab"))];
        let mut changes = ChangeSet { changes: pairs.map(|(name, link)| (path(name), put(link))).into() };
        assert!(take_out(&mut changes, &[path("a")]));
        let said: Vec<String> = (changes.changes.iter())
            .map(|(path, change)| match change {
                Change::Put { content: Some(_), hard_link: None, .. } => format!("{path}"),
                Change::Put { hard_link: Some(target), content: None, .. } => format!("{path} = {target}"),
                _ => "?".to_owned(),
            })
            .collect();
        assert_eq!(said, ["/ab", "/b", "/c = /b", "/d = /ab"]);
        assert!(!take_out(&mut changes, &[path("a")]));
    }
}
