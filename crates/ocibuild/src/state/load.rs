use std::fmt;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fs_err as fs;
use ocibuild_layer::{Format, Limits, decompress, sniff};
use ocibuild_spec::{
    CancelToken, Descriptor, Digest, Document, Platform, Reference, check_image, is_document, parse_config,
    parse_manifest_or_index,
};
use ocibuild_store::{StoredImages, reachable, read_document};

use super::{State, broken};
use crate::error::Error;
use crate::failure::{FileAction, HostFailure, HostOperation, StateFailure};
use crate::layers::{Layer, Layers};
use crate::report::Place;

/// Where images are loaded from.
#[non_exhaustive]
pub enum LoadSource<'r> {
    /// An archive or a layout directory.
    Path(PathBuf),
    /// An archive that comes as a stream.
    Reader(Box<dyn Read + Send + 'r>),
}

impl fmt::Debug for LoadSource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => f.debug_tuple("Path").field(path).finish(),
            Self::Reader(_) => f.write_str("Reader"),
        }
    }
}

/// An image that was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadedImage {
    /// The names it has now; none when the archive gives it none.
    pub names: Vec<Reference>,
    /// Its manifest, or the index of several platforms.
    pub descriptor: Descriptor,
    /// Its ID.
    pub config: Digest,
    /// Platforms of its index that are not complete in the archive, and were not taken.
    pub absent: Vec<Platform>,
}

impl State<'_> {
    /// Takes over the images of an OCI or docker archive, which may be compressed as a whole, or of a layout directory:
    /// all of them, or none.
    ///
    /// Every digest is computed, and every layer is read once to see that it is what its config says. Layers stay as they
    /// are stored; those of a docker archive are mostly not compressed, and its manifests are made here: the ID stays. An
    /// image without a name is kept until [`prune`](Self::prune). Of an index that is not complete, the image for this host
    /// is taken, or else the first that is.
    pub fn load(&self, source: LoadSource<'_>, cancel: &CancelToken) -> Result<Vec<LoadedImage>, Error> {
        let _lease = self.layout.lease()?;
        let scratch = self.layout.scratch()?;
        let (place, opened) = match source {
            LoadSource::Path(path) => (path.display().to_string(), open(&path, scratch.path(), cancel)),
            LoadSource::Reader(reader) => {
                ("standard input".to_owned(), spooled(reader, scratch.path(), cancel))
            }
        };
        let loaded = opened.and_then(|images| self.take_over(&images, cancel));
        loaded.map_err(|error| error.place(Place::File(place)))
    }

    fn take_over(&self, images: &StoredImages, cancel: &CancelToken) -> Result<Vec<LoadedImage>, Error> {
        let mut loaded = Vec::new();
        for image in images.list(cancel)? {
            if cancel.is_cancelled() {
                return Err(Error::cancelled());
            }
            let (descriptor, absent) = choose(images, &image.descriptor)?;
            images.copy(&descriptor, self.layout)?;
            self.check(&descriptor, cancel)?;
            let config = self.details(&descriptor)?.manifest.config.digest;
            loaded.push(LoadedImage { names: image.names, descriptor, config, absent });
        }
        if loaded.is_empty() {
            return Err(StateFailure::EmptyArchive.into());
        }
        let mut entries = Vec::new();
        for image in &loaded {
            let names = image.names.iter().map(|name| (Some(name.clone()), image.descriptor.clone()));
            entries.extend(names);
            if image.names.is_empty() {
                entries.push((None, image.descriptor.clone()));
            }
        }
        self.layout.enter_all(&entries, cancel)?;
        Ok(loaded)
    }

    /// Sees that an image's documents fit together, and that its layers are what they are called.
    fn check(&self, root: &Descriptor, cancel: &CancelToken) -> Result<(), Error> {
        let layers = Layers::of_store(self.layout, self.snapshots, self.cache.listings(), cancel);
        for descriptor in reachable(self.layout, root)? {
            let is_other = descriptor.platform.as_ref().is_some_and(|platform| platform.os == "unknown");
            if !is_document(&descriptor.media_type) || is_other {
                continue;
            }
            let bytes = read_document(self.layout, &descriptor)?;
            let document = parse_manifest_or_index(&bytes, Some(&descriptor.media_type))
                .map_err(|error| broken(&descriptor, &error))?;
            let Document::Manifest(manifest) = document else { continue };
            let config = parse_config(&read_document(self.layout, &manifest.config)?)
                .map_err(|error| broken(&manifest.config, &error))?;
            check_image(&manifest, &config).map_err(|error| broken(&descriptor, &error))?;
            for (diff_id, layer) in config.rootfs.layers().iter().zip(manifest.layers()) {
                let layer = Layer::stored(self.layout, diff_id.clone(), layer.clone());
                layers.verify(&layer)?;
            }
        }
        Ok(())
    }
}

