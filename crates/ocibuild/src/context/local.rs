use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;
use ocibuild_dockerfile::{IgnoreFile, IgnorePatterns};
use ocibuild_spec::{ImageSource, Reference};
use ocibuild_sys::RootDir;

use super::files::{BuildContext, RemoteSource};
use super::named_file::{NamedFile, NoFile};
use crate::advice::{Hint, Setting};
use crate::copy::{ContextDigests, LocalSource, NoSource, OwnFiles, Source};
use crate::error::{Code, Error, ErrorKind};
use crate::report::Place;

/// A local directory that a build copies from, seen through its ignore file.
///
/// Nothing is read before a step asks for it, and nothing outside the directory is ever read: links in it lead only
/// within it.
#[derive(Debug, Clone)]
pub struct LocalContext {
    directory: Option<PathBuf>,
    source: Option<Arc<LocalSource>>,
    ignore: IgnorePatterns,
    ignore_name: String,
}

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
        if NamedFile::new(path, &own).is_file() {
            Self::with_ignore_file(path, &own)
        } else {
            Self::open(path)
        }
    }

    /// No files at all.
    pub fn empty() -> Self {
        Self { directory: None, source: None, ignore: IgnorePatterns::default(), ignore_name: String::new() }
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
            )
            .hint("CONTEXT is a directory; the Dockerfile is named with -f"));
        }
        let root = RootDir::open(path).map_err(Error::from)?;
        let ignore = match NamedFile::new(path, ignore_file).read() {
            Ok(bytes) => {
                let name = ignore_name(path, ignore_file);
                let patterns =
                    IgnoreFile::parse(&bytes).map_err(|error| ignore_error(&name, error))?.patterns;
                patterns.named(name)
            }
            Err(NoFile::Missing) => IgnorePatterns::default(),
            Err(NoFile::Directory) => {
                let name = ignore_name(path, ignore_file);
                return Err(Error::new(ErrorKind::Usage, format!("{name} is a directory, not a file"))
                    .id(Code::NoRegularFile)
                    .place(Place::File(name))
                    .hint("remove the directory, or make it a file with one pattern on each line"));
            }
            Err(other) => return Err(cannot_read(ignore_file, other)),
        };
        let source = LocalSource::new(root, path.to_owned(), ignore.clone());
        let ignore_name = ignore_file.file_name().unwrap_or_default().display().to_string();
        Ok(Self { directory: Some(path.to_owned()), source: Some(Arc::new(source)), ignore, ignore_name })
    }

    /// Reads a file of the directory for the builder's own use, ignored or not (7.12).
    pub fn read(&self, path: impl AsRef<Path>) -> Result<Vec<u8>, Error> {
        let directory = self.directory.as_deref().unwrap_or(Path::new(""));
        read_dockerfile_of(directory, &directory.join(path))
    }

    /// The directory; `None` for a context without files.
    pub fn directory(&self) -> Option<&Path> {
        self.directory.as_deref()
    }

    /// The patterns of the ignore file.
    pub fn ignore(&self) -> &IgnorePatterns {
        &self.ignore
    }

    /// The name of the ignore file, without directory.
    pub(crate) fn ignore_name(&self) -> &str {
        &self.ignore_name
    }

    pub(crate) fn source(&self) -> Arc<dyn Source> {
        match &self.source {
            Some(source) => Arc::clone(source) as Arc<dyn Source>,
            None => Arc::new(NoSource),
        }
    }

    /// The files without those that a build writes itself; `digests` is what it has read.
    pub(crate) fn source_of_build(&self, own: &OwnFiles, digests: &ContextDigests) -> Arc<dyn Source> {
        match &self.source {
            Some(source) => Arc::new(source.of_build(own, digests)),
            None => Arc::new(NoSource),
        }
    }

    /// Whether something is at a path, ignored or not.
    pub(crate) fn has(&self, path: &Path) -> bool {
        self.source.as_ref().is_some_and(|source| source.has(path))
    }
}

/// Reads a Dockerfile, with an error that says what is at its path instead.
pub fn read_dockerfile(path: &Path) -> Result<Vec<u8>, Error> {
    let file = NamedFile::anywhere(path);
    file.read().map_err(|error| no_dockerfile(&file, path, error))
}

/// As [`read_dockerfile`], for the build of `context`: a file in it may be a link, but not to something outside.
pub fn read_dockerfile_of(context: &Path, path: &Path) -> Result<Vec<u8>, Error> {
    let file = NamedFile::new(context, path);
    file.read().map_err(|error| {
        let is_missing = matches!(error, NoFile::Missing);
        let error = no_dockerfile(&file, path, error);
        let inside = context.join(path);
        if !is_missing || file.is_confined() || !NamedFile::new(context, &inside).is_file() {
            return error;
        }
        error
            .cause(format!("-f counts from the working directory, not from CONTEXT {}", context.display()))
            .hint_first(Hint::from("write ").setting(Setting::Dockerfile, inside.display().to_string()))
    })
}

