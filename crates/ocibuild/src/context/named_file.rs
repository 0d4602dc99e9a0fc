//! Files that are named by path for the builder's own use, Dockerfiles and ignore files: what lies in the context is
//! opened below its descriptor, so that nothing that changes there meanwhile leads out of it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Component, Path, PathBuf};

use fs_err as fs;
use ocibuild_sys::RootDir;
use rustix::fs::{Mode, OFlags};

/// As much of a Dockerfile or ignore file as is read.
const MAX_FILE: u64 = 16 << 20;

/// A path that the user named.
#[derive(Debug)]
pub(super) struct NamedFile<'a> {
    context: Option<&'a Path>,
    path: PathBuf,
    /// The context, and the path in it; `None` for what lies elsewhere.
    inside: Option<(RootDir, PathBuf)>,
}

/// Why there is nothing to read.
#[derive(Debug)]
pub(super) enum NoFile {
    Missing,
    Directory,
    /// A pipe, a socket, a device.
    Special(&'static str),
    TooLarge,
    /// It lies in the context, and a link on the way leads out of it.
    LeadsOut,
    Unreadable(io::Error),
}

impl<'a> NamedFile<'a> {
    /// The file at `path` for a build of the directory `context`.
    pub(super) fn new(context: &'a Path, path: &Path) -> Self {
        let inside = inside(context, path).and_then(|inner| Some((RootDir::open(context).ok()?, inner)));
        Self { context: Some(context), path: path.to_owned(), inside }
    }

    /// A file that belongs to no context.
    pub(super) fn anywhere(path: &Path) -> Self {
        Self { context: None, path: path.to_owned(), inside: None }
    }

    /// Another file on the same terms.
    pub(super) fn beside(&self, path: &Path) -> Self {
        match self.context {
            Some(context) => Self::new(context, path),
            None => Self::anywhere(path),
        }
    }

    /// Whether it lies in the context.
    pub(super) fn is_confined(&self) -> bool {
        self.inside.is_some()
    }

    pub(super) fn is_file(&self) -> bool {
        match &self.inside {
            Some((root, inner)) => {
                root.stat_beneath(inner).is_ok_and(|found| found.file_type == ocibuild_sys::FileType::Regular)
            }
            None => self.path.is_file(),
        }
    }

    /// The names in a directory, some thousands at most; none when it is not a directory.
    pub(super) fn names(&self) -> Vec<OsString> {
        const MANY: usize = 10_000;
        if let Some((root, inner)) = &self.inside {
            let Ok(entries) = root.dir(inner).and_then(|directory| directory.read_dir()) else {
                return Vec::new();
            };
            return entries.take(MANY).filter_map(|entry| Some(entry.ok()?.name)).collect();
        }
        let entries = fs::read_dir(&self.path).into_iter().flatten();
        entries.take(MANY).filter_map(|entry| Some(entry.ok()?.file_name())).collect()
    }

    /// The bytes of a regular file. Opening waits for nothing, and other things than files are not read.
    pub(super) fn read(&self) -> Result<Vec<u8>, NoFile> {
        let file = match &self.inside {
            Some((root, inner)) => self.open_inside(root, inner)?,
            None => self.open_outside()?,
        };
        let metadata = file.metadata().map_err(NoFile::Unreadable)?;
        if !metadata.is_file() {
            return Err(kind_of(metadata.file_type()));
        }
        let mut bytes = Vec::new();
        file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(NoFile::Unreadable)?;
        if bytes.len() as u64 > MAX_FILE { Err(NoFile::TooLarge) } else { Ok(bytes) }
    }

