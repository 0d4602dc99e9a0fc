use std::io::Read;

use ocibuild_spec::{
    CancelToken, Descriptor, ImageSource, Platform, Reference, ResolvedImage, SourceError, SourceErrorKind,
    VerifyingReader, resolve_image,
};

use super::ImageLayout;
use crate::blob::read_document;

/// The images that have a name here.
impl ImageSource for ImageLayout {
    fn resolve(
        &self,
        reference: &Reference,
        platform: &Platform,
        _cancel: &CancelToken,
    ) -> Result<ResolvedImage, SourceError> {
        let Some(root) = Self::resolve(self, reference)? else {
            let text = format!("no image {} in {}", reference.familiar(), self.root().display());
            return Err(SourceError::new(SourceErrorKind::NotFound, text));
        };
        resolve_image(&reference.familiar(), &root, platform, &mut |descriptor| {
            Ok(read_document(self, descriptor)?)
        })
    }

    fn open(
        &self,
        _reference: &Reference,
        descriptor: &Descriptor,
        _cancel: &CancelToken,
    ) -> Result<Box<dyn Read + Send>, SourceError> {
        let reader = self.open_blob(descriptor)?;
        Ok(Box::new(VerifyingReader::new(reader, descriptor)))
    }
}
