//! One layer of a stack.

use std::io::Read;
use std::sync::Arc;

use ocibuild_spec::{CancelToken, Descriptor, DiffId};
use ocibuild_store::ImageLayout;

use super::location::{BlobLocation, BlobLocations, NotOpened};
use crate::error::Error;
use crate::failure::LayerFailure;

/// One layer of a stack: what it is, who brought it, and where its blob may be.
#[derive(Debug, Clone)]
pub(crate) struct Layer<'a> {
    pub(crate) diff_id: DiffId,
    pub(crate) descriptor: Descriptor,
    provenance: Provenance,
    /// All of them may have the blob; none has to.
    locations: BlobLocations<'a>,
}

/// Who brought a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Provenance {
    /// The base image of a stage.
    BaseImage,
    /// A step, as far as anybody knows: of this build, or of one that the state directory has the result of.
    Step,
}

impl<'a> Layer<'a> {
    /// A layer of a base image, whose blob may be in these places.
    pub(crate) fn of_base_image(
        diff_id: DiffId,
        descriptor: Descriptor,
        locations: BlobLocations<'a>,
    ) -> Self {
        Self { diff_id, descriptor, provenance: Provenance::BaseImage, locations }
    }

    /// A layer in the state directory: one that a step made, or of an image that is kept there.
    pub(crate) fn stored(store: &'a ImageLayout, diff_id: DiffId, descriptor: Descriptor) -> Self {
        let locations = Arc::new([BlobLocation::Store(store)]);
        Self { diff_id, descriptor, provenance: Provenance::Step, locations }
    }

    /// Whether a base image brought it, so that its form is not of this build's choosing.
    pub(crate) fn is_of_base_image(&self) -> bool {
        self.provenance == Provenance::BaseImage
    }

    /// Whether its listing may know times more exactly than its tar: that of a step was written from the files, that of a
    /// base image from the tar itself.
    pub(crate) fn has_exact_times_in_listing(&self) -> bool {
        self.provenance == Provenance::Step
    }

    /// Opens the blob at the first place that has it; it is verified while it is read.
    pub(super) fn open_blob(&self, cancel: &CancelToken) -> Result<Box<dyn Read + Send>, Error> {
        let mut said = None;
        for location in self.locations.iter() {
            match location.open(&self.descriptor, cancel) {
                Ok(blob) => return Ok(blob),
                Err(NotOpened::Missing(why)) => said = why.or(said),
                Err(NotOpened::Failed(error)) => return Err(error),
            }
        }
        let missing = LayerFailure::BlobMissing {
            blob: self.descriptor.digest.clone(),
            places: self.locations.iter().map(ToString::to_string).collect(),
            is_of_base_image: self.is_of_base_image(),
        };
        Err(match said {
            Some(said) => Error::from(said).cause(missing.to_string()),
            None => missing.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use ocibuild_spec::{Digest, ImageSource, MediaType, Platform, Reference, ResolvedImage};
    use ocibuild_spec::{SourceError, SourceErrorKind};
    use ocibuild_store::BlobSink as _;

    use super::*;
    use crate::error::Code;

    const BYTES: &[u8] = b"a layer";

    /// Has the blob, or says that it does not.
    #[derive(Debug)]
    struct Source(bool);

    impl ImageSource for Source {
        fn resolve(
            &self,
            _: &Reference,
            _: &Platform,
            _: &CancelToken,
        ) -> Result<ResolvedImage, SourceError> {
            Err(SourceError::new(SourceErrorKind::NotFound, "no image"))
        }

        fn open(
            &self,
            _: &Reference,
            _: &Descriptor,
            _: &CancelToken,
        ) -> Result<Box<dyn Read + Send>, SourceError> {
            if self.0 {
                Ok(Box::new(BYTES))
            } else {
                Err(SourceError::new(SourceErrorKind::NotFound, "no such blob"))
            }
        }
    }

    #[test]
    fn places_are_asked_in_order_and_named_when_none_has_the_blob() {
        let place = tempfile::tempdir().unwrap();
        let store = ImageLayout::open_or_create(place.path().join("state")).unwrap();
        let [one, two]: [Reference; 2] = ["one", "two"].map(|name| name.parse().unwrap());
        let (full, empty, cancel) = (Source(true), Source(false), CancelToken::new());
        let descriptor = Descriptor::of(MediaType::ImageLayer, BYTES);
        let layer = |sources: &[(&'static str, bool)]| {
            let place = |(name, has_it): &(&str, bool)| BlobLocation::Image {
                source: if *has_it { &full } else { &empty },
                reference: if *name == "one" { &one } else { &two },
            };
            let locations = [BlobLocation::Store(&store)].into_iter().chain(sources.iter().map(place));
            Layer::of_base_image(DiffId(Digest::of(BYTES)), descriptor.clone(), locations.collect())
        };
        let read = |layer: &Layer<'_>| -> Result<Vec<u8>, Error> {
            let mut bytes = Vec::new();
            layer.open_blob(&cancel)?.read_to_end(&mut bytes).unwrap();
            Ok(bytes)
        };
        // The first has none, and the next is asked.
        assert_eq!(read(&layer(&[("one", false), ("two", true)])).unwrap(), BYTES);
        let error = read(&layer(&[("one", false), ("two", false)])).unwrap_err();
        let report = &error.reports()[0];
        assert_eq!((report.message.as_str(), error.code()), ("no such blob", Code::ImageNotFound.as_str()));
        let text = format!(
            "the blob {} is missing from the state directory, the source of one:latest, the source of two:latest",
            descriptor.digest
        );
        assert_eq!(report.causes, [text]);
        let error = read(&layer(&[])).unwrap_err();
        assert!(error.is(Code::MissingBlob), "{error}");
        store.put(MediaType::ImageLayer, BYTES).unwrap();
        // Nobody else is asked.
        assert_eq!(read(&layer(&[("one", false)])).unwrap(), BYTES);
    }
}
