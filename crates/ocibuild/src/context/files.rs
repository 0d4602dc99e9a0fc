use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ocibuild_plan::SourceKind as Written;
use ocibuild_plan::address::{GitAddress, HttpAddress, without_credentials};
use ocibuild_spec::{CancelToken, Timestamp};
use ocibuild_store::{ImageLayout, ScratchDir};

use super::archive::{ArchiveSource, Nature, nature_of};
use super::git::GitJob;
use super::http::{OneFile, download};
use super::local::LocalContext;
use super::remotes::Remotes;
use crate::copy::{ContextDigests, Lead, NoSource, OwnFiles, Source, SourceKind, clean, resolve};
use crate::error::Error;
use crate::failure::{ContextFailure, FileAction, HostFailure, HostOperation};

/// As much of a Dockerfile as is read.
const MAX_DOCKERFILE: u64 = 16 << 20;

/// The files a build copies from, wherever they come from. A [`LocalContext`] becomes one by `into`; a [`Fetcher`]
/// makes the others.
///
/// What was fetched lies below the state directory's `tmp/` until the last clone is dropped.
#[derive(Debug, Clone)]
pub struct BuildContext {
    source: Arc<dyn Source>,
    /// The directory, if it is one of this machine.
    local: Option<LocalContext>,
    /// Commit of a repository, `Last-Modified` of a URL, newest file of an archive (11.40).
    time: Option<i64>,
    /// The context is nothing but this Dockerfile.
    dockerfile: Option<Vec<u8>>,
    /// Where the user said that it is.
    repository: Option<GitAddress>,
    _scratch: Option<Arc<ScratchDir>>,
}

impl From<LocalContext> for BuildContext {
    fn from(context: LocalContext) -> Self {
        let source = context.source();
        Self { source, local: Some(context), time: None, dockerfile: None, repository: None, _scratch: None }
    }
}

impl BuildContext {
    /// The Dockerfile: the file at `path`, without one `Dockerfile` or `dockerfile` at the root, or all there is when
    /// a Dockerfile was given instead of files.
    pub fn dockerfile(&self, path: Option<&Path>) -> Result<Vec<u8>, Error> {
        let Some(path) = path else {
            if let Some(text) = &self.dockerfile {
                return Ok(text.clone());
            }
            let usual = Path::new("Dockerfile");
            let name = if self.finds(usual)? { usual } else { Path::new("dockerfile") };
            return self.read(if self.finds(name)? { name } else { usual });
        };
        if self.dockerfile.is_some() {
            return Err(ContextFailure::AmbiguousDockerfile.into());
        }
        self.read(path)
    }

    /// Reads a file for the builder's own use; links lead only within the context.
    pub fn read(&self, path: impl AsRef<Path>) -> Result<Vec<u8>, Error> {
        let path = clean(path.as_ref().as_os_str());
        let (at, node) = match resolve(self.source.as_ref(), &path, true)? {
            Lead::Found(at, node) => (at, node),
            Lead::Missing => return Err(ContextFailure::NotFound { path }.into()),
        };
        let SourceKind::File { size } = node.kind else {
            return Err(ContextFailure::NotRegular { path }.into());
        };
        if size > MAX_DOCKERFILE {
            return Err(ContextFailure::TooLarge { path, is_named: false }.into());
        }
        let mut bytes = Vec::new();
        let read = self.source.open(&at)?.take(MAX_DOCKERFILE).read_to_end(&mut bytes);
        read.map_err(|error| HostFailure::file(FileAction::Read, &path, error))?;
        Ok(bytes)
    }

    fn finds(&self, path: &Path) -> Result<bool, Error> {
        Ok(matches!(resolve(self.source.as_ref(), path, true)?, Lead::Found(..)))
    }

    /// Seconds that `SOURCE_DATE_EPOCH=context` stands for, if the context has a time of its own (11.40).
    pub fn time(&self) -> Option<i64> {
        self.time
    }

    /// The directory, if the context is one of this machine; only such have an ignore file (7.02).
    pub(crate) fn local(&self) -> Option<&LocalContext> {
        self.local.as_ref()
    }

    pub(crate) fn source(&self) -> Arc<dyn Source> {
        Arc::clone(&self.source)
    }

