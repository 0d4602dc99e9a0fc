//! Results of steps: written, recorded, found again, written once more in another form.

use ocibuild_layer::{LayerOptions, WrittenLayer};
use ocibuild_spec::{Changeset, Descriptor, DiffId, Digest, Entry, Timestamp};
use ocibuild_store::BlobStore;

use super::PlatformBuild;
use crate::Error;
use crate::cache::{Form, Record, Wanted};
use crate::keys::{Framed, Input};
use crate::layers::Layer;

/// A layer that was written to the store, and its index to the cache.
pub(crate) struct NewLayer {
    pub(crate) diff_id: DiffId,
    pub(crate) descriptor: Descriptor,
}

/// A step's result: its layer, what later keys build on, and the time of the layer.
pub(super) struct StepResult {
    pub(super) layer: Layer,
    pub(super) chain: Digest,
    pub(super) created: Timestamp,
    pub(super) ran: bool,
}

impl PlatformBuild<'_> {
    /// Writes a layer to the store, with its index; `use_entries` sees the changeset once the layer's name is known.
    pub(crate) fn write(
        &self,
        changeset: Changeset,
        use_entries: impl FnOnce(&DiffId, &[Entry]) -> Result<(), Error>,
    ) -> Result<NewLayer, Error> {
        let written = self.write_blob(&changeset, self.platform.wanted)?;
        use_entries(&written.diff_id, &changeset.entries)?;
        self.write_index(written, changeset)
    }

    fn write_blob(&self, changeset: &Changeset, wanted: Wanted) -> Result<WrittenLayer, Error> {
        let options = LayerOptions {
            compression: wanted.compression,
            clamp_mtime: wanted.clamp,
            threads: self.build.settings.threads,
        };
        let mut blob = self.backends.store.writer()?;
        let written = ocibuild_layer::write(changeset, &mut blob, &options, self.cancel)?;
        blob.finish_expecting(&written.descriptor)?;
        Ok(written)
    }

    /// Whether a step that is not to be taken from the cache has to run: not when this build made it already.
    pub(super) fn is_fresh(&self, key: &Digest, fresh: bool) -> bool {
        fresh && self.session.made.get(key).is_none()
    }

    /// The index keeps the times as steps see them, with their nanoseconds, where the tar has whole seconds.
    fn write_index(&self, written: WrittenLayer, changeset: Changeset) -> Result<NewLayer, Error> {
        self.backends.store.protect(&written.diff_id.0)?;
        let new = NewLayer { diff_id: written.diff_id.clone(), descriptor: written.descriptor.clone() };
        self.backends.cache.put_index(&new.diff_id, &written.into_index(changeset, true)?)?;
        Ok(new)
    }

    /// Keeps the result of a step for later builds.
    pub(super) fn record(
        &self,
        key: Digest,
        inputs: Vec<Input>,
        written: NewLayer,
        fresh: bool,
    ) -> Result<StepResult, Error> {
        let store = self.backends.store;
        store.flush(std::slice::from_ref(&written.descriptor))?;
        let form = Form::new(written.diff_id, written.descriptor, self.platform.wanted);
        let mut record = Record::new(key, inputs, self.now(), form);
        if fresh && self.backends.cache.record(&record.key).is_some() {
            // What follows must not take results that were made from what this step left behind before.
            let mut framed = Framed::new("ocibuild result v1");
            framed.field(record.key.as_str().as_bytes());
            framed.field(record.forms[0].diff_id.0.as_str().as_bytes());
            record.chain = framed.finish();
        }
        self.backends.cache.put_record(&record)?;
        Ok(StepResult {
            layer: layer_of(&record.forms[0]),
            chain: record.chain,
            created: record.created,
            ran: true,
        })
    }

    /// The recorded result of a step, in the form that this build wants.
    pub(super) fn lookup(&self, key: &Digest) -> Result<Option<StepResult>, Error> {
        let Some(record) = self.backends.cache.record(key) else { return Ok(None) };
        let wanted = self.platform.wanted;
        let is_there = |form: &Form| -> Result<bool, Error> {
            self.backends.store.protect(&form.diff_id.0)?;
            Ok(self.layers.is_stored(&form.descriptor)? && self.backends.cache.has_index(&form.diff_id))
        };
        let layer = match record.form(wanted) {
            Some(form) if is_there(form)? => layer_of(form),
            _ => {
                let Some(other) = record.forms.iter().find(|form| is_there(form).unwrap_or(false)) else {
                    return Ok(None);
                };
                self.convert(&record, &layer_of(other))?
            }
        };
        Ok(Some(StepResult { layer, chain: record.chain, created: record.created, ran: false }))
    }

    /// Writes a recorded layer once more in the form that this build wants: the index knows its true times.
    fn convert(&self, record: &Record, layer: &Layer) -> Result<Layer, Error> {
        let changeset = self.layers.changeset(layer)?;
        let wanted = self.platform.wanted;
        let written = self.write_blob(&changeset, wanted)?;
        let written = self.write_index(written, changeset)?;
        self.backends.store.flush(std::slice::from_ref(&written.descriptor))?;
        let form = Form::new(written.diff_id, written.descriptor, wanted);
        let converted = layer_of(&form);
        let mut record = record.clone();
        record.forms.push(form);
        self.backends.cache.put_record(&record)?;
        Ok(converted)
    }
}

fn layer_of(form: &Form) -> Layer {
    Layer { diff_id: form.diff_id.clone(), descriptor: form.descriptor.clone(), image: None }
}
