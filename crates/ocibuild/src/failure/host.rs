//! What this host could not do.

use std::error::Error as StdError;
use std::fmt;
use std::path::PathBuf;

type Source = Box<dyn StdError + Send + Sync>;

/// Something that this host could not do with one of its own files, directories or processes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostFailure {
    /// A file or directory could not be used.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried.
        action: FileAction,
        /// The file or directory.
        path: PathBuf,
        /// Why it could not be done.
        source: Source,
    },
    /// Something else could not be done.
    #[error("cannot {operation}")]
    Operation {
        /// What was tried.
        operation: HostOperation,
        /// Why it could not be done.
        source: Source,
    },
}

macro_rules! texts {
    ($(#[$outer:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$doc])* $variant,)*
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $text,)*
                })
            }
        }
    };
}

texts! {
    /// What was to be done with a file or directory.
    FileAction {
        /// It was to be read.
        Read = "read",
        /// It was to be written.
        Write = "write",
        /// Something was to be written into the directory.
        WriteBelow = "write below",
        /// The cache in it was to be read.
        ReadCache = "read the cache at",
        /// The cache was to be written into it.
        WriteCache = "write the cache at",
        /// It was to be removed.
        Remove = "remove",
        /// Everything in the directory was to be removed.
        Empty = "empty",
        /// It was to be used in several ways.
        Use = "use",
        /// The program was to be started.
        Start = "start",
    }
}

texts! {
    /// What was to be done on this host, other than with one file.
    HostOperation {
        /// A thread was to be started.
        StartThread = "start a thread",
        /// A build context was to be kept in a file.
        KeepContext = "keep the build context in a file",
        /// A build context was to be read.
        ReadContext = "read the build context",
        /// A build context was to be listed.
        ListContext = "list the build context",
        /// An archive of images was to be kept.
        KeepArchive = "keep the archive in the state directory for as long as it is read",
        /// What was downloaded was to be read.
        ReadDownload = "read a download",
        /// A file that a step copied was to be read.
        ReadCopied = "read a copied file",
        /// A layer was to be read once more.
        ReadLayerAgain = "read a layer twice",
        /// A tar was to be written.
        WriteTar = "write the tar",
        /// A directory was to be made.
        MakeDirectory = "make a directory",
        /// What git leaves in a repository was to be removed.
        TidyRepository = "tidy a repository",
        /// Work was to be done in a user namespace.
        EnterNamespace = "work in a user namespace",
        /// The end of git was to be waited for.
        WaitForGit = "wait for git",
        /// The end of an engine's client was to be waited for.
        WaitForClient = "wait for the client",
    }
}

impl HostFailure {
    pub(crate) fn file(action: FileAction, path: impl Into<PathBuf>, source: impl Into<Source>) -> Self {
        Self::File { action, path: path.into(), source: source.into() }
    }

    pub(crate) fn operation(operation: HostOperation, source: impl Into<Source>) -> Self {
        Self::Operation { operation, source: source.into() }
    }
}
