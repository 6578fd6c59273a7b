//! What clouds' own libraries look at for credentials, handed in by whoever reads the environment.

use std::{collections::BTreeMap, fmt, fs, path::PathBuf};

use url::Url;

use crate::{FetchError, source::redacted};

/// Variables and files about the stores of clouds. Shows names, never values.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct CloudAccess {
    /// The variables of the clouds' libraries and of Kaniko that are set.
    pub variables: BTreeMap<String, String>,
    /// The files that `aws configure` writes, credentials first. They need not exist.
    pub aws_files: Vec<PathBuf>,
    /// The file of Google's application default credentials. It need not exist.
    pub google_file: Option<PathBuf>,
}

impl CloudAccess {
    /// A variable that is set and not empty.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    /// The first of these that is set.
    pub(super) fn first(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| self.value(name))
    }

    /// A variable that is the address of a server.
    pub(super) fn url(&self, name: &str) -> Result<Option<Url>, FetchError> {
        let Some(text) = self.value(name) else { return Ok(None) };
        let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let problem = || format!("is not the address of a server ({name})");
        let wrong = || FetchError::Invalid { text: redacted(text), problem: problem() };
        url.map(Some).ok_or_else(wrong)
    }

    /// Whether a variable says yes.
    pub(super) fn says(&self, name: &str) -> bool {
        self.value(name).is_some_and(|value| ["true", "1", "t"].contains(&value.to_ascii_lowercase().as_str()))
    }
}

impl fmt::Debug for CloudAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CloudAccess").field("variables", &self.variables.keys()).finish_non_exhaustive()
    }
}

/// Files with credentials are small.
const FILE_LIMIT_BYTES: u64 = 1 << 20;

/// The text of a file with credentials; `None` if there is none.
pub(super) fn text_of(path: &std::path::Path) -> Result<Option<String>, FetchError> {
    let failed = |source| FetchError::Storage { action: format!("read `{}`", path.display()), source };
    match fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
        Ok(found) if !found.is_file() || found.len() > FILE_LIMIT_BYTES => {
            return Err(failed(std::io::Error::other("it is no small file")));
        }
        Ok(_) => {}
    }
    fs::read_to_string(path).map(Some).map_err(failed)
}
