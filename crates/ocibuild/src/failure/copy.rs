//! Why files cannot be copied.

use std::error::Error as StdError;
use std::fmt;
use std::path::{Path, PathBuf};

use ocibuild_dockerfile::IgnoreError;
use ocibuild_plan::ChmodError;

use super::{Code, ErrorKind};

/// A `COPY`, an `ADD` or a `WORKDIR` that cannot be carried out.
#[derive(Debug)]
#[non_exhaustive]
pub struct CopyFailure {
    /// What is wrong.
    pub problem: CopyProblem,
    /// Variables of the source that have no value.
    pub unset: Vec<UnsetVariable>,
    /// What the instruction was probably meant to say.
    pub mistake: Option<Mistake>,
}

impl From<CopyProblem> for CopyFailure {
    fn from(problem: CopyProblem) -> Self {
        Self { problem, unset: Vec::new(), mistake: None }
    }
}

impl fmt::Display for CopyFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem.fmt(f)
    }
}

impl StdError for CopyFailure {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.problem.source()
    }
}

impl CopyFailure {
    /// The text to blame in the instruction.
    pub(crate) fn word(&self) -> Option<String> {
        self.unset.first().map(|unset| unset.written.clone()).or_else(|| self.problem.word())
    }
}

/// What is wrong with what is copied. Paths of a context or an image are relative to its root.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyProblem {
    /// A source does not exist.
    #[error(transparent)]
    SourceNotFound(Box<MissingSource>),
    /// A destination cannot take what is copied.
    #[error(transparent)]
    Destination(Box<WrongDestination>),
    /// A wildcard matches nothing.
    #[error("lstat /{}: no such file or directory", directory.display())]
    NothingMatches {
        /// The source as it is written.
        word: String,
        /// Where it was looked for.
        directory: PathBuf,
        /// Some of what is there.
        names: Vec<String>,
    },
    /// `--parents` does not follow links.
    #[error("\"/{}\": not found", path.display())]
    LinkNotFollowed {
        /// The source as it is written.
        word: String,
        /// The same as a path.
        path: PathBuf,
        /// The link.
        link: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
    /// `--exclude` leaves out all of a source.
    #[error("\"/{}\": not found", path.display())]
    Excluded {
        /// The source as it is written.
        word: String,
        /// The same as a path.
        path: PathBuf,
    },
    /// A path that nothing is at.
    #[error("\"/{}\": not found", path.display())]
    NotFound {
        /// The path.
        path: PathBuf,
    },
    /// A pattern of `--exclude` cannot be read.
    #[error("--exclude: {source}")]
    ExcludePattern {
        /// What is wrong with it.
        source: IgnoreError,
    },
    /// A source of `--parents` cannot be read as a pattern.
    #[error("{source}")]
    ParentsPattern {
        /// The source as it is written.
        word: String,
        /// What is wrong with it.
        source: IgnoreError,
    },
    /// A source cannot be read as a pattern.
    #[error("syntax error in pattern {pattern}")]
    Pattern {
        /// The pattern.
        pattern: String,
    },
    /// A source is not text.
    #[error("source {word:?} is not valid UTF-8")]
    NotUtf8 {
        /// The source as it is written.
        word: String,
    },
    /// A path is longer than any system takes.
    #[error("a path of {} bytes is longer than the {maximum} that Linux can open: {}…", path.as_os_str().len(), begin(path))]
    PathTooLong {
        /// The path.
        path: PathBuf,
        /// The longest there is, in bytes.
        maximum: usize,
    },
    /// Links lead to links without end.
    #[error("\"/{}\": too many links in the source path", path.display())]
    TooManyLinks {
        /// The path.
        path: PathBuf,
    },
    /// Sparse files have more holes than a layer may have zeros.
    #[error("{}: the files of this step have holes of more than {maximum} bytes", path.display())]
    TooManyHoles {
        /// The last file.
        path: PathBuf,
        /// How many bytes of holes a step may read.
        maximum: u64,
    },
    /// A path of the build context cannot be read.
    #[error("cannot read {}", host_path.display())]
    Unreadable {
        /// The path in the context.
        path: PathBuf,
        /// The path on this host.
        host_path: PathBuf,
        /// Whether it is the rights of this user that are missing.
        is_denied: bool,
        /// The ignore file that could leave it out.
        ignore_file: String,
        /// Why it cannot be read.
        source: ocibuild_sys::Error,
    },
    /// A path is something else than a regular file.
    #[error("\"/{}\": not a regular file", path.display())]
    NotRegular {
        /// The path.
        path: PathBuf,
    },
    /// The content of a file was not asked for, and is needed.
    #[error("\"/{}\" has no content here", path.display())]
    NoContent {
        /// The path.
        path: PathBuf,
    },
    /// An archive cannot be unpacked.
    #[error("/{}: broken archive: {reason}", path.display())]
    BrokenArchive {
        /// The archive.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An entry of an archive cannot be unpacked.
    #[error("archive entry {}: {problem}", entry.display())]
    ArchiveEntry {
        /// The entry.
        entry: PathBuf,
        /// What is wrong with it.
        problem: EntryProblem,
    },
    /// An archive needs more than is ever spent on one.
    #[error("/{}: {reason}", path.display())]
    ArchiveRefused {
        /// The archive.
        path: PathBuf,
        /// Which limit it passes.
        reason: String,
        /// What to do about that.
        remedy: Option<&'static str>,
    },
    /// An archive unpacks to more than it may.
    #[error("/{} unpacks to more than {maximum} bytes", path.display())]
    ArchiveTooLarge {
        /// The archive.
        path: PathBuf,
        /// The limit.
        maximum: u64,
    },
    /// An archive cannot be read on this host.
    #[error("cannot read /{}: {reason}", path.display())]
    ArchiveUnreadable {
        /// The archive.
        path: PathBuf,
        /// Why it cannot be read.
        reason: String,
    },
    /// The address of a URL or a repository cannot be read.
    #[error("{reason}")]
    Address {
        /// What is wrong with it.
        reason: String,
    },
    /// A mode cannot be read.
    #[error("{source}")]
    Mode {
        /// The mode as it is written.
        text: String,
        /// What is wrong with it.
        source: ChmodError,
    },
    /// An owner is a name where there are no names.
    #[error("invalid user index: -1: {text:?} is a name, and {}", if *is_link { "--link does not see the image" } else { "the stage has no files yet" })]
    OwnerName {
        /// The owner as it is written.
        text: String,
        /// Whether `--link` is the reason.
        is_link: bool,
    },
}

/// The beginning of a long path.
fn begin(path: &Path) -> String {
    path.to_string_lossy().chars().take(60).collect()
}

/// What is wrong with an entry of an archive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EntryProblem {
    /// What it refers to does not exist.
    #[error("no such file or directory")]
    NotFound,
    /// Something above it is not a directory.
    #[error("not a directory")]
    NotDirectory,
    /// It has the path of the destination, and is not a directory.
    #[error("it would replace the destination itself")]
    ReplacesDestination,
    /// It is the device that marks deletions.
    #[error("a character device 0:0 stands for a deletion")]
    Deletion,
    /// An extended attribute that no file system takes.
    #[error("attribute {name:?}: {problem}")]
    Attribute {
        /// Its name.
        name: String,
        /// What the kernel says of it.
        problem: &'static str,
    },
}

