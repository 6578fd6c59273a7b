//! Where the store is.

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use super::Store;
use crate::StoreError;

/// Where the store is, and whether somebody else could have made the directory around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreLocation {
    /// The store's directory.
    pub path: PathBuf,
    /// Whether `path` lies in a directory of a predictable name in a place where everybody can make one.
    pub in_shared_place: bool,
}

impl StoreLocation {
    /// The first of: `chosen` (`--store`), `COFFERDAM_STORE`, `$XDG_CACHE_HOME/cofferdam/store`, `~/.cache/cofferdam/store`,
    /// `$TMPDIR/cofferdam-UID/store` (`/tmp` without TMPDIR). Variables that are empty count as not set, and so does an
    /// XDG_CACHE_HOME that is not absolute (XDG base directory specification).
    ///
    /// A home in which nothing can be made is passed over: containers have them whose user is not the image's, or whose root
    /// file system is read-only. So is `HOME=/`, which is what a user without an entry in /etc/passwd gets. `can_be_made` says
    /// whether a directory can be ([`StoreLocation::can_be_made`]).
    pub fn find(
        chosen: Option<&Path>,
        variable: impl Fn(&str) -> Option<OsString>,
        uid: u32,
        can_be_made: impl Fn(&Path) -> bool,
    ) -> Self {
        let directory = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let absolute = |name| directory(name).filter(|path| path.is_absolute());
        let private = |path| Self { path, in_shared_place: false };
        if let Some(path) = chosen {
            return private(path.to_path_buf());
        }
        if let Some(path) = directory("COFFERDAM_STORE") {
            return private(path);
        }
        if let Some(cache) = absolute("XDG_CACHE_HOME") {
            return private(cache.join("cofferdam/store"));
        }
        if let Some(home) = absolute("HOME").filter(|home| home != Path::new("/")) {
            let store = home.join(".cache/cofferdam/store");
            if can_be_made(&store) {
                return private(store);
            }
        }
        let shared = absolute("TMPDIR").unwrap_or_else(|| "/tmp".into());
        Self { path: shared.join(format!("cofferdam-{uid}/store")), in_shared_place: true }
    }

    /// Whether this user may make a directory, or write in it where it is there.
    pub fn can_be_made(directory: &Path) -> bool {
        use rustix::fs::{Access, access};
        let existing = directory.ancestors().find(|ancestor| ancestor.exists());
        existing.is_some_and(|ancestor| access(ancestor, Access::WRITE_OK | Access::EXEC_OK).is_ok())
    }

    /// Makes sure that nobody else made the directory around the store. To be called before a user namespace is entered, in
    /// which the owner would look like another user.
    ///
    /// # Errors
    /// [`StoreError::ForeignDirectory`] if somebody else did, or could change it; or the directory can't be made.
    pub fn check(&self) -> Result<(), StoreError> {
        if let (true, Some(parent)) = (self.in_shared_place, self.path.parent()) {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(parent)
                .map_err(StoreError::io("create the store's directory", parent))?;
            let metadata =
                fs::symlink_metadata(parent).map_err(StoreError::io("open the store's directory", parent))?;
            let foreign = metadata.uid() != rustix::process::geteuid().as_raw() || metadata.mode() & 0o022 != 0;
            if !metadata.is_dir() || foreign {
                return Err(StoreError::ForeignDirectory { path: parent.to_path_buf(), owner: metadata.uid() });
            }
        }
        Ok(())
    }

    /// Opens the store there.
    ///
    /// # Errors
    /// As [`StoreLocation::check`] and [`Store::open`].
    pub fn open(&self) -> Result<Store, StoreError> {
        self.check()?;
        Store::open(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(chosen: Option<&str>, variables: &[(&str, &str)]) -> String {
        let lookup = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        let can_be_made = |store: &Path| !store.starts_with("/read-only");
        StoreLocation::find(chosen.map(Path::new), lookup, 7, can_be_made).path.display().to_string()
    }

    #[test]
    fn the_most_specific_place_wins() {
        let all = [("COFFERDAM_STORE", "/s"), ("XDG_CACHE_HOME", "/x"), ("HOME", "/h"), ("TMPDIR", "/t")];
        assert_eq!(find(Some("/o"), &all), "/o");
        assert_eq!(find(None, &all), "/s");
        assert_eq!(find(None, &all[1..]), "/x/cofferdam/store");
        assert_eq!(find(None, &all[2..]), "/h/.cache/cofferdam/store");
        assert_eq!(find(None, &all[3..]), "/t/cofferdam-7/store");
        assert_eq!(find(None, &[]), "/tmp/cofferdam-7/store");
        assert_eq!(
            find(None, &[("COFFERDAM_STORE", ""), ("XDG_CACHE_HOME", "relative"), ("HOME", "/")]),
            "/tmp/cofferdam-7/store"
        );
        assert_eq!(find(None, &[("HOME", "/read-only"), ("TMPDIR", "/t")]), "/t/cofferdam-7/store");
    }

    #[test]
    fn a_directory_can_be_made_where_the_nearest_one_that_exists_is_writable() {
        let place = tempfile::tempdir().unwrap();
        assert!(StoreLocation::can_be_made(&place.path().join("not/there")));
        assert!(!StoreLocation::can_be_made(Path::new("/proc/self/not/there")));
    }

    #[test]
    fn a_link_that_somebody_planted_in_the_shared_place_is_refused() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("elsewhere", place.path().join("cofferdam-7")).unwrap();
        let lookup = |name: &str| (name == "TMPDIR").then(|| place.path().into());
        let location = StoreLocation::find(None, lookup, 7, |_| true);
        assert!(matches!(location.open(), Err(StoreError::ForeignDirectory { .. })));
    }
}
