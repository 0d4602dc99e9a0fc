use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ocibuild_spec::{
    Descriptor, Digest, Document, MAX_DOCUMENT, Timestamp, VerifyingReader, is_document, json,
    parse_manifest_or_index,
};
use serde::Serialize;

use super::{OutputImage, entries, index_of};
use crate::blob::BlobSink;
use crate::layout::OCI_LAYOUT;
use crate::{Error, ErrorKind, Fault};

/// Writes an OCI layout as one tar, front to back, for docker as well if that is wanted.
///
/// Blobs stand in the order in which they are put; `index.json`, for docker `manifest.json`, and `oci-layout` end the
/// archive. The same blobs in the same order give the same bytes. An archive that is dropped before
/// [`finish`](Self::finish), or whose [`put_from`](BlobSink::put_from) failed, is not complete and cannot be made so.
///
/// ```
/// use ocibuild_spec::{MediaType, Timestamp};
/// use ocibuild_store::{ArchiveFormat, BlobSink as _, LayoutArchive};
///
/// let archive = LayoutArchive::new(Vec::new(), Timestamp::from_seconds(0));
/// archive.put(MediaType::ImageConfig, b"{}")?;
/// let tar = archive.finish(&[], ArchiveFormat::Oci)?;
/// assert_eq!(tar.len() % 512, 0);
/// # Ok::<(), ocibuild_store::Error>(())
/// ```
pub struct LayoutArchive<W: Write> {
    state: Mutex<State<W>>,
    mtime: u64,
}

/// For whom an archive is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveFormat {
    /// An OCI layout.
    Oci,
    /// The same with docker's `manifest.json`, for `docker load`. It has no place for an index of several platforms.
    Docker,
}

struct State<W: Write> {
    tar: tar::Builder<W>,
    blobs: BTreeMap<Digest, u64>,
    /// Kept for docker's `manifest.json`, which repeats what they list.
    documents: BTreeMap<Digest, Vec<u8>>,
    broken: bool,
}

/// One image in docker's `manifest.json`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

impl<W: Write> LayoutArchive<W> {
    /// An archive written to `out`, whose members have the time `mtime` (never before 1970).
    pub fn new(out: W, mtime: Timestamp) -> Self {
        let state = State {
            tar: tar::Builder::new(out),
            blobs: BTreeMap::new(),
            documents: BTreeMap::new(),
            broken: false,
        };
        Self { state: Mutex::new(state), mtime: u64::try_from(mtime.seconds).unwrap_or(0) }
    }

    /// Ends the archive with what names its images, and gives back what it was written to.
    pub fn finish(self, images: &[OutputImage], format: ArchiveFormat) -> Result<W, Error> {
        let mtime = self.mtime;
        let mut state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        state.check()?;
        let index = index_of(images.iter().flat_map(entries).collect());
        for descriptor in &index.manifests {
            if !state.blobs.contains_key(&descriptor.digest) {
                let text = format!("{} was not put into the archive that names it", descriptor.digest);
                return Err(Error::new(ErrorKind::Incomplete, text));
            }
        }
        let mut members = vec![("index.json", to_json(&index)?)];
        if format == ArchiveFormat::Docker {
            let described =
                images.iter().map(|image| state.docker_image(image)).collect::<Result<Vec<_>, _>>()?;
            members.push(("manifest.json", to_json(&described)?));
        }
        members.push(("oci-layout", OCI_LAYOUT.as_bytes().to_vec()));
        for (name, bytes) in members {
            append(&mut state.tar, name, bytes.len() as u64, mtime, &mut bytes.as_slice())
                .map_err(|error| Error::io(format!("write {name} into the archive"), error))?;
        }
        let mut out = state.tar.into_inner().map_err(|error| Error::io("end the archive", error))?;
        out.flush().map_err(|error| Error::io("end the archive", error))?;
        Ok(out)
    }

    fn state(&self) -> MutexGuard<'_, State<W>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: Write + Send> BlobSink for LayoutArchive<W> {
    fn stat(&self, digest: &Digest) -> Result<Option<u64>, Error> {
        Ok(self.state().blobs.get(digest).copied())
    }

