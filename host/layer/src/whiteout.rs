//! Names that mean something in layers (OCI image specification, layer.md, "Whiteouts" and "Opaque Whiteout").

/// What begins the name of a removal.
pub(crate) const PREFIX: &[u8] = b".wh.";

/// What begins the names that aufs kept for itself; all but the opaque marker mean nothing to anyone else.
const AUFS_PREFIX: &[u8] = b".wh..wh.";

/// The entry that makes its directory opaque.
pub(crate) const OPAQUE: &[u8] = b".wh..wh..opq";

/// What the last component of an entry's name means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Name<'a> {
    /// An entry like any other.
    Ordinary,
    /// Its directory is opaque.
    Opaque,
    /// The layer removes the sibling of this name.
    Whiteout(&'a [u8]),
    /// Bookkeeping of aufs.
    Ignored,
    /// A removal that names nothing, or a directory itself.
    Invalid,
}

/// Classifies the last component of a name.
pub(crate) fn classify(name: &[u8]) -> Name<'_> {
    if name == OPAQUE {
        return Name::Opaque;
    }
    if name.starts_with(AUFS_PREFIX) {
        return Name::Ignored;
    }
    match name.strip_prefix(PREFIX) {
        None => Name::Ordinary,
        Some(b"" | b"." | b"..") => Name::Invalid,
        Some(removed) => Name::Whiteout(removed),
    }
}

/// Whether an attribute is overlayfs' own bookkeeping (redirects, opaque marks): in an image it would let a layer steer
/// the file system that it is mounted in, so it is neither written nor read.
pub(crate) fn is_overlay_private(xattr: &[u8]) -> bool {
    xattr.starts_with(b"trusted.overlay.") || xattr.starts_with(b"user.overlay.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_mean_what_the_specification_says() {
        for (name, meaning) in [
            (&b"passwd"[..], Name::Ordinary),
            (b".whatever", Name::Ordinary),
            (b".wh.passwd", Name::Whiteout(b"passwd")),
            (b".wh..profile", Name::Whiteout(b".profile")),
            (b".wh..wh..opq", Name::Opaque),
            (b".wh..wh.plnk", Name::Ignored),
            (b".wh.", Name::Invalid),
            (b".wh..", Name::Invalid),
            (b".wh...", Name::Invalid),
        ] {
            assert_eq!(classify(name), meaning, "{}", name.escape_ascii());
        }
    }
}