    fn open_inside(&self, root: &RootDir, inner: &Path) -> Result<File, NoFile> {
        use ocibuild_sys::ErrorKind::{
            CrossesDevice, InvalidInput, IsADirectory, Link, NotADirectory, NotFound, Other,
        };
        let error = match root.open_beneath(inner) {
            Ok(file) => return Ok(file),
            Err(error) => error,
        };
        match error.kind() {
            NotFound | NotADirectory => Err(NoFile::Missing),
            IsADirectory => Err(NoFile::Directory),
            // A link with an absolute path may lead to a file of the context all the same. Where it leads is looked up
            // by name, but what is opened is below the descriptor, without any link.
            CrossesDevice => {
                let real = self.context.and_then(|context| {
                    let real = fs::canonicalize(&self.path).ok()?;
                    Some(real.strip_prefix(fs::canonicalize(context).ok()?).ok()?.to_owned())
                });
                let opened = real.and_then(|real| {
                    let (parent, name) = (real.parent()?, real.file_name()?);
                    let no_links =
                        |at: ocibuild_sys::DirHandle, part: &std::ffi::OsStr| at.open_dir(part).ok();
                    let directory = parent.iter().try_fold(root.top().ok()?, no_links)?;
                    directory.open_read(name).ok()
                });
                opened.ok_or(NoFile::LeadsOut)
            }
            // A socket cannot be opened at all.
            InvalidInput | Link | Other => match root.stat_beneath(inner) {
                Ok(found) => Err(kind_of_found(found.file_type, error)),
                Err(_) => Err(NoFile::Unreadable(error.into())),
            },
            _ => Err(NoFile::Unreadable(error.into())),
        }
    }

    fn open_outside(&self) -> Result<File, NoFile> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        // A socket cannot be opened at all, and what a device does when it is opened is its own affair.
        match fs::metadata(&self.path) {
            Ok(found) if found.is_file() => {}
            Ok(found) => return Err(kind_of(found.file_type())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(NoFile::Missing),
            Err(error) => return Err(NoFile::Unreadable(error)),
        }
        let file = rustix::fs::open(&self.path, flags, Mode::empty());
        file.map(File::from).map_err(|errno| match errno {
            rustix::io::Errno::NOENT => NoFile::Missing,
            errno => NoFile::Unreadable(errno.into()),
        })
    }
}

fn kind_of(kind: std::fs::FileType) -> NoFile {
    if kind.is_dir() {
        NoFile::Directory
    } else if kind.is_fifo() {
        NoFile::Special("a named pipe")
    } else if kind.is_socket() {
        NoFile::Special("a socket")
    } else if kind.is_char_device() || kind.is_block_device() {
        NoFile::Special("a device")
    } else {
        NoFile::Special("no regular file")
    }
}

fn kind_of_found(kind: ocibuild_sys::FileType, error: ocibuild_sys::Error) -> NoFile {
    use ocibuild_sys::FileType;
    match kind {
        FileType::Directory => NoFile::Directory,
        FileType::Fifo => NoFile::Special("a named pipe"),
        FileType::Socket => NoFile::Special("a socket"),
        FileType::CharDevice | FileType::BlockDevice => NoFile::Special("a device"),
        FileType::Regular | FileType::Symlink => NoFile::Unreadable(error.into()),
    }
}

/// The path below `context`, if that is one of the directories that lead to `path`.
///
/// Which directory it is, its inode tells: `.` and an absolute path are the same one, and so is one by way of a link.
/// The directories are looked at from the top, so that nothing in the context has a say in it.
fn inside(context: &Path, path: &Path) -> Option<PathBuf> {
    let found = fs::metadata(context).ok()?;
    let is_context = |directory: &Path| {
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        fs::metadata(directory).is_ok_and(|other| (other.dev(), other.ino()) == (found.dev(), found.ino()))
    };
    let parts: Vec<Component<'_>> = path.components().collect();
    // A relative path begins in the working directory.
    let first = usize::from(path.is_absolute());
    for count in first..parts.len() {
        let (above, below) = parts.split_at(count);
        if stays_below(below) && is_context(&above.iter().collect::<PathBuf>()) {
            return Some(below.iter().collect());
        }
    }
    // The working directory may itself lie in the context.
    let absolute = std::path::absolute(path).ok().filter(|_| path.is_relative())?;
    inside(context, &absolute)
}

/// Whether a path leads nowhere above where it begins, as it is written.
fn stays_below(parts: &[Component<'_>]) -> bool {
    let mut depth = 0_usize;
    parts.iter().all(|part| match part {
        Component::Normal(_) => {
            depth += 1;
            true
        }
        Component::ParentDir => match depth.checked_sub(1) {
            Some(above) => {
                depth = above;
                true
            }
            None => false,
        },
        Component::CurDir | Component::RootDir | Component::Prefix(_) => true,
    })
}
