//! Finding and reading the Dockerfile, and the ignore file that belongs to it. Bytes only: what they mean is somebody
//! else's business.

use std::{
    fs::OpenOptions,
    io::{self, Read},
    os::unix::{ffi::OsStrExt, fs::OpenOptionsExt},
    path::{Component, Path, PathBuf},
};

use cofferdam_rootfs::{Kind, RootPath, RootfsError, Tree};

use crate::{Context, ContextError, Remote, archive::fetch_text, source::redacted};

/// The largest Dockerfile or ignore file that is read. Real ones have a few kilobytes; generated ones that list every file
/// have reached one megabyte.
const LIMIT_BYTES: u64 = 4 << 20;

/// Where the Dockerfile is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum DockerfileLocation {
    /// `Dockerfile` in the context, or `dockerfile` if there is none.
    #[default]
    Default,
    /// A path: absolute, or relative to the working directory as `docker build` has it, or else relative to the context as
    /// Kaniko has it.
    Path(PathBuf),
    /// Standard input.
    Stdin,
    /// A URL.
    Url(String),
}

/// A Dockerfile as bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerfileText {
    /// How messages call it.
    pub name: String,
    /// Its bytes, at most 4 MiB.
    pub bytes: Vec<u8>,
    /// `<Dockerfile>.dockerignore` beside it, else the context's `.dockerignore`, else nothing.
    pub ignore: Option<IgnoreText>,
}

/// An ignore file as bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IgnoreText {
    /// How messages call it.
    pub name: String,
    /// Its bytes, at most 4 MiB.
    pub bytes: Vec<u8>,
}

impl DockerfileLocation {
    /// `-` and `/dev/stdin` are standard input, `http://…` and `https://…` are URLs, everything else is a path.
    pub fn parse(text: &str) -> Self {
        let lower = text.to_ascii_lowercase();
        match text {
            // The names of it are no files that could be opened again.
            "-" | "/dev/stdin" | "/dev/fd/0" | "/proc/self/fd/0" => Self::Stdin,
            url if lower.starts_with("http://") || lower.starts_with("https://") => Self::Url(url.to_owned()),
            path => Self::Path(path.into()),
        }
    }
}

impl Context {
    /// Reads the Dockerfile and its ignore file. `working_directory` is absolute; `stdin` is only read for
    /// [`DockerfileLocation::Stdin`], `remote` is asked for [`DockerfileLocation::Url`]. Of a fetched context a relative path
    /// counts in the context first.
    ///
    /// A path that lies in the context is read through the context's own handle, so that a symlink in an untrusted checkout
    /// never leads to a file of this machine, whose lines would then show in messages.
    ///
    /// # Errors
    /// There is none, it is too large, not a regular file, or can't be read.
    pub fn read_dockerfile(
        &self,
        location: &DockerfileLocation,
        working_directory: &Path,
        stdin: &mut dyn Read,
        remote: &Remote,
    ) -> Result<DockerfileText, ContextError> {
        match location {
            DockerfileLocation::Stdin => {
                let name = "standard input".to_owned();
                let source = |source| ContextError::Read { path: "-".into(), source };
                let bytes = read_bounded(&name, stdin).map_err(source)??;
                Ok(DockerfileText { name, bytes, ignore: self.ignore_text()? })
            }
            DockerfileLocation::Url(url) => {
                let bytes = fetch_text(remote, url, LIMIT_BYTES)?;
                Ok(DockerfileText { name: redacted(url), bytes, ignore: self.ignore_text()? })
            }
            DockerfileLocation::Default => {
                if let Some(only) = self.only_dockerfile() {
                    return Ok(only.clone());
                }
                for name in ["Dockerfile", "dockerfile"] {
                    if let Some(found) = self.dockerfile_inside(Path::new(name), name)? {
                        return Ok(found);
                    }
                }
                self.leads_elsewhere(Path::new("Dockerfile"))?;
                Err(ContextError::NoDockerfile { tried: vec![self.shown_inside(Path::new("Dockerfile"))] })
            }
            DockerfileLocation::Path(path) => {
                let (here, inside) = (working_directory.join(path), self.directory().join(path));
                let candidates = match path.is_absolute() {
                    true => vec![path.clone()],
                    false if self.is_fetched() => vec![inside, here],
                    false => vec![here, inside],
                };
                let name = path.display().to_string();
                for candidate in &candidates {
                    let found = match self.inside(candidate) {
                        Some(inside) => self.dockerfile_inside(&inside, &name)?,
                        None => self.dockerfile_outside(candidate, &name)?,
                    };
                    if let Some(found) = found {
                        return Ok(found);
                    }
                }
                for inside in candidates.iter().filter_map(|candidate| self.inside(candidate)) {
                    self.leads_elsewhere(&inside)?;
                }
                let told = |candidate: &PathBuf| {
                    self.inside(candidate).map_or_else(|| shown(candidate), |inside| self.shown_inside(&inside))
                };
                let mut tried: Vec<String> = candidates.iter().map(told).collect();
                tried.dedup();
                Err(ContextError::NoDockerfile { tried })
            }
        }
    }