/// Where a source is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SourcePlace {
    /// In the build context, or a named one.
    Context,
    /// In another stage, or in an image.
    StageOrImage,
}

impl fmt::Display for SourcePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Context => "the build context",
            Self::StageOrImage => "the stage or image",
        })
    }
}

/// A source that does not exist, and what was found out about it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MissingSource {
    /// The source as it is written.
    pub word: String,
    /// The same as a path.
    pub path: PathBuf,
    /// Where it was looked for.
    pub place: SourcePlace,
    /// Whether it is the directory before a wildcard that does not exist.
    pub is_prefix: bool,
    /// The line of an ignore file that leaves it out.
    pub ignored_by: Option<IgnoredBy>,
    /// Whether it is the state directory of the build, which no context has.
    pub is_state: bool,
    /// Whether it leads above the root of the place.
    pub leads_above: bool,
    /// Where it leads, if it is a link to nothing.
    pub link: Option<PathBuf>,
    /// What it probably means, if spaces cut it off.
    pub with_spaces: Option<String>,
    /// The path of nearly the same name.
    pub nearest: Option<PathBuf>,
    /// A file of the same name in another directory.
    pub elsewhere: Option<PathBuf>,
    /// The directory where it would be, and some of what is there.
    pub siblings: Option<Siblings>,
}

