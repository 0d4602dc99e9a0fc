use std::io::Read;
use std::path::{Path, PathBuf};

use ocibuild_spec::{
    CancelToken, Descriptor, Digest, ImageSource, MAX_DOCUMENT, Platform, Reference, ResolvedImage,
    SourceError, VerifyingReader, json,
};
use serde::Deserialize;

use super::images::{StoredImage, listed};
use super::select::{Selection, descriptor_of, resolve};
use crate::blob::read_small;
use crate::layout::{open_blob, open_expecting, read_capped, read_index};
use crate::{Error, ErrorKind, Fault};

/// One image of an OCI layout in a directory that anybody may have written: `oci-layout://DIR[:TAG][@DIGEST]`.
///
/// Blobs are regular files of the stated size and digest, or an error; links are not followed.
#[derive(Debug)]
pub struct LayoutSource {
    root: PathBuf,
    selection: Selection,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LayoutVersion {
    image_layout_version: String,
}

impl LayoutSource {
    /// The image with this digest, else the one with this tag, else the only one, else `latest`.
    pub fn open(root: impl AsRef<Path>, tag: Option<&str>, digest: Option<&Digest>) -> Result<Self, Error> {
        let root = root.as_ref().to_owned();
        check_version(
            &read_capped(&root.join("oci-layout"), 4096).map_err(|error| no_layout(&root, error))?,
            &root,
        )?;
        read_index(&root)?;
        let selection = Selection { tag: tag.map(str::to_owned), digest: digest.cloned(), reference: None };
        Ok(Self { root, selection })
    }

    /// The images inside, each with its names.
    pub(super) fn images(&self) -> Result<Vec<StoredImage>, Error> {
        Ok(listed(&read_index(&self.root)?))
    }

    /// A blob as it is, not verified.
    pub(super) fn blob(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send>, Error> {
        Ok(Box::new(open_expecting(&self.root, descriptor)?))
    }

    fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        read_small(open_expecting(&self.root, descriptor)?, descriptor)
    }

    /// A digest may name a manifest that only a nested index lists.
    fn unlisted(&self, digest: &Digest) -> Result<Option<Descriptor>, Error> {
        let Some((file, size)) = open_blob(&self.root, digest)? else { return Ok(None) };
        if size > MAX_DOCUMENT {
            return Ok(None);
        }
        let stated = Descriptor::new(ocibuild_spec::MediaType::EmptyJSON, digest.clone(), size);
        Ok(descriptor_of(&read_small(file, &stated)?, digest))
    }
}

/// Refuses layouts of a version that does not exist yet.
pub(super) fn check_version(bytes: &[u8], place: &Path) -> Result<(), Error> {
    let place = place.display();
    let version: LayoutVersion = json::from_slice(bytes)
        .map_err(|error| Error::corrupt(format!("oci-layout of {place} is malformed")).caused_by(error))?;
    if version.image_layout_version.starts_with("1.") {
        return Ok(());
    }
    let text = format!("{place} is an OCI layout of version {:?}", version.image_layout_version);
    Err(Error::new(ErrorKind::Unsupported, text))
}

fn no_layout(root: &Path, error: Error) -> Error {
    if error.kind() != ErrorKind::NotFound || !root.exists() {
        return error;
    }
    Fault::NotALayout { path: root.to_owned() }.into()
}

impl ImageSource for LayoutSource {
    fn resolve(
        &self,
        reference: &Reference,
        platform: &Platform,
        _cancel: &CancelToken,
    ) -> Result<ResolvedImage, SourceError> {
        let mut index = read_index(&self.root)?;
        if let Some(digest) = &self.selection.digest
            && !index.manifests.iter().any(|entry| entry.digest == *digest)
        {
            index.manifests.extend(self.unlisted(digest)?);
        }
        let selection = Selection { reference: Some(reference.clone()), ..self.selection.clone() };
        let mut fetch = |descriptor: &Descriptor| Ok(self.document(descriptor)?);
        resolve(&self.root.display(), &index, &selection, platform, &mut fetch)
    }

    fn open(
        &self,
        _reference: &Reference,
        descriptor: &Descriptor,
        _cancel: &CancelToken,
    ) -> Result<Box<dyn Read + Send>, SourceError> {
        let file = open_expecting(&self.root, descriptor)?;
        Ok(Box::new(VerifyingReader::new(file, descriptor)))
    }
}