/// What of an image is taken, and which platforms are not.
fn choose(images: &StoredImages, root: &Descriptor) -> Result<(Descriptor, Vec<Platform>), Error> {
    let parts = images.parts(root)?;
    let is_image =
        |image: &&Descriptor| image.platform.as_ref().is_none_or(|platform| platform.os != "unknown");
    let host = Platform::host();
    let mut whole = parts.whole.iter().filter(is_image);
    let own = whole.clone().find(|image| image.platform.as_ref() == Some(&host));
    let Some(chosen) = own.or_else(|| whole.next()) else {
        return Err(StateFailure::Incomplete { digest: root.digest.clone() }.into());
    };
    let others = parts.whole.iter().chain(&parts.broken).filter(is_image);
    let absent =
        others.filter(|other| other.digest != chosen.digest).filter_map(|other| other.platform.clone());
    Ok((chosen.clone(), absent.collect()))
}

fn open(path: &Path, scratch: &Path, cancel: &CancelToken) -> Result<StoredImages, Error> {
    let cannot = |error| HostFailure::file(FileAction::Read, path, error);
    let metadata = fs::metadata(path).map_err(cannot)?;
    if metadata.is_dir() {
        return Ok(StoredImages::open(path)?);
    }
    let mut file = fs::File::open(path).map_err(cannot)?.into_file();
    if !metadata.is_file() {
        return spooled(Box::new(file), scratch, cancel);
    }
    let mut first = Vec::new();
    Read::by_ref(&mut file).take(6).read_to_end(&mut first).map_err(cannot)?;
    if sniff(&first) == Format::Plain {
        return Ok(StoredImages::open(path)?);
    }
    spooled(Box::new(io::Cursor::new(first).chain(file)), scratch, cancel)
}

/// An archive that has to be in a file first: blobs are read in place.
fn spooled(
    reader: Box<dyn Read + Send + '_>,
    scratch: &Path,
    cancel: &CancelToken,
) -> Result<StoredImages, Error> {
    let taken = Arc::new(AtomicU64::new(0));
    let counting = Counting { reader, taken: Arc::clone(&taken) };
    let refused = |source: Box<dyn std::error::Error + Send + Sync>| StateFailure::NotDecompressed { source };
    let (format, mut plain) = decompress(Box::new(counting)).map_err(|error| refused(error.into()))?;
    let cannot = |error| HostFailure::operation(HostOperation::KeepArchive, error);
    let path = scratch.join("archive.tar");
    let mut file = fs::File::create(&path).map_err(cannot)?;
    let mut buffer = vec![0; 256 << 10];
    let mut size = 0;
    loop {
        if cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        let count = match plain.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) if cancel.is_cancelled() => return Err(Error::cancelled()),
            Err(error) => return Err(refused(error.into()).into()),
        };
        size += count as u64;
        let limit = Limits::for_blob(taken.load(Ordering::Relaxed)).tar_size;
        if format != Format::Plain && size > limit {
            return Err(StateFailure::DecompressesTooMuch { limit }.into());
        }
        file.write_all(&buffer[..count]).map_err(cannot)?;
    }
    drop(file);
    let file = fs::File::open(&path).map_err(cannot)?.into_file();
    Ok(StoredImages::of_archive(file, "the archive")?)
}

struct Counting<'r> {
    reader: Box<dyn Read + Send + 'r>,
    taken: Arc<AtomicU64>,
}

impl Read for Counting<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.taken.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}
