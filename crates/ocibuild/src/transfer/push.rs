use std::io::{self, Read};

use ocibuild_registry::{BlobUpload, ManifestPush, Registry};
use ocibuild_spec::{CancelToken, Descriptor, Document, Reference, parse_manifest_or_index};

use super::{Transfer, Watcher, each};
use crate::cache::BlobOrigins;
use crate::error::{Error, ErrorKind};
use crate::failure::TransferFailure;

/// Opens a blob that is to be pushed.
pub(crate) type OpenLeaf<'a> = dyn Fn(&Descriptor) -> Result<Box<dyn Read + Send>, Error> + Sync + 'a;

/// An image as it is pushed: everything that its name reaches.
pub(crate) struct ImageUpload<'a> {
    /// Manifests and indexes with their bytes, what is listed before what lists it; the last one gets the names.
    pub(crate) documents: Vec<(Descriptor, Vec<u8>)>,
    /// Configs and layers, each once.
    pub(crate) blobs: Vec<Descriptor>,
    pub(crate) open: &'a OpenLeaf<'a>,
}

/// A name that an image has at its registry now.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pushed {
    /// The name.
    pub name: Reference,
    /// The manifest or index.
    pub descriptor: Descriptor,
}

impl ImageUpload<'_> {
    fn root(&self) -> Result<&Descriptor, Error> {
        self.documents.last().map(|(root, _)| root).ok_or_else(|| TransferFailure::NothingToPush.into())
    }
}

/// Gives an image its names at their registries: all blobs first, then what lists them, the names last. Names in one
/// repository share the blobs; blobs that another repository of the registry is known to have are taken over from it.
pub(crate) fn push(
    registry: &Registry,
    origins: &BlobOrigins,
    names: &[Reference],
    upload: &ImageUpload<'_>,
    (cancel, watcher): (&CancelToken, &Watcher<'_>),
) -> Result<Vec<Pushed>, Error> {
    let root = upload.root()?;
    let mut repositories: Vec<&Reference> = Vec::new();
    for name in names {
        if !repositories.iter().any(|known| is_same_repository(known, name)) {
            repositories.push(name);
        }
    }
    let (mut pushed, mut wrong) = (Vec::new(), None);
    for repository in repositories {
        let shipping = RepositoryPush { registry, origins, repository, upload, cancel, watcher };
        match shipping.run(root, names) {
            Ok(named) => pushed.extend(named),
            // One registry that fails is nothing to the others.
            Err(error) => wrong = Some(also(wrong, error)?),
        }
    }
    wrong.map_or(Ok(pushed), Err)
}

/// One more thing that went wrong; the error is that nothing more is to be tried.
pub(crate) fn also(wrong: Option<Error>, error: Error) -> Result<Error, Error> {
    match wrong {
        _ if error.kind() == ErrorKind::Cancelled => Err(error),
        Some(first) => Ok(first.with(error)),
        None => Ok(error),
    }
}

fn is_same_repository(one: &Reference, other: &Reference) -> bool {
    one.registry() == other.registry() && one.repository() == other.repository()
}

/// One repository and what goes there.
struct RepositoryPush<'a> {
    registry: &'a Registry,
    origins: &'a BlobOrigins,
    repository: &'a Reference,
    upload: &'a ImageUpload<'a>,
    cancel: &'a CancelToken,
    watcher: &'a Watcher<'a>,
}

impl RepositoryPush<'_> {
    /// Everything, and the names in this repository at last.
    fn run(&self, root: &Descriptor, names: &[Reference]) -> Result<Vec<Pushed>, Error> {
        each(&self.upload.blobs, |blob| self.blob(blob))?;
        let listed = &self.upload.documents[..self.upload.documents.len() - 1];
        for (descriptor, bytes) in listed {
            self.document(&self.repository.with_digest(descriptor.digest.clone()), descriptor, bytes)?;
        }
        let mut pushed = Vec::new();
        for name in names.iter().filter(|name| is_same_repository(self.repository, name)) {
            if name.digest().is_some_and(|digest| *digest != root.digest) {
                let (name, digest) = (name.clone(), root.digest.clone());
                return Err(TransferFailure::OtherDigest { name, digest }.into());
            }
            let (_, bytes) = &self.upload.documents[listed.len()];
            self.document(name, root, bytes)?;
            (self.watcher)(Transfer::Named { name, descriptor: root });
            pushed.push(Pushed { name: name.clone(), descriptor: root.clone() });
        }
        Ok(pushed)
    }

    fn blob(&self, blob: &Descriptor) -> Result<(), Error> {
        (self.watcher)(Transfer::Started { blob });
        let mount_from = self.origins.repositories_with(&blob.digest, self.repository.registry());
        let how = self.with_upload(blob, &mount_from, |upload| {
            self.registry.push_blob(self.repository, upload, self.cancel)
        })?;
        self.origins.put(&blob.digest, self.repository)?;
        (self.watcher)(Transfer::Pushed { blob, how: &how });
        Ok(())
    }

    fn with_upload<T>(
        &self,
        blob: &Descriptor,
        mount_from: &[String],
        work: impl FnOnce(&BlobUpload<'_>) -> Result<T, ocibuild_spec::SourceError>,
    ) -> Result<T, Error> {
        let open = || (self.upload.open)(blob).map_err(io::Error::other);
        let progress = |bytes| (self.watcher)(Transfer::Progress { blob, bytes });
        work(&BlobUpload { descriptor: blob, open: &open, mount_from, progress: &progress })
            .map_err(Error::of_registry)
    }

    /// Stores a document. A registry that said it had all blobs and now misses some gets them once more.
    fn document(&self, name: &Reference, descriptor: &Descriptor, bytes: &[u8]) -> Result<(), Error> {
        let put = || {
            let stored = self.registry.put_manifest(name, &descriptor.media_type, bytes, self.cancel);
            stored.map_err(Error::of_registry)
        };
        if !matches!(put()?, ManifestPush::MissingParts { .. }) {
            return Ok(());
        }
        for blob in leaves_of(descriptor, bytes)? {
            let is_here =
                self.registry.has_blob(self.repository, &blob, self.cancel).map_err(Error::of_registry)?;
            if !is_here || self.upload.blobs.contains(&blob) {
                self.with_upload(&blob, &[], |upload| {
                    self.registry.send_blob(self.repository, upload, self.cancel)
                })?;
            }
        }
        match put()? {
            ManifestPush::MissingParts { said } => {
                let (name, digest) = (name.clone(), descriptor.digest.clone());
                Err(TransferFailure::PartsMissing { name, digest, said }.into())
            }
            _ => Ok(()),
        }
    }
}

/// Config and layers of a manifest; none of an index.
fn leaves_of(descriptor: &Descriptor, bytes: &[u8]) -> Result<Vec<Descriptor>, Error> {
    match parse_manifest_or_index(bytes, Some(&descriptor.media_type)) {
        Ok(document @ Document::Manifest(_)) => Ok(document.children().cloned().collect()),
        Ok(Document::Index(_)) => Ok(Vec::new()),
        Err(source) => Err(TransferFailure::OwnDocument { digest: descriptor.digest.clone(), source }.into()),
    }
}
