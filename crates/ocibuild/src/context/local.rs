use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;
use ocibuild_dockerfile::{IgnoreFile, IgnorePatterns};
use ocibuild_spec::{ImageSource, Reference};
use ocibuild_sys::RootDir;
use rustix::fs::{Mode, OFlags};

use super::files::{BuildContext, RemoteSource};
use crate::copy::{LocalSource, NoSource, Source};
use crate::{Error, ErrorKind, Place};

/// A local directory that a build copies from, seen through its ignore file.
///
/// Nothing is read before a step asks for it, and nothing outside the directory is ever read: links in it lead only
/// within it.
#[derive(Debug, Clone)]
pub struct LocalContext {
    directory: Option<PathBuf>,
    source: Arc<dyn Source>,
    ignore: IgnorePatterns,
    ignore_name: String,
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
        Self {
            directory: None,
            source: Arc::new(NoSource),
            ignore: IgnorePatterns::default(),
            ignore_name: String::new(),
        }
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
        if fs::metadata(ignore_file).is_ok_and(|metadata| metadata.is_dir()) {
            let name = ignore_name(path, ignore_file);
            return Err(Error::new(ErrorKind::Usage, format!("{name} is a directory, not a file"))
                .id("no-regular-file")
                .place(Place::File(name))
                .hint("remove the directory, or make it a file with one pattern on each line"));
        }
        let ignore = match read_confined(path, ignore_file)? {
            Some(bytes) => {
                let name = ignore_name(path, ignore_file);
                let patterns =
                    IgnoreFile::parse(&bytes).map_err(|error| ignore_error(&name, error))?.patterns;
                patterns.named(name)
            }
            None => IgnorePatterns::default(),
        };
        let source = Arc::new(LocalSource::new(root, path.to_owned(), ignore.clone()));
        let ignore_name = ignore_file.file_name().unwrap_or_default().display().to_string();
        Ok(Self { directory: Some(path.to_owned()), source, ignore, ignore_name })
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
        Arc::clone(&self.source)
    }
}

/// Reads a Dockerfile, with an error that says what is at its path instead.
pub fn read_dockerfile(path: &Path) -> Result<Vec<u8>, Error> {
    read_regular(path)?.ok_or_else(|| no_dockerfile(path))
}

/// As [`read_dockerfile`], for the build of `context`: a file in it may be a link, but not to something outside.
pub fn read_dockerfile_of(context: &Path, path: &Path) -> Result<Vec<u8>, Error> {
    read_confined(context, path)?.ok_or_else(|| {
        let error = no_dockerfile(path);
        let inside = context.join(path);
        if path.starts_with(context) || !fs::metadata(&inside).is_ok_and(|metadata| metadata.is_file()) {
            return error;
        }
        error
            .cause(format!("-f counts from the working directory, not from CONTEXT {}", context.display()))
            .hint_first(format!("write -f {}", inside.display()))
    })
}

/// Reads a file that may lie in the context, where links do not lead out.
fn read_confined(context: &Path, path: &Path) -> Result<Option<Vec<u8>>, Error> {
    if !path.starts_with(context) {
        return read_regular(path);
    }
    let (Ok(root), Ok(real)) = (fs::canonicalize(context), fs::canonicalize(path)) else {
        return read_regular(path);
    };
    if !real.starts_with(&root) {
        let message = format!("{} is a link that leads out of the build context", path.display());
        return Err(Error::new(ErrorKind::Refused, message)
            .id("link-out-of-context")
            .place(Place::File(path.display().to_string()))
            .cause(format!("it leads to {}", real.display()))
            .hint("put the file itself into the context, or name the one outside with -f"));
    }
    read_regular(&real)
}

fn no_dockerfile(path: &Path) -> Error {
    let error = Error::new(ErrorKind::Usage, format!("there is no Dockerfile at {}", path.display()))
        .id("no-dockerfile")
        .place(Place::File(path.display().to_string()));
    let error = match similar(path) {
        Some(name) => error.hint(format!("did you mean -f {name}?")),
        None => error,
    };
    error.hint("name the file with -f, or the directory that holds it as CONTEXT")
}

/// What a missing Dockerfile's directory has in its place.
fn similar(path: &Path) -> Option<String> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut names: Vec<String> = fs::read_dir(parent)
        .ok()?
        .take(10_000)
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort_unstable();
    let wanted = path.file_name()?.to_str()?;
    let contains =
        |part: &str| names.iter().find(|name| name.to_lowercase().contains(part)).map(String::as_str);
    let is_file = |name: &&String| parent.join(name).is_file();
    let found = ocibuild_dockerfile::nearest(wanted, names.iter().filter(is_file).map(String::as_str))
        .or_else(|| contains("dockerfile"))
        .or_else(|| contains("containerfile"));
    // Many projects keep it one directory further down.
    let below =
        || names.iter().map(|name| Path::new(name).join(wanted)).find(|inner| parent.join(inner).is_file());
    let found = found.map(PathBuf::from).or_else(below)?;
    Some(path.with_file_name(found).display().to_string())
}

/// The bytes of a regular file; `None` when nothing is there. Opening waits for nothing, and other things than files
/// are not read, whatever takes the file's place meanwhile.
fn read_regular(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let shown = path.display();
    let unreadable = |error: std::io::Error| {
        let is_denied = error.kind() == std::io::ErrorKind::PermissionDenied;
        let own = Error::new(ErrorKind::Host, format!("cannot read {shown}"))
            .id("unreadable")
            .place(Place::File(shown.to_string()))
            .caused_by(error);
        if is_denied { own.hint("let this user read it: chmod u+r, or chown") } else { own }
    };
    let refused = |message: String| {
        Error::new(ErrorKind::Usage, message).id("no-regular-file").place(Place::File(shown.to_string()))
    };
    let not_a_file = |what: &str| {
        let inside = path.join("Dockerfile");
        let hint = if inside.is_file() {
            format!("-f names a file: -f {}", inside.display())
        } else {
            "-f names a file".to_owned()
        };
        refused(format!("{shown} is {what}, not a file")).hint(hint)
    };
    // A socket cannot be opened at all.
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => return Err(not_a_file("a directory")),
        Ok(metadata) if !metadata.is_file() => return Err(not_a_file(kind_of(&metadata))),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let descriptor =
        rustix::fs::open(path, flags, Mode::empty()).map_err(|error| unreadable(error.into()))?;
    let file = std::fs::File::from(descriptor);
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(not_a_file(kind_of(&metadata)));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(refused(format!("{shown} is larger than 16 MiB"))
            .hint("is this the file? Another is named with -f"));
    }
    Ok(Some(bytes))
}

fn kind_of(metadata: &std::fs::Metadata) -> &'static str {
    use std::os::unix::fs::FileTypeExt as _;
    let kind = metadata.file_type();
    if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_char_device() || kind.is_block_device() {
        "a device"
    } else {
        "no regular file"
    }
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
        .id("invalid-pattern")
        .cause(format!("the pattern is {shown:?}"))
        .hint(hint)
        .place(Place::Line { file: name.to_owned(), line, text })
        .caused_by(error)
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
