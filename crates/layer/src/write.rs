use std::io::Write;

use ocibuild_spec::{CancelToken, Changeset, Descriptor, DiffId};

use crate::{Compression, Error, LayerIndex};

/// How a layer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerOptions {
    /// How its bytes are compressed.
    pub compression: Compression,
    /// Times later than this second become it (`rewrite-timestamp`, 11.42).
    pub clamp_mtime: Option<i64>,
    /// Threads that compress. With one, or for a tar of one block, everything happens in the calling thread.
    pub threads: usize,
}

impl Default for LayerOptions {
    fn default() -> Self {
        Self { compression: Compression::default(), clamp_mtime: None, threads: 1 }
    }
}

/// What came out of [`write`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenLayer {
    /// Digest of the plain tar.
    pub diff_id: DiffId,
    /// The blob: OCI's media type, digest and size of what went to the sink.
    pub descriptor: Descriptor,
    /// Bytes of the plain tar.
    pub tar_size: u64,
    /// The entries, as [`LayerIndex::read_tar`] would find them in the tar.
    pub index: LayerIndex,
}

/// Writes `changeset` as a layer to `sink`, in one pass.
pub fn write(
    changeset: &Changeset,
    sink: &mut dyn Write,
    options: &LayerOptions,
    cancel: &CancelToken,
) -> Result<WrittenLayer, Error> {
    let _ = (changeset, sink, options, cancel);
    todo!()
}
