//! New layers: from what changed to a blob in the store and a listing in the cache.

use ocibuild_layer::{LayerOptions, WrittenLayer};
use ocibuild_spec::{Changeset, Descriptor, DiffId, Entry};

use crate::cache::EncodingOptions;
use crate::error::Error;
use crate::layers::Layers;

/// Writes layers in one form.
#[derive(Clone, Copy)]
pub(crate) struct LayerWriter<'a> {
    /// Where they are put, and their listings.
    pub(crate) layers: &'a Layers<'a>,
    /// The form that layers get.
    pub(crate) wanted: EncodingOptions,
}

/// A layer that was written to the store, and its listing to the cache.
pub(crate) struct NewLayer {
    pub(crate) diff_id: DiffId,
    pub(crate) descriptor: Descriptor,
}

impl LayerWriter<'_> {
    /// Writes a layer; `use_entries` sees the changeset once the layer's name is known.
    ///
    /// The listing keeps the times as steps see them, with their nanoseconds, where the tar has whole seconds.
    pub(crate) fn write(
        &self,
        changeset: Changeset,
        use_entries: impl FnOnce(&DiffId, &[Entry]) -> Result<(), Error>,
    ) -> Result<NewLayer, Error> {
        let written = self.write_blob(&changeset)?;
        use_entries(&written.diff_id, &changeset.entries)?;
        self.layers.store.protect(&written.diff_id.0)?;
        let new = NewLayer { diff_id: written.diff_id.clone(), descriptor: written.descriptor.clone() };
        self.layers.put_index(&new.diff_id, written.into_index(changeset, true)?)?;
        Ok(new)
    }

    fn write_blob(&self, changeset: &Changeset) -> Result<WrittenLayer, Error> {
        let share = self.layers.threads.take(usize::MAX, self.layers.cancel)?;
        let options = LayerOptions {
            compression: self.wanted.compression,
            clamp_mtime: self.wanted.clamp,
            threads: share.count(),
        };
        let mut blob = self.layers.store.hashed_writer()?;
        let written = ocibuild_layer::write(changeset, &mut blob, &options, self.layers.cancel)?;
        blob.finish(&written.descriptor)?;
        Ok(written)
    }
}
