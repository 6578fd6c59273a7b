//! Destinations.

use cofferdam_plugin_sdk::{fs::Path, paths};

/// Where sources go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// Absolute and cleaned.
    pub path: Path,
    /// Whether it was written as a directory.
    pub is_directory: bool,
}

impl Destination {
    /// Reads a destination; a relative one is beneath the working directory.
    pub fn read(written: &str, working_directory: &str) -> Self {
        let path = paths::resolve(working_directory.as_bytes(), written.as_bytes());
        let is_directory = paths::names_directory(written.as_bytes()) || path == b"/";
        Self { path, is_directory }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_beneath_the_working_directory() {
        let read = |written: &str| {
            let destination = Destination::read(written, "/app");
            (String::from_utf8(destination.path).unwrap(), destination.is_directory)
        };
        assert_eq!(read("x"), ("/app/x".into(), false));
        assert_eq!(read("x/"), ("/app/x".into(), true));
        assert_eq!(read("subdir/./"), ("/app/subdir".into(), true));
        assert_eq!(read("."), ("/app".into(), true));
        assert_eq!(read("/x/../../y"), ("/y".into(), false));
        assert_eq!(read(".."), ("/".into(), true));
    }
}