    fn put_from(&self, descriptor: &Descriptor, reader: &mut dyn Read) -> Result<(), Error> {
        let mut state = self.state();
        state.check()?;
        if state.blobs.contains_key(&descriptor.digest) {
            return Ok(());
        }
        state.broken = true;
        let result = if is_document(&descriptor.media_type) && descriptor.size <= MAX_DOCUMENT {
            let mut bytes = Vec::new();
            let read = VerifyingReader::new(reader, descriptor).read_to_end(&mut bytes);
            let written = read.and_then(|_| state.append(descriptor, self.mtime, &mut bytes.as_slice()));
            state.documents.insert(descriptor.digest.clone(), bytes);
            written
        } else {
            let mut verified = VerifyingReader::new(reader, descriptor);
            state.append(descriptor, self.mtime, &mut verified)
        };
        result.map_err(|error| {
            Error::io(format!("write blob {} into the archive", descriptor.digest), error)
        })?;
        state.blobs.insert(descriptor.digest.clone(), descriptor.size);
        state.broken = false;
        Ok(())
    }
}

impl<W: Write> State<W> {
    fn check(&self) -> Result<(), Error> {
        if self.broken {
            return Err(Error::new(ErrorKind::Io, "the archive is broken by an earlier failure"));
        }
        Ok(())
    }

    fn append(&mut self, descriptor: &Descriptor, mtime: u64, reader: &mut dyn Read) -> io::Result<()> {
        if self.blobs.is_empty() {
            append_directory(&mut self.tar, "blobs/", mtime)?;
            append_directory(&mut self.tar, "blobs/sha256/", mtime)?;
        }
        append(&mut self.tar, &member_name(&descriptor.digest), descriptor.size, mtime, reader)
    }

    fn docker_image(&self, image: &OutputImage) -> Result<DockerImage, Error> {
        let digest = &image.descriptor.digest;
        let bytes = self.documents.get(digest).map(Vec::as_slice).unwrap_or_default();
        match parse_manifest_or_index(bytes, None).map_err(|error| Error::document(digest, error))? {
            Document::Manifest(manifest) => Ok(DockerImage {
                config: member_name(&manifest.config.digest),
                repo_tags: image.names.iter().map(ocibuild_spec::Reference::familiar).collect(),
                layers: manifest.layers().iter().map(|layer| member_name(&layer.digest)).collect(),
            }),
            Document::Index(_) => Err(Fault::SeveralPlatforms { digest: digest.clone() }.into()),
        }
    }
}

fn to_json(value: &impl Serialize) -> Result<Vec<u8>, Error> {
    json::to_vec(value)
        .map_err(|error| Error::corrupt("the archive's index cannot be written").caused_by(error))
}

fn member_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

fn append(
    tar: &mut tar::Builder<impl Write>,
    name: &str,
    size: u64,
    mtime: u64,
    reader: &mut dyn Read,
) -> io::Result<()> {
    let mut header = header(tar::EntryType::Regular, 0o644, size, mtime);
    let mut counting = Counting { reader, seen: 0 };
    tar.append_data(&mut header, name, &mut counting)?;
    // The header is out; a member of another length would shift all that follows.
    if counting.seen == size {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, format!("{} bytes came, not {size}", counting.seen)))
}

fn append_directory(tar: &mut tar::Builder<impl Write>, name: &str, mtime: u64) -> io::Result<()> {
    let mut header = header(tar::EntryType::Directory, 0o755, 0, mtime);
    tar.append_data(&mut header, name, io::empty())
}

fn header(kind: tar::EntryType, mode: u32, size: u64, mtime: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(size);
    header.set_mtime(mtime);
    header
}

struct Counting<'a> {
    reader: &'a mut dyn Read,
    seen: u64,
}

impl Read for Counting<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.seen += count as u64;
        Ok(count)
    }
}

impl<W: Write> fmt::Debug for LayoutArchive<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayoutArchive").field("blobs", &self.state().blobs.len()).finish_non_exhaustive()
    }
}
