//! Layers of base images in the form that the outputs want: in another compression (11.12), with other times (11.42).

use std::io::{Read, Write};

use ocibuild_layer::{ClampedTar, Compression, FORMAT_VERSION, recompress};
use ocibuild_spec::{Descriptor, DiffId};

use super::PlatformBuild;
use crate::cache::{LayerEncoding, StepRecord};
use crate::error::Error;
use crate::image::compression_name;
use crate::keys::Inputs;
use crate::layers::{Layer, broken_layer, check_diff_id};

impl<'a> PlatformBuild<'a> {
    /// The layers as outputs get them: with `force-compression` those of base images are converted, too, and of an image that
    /// replaces a stage the times are those of the stage. Layers of steps have the wanted form already.
    pub(super) fn converted(&self, stack: &[Layer<'a>]) -> Result<Vec<Layer<'a>>, Error> {
        let wanted = match self.platform.wanted.compression {
            Compression::None => "uncompressed",
            Compression::Gzip { .. } => "gzip",
            Compression::Zstd { .. } => "zstd",
        };
        let convert = |layer: &Layer<'a>| {
            if let Some(latest) = self.platform.wanted.clamp
                && layer.is_of_base_image()
                && !self.plan.target_has_base()
            {
                return self.with_clamped_times(layer, latest);
            }
            let is_other = compression_name(&layer.descriptor.media_type) != wanted;
            if self.platform.wanted.force && layer.is_of_base_image() && is_other {
                self.in_wanted_compression(layer)
            } else {
                Ok(layer.clone())
            }
        };
        stack.iter().map(convert).collect()
    }

    /// Times later than `latest` cut, in what is otherwise the same tar; the same layer where there are none.
    fn with_clamped_times(&self, layer: &Layer<'a>, latest: i64) -> Result<Layer<'a>, Error> {
        let mut inputs = Inputs::default();
        inputs.add("layer", layer.diff_id.0.as_str());
        inputs.add("latest time", latest.to_string());
        inputs.add("compression", self.platform.wanted.compression.to_string());
        inputs.add("format version", FORMAT_VERSION.to_string());
        let key = inputs.key("clamped layer");
        let of = |form: &LayerEncoding| {
            if form.diff_id == layer.diff_id {
                return layer.clone();
            }
            self.layer_of(form)
        };
        let (records, store) = (self.session.records, self.backends.store);
        if let Some(form) = self.recorded(&key)?.as_ref().and_then(|record| record.forms.first())
            && self.layers.is_stored(&form.descriptor)?
        {
            return Ok(of(form));
        }
        let mut plain = ClampedTar::new(self.layers.open_plain(layer)?, latest);
        let mut blob = store.hashed_writer()?;
        let (diff_id, descriptor) = self.recompress(layer, &mut plain, &mut blob)?;
        blob.finish(&descriptor)?;
        store.flush(std::slice::from_ref(&descriptor))?;
        let form = LayerEncoding::new(diff_id, descriptor, self.platform.wanted);
        let clamped = of(&form);
        records.put(&StepRecord::new(key, inputs.0, self.now(), form))?;
        Ok(clamped)
    }

    fn recompress(
        &self,
        layer: &Layer<'_>,
        plain: &mut (dyn Read + Send),
        blob: &mut dyn Write,
    ) -> Result<(DiffId, Descriptor), Error> {
        let share = self.session.threads.take(usize::MAX, self.cancel)?;
        let written = recompress(plain, blob, self.platform.wanted.compression, share.count(), self.cancel);
        written.map_err(|error| {
            if self.cancel.is_cancelled() { Error::cancelled() } else { broken_layer(layer, error) }
        })
    }

    fn in_wanted_compression(&self, layer: &Layer<'a>) -> Result<Layer<'a>, Error> {
        let mut inputs = Inputs::default();
        inputs.add("layer", layer.diff_id.0.as_str());
        inputs.add("compression", self.platform.wanted.compression.to_string());
        inputs.add("format version", FORMAT_VERSION.to_string());
        let key = inputs.key("conversion");
        let (records, store) = (self.session.records, self.backends.store);
        if let Some(form) = self.recorded(&key)?.as_ref().and_then(|record| record.forms.first())
            && form.diff_id == layer.diff_id
            && self.layers.is_stored(&form.descriptor)?
        {
            return Ok(self.layer_of(form));
        }
        let mut plain = self.layers.open_plain(layer)?;
        let mut blob = store.hashed_writer()?;
        let (diff_id, descriptor) = self.recompress(layer, &mut plain, &mut blob)?;
        check_diff_id(layer, &diff_id)?;
        blob.finish(&descriptor)?;
        store.flush(std::slice::from_ref(&descriptor))?;
        let form = LayerEncoding::new(diff_id, descriptor, self.platform.wanted);
        let converted = self.layer_of(&form);
        records.put(&StepRecord::new(key, inputs.0, self.now(), form))?;
        Ok(converted)
    }
}