    /// The files without those that a build writes itself; `digests` is what it has read.
    pub(crate) fn source_of_build(&self, own: &OwnFiles, digests: &ContextDigests) -> Arc<dyn Source> {
        match &self.local {
            Some(local) => local.source_of_build(own, digests),
            None => self.source(),
        }
    }

    /// The repository that the user named for it.
    pub(crate) fn repository(&self) -> Option<&GitAddress> {
        self.repository.as_ref()
    }
}

/// Files that are not on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RemoteSource {
    /// A file or an archive at a URL.
    Http(HttpAddress),
    /// A repository.
    Git(GitAddress),
}

impl RemoteSource {
    /// What the text of a build context, or of a named one, stands for, if that is a URL or a repository; `None` for paths.
    pub fn parse(text: &str) -> Result<Option<Self>, Error> {
        let usage = |error: &dyn std::fmt::Display| {
            let text = without_credentials(text);
            Error::from(ContextFailure::Address { text, reason: error.to_string() })
        };
        // Only here: in `ADD` it is a path.
        let short = text.strip_prefix("github.com/").map(|rest| format!("https://github.com/{rest}"));
        if let Some(text) = short {
            return GitAddress::parse(&text).map(|git| Some(Self::Git(git))).map_err(|error| usage(&error));
        }
        match Written::of(text) {
            Written::Git => {
                GitAddress::parse(text).map(|git| Some(Self::Git(git))).map_err(|error| usage(&error))
            }
            Written::Http => {
                HttpAddress::parse(text).map(|http| Some(Self::Http(http))).map_err(|error| usage(&error))
            }
            Written::Path => Ok(None),
        }
    }

    /// Files of a repository have the time of their commit (as with an epoch, 11.40).
    #[must_use]
    pub fn commit_times(self) -> Self {
        match self {
            Self::Git(git) => Self::Git(git.with_commit_times()),
            other @ Self::Http(_) => other,
        }
    }

    /// A repository comes with its `.git`.
    #[must_use]
    pub fn keep_git_dir(self) -> Self {
        match self {
            Self::Git(git) => Self::Git(git.with_git_dir()),
            other @ Self::Http(_) => other,
        }
    }
}

impl std::fmt::Display for RemoteSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Http(http) => http.fmt(f),
            Self::Git(git) => git.fmt(f),
        }
    }
}

/// Gets the files of builds onto this machine.
#[derive(Debug, Clone, Copy)]
pub struct Fetcher<'a> {
    /// What to reach them with.
    remotes: &'a Remotes,
    /// The state directory, below which they are kept meanwhile.
    store: &'a ImageLayout,
    cancel: &'a CancelToken,
    /// The time that files of a checkout get.
    now: Timestamp,
}

impl<'a> Fetcher<'a> {
    /// One that reaches them with `remotes`, keeps them below the state directory whose images are `store` while they are
    /// needed, gives files of a checkout the time `now`, and ends when `cancel` says so.
    pub fn new(
        remotes: &'a Remotes,
        store: &'a ImageLayout,
        cancel: &'a CancelToken,
        now: impl Into<Timestamp>,
    ) -> Self {
        Self { remotes, store, cancel, now: now.into() }
    }

