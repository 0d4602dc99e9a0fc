use std::collections::BTreeSet;
use std::fmt;
use std::io::Read;

use ocibuild_spec::{
    Descriptor, Digest, Document, MAX_DOCUMENT, MediaType, VerifyingReader, is_document,
    parse_manifest_or_index,
};

use crate::{Error, ImageLayout};

/// A place that takes blobs: the writing half of a store, and all that an archive written front to back can do.
///
/// A *blob* is a sequence of bytes named by its digest; a *descriptor* is its media type, digest and size.
/// Blobs are put in any order; a manifest after what it lists, so that whoever stops in between never leaves a
/// manifest without its parts.
///
/// * **Idempotent.** Putting a blob that is there succeeds and leaves the reader unread.
/// * **Atomic.** A blob is there with all its verified bytes, or not at all. Only an archive cannot take bytes
///   back: after a failed put it refuses everything else.
/// * **Concurrent.** All methods may be called from several threads, and for a directory from several processes.
pub trait BlobSink: Send + Sync + fmt::Debug {
    /// The size of a blob that is here; `None` when it is not.
    fn stat(&self, digest: &Digest) -> Result<Option<u64>, Error>;

    /// Takes the blob from `reader`, which has to give exactly what `descriptor` says; its digest is computed here.
    fn put_from(&self, descriptor: &Descriptor, reader: &mut dyn Read) -> Result<(), Error>;

    /// Takes a small blob from memory.
    fn put(&self, media_type: MediaType, bytes: &[u8]) -> Result<Descriptor, Error> {
        let descriptor = Descriptor::of(media_type, bytes);
        self.put_from(&descriptor, &mut &bytes[..])?;
        Ok(descriptor)
    }

    /// Whether the blob is here with the size that its descriptor states.
    fn has(&self, descriptor: &Descriptor) -> Result<bool, Error> {
        Ok(self.stat(&descriptor.digest)? == Some(descriptor.size))
    }
}

/// The verified bytes of a blob that is small: a manifest, an index or a config.
pub fn read_document(store: &ImageLayout, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
    read_small(store.open_blob(descriptor)?, descriptor)
}

pub(crate) fn read_small(reader: impl Read, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
    if descriptor.size > MAX_DOCUMENT {
        let text = format!("{} has {} bytes, too many for a document", descriptor.digest, descriptor.size);
        return Err(Error::corrupt(text));
    }
    let mut bytes = Vec::with_capacity(descriptor.size as usize);
    VerifyingReader::new(reader, descriptor)
        .read_to_end(&mut bytes)
        .map_err(|error| Error::io(format!("read blob {}", descriptor.digest), error))?;
    Ok(bytes)
}

/// Copies an image with all its blobs, each verified on the way: layers and config before their manifest, manifests
/// before their index.
pub fn copy_image(from: &ImageLayout, root: &Descriptor, to: &dyn BlobSink) -> Result<(), Error> {
    copy_from(&|descriptor| from.open_blob(descriptor), root, to)
}

/// Opens blobs of wherever an image is.
pub(crate) type OpenBlob<'o> = dyn Fn(&Descriptor) -> Result<Box<dyn Read + Send>, Error> + 'o;

pub(crate) fn copy_from(open: &OpenBlob<'_>, root: &Descriptor, to: &dyn BlobSink) -> Result<(), Error> {
    let (documents, leaves): (Vec<_>, Vec<_>) =
        reachable_by(open, root)?.into_iter().partition(|descriptor| is_document(&descriptor.media_type));
    for descriptor in leaves.iter().chain(documents.iter().rev()) {
        if !to.has(descriptor)? {
            let reader = open(descriptor)?;
            to.put_from(descriptor, &mut VerifyingReader::new(reader, descriptor))?;
        }
    }
    Ok(())
}

/// Most blobs of one reference; an index of a thousand images with a hundred layers each has fewer.
const MAX_REACHABLE: usize = 200_000;
const MAX_DEPTH: usize = 8;

/// `root` and everything below it, each once, parents before children.
///
/// Every document on the way must be here; its layers and config need not.
pub fn reachable(store: &ImageLayout, root: &Descriptor) -> Result<Vec<Descriptor>, Error> {
    reachable_by(&|descriptor| store.open_blob(descriptor), root)
}

pub(crate) fn reachable_by(open: &OpenBlob<'_>, root: &Descriptor) -> Result<Vec<Descriptor>, Error> {
    let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
    let mut level = vec![root.clone()];
    for _ in 0..=MAX_DEPTH {
        let mut below = Vec::new();
        for descriptor in level {
            if !seen.insert(descriptor.digest.clone()) {
                continue;
            }
            if is_document(&descriptor.media_type) {
                below.extend(children(open, &descriptor)?);
            }
            found.push(descriptor);
            if found.len() + below.len() > MAX_REACHABLE {
                let text = format!("{} reaches more than {MAX_REACHABLE} blobs", root.digest);
                return Err(Error::corrupt(text));
            }
        }
        if below.is_empty() {
            return Ok(found);
        }
        level = below;
    }
    Err(Error::corrupt(format!("the indexes below {} are nested more than {MAX_DEPTH} deep", root.digest)))
}

fn children(open: &OpenBlob<'_>, descriptor: &Descriptor) -> Result<Vec<Descriptor>, Error> {
    let bytes = read_small(open(descriptor)?, descriptor)?;
    let document: Document = parse_manifest_or_index(&bytes, Some(&descriptor.media_type))
        .map_err(|error| Error::document(&descriptor.digest, error))?;
    Ok(document.children().cloned().collect())
}
