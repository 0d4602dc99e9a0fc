//! What is known about one finished step.

use ocibuild_layer::{Compression, FORMAT_VERSION};
use ocibuild_spec::{Descriptor, DiffId, Digest, Timestamp};
use serde::{Deserialize, Serialize};

use super::VERSION;
use crate::keys::Input;

/// What is known about a finished step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StepRecord {
    v: u32,
    pub(crate) key: Digest,
    /// What the key was made of, to explain a miss.
    pub(crate) inputs: Vec<Input>,
    /// What the keys of later steps build on; the key itself unless the step ran although its key was known.
    pub(crate) chain: Digest,
    pub(crate) created: Timestamp,
    /// The layer, in each form that was written.
    pub(crate) forms: Vec<LayerEncoding>,
}

/// A layer as it was written once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerEncoding {
    pub(crate) diff_id: DiffId,
    pub(crate) descriptor: Descriptor,
    pub(crate) compression: String,
    pub(crate) format_version: u32,
    /// Second beyond which no time of the layer lies.
    pub(crate) clamp: Option<i64>,
}

/// The form a build wants its layers in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct EncodingOptions {
    pub(crate) compression: Compression,
    pub(crate) clamp: Option<i64>,
    /// Layers that exist in another compression are written anew (11.12).
    pub(crate) force: bool,
}

impl LayerEncoding {
    pub(crate) fn new(diff_id: DiffId, descriptor: Descriptor, wanted: EncodingOptions) -> Self {
        Self {
            diff_id,
            descriptor,
            compression: wanted.compression.to_string(),
            format_version: FORMAT_VERSION,
            clamp: wanted.clamp,
        }
    }

    /// Whether this form does for a build that wants `wanted`.
    pub(crate) fn fits(&self, wanted: EncodingOptions) -> bool {
        let same_bytes =
            self.compression == wanted.compression.to_string() && self.format_version == FORMAT_VERSION;
        self.clamp == wanted.clamp && (same_bytes || !wanted.force)
    }
}

impl StepRecord {
    pub(crate) fn new(key: Digest, inputs: Vec<Input>, created: Timestamp, form: LayerEncoding) -> Self {
        Self { v: VERSION, chain: key.clone(), key, inputs, created, forms: vec![form] }
    }

    /// Whether it is a record that this version reads, of this key.
    pub(super) fn is_of(&self, key: &Digest) -> bool {
        self.v == VERSION && self.key == *key
    }

    /// The form to use, the wanted compression first.
    pub(crate) fn form(&self, wanted: EncodingOptions) -> Option<&LayerEncoding> {
        let exact = self.forms.iter().find(|form| form.fits(EncodingOptions { force: true, ..wanted }));
        exact.or_else(|| self.forms.iter().find(|form| form.fits(wanted)))
    }
}

#[cfg(test)]
mod tests {
    use ocibuild_spec::MediaType;

    use super::*;

    #[test]
    fn bytes_of_another_version_are_not_those_wanted() {
        let wanted = EncodingOptions { force: true, ..EncodingOptions::default() };
        let layer = |bytes: &[u8]| Descriptor::of(MediaType::ImageLayerGzip, bytes);
        let new = |bytes: &[u8]| LayerEncoding::new(DiffId(Digest::of("tar")), layer(bytes), wanted);
        let old = LayerEncoding { format_version: FORMAT_VERSION - 1, ..new(b"old") };
        let now = Timestamp::from_seconds(0);
        let mut record = StepRecord::new(Digest::of("key"), Vec::new(), now, old.clone());
        assert_eq!(record.form(wanted), None);
        // Whoever takes any compression takes this one, too.
        let any = EncodingOptions { force: false, ..wanted };
        assert_eq!(record.form(any), Some(&old));
        record.forms.push(new(b"new"));
        for wanted in [wanted, any] {
            assert_eq!(record.form(wanted), Some(&new(b"new")));
        }
    }
}