    /// What ends it.
    pub fn cancel(&self) -> &'a CancelToken {
        self.cancel
    }

    /// The files at `source`, which the user named: those of the repository, of the archive, or the one file, under the
    /// name `context`.
    pub fn fetch(&self, source: &RemoteSource) -> Result<BuildContext, Error> {
        match source {
            RemoteSource::Git(address) => {
                let remotes = self.remotes.clone().named_repository(address);
                Fetcher { remotes: &remotes, ..*self }.fetch_any(source)
            }
            RemoteSource::Http(_) => self.fetch_any(source),
        }
    }

    /// The same of a source that a Dockerfile names.
    pub(crate) fn fetch_any(&self, source: &RemoteSource) -> Result<BuildContext, Error> {
        let scratch = self.store.scratch()?;
        match source {
            RemoteSource::Git(address) => {
                let place = new_place(scratch.path(), "git")?;
                let mut job = GitJob::new(self.remotes, address, &place, self.cancel)?;
                let resolved = job.resolve()?;
                let files = job.checkout(&resolved, self.now)?;
                Ok(BuildContext {
                    source: files.source,
                    local: None,
                    time: Some(files.time),
                    dockerfile: None,
                    repository: Some(address.clone()),
                    _scratch: Some(Arc::new(scratch)),
                })
            }
            RemoteSource::Http(address) => {
                let download = download(self.remotes, address, scratch.path(), self.cancel)?;
                let time = download.last_modified;
                let file = Arc::clone(&download.file);
                if nature_of(&file, download.size)? == Nature::Archive {
                    let mut context = Self::archive(&file, download.size, scratch)?;
                    context.time = time.map(|time| time.seconds).or(context.time);
                    return Ok(context);
                }
                let size = download.size;
                let source = Arc::new(OneFile { name: "context".to_owned(), download });
                let dockerfile = if size <= MAX_DOCKERFILE { Some(read_all(&file, size)?) } else { None };
                Ok(BuildContext {
                    source,
                    local: None,
                    time: time.map(|time| time.seconds),
                    dockerfile,
                    repository: None,
                    _scratch: Some(Arc::new(scratch)),
                })
            }
        }
    }

    /// What comes from a stream: the files of an archive, or no files and a Dockerfile.
    pub fn receive(&self, mut stream: impl Read) -> Result<BuildContext, Error> {
        let scratch = self.store.scratch()?;
        let cannot = |error| HostFailure::operation(HostOperation::KeepContext, error);
        let mut file = tempfile::tempfile_in(scratch.path()).map_err(cannot)?;
        let mut size = 0;
        let mut buffer = vec![0; 64 << 10];
        loop {
            if self.cancel.is_cancelled() {
                return Err(Error::cancelled());
            }
            let count = match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) if self.cancel.is_cancelled() => return Err(Error::cancelled()),
                Err(error) => {
                    return Err(HostFailure::operation(HostOperation::ReadContext, error).into());
                }
            };
            size += count as u64;
            if size > self.remotes.size_limit {
                return Err(ContextFailure::LimitExceeded { limit: self.remotes.size_limit }.into());
            }
            file.write_all(&buffer[..count]).map_err(cannot)?;
        }
        file.seek(SeekFrom::Start(0)).map_err(cannot)?;
        match nature_of(&file, size)? {
            Nature::Archive => Self::archive(&file, size, scratch),
            Nature::Compressed(format) => Err(ContextFailure::NotAnArchive { format }.into()),
            Nature::Other if size > MAX_DOCKERFILE => Err(ContextFailure::NotADockerfile.into()),
            Nature::Other => Ok(BuildContext {
                source: Arc::new(NoSource),
                local: None,
                time: None,
                dockerfile: Some(read_all(&file, size)?),
                repository: None,
                _scratch: None,
            }),
        }
    }

    /// A Dockerfile at a URL.
    pub fn dockerfile(&self, address: &HttpAddress) -> Result<Vec<u8>, Error> {
        let scratch = self.store.scratch()?;
        let remotes = self.remotes.clone().size_limit(MAX_DOCKERFILE);
        let download = download(&remotes, address, scratch.path(), self.cancel)?;
        read_all(&download.file, download.size)
    }

    fn archive(file: &File, size: u64, scratch: ScratchDir) -> Result<BuildContext, Error> {
        let (source, newest) = ArchiveSource::open(file, size, scratch.path())?;
        Ok(BuildContext {
            source: Arc::new(source),
            local: None,
            time: newest.map(|time| time.seconds),
            dockerfile: None,
            repository: None,
            _scratch: Some(Arc::new(scratch)),
        })
    }
}

fn read_all(file: &File, size: u64) -> Result<Vec<u8>, Error> {
    let cannot = |error| HostFailure::operation(HostOperation::ReadDownload, error);
    let file = file.try_clone().map_err(cannot)?;
    let mut bytes = Vec::new();
    crate::layers::FileRange { file, at: 0, left: size }.read_to_end(&mut bytes).map_err(cannot)?;
    Ok(bytes)
}

/// A new directory below `scratch`.
pub(crate) fn new_place(scratch: &Path, what: &str) -> Result<PathBuf, Error> {
    let place = tempfile::Builder::new().prefix(what).tempdir_in(scratch);
    // It goes with the directory that it is in.
    place
        .map(tempfile::TempDir::keep)
        .map_err(|error| HostFailure::file(FileAction::WriteBelow, scratch, error).into())
}
