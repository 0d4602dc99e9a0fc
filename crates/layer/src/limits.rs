/// How large a tar from elsewhere may be before it is refused (a bomb is stopped before the disk is full).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries, metadata aside, and parts of sparse files.
    pub entries: u64,
    /// Bytes of the plain tar.
    pub tar_size: u64,
    /// Bytes of one file.
    pub file_size: u64,
    /// Zeros that sparse files only state.
    pub holes: u64,
}

/// A small blob may still hold this much.
const FLOOR: u64 = 1 << 30;

/// Real file systems compress by factors of two to ten; gzip cannot exceed 1032.
const RATIO: u64 = 250;

impl Limits {
    /// No limit but those on entries, which cost memory, and on holes, which cost hours for a few bytes: 1 TiB.
    pub const UNLIMITED: Self =
        Self { entries: 8_000_000, tar_size: u64::MAX, file_size: u64::MAX, holes: 1 << 40 };

    /// Limits for the content of a blob of `compressed` bytes: 1 GiB, or 250 times its size if that is more.
    pub fn for_blob(compressed: u64) -> Self {
        let tar_size = compressed.saturating_mul(RATIO).max(FLOOR);
        Self { entries: 8_000_000, tar_size, file_size: tar_size, holes: tar_size }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::UNLIMITED
    }
}