impl fmt::Display for MissingSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        if self.is_prefix {
            write!(f, "lstat /{path}: no such file or directory")
        } else {
            write!(f, "\"/{path}\": not found")
        }
    }
}

impl StdError for MissingSource {}

/// A line of an ignore file that keeps a path out of the context.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct IgnoredBy {
    /// Name of the ignore file.
    pub file: String,
    /// Its line.
    pub line: u32,
    /// The pattern as it stands there.
    pub pattern: String,
    /// What it matches: the path itself, or a directory above it.
    pub matched: PathBuf,
}

/// Some of what is in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Siblings {
    /// The directory.
    pub directory: PathBuf,
    /// Names in it.
    pub names: Vec<String>,
    /// Whether there are more.
    pub has_more: bool,
}

/// A variable of a source that has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnsetVariable {
    /// The variable.
    pub name: String,
    /// The source with it, as it is written.
    pub written: String,
    /// What is left of the source without it.
    pub left: String,
    /// A build argument of nearly that name that no `ARG` takes.
    pub given: Option<String>,
}

/// Something else than a destination that can take what is copied.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WrongDestination {
    /// The destination, or what is in its way.
    pub path: PathBuf,
    /// What is wrong.
    pub problem: DestinationProblem,
    /// The destination as it is written, if that is what is to blame.
    pub word: Option<String>,
}

/// What is wrong with a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DestinationProblem {
    /// A file is where a directory is needed.
    NotDirectory,
    /// The destination of a directory is a file.
    FileForDirectory,
    /// The destination ends with a slash and is a file.
    FileWithSlash,
    /// A directory is to be copied onto a file.
    DirectoryOntoFile,
    /// A file is to be copied onto a directory.
    FileOntoDirectory,
    /// A device that marks deletions.
    Deletion,
    /// Links lead to links without end.
    Loop,
    /// `WORKDIR` is a file.
    WorkingDirectory,
}

impl fmt::Display for WrongDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match self.problem {
            DestinationProblem::NotDirectory | DestinationProblem::WorkingDirectory => {
                write!(f, "/{path}: not a directory")
            }
            DestinationProblem::FileForDirectory => {
                write!(f, "cannot copy to non-directory: /{path}: not a directory")
            }
            DestinationProblem::FileWithSlash => match &self.word {
                Some(word) => write!(f, "{word}: not a directory"),
                None => write!(f, "/{path}: not a directory"),
            },
            DestinationProblem::DirectoryOntoFile => write!(f, "cannot copy to non-directory: /{path}"),
            DestinationProblem::FileOntoDirectory => {
                write!(f, "cannot replace to directory /{path} with file")
            }
            DestinationProblem::Deletion => write!(f, "/{path}: {}", EntryProblem::Deletion),
            DestinationProblem::Loop => write!(f, "/{path}: too many links"),
        }
    }
}

impl StdError for WrongDestination {}

/// A word of `COPY` or `ADD` that means something elsewhere, but not here.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mistake {
    /// The instruction.
    pub keyword: &'static str,
    /// The word.
    pub word: String,
    /// What it is.
    pub kind: MistakeKind,
}