/// The error about a Dockerfile that could not be read.
fn no_dockerfile(file: &NamedFile<'_>, path: &Path, error: NoFile) -> Error {
    match error {
        NoFile::Missing => {
            let error = Error::new(ErrorKind::Usage, format!("there is no Dockerfile at {}", path.display()))
                .id(Code::NoDockerfile)
                .place(Place::File(path.display().to_string()));
            let error = match similar(file, path) {
                Some(name) => {
                    error.hint(Hint::from("did you mean ").setting(Setting::Dockerfile, name).text("?"))
                }
                None => error,
            };
            error.hint(
                Hint::from("name the file with ")
                    .setting(Setting::Dockerfile, "")
                    .text(", or the directory that holds it as CONTEXT"),
            )
        }
        NoFile::Directory if file.beside(&path.join("Dockerfile")).is_file() => {
            let inside = path.join("Dockerfile").display().to_string();
            not_a_file(path, "a directory")
                .hint(names_a_file().text(": ").setting(Setting::Dockerfile, inside))
        }
        other => cannot_read(path, other),
    }
}

fn names_a_file() -> Hint {
    Hint::of(Setting::Dockerfile, "").text(" names a file")
}

/// The error about a path that something else than a file is at.
fn not_a_file(path: &Path, what: &str) -> Error {
    let shown = path.display().to_string();
    Error::new(ErrorKind::Usage, format!("{shown} is {what}, not a file"))
        .id(Code::NoRegularFile)
        .place(Place::File(shown))
}

/// The error about a Dockerfile or an ignore file that is there, but cannot be read.
fn cannot_read(path: &Path, error: NoFile) -> Error {
    let shown = path.display().to_string();
    let place = Place::File(shown.clone());
    let refused =
        |message: String| Error::new(ErrorKind::Usage, message).id(Code::NoRegularFile).place(place.clone());
    match error {
        NoFile::Missing => refused(format!("{shown} does not exist")),
        NoFile::Directory => not_a_file(path, "a directory").hint(names_a_file()),
        NoFile::Special(what) => not_a_file(path, what).hint(names_a_file()),
        NoFile::TooLarge => refused(format!("{shown} is larger than 16 MiB"))
            .hint(Hint::from("is this the file? Another is named with ").setting(Setting::Dockerfile, "")),
        NoFile::LeadsOut => {
            let message = format!("{shown} is a link that leads out of the build context");
            Error::new(ErrorKind::Refused, message).id(Code::LinkOutOfContext).place(place).hint(
                Hint::from("put the file itself into the context, or name the one outside with ")
                    .setting(Setting::Dockerfile, ""),
            )
        }
        NoFile::Unreadable(error) => {
            let is_denied = error.kind() == std::io::ErrorKind::PermissionDenied;
            let own = Error::new(ErrorKind::Host, format!("cannot read {shown}"))
                .id(Code::Unreadable)
                .place(place)
                .caused_by(error);
            if is_denied { own.hint("let this user read it: chmod u+r, or chown") } else { own }
        }
    }
}

/// What a missing Dockerfile's directory has in its place.
fn similar(file: &NamedFile<'_>, path: &Path) -> Option<String> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut names: Vec<String> =
        file.beside(parent).names().into_iter().filter_map(|name| name.into_string().ok()).collect();
    names.sort_unstable();
    let wanted = path.file_name()?.to_str()?;
    let contains =
        |part: &str| names.iter().find(|name| name.to_lowercase().contains(part)).map(String::as_str);
    let is_file = |name: &Path| file.beside(&parent.join(name)).is_file();
    let files = names.iter().map(String::as_str).filter(|name| is_file(Path::new(name)));
    let found = ocibuild_dockerfile::nearest(wanted, files)
        .or_else(|| contains("dockerfile"))
        .or_else(|| contains("containerfile"));
    // Many projects keep it one directory further down.
    let below = || names.iter().map(|name| Path::new(name).join(wanted)).find(|inner| is_file(inner));
    let found = found.map(PathBuf::from).or_else(below)?;
    Some(path.with_file_name(found).display().to_string())
}

/// How messages call the ignore file of a context.
fn ignore_name(context: &Path, ignore_file: &Path) -> String {
    ignore_file.strip_prefix(context).unwrap_or(ignore_file).display().to_string()
}

fn ignore_error(name: &str, error: ocibuild_dockerfile::IgnoreError) -> Error {
    let (line, text) = (error.line, error.pattern.clone());
    let shown: String = text.chars().take(80).collect();
    let hint = if text.trim() == "!" {
        format!("put a path behind the \"!\" in line {line}, or remove the line")
    } else if text.is_empty() {
        format!("break line {line} into shorter ones")
    } else {
        format!(
            "write the pattern of line {line} anew: a '[' needs its ']', and a literal '[' or '\\' a '\\' in front"
        )
    };
    Error::new(ErrorKind::Dockerfile, format!("{name}:{line}: {error}"))
        .id(Code::InvalidPattern)
        .cause(format!("the pattern is {shown:?}"))
        .hint(hint)
        .place(Place::Line { file: name.to_owned(), line, text })
        .caused_by(error)
}

/// What stands behind a name of `--build-context` (4.32).
#[derive(Debug)]
#[non_exhaustive]
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
