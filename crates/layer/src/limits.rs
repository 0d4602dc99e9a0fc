use std::fmt;

/// How large a tar from elsewhere may be before it is refused (a bomb is stopped before the disk is full).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries, metadata aside, directories that are only implied, and parts of sparse files.
    pub entries: u64,
    /// Bytes of the plain tar.
    pub tar_size: u64,
    /// Bytes of one file.
    pub file_size: u64,
    /// Zeros that sparse files only state.
    pub holes: u64,
    /// Bytes of names, link targets and attributes, all entries together, beyond 128 for each entry.
    pub metadata: u64,
}

/// One of the [`Limits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Limit {
    /// [`Limits::entries`]
    Entries,
    /// [`Limits::tar_size`]
    TarSize,
    /// [`Limits::file_size`]
    FileSize,
    /// [`Limits::holes`]
    Holes,
    /// [`Limits::metadata`]
    Metadata,
}

impl Limit {
    /// Whether it is about the bytes of files, of which whoever knows the archive may expect more.
    pub fn is_of_content(self) -> bool {
        matches!(self, Self::TarSize | Self::FileSize | Self::Holes)
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Entries => "entries",
            Self::TarSize => "bytes",
            Self::FileSize => "bytes in one file",
            Self::Holes => "bytes of holes in sparse files",
            Self::Metadata => "bytes of names, links and attributes",
        })
    }
}

/// A small blob may still hold this much.
const FLOOR: u64 = 1 << 30;

/// Real file systems compress by factors of two to ten; gzip cannot exceed 1032.
const RATIO: u64 = 250;

/// An archive for ADD unpacks to no more unless its user says so.
const ARCHIVE: u64 = 64 << 30;

/// A blob of any size may have this many entries.
const FEW_ENTRIES: u64 = 400_000;

/// Each entry of a real file system takes more bytes of a blob: names and times hardly compress.
const BYTES_OF_ENTRY: u64 = 64;

const ENTRIES: u64 = 8_000_000;

const METADATA: u64 = 64 << 20;

/// Bytes of metadata that every entry may have.
const METADATA_OF_ENTRY: u64 = 128;

impl Limits {
    /// No limit but those on entries and metadata, which cost memory, and on holes, which cost hours for a few bytes:
    /// 1 TiB.
    pub const UNLIMITED: Self = Self {
        entries: ENTRIES,
        tar_size: u64::MAX,
        file_size: u64::MAX,
        holes: 1 << 40,
        metadata: METADATA,
    };

    /// Limits for the content of a blob of `compressed` bytes: 1 GiB, or 250 times its size if that is more; 400,000
    /// entries, and one more for each 64 bytes, up to 8,000,000.
    pub fn for_blob(compressed: u64) -> Self {
        let tar_size = compressed.saturating_mul(RATIO).max(FLOOR);
        let entries = (FEW_ENTRIES + compressed / BYTES_OF_ENTRY).min(ENTRIES);
        Self { entries, tar_size, file_size: tar_size, holes: tar_size, metadata: METADATA }
    }

    /// Limits for an archive for ADD in a file of `size` bytes: those of a blob, but 64 GiB at most, or else as many
    /// bytes as were allowed.
    pub fn for_archive(size: u64, allowed: Option<u64>) -> Self {
        let of_blob = Self::for_blob(size);
        let tar_size = allowed.unwrap_or(of_blob.tar_size.min(ARCHIVE));
        Self { tar_size, file_size: tar_size, holes: tar_size, ..of_blob }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::UNLIMITED
    }
}

/// What is kept of a tar so far, against its [`Limits`].
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Kept {
    entries: u64,
    metadata: u64,
}

impl Kept {
    /// Counts entries with so many bytes of metadata; what they exceed, and how much of it is allowed, if they do.
    pub(crate) fn add(&mut self, entries: u64, metadata: u64, limits: &Limits) -> Result<(), (Limit, u64)> {
        self.entries = self.entries.saturating_add(entries);
        self.metadata = self.metadata.saturating_add(metadata);
        if self.entries > limits.entries {
            return Err((Limit::Entries, limits.entries));
        }
        let free = self.entries.saturating_mul(METADATA_OF_ENTRY);
        if self.metadata.saturating_sub(free) > limits.metadata {
            return Err((Limit::Metadata, limits.metadata));
        }
        Ok(())
    }
}