/// What a word probably was meant to be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MistakeKind {
    /// It holds a character that looks like a space.
    ConfusableSpace {
        /// The character, as `U+00A0`.
        code: String,
    },
    /// A flag that a space separates from its value.
    SpaceAfterFlag {
        /// The flag, with its equals sign.
        flag: String,
    },
    /// A flag without its dashes.
    NoDashes,
    /// A substitution of a shell.
    CommandSubstitution,
    /// Braces of a shell.
    Braces,
    /// A variable of Windows.
    PercentVariable,
    /// A comment behind the instruction.
    Comment,
    /// An operator of a shell.
    ShellOperator,
    /// A flag behind the sources.
    LateFlag {
        /// The other words.
        rest: String,
    },
    /// A flag that begins with a typographic dash.
    TypographicDash {
        /// The flag without it.
        flag: String,
    },
    /// A flag that begins with one dash.
    SingleDash {
        /// The flag as it should be written.
        flag: String,
    },
    /// A flag that other programs have.
    UnknownFlag,
    /// An address of a kind that `ADD` does not fetch.
    Address,
    /// A path with a drive.
    Drive,
    /// A path with backslashes.
    Backslashes,
}

impl CopyProblem {
    pub(crate) fn destination(path: impl Into<PathBuf>, problem: DestinationProblem) -> Self {
        let wrong = WrongDestination { path: path.into(), problem, word: None };
        Self::Destination(Box::new(wrong))
    }

    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::PathTooLong { .. }
            | Self::TooManyHoles { .. }
            | Self::ArchiveRefused { .. }
            | Self::ArchiveTooLarge { .. } => ErrorKind::Refused,
            Self::Unreadable { .. } | Self::NoContent { .. } | Self::ArchiveUnreadable { .. } => {
                ErrorKind::Host
            }
            _ => ErrorKind::Dockerfile,
        }
    }

    pub(crate) fn code(&self) -> Code {
        match self {
            Self::SourceNotFound(_)
            | Self::NothingMatches { .. }
            | Self::LinkNotFollowed { .. }
            | Self::Excluded { .. }
            | Self::NotFound { .. } => Code::SourceNotFound,
            Self::Destination(_) => Code::Destination,
            Self::ExcludePattern { .. } | Self::ParentsPattern { .. } | Self::Pattern { .. } => {
                Code::InvalidPattern
            }
            Self::NotUtf8 { .. } | Self::Address { .. } | Self::Mode { .. } | Self::OwnerName { .. } => {
                Code::InvalidInstruction
            }
            Self::PathTooLong { .. } => Code::PathTooLong,
            Self::TooManyLinks { .. } => Code::TooManyLinks,
            Self::TooManyHoles { .. } => Code::TooManyHoles,
            Self::Unreadable { .. } | Self::NoContent { .. } | Self::ArchiveUnreadable { .. } => {
                Code::Unreadable
            }
            Self::NotRegular { .. } => Code::NoRegularFile,
            Self::BrokenArchive { .. } | Self::ArchiveEntry { .. } => Code::BrokenArchive,
            Self::ArchiveRefused { .. } | Self::ArchiveTooLarge { .. } => Code::ArchiveTooLarge,
        }
    }

    /// The text to blame in the instruction.
    pub(crate) fn word(&self) -> Option<String> {
        Some(match self {
            Self::SourceNotFound(missing) => missing.word.clone(),
            Self::Destination(wrong) => {
                return wrong.word.clone().or_else(|| match wrong.problem {
                    DestinationProblem::WorkingDirectory => Some(wrong.path.display().to_string()),
                    _ => None,
                });
            }
            Self::NothingMatches { word, .. }
            | Self::LinkNotFollowed { word, .. }
            | Self::Excluded { word, .. }
            | Self::ParentsPattern { word, .. } => word.clone(),
            Self::ExcludePattern { source } => source.pattern.clone(),
            Self::Pattern { pattern } => pattern.clone(),
            Self::Mode { text, .. } | Self::OwnerName { text, .. } => text.clone(),
            Self::TooManyLinks { path }
            | Self::TooManyHoles { path, .. }
            | Self::Unreadable { path, .. }
            | Self::BrokenArchive { path, .. }
            | Self::ArchiveRefused { path, .. }
            | Self::ArchiveTooLarge { path, .. } => path.to_string_lossy().into_owned(),
            Self::NotFound { .. }
            | Self::NotUtf8 { .. }
            | Self::Address { .. }
            | Self::PathTooLong { .. }
            | Self::NotRegular { .. }
            | Self::NoContent { .. }
            | Self::ArchiveEntry { .. }
            | Self::ArchiveUnreadable { .. } => return None,
        })
    }
}
