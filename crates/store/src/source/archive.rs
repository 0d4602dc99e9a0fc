use std::fs::File;
use std::io::Read;
use std::path::Path;

use ocibuild_spec::{
    CancelToken, Descriptor, Digest, ImageSource, Index, Platform, Reference, ResolvedImage, SourceError,
    VerifyingReader,
};

use super::directory::check_version;
use super::docker::{DockerArchive, MAX_LIST};
use super::images::{StoredImage, listed};
use super::members::{Members, Place};
use super::select::{Selection, resolve};
use crate::blob::read_small;
use crate::layout::{MAX_INDEX, parse_index};
use crate::{Error, Fault};

/// The images of one tar: an OCI archive (an OCI layout in a tar) or a docker archive (what
/// `docker save` writes). Nothing is unpacked; blobs are read where they are.
#[derive(Debug)]
pub struct ArchiveSource {
    members: Members,
    kind: Kind,
    selection: Selection,
}

#[derive(Debug)]
enum Kind {
    Oci(Box<Index>),
    Docker(DockerArchive),
}

impl ArchiveSource {
    /// Reads the headers of the tar at `path`. Of several images the one that is asked for by name is given.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::of(Members::open(path.as_ref())?)
    }

    /// The same of a file that messages call `name`.
    pub(super) fn read(file: File, name: &Path) -> Result<Self, Error> {
        Self::of(Members::read(file, name)?)
    }

    fn of(members: Members) -> Result<Self, Error> {
        let small = |name: &str, most: u64| match members.find(name)? {
            Some(place) => members.read_small(place, most).map(Some),
            None => Ok(None),
        };
        // What `docker save` writes since 25.0 is both; the OCI half says more.
        let kind = match (small("oci-layout", 4096)?, small("index.json", MAX_INDEX)?) {
            (Some(version), Some(index)) => {
                check_version(&version, members.path())?;
                let place = format!("index.json of {}", members.path().display());
                Kind::Oci(Box::new(parse_index(&index, &place)?))
            }
            _ => match small("manifest.json", MAX_LIST)? {
                Some(bytes) => Kind::Docker(DockerArchive::parse(&bytes, members.path())?),
                None => return Err(neither(members.path())),
            },
        };
        Ok(Self { members, kind, selection: Selection::default() })
    }

    /// Gives the image with this digest, or else this tag, whatever name is asked for.
    #[must_use]
    pub fn select(mut self, tag: Option<&str>, digest: Option<&Digest>) -> Self {
        self.selection.tag = tag.map(str::to_owned);
        self.selection.digest = digest.cloned();
        self
    }

    /// The full names of the images inside, as far as they have any.
    pub fn names(&self) -> Vec<Reference> {
        let mut names: Vec<Reference> = match &self.kind {
            Kind::Oci(index) => index.manifests.iter().filter_map(super::select::full_name).collect(),
            Kind::Docker(archive) => archive.names(),
        };
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The images inside, each with its names. Of a docker archive their manifests are made here.
    pub(super) fn images(&self, cancel: &CancelToken) -> Result<Vec<StoredImage>, SourceError> {
        match &self.kind {
            Kind::Oci(index) => Ok(listed(index)),
            Kind::Docker(archive) => archive.all(&self.members, cancel),
        }
    }

    /// A blob as it is, not verified.
    pub(super) fn blob(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send>, Error> {
        if let Kind::Docker(archive) = &self.kind
            && let Some(bytes) = archive.made(&descriptor.digest)
        {
            return Ok(Box::new(std::io::Cursor::new(bytes)));
        }
        Ok(Box::new(self.members.reader(self.place(descriptor)?)))
    }

    fn place(&self, descriptor: &Descriptor) -> Result<Place, Error> {
        let digest = &descriptor.digest;
        let found = match &self.kind {
            Kind::Oci(_) => self.members.find(&format!("blobs/{}/{}", digest.algorithm(), digest.hex()))?,
            Kind::Docker(archive) => archive.place(digest),
        };
        let place = found.ok_or_else(|| Error::missing(digest, self.members.path()))?;
        if place.size != descriptor.size {
            let path = self.members.path().display();
            let text = format!("{digest} in {path} has {} bytes, not {}", place.size, descriptor.size);
            return Err(Error::corrupt(text));
        }
        Ok(place)
    }

    fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        read_small(self.members.reader(self.place(descriptor)?), descriptor)
    }
}

fn neither(path: &Path) -> Error {
    Fault::NotAnArchive { path: path.to_owned() }.into()
}

impl ImageSource for ArchiveSource {
    fn resolve(
        &self,
        reference: &Reference,
        platform: &Platform,
        cancel: &CancelToken,
    ) -> Result<ResolvedImage, SourceError> {
        let selection = Selection { reference: Some(reference.clone()), ..self.selection.clone() };
        match &self.kind {
            Kind::Oci(index) => {
                let mut fetch = |descriptor: &Descriptor| Ok(self.document(descriptor)?);
                resolve(&self.members.path().display(), index, &selection, platform, &mut fetch)
            }
            Kind::Docker(archive) => archive.resolve(&self.members, &selection, cancel),
        }
    }

    fn open(
        &self,
        _reference: &Reference,
        descriptor: &Descriptor,
        _cancel: &CancelToken,
    ) -> Result<Box<dyn Read + Send>, SourceError> {
        let reader = self.members.reader(self.place(descriptor)?);
        Ok(Box::new(VerifyingReader::new(reader, descriptor)))
    }
}
