use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;
use ocibuild_dockerfile::{IgnoreFile, IgnorePatterns};
use ocibuild_spec::{ImageSource, Reference};
use ocibuild_sys::RootDir;

use super::files::{BuildContext, RemoteSource};
use crate::copy::{LocalSource, NoSource, Source};
use crate::{Error, ErrorKind};

/// A local directory that a build copies from, seen through its ignore file.
///
/// Nothing is read before a step asks for it, and nothing outside the directory is ever read: links in it lead only
/// within it.
#[derive(Debug, Clone)]
pub struct LocalContext {
    directory: Option<PathBuf>,
    source: Arc<dyn Source>,
    ignore: IgnorePatterns,
}

/// As much of a Dockerfile or ignore file as is read.
const MAX_FILE: u64 = 16 << 20;

impl LocalContext {
    /// The directory `path` with the `.dockerignore` at its root, if there is one.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        Self::with_ignore_file(path, &path.join(".dockerignore"))
    }

    /// The directory `path` for the Dockerfile at `dockerfile`: `DOCKERFILE.dockerignore` beside that file counts in
    /// place of the one at the root when it exists (7.01).
    pub fn open_for(path: impl AsRef<Path>, dockerfile: &Path) -> Result<Self, Error> {
        let mut own = dockerfile.as_os_str().to_owned();
        own.push(".dockerignore");
        let own = PathBuf::from(own);
        let path = path.as_ref();
        if own.is_file() { Self::with_ignore_file(path, &own) } else { Self::open(path) }
    }

    /// No files at all.
    pub fn empty() -> Self {
        Self { directory: None, source: Arc::new(NoSource), ignore: IgnorePatterns::default() }
    }

    fn with_ignore_file(path: &Path, ignore_file: &Path) -> Result<Self, Error> {
        let metadata = fs::metadata(path).map_err(|error| {
            Error::new(ErrorKind::Usage, format!("cannot open the build context {}", path.display()))
                .caused_by(error)
                .hint("CONTEXT is a directory, `-`, a URL or a git repository")
        })?;
        if !metadata.is_dir() {
            return Err(Error::new(
                ErrorKind::Usage,
                format!("the build context {} is no directory", path.display()),
            ));
        }
        let root = RootDir::open(path).map_err(|error| Error::new(ErrorKind::Host, error.to_string()))?;
        let ignore = match read_regular(ignore_file)? {
            Some(bytes) => {
                IgnoreFile::parse(&bytes).map_err(|error| ignore_error(ignore_file, error))?.patterns
            }
            None => IgnorePatterns::default(),
        };
        let source = Arc::new(LocalSource::new(root, path.to_owned(), ignore.clone()));
        Ok(Self { directory: Some(path.to_owned()), source, ignore })
    }

    /// Reads a file of the directory for the builder's own use, ignored or not (7.12).
    pub fn read(&self, path: impl AsRef<Path>) -> Result<Vec<u8>, Error> {
        let directory = self.directory.as_deref().unwrap_or(Path::new(""));
        read_dockerfile(&directory.join(path))
    }

    /// The directory; `None` for a context without files.
    pub fn directory(&self) -> Option<&Path> {
        self.directory.as_deref()
    }

    /// The patterns of the ignore file.
    pub fn ignore(&self) -> &IgnorePatterns {
        &self.ignore
    }

    pub(crate) fn source(&self) -> Arc<dyn Source> {
        Arc::clone(&self.source)
    }
}

/// Reads a Dockerfile, with an error that says what is at its path instead.
pub fn read_dockerfile(path: &Path) -> Result<Vec<u8>, Error> {
    read_regular(path)?.ok_or_else(|| {
        Error::new(ErrorKind::Usage, format!("there is no Dockerfile at {}", path.display()))
            .hint("name the file with -f, or the directory that holds it as CONTEXT")
    })
}

/// The bytes of a regular file; `None` when nothing is there. Other things are not opened.
fn read_regular(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(
                Error::new(ErrorKind::Host, format!("cannot read {}", path.display())).caused_by(error)
            );
        }
    };
    if !metadata.is_file() {
        let what = if metadata.is_dir() { "a directory" } else { "no regular file" };
        return Err(Error::new(ErrorKind::Usage, format!("{} is {what}, not a file", path.display()))
            .hint("-f names a file"));
    }
    if metadata.len() > MAX_FILE {
        return Err(Error::new(ErrorKind::Usage, format!("{} is larger than 16 MiB", path.display())));
    }
    fs::read(path).map(Some).map_err(|error| {
        Error::new(ErrorKind::Host, format!("cannot read {}", path.display())).caused_by(error)
    })
}

fn ignore_error(path: &Path, error: ocibuild_dockerfile::IgnoreError) -> Error {
    let name = path.file_name().unwrap_or_default().display().to_string();
    Error::new(ErrorKind::Dockerfile, format!("{name}:{}: {error}", error.line)).caused_by(error)
}

/// What stands behind a name of `--build-context` (4.32).
#[derive(Debug)]
pub enum ContextSource {
    /// A directory.
    Local(LocalContext),
    /// Files that are there already.
    Files(BuildContext),
    /// Files that are fetched once a step needs them (4.35).
    Remote(RemoteSource),
    /// An image of its own source.
    Image {
        /// Where it is.
        source: Box<dyn ImageSource>,
        /// What to ask the source for.
        reference: Reference,
    },
    /// An image of the source of base images, under another name.
    Renamed(Reference),
    /// Nothing: `docker-image://scratch`.
    Scratch,
}