    /// The path relative to the context, if it lies in it; `.` and `..` are resolved by name, symlinks only in the part
    /// that leads to the context.
    fn inside(&self, path: &Path) -> Option<PathBuf> {
        let mut plain = PathBuf::new();
        for component in path.components() {
            match component {
                Component::ParentDir => drop(plain.pop()),
                Component::CurDir => {}
                component => plain.push(component),
            }
        }
        // The context's real path may be reached through a symlinked name of one of its parents.
        plain
            .ancestors()
            .find(|ancestor| ancestor.canonicalize().is_ok_and(|real| real == self.directory()))
            .and_then(|ancestor| plain.strip_prefix(ancestor).ok().map(Path::to_path_buf))
    }

    /// A path in the context as the user knows it: of a fetched one, our own directory says nothing.
    fn shown_inside(&self, path: &Path) -> String {
        if self.is_fetched() { shown(path) } else { shown(&self.directory().join(path)) }
    }

    /// Whether what was not found in the context is a link out of it, which is an error of its own.
    fn leads_elsewhere(&self, path: &Path) -> Result<(), ContextError> {
        let link = RootPath::new(path.as_os_str().as_bytes()).ok();
        let found = link.and_then(|link| self.whole_tree().metadata(&link, false).ok().flatten());
        match found.map(|metadata| metadata.kind) {
            Some(Kind::Symlink { target }) => Err(ContextError::DockerfileElsewhere {
                path: self.shown_inside(path),
                target: String::from_utf8_lossy(&target).into_owned(),
            }),
            _ => Ok(()),
        }
    }

    fn dockerfile_inside(&self, path: &Path, name: &str) -> Result<Option<DockerfileText>, ContextError> {
        let Some(bytes) = self.read_inside(path, name)? else { return Ok(None) };
        let own = with_suffix(path);
        let ignore = match self.read_inside(&own, &shown(&own))? {
            Some(bytes) => Some(IgnoreText { name: shown(&own), bytes }),
            None => self.ignore_text()?,
        };
        Ok(Some(DockerfileText { name: name.to_owned(), bytes, ignore }))
    }

    fn dockerfile_outside(&self, path: &Path, name: &str) -> Result<Option<DockerfileText>, ContextError> {
        let Some(bytes) = read_outside(path)? else { return Ok(None) };
        let own = with_suffix(path);
        let ignore = match read_outside(&own)? {
            Some(bytes) => Some(IgnoreText { name: shown(&own), bytes }),
            None => self.ignore_text()?,
        };
        Ok(Some(DockerfileText { name: name.to_owned(), bytes, ignore }))
    }

    /// The context's own `.dockerignore`.
    ///
    /// # Errors
    /// It is too large or can't be read.
    pub fn ignore_text(&self) -> Result<Option<IgnoreText>, ContextError> {
        let name = ".dockerignore";
        Ok(self.read_inside(Path::new(name), name)?.map(|bytes| IgnoreText { name: name.to_owned(), bytes }))
    }

    fn read_inside(&self, path: &Path, name: &str) -> Result<Option<Vec<u8>>, ContextError> {
        let failed = |source| ContextError::InContext { name: name.to_owned(), source };
        let path = RootPath::new(path.as_os_str().as_bytes()).map_err(|error| failed(error.into()))?;
        let mut file = match self.whole_tree().open(&path) {
            Ok(file) => file,
            Err(RootfsError::NotFound(_) | RootfsError::NotADirectory(_)) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let storage = |source| failed(RootfsError::Storage { action: format!("read `{name}`"), source });
        read_bounded(name, &mut file).map_err(storage)?.map(Some)
    }
}

fn read_outside(path: &Path) -> Result<Option<Vec<u8>>, ContextError> {
    let failed = |source| ContextError::Read { path: path.to_path_buf(), source };
    // A fifo or a device must not make the builder wait.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let mut file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(failed(error)),
    };
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
    }
    read_bounded(&path.display().to_string(), &mut file).map_err(failed)?.map(Some)
}

/// The outer error is the reader's, the inner one says that there is too much.
fn read_bounded(name: &str, from: &mut dyn Read) -> io::Result<Result<Vec<u8>, ContextError>> {
    let mut bytes = Vec::new();
    from.take(LIMIT_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LIMIT_BYTES {
        return Ok(Err(ContextError::TooLarge { name: name.to_owned(), limit: LIMIT_BYTES }));
    }
    Ok(Ok(bytes))
}

fn with_suffix(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".dockerignore");
    name.into()
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
