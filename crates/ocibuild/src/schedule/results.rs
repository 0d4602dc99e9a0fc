//! Results of steps: written, recorded, found again, written once more in another form.

use ocibuild_plan::CopyStep;
use ocibuild_spec::{Digest, Timestamp};

use super::PlatformBuild;
use crate::cache::{LayerEncoding, StepRecord};
use crate::error::Error;
use crate::keys::{Framed, Input};
use crate::layer_writer::{LayerWriter, NewLayer};
use crate::layers::Layer;
use crate::stage::StageState;

/// A step's result: its layer, what later keys build on, and the time of the layer.
pub(super) struct StepResult<'a> {
    pub(super) layer: Layer<'a>,
    pub(super) chain: Digest,
    pub(super) created: Timestamp,
    pub(super) ran: bool,
}

impl StepResult<'_> {
    /// The same in its stage, if it is that of a linked copy: the copy does not depend on what is below, what follows does.
    pub(super) fn linked(mut self, step: &CopyStep, state: &StageState<'_>) -> Self {
        if step.link {
            let mut framed = Framed::new("ocibuild linked copy v1");
            framed.field(state.chain.as_str().as_bytes());
            framed.field(self.chain.as_str().as_bytes());
            self.chain = framed.finish();
        }
        self
    }
}

impl<'a> PlatformBuild<'a> {
    pub(super) fn writer(&self) -> LayerWriter<'_> {
        LayerWriter { layers: &self.layers, wanted: self.platform.wanted }
    }

    /// Whether a step that is not to be taken from the cache has to run: not when this build made it already.
    pub(super) fn is_fresh(&self, key: &Digest, fresh: bool) -> bool {
        fresh && self.session.made.get(key).is_none()
    }

    /// A layer that was written here, in the form it was written in.
    pub(super) fn layer_of(&self, form: &LayerEncoding) -> Layer<'a> {
        Layer::stored(self.backends.store, form.diff_id.clone(), form.descriptor.clone())
    }

    /// Keeps the result of a step for later builds.
    pub(super) fn record(
        &self,
        key: Digest,
        inputs: Vec<Input>,
        written: NewLayer,
        fresh: bool,
    ) -> Result<StepResult<'a>, Error> {
        let store = self.backends.store;
        store.flush(std::slice::from_ref(&written.descriptor))?;
        let form = LayerEncoding::new(written.diff_id, written.descriptor, self.platform.wanted);
        let mut record = StepRecord::new(key, inputs, self.now(), form);
        if fresh && self.recorded(&record.key)?.is_some() {
            // What follows must not take results that were made from what this step left behind before.
            let mut framed = Framed::new("ocibuild result v1");
            framed.field(record.key.as_str().as_bytes());
            framed.field(record.forms[0].diff_id.0.as_str().as_bytes());
            record.chain = framed.finish();
        }
        self.session.records.put(&record)?;
        Ok(StepResult {
            layer: self.layer_of(&record.forms[0]),
            chain: record.chain,
            created: record.created,
            ran: true,
        })
    }

    /// The record of one step.
    pub(super) fn recorded(&self, key: &Digest) -> Result<Option<StepRecord>, Error> {
        Ok(self.session.records.look_up(std::slice::from_ref(key))?.pop().flatten())
    }

    /// The recorded result of a step, in the form that this build wants.
    pub(super) fn lookup(&self, key: &Digest) -> Result<Option<StepResult<'a>>, Error> {
        match self.recorded(key)? {
            Some(record) => self.result_of(record),
            None => Ok(None),
        }
    }

    /// What a record tells of, in the form that this build wants; `None` if it is gone.
    pub(super) fn result_of(&self, record: StepRecord) -> Result<Option<StepResult<'a>>, Error> {
        let wanted = self.platform.wanted;
        let is_there = |form: &LayerEncoding| -> Result<bool, Error> {
            self.backends.store.protect(&form.diff_id.0)?;
            Ok(self.layers.is_stored(&form.descriptor)? && self.layers.listings.has(&form.diff_id))
        };
        let layer = match record.form(wanted) {
            Some(form) if is_there(form)? => self.layer_of(form),
            _ => {
                let Some(other) = record.forms.iter().find(|form| is_there(form).unwrap_or(false)) else {
                    return Ok(None);
                };
                self.convert(&record, &self.layer_of(other))?
            }
        };
        Ok(Some(StepResult { layer, chain: record.chain, created: record.created, ran: false }))
    }

    /// Writes a recorded layer once more in the form that this build wants: the index knows its true times.
    fn convert(&self, record: &StepRecord, layer: &Layer<'_>) -> Result<Layer<'a>, Error> {
        let changeset = self.layers.changeset(layer)?;
        let written = self.writer().write(changeset, |_, _| Ok(()))?;
        self.backends.store.flush(std::slice::from_ref(&written.descriptor))?;
        let form = LayerEncoding::new(written.diff_id, written.descriptor, self.platform.wanted);
        let converted = self.layer_of(&form);
        let mut record = record.clone();
        record.forms.push(form);
        self.session.records.put(&record)?;
        Ok(converted)
    }
}
