//! Where a finished image goes besides the state directory (11.6).

mod check;
mod files;

use std::io::{self, Read, Write};
use std::path::Path;

use ocibuild_registry::Registry;
use ocibuild_spec::{Descriptor, Platform, Reference, Timestamp};
use ocibuild_store::{ArchiveFormat, BlobSink, LayoutArchive, LayoutDirectory, OutputImage};
use ocibuild_sys::FileTarget;

use crate::copy::TEMPORARY;
use crate::error::{Code, Error, ErrorKind};
use crate::event::Event;
use crate::failure::OutputFailure;
use crate::finished::{FinishedImage, built};
use crate::image::{Built, BuiltImage, DocumentStyle};
use crate::layers::{Layer, Layers};
use crate::request::{Destination, Output, OutputKind, PlannedBuild};
use crate::transfer::{ImageUpload, Transfer, Watcher, push};
pub(crate) use check::{check_outputs, output_epoch};

/// Writes one output.
pub(crate) fn export<'a>(
    build: &'a PlannedBuild,
    images: &'a [FinishedImage<'a>],
    output: Output,
    emit: &(dyn Fn(Event) + Sync),
) -> Result<(), Error> {
    let form = output.form(build);
    let Output { kind, destination, names, epoch, platform_split, replace, .. } = output;
    let names = if names.is_empty() { build.tags.clone() } else { names };
    let epoch = epoch.over(images[0].plan.source_date_epoch);
    let wanted = ExportJob {
        build,
        images,
        form,
        epoch,
        platform_split: platform_split.unwrap_or(build.with_index),
        names,
    };
    match (kind, destination) {
        (OutputKind::Registry, Destination::Registry { client, by_digest }) => {
            wanted.push(&client, by_digest, emit)
        }
        (OutputKind::Registry, _) | (_, Destination::Registry { .. }) => {
            Err(OutputFailure::NotAnImage.into())
        }
        (OutputKind::Local, Destination::Path(path)) => files::local(&wanted, &path, replace),
        (OutputKind::OciLayout, Destination::Path(path)) => {
            let layout = LayoutDirectory::open_or_create(&path)?;
            let named = wanted.put(&layout)?;
            Ok(layout.finish(&[named])?)
        }
        (OutputKind::Local | OutputKind::OciLayout, Destination::Writer(_)) => {
            Err(OutputFailure::NeedsDirectory.into())
        }
        (kind, Destination::Path(path)) => write_whole(&path, |writer| wanted.stream(kind, writer)),
        (kind, Destination::Writer(mut writer)) => wanted.stream(kind, &mut writer),
    }
}

/// Writes a file that appears when it is complete, where links lead; into a pipe, a device or a descriptor at once.
pub(crate) fn write_whole(
    path: &Path,
    write: impl FnOnce(&mut (dyn Write + Send)) -> Result<(), Error>,
) -> Result<(), Error> {
    let shown = path;
    let path = &match FileTarget::of(shown) {
        FileTarget::Opened(target) => {
            let file = FileTarget::open(&target).map_err(|error| unwritable(shown, error))?;
            let mut writer = io::BufWriter::with_capacity(1 << 18, file);
            write(&mut writer).map_err(|error| at_path(error, shown))?;
            return writer.flush().map_err(|error| unwritable(shown, error));
        }
        FileTarget::Replaced(target) => target,
    };
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(parent);
    let file = file.map_err(|error| unwritable(path, error))?;
    let mut writer = io::BufWriter::with_capacity(1 << 18, file);
    write(&mut writer).map_err(|error| at_path(error, path))?;
    let file = writer.into_inner().map_err(|error| unwritable(path, error.into_error()))?;
    // A temporary file is private; an output is an ordinary file.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(mode).map_err(|error| unwritable(path, error))?;
    file.persist(path).map_err(|error| unwritable(path, error.error))?;
    Ok(())
}

fn at_path(error: Error, path: &Path) -> Error {
    if error.kind() == ErrorKind::Host && !error.is(Code::DeviceNode) {
        OutputFailure::Unwritable { path: path.to_owned(), is_output: false, source: error.into() }.into()
    } else {
        error
    }
}

fn unwritable(path: &Path, error: io::Error) -> Error {
    OutputFailure::Unwritable { path: path.to_owned(), is_output: true, source: error.into() }.into()
}

/// What one output gets.
struct ExportJob<'a> {
    build: &'a PlannedBuild,
    images: &'a [FinishedImage<'a>],
    form: Option<DocumentStyle>,
    /// The epoch of this output.
    epoch: Option<i64>,
    platform_split: bool,
    names: Vec<Reference>,
}

impl ExportJob<'_> {
    /// The time that the index states (11.41).
    fn created(&self) -> Timestamp {
        self.epoch.map_or(self.build.settings.now, Timestamp::from_seconds)
    }

    fn stream(&self, kind: OutputKind, writer: &mut (dyn Write + Send)) -> Result<(), Error> {
        if kind == OutputKind::Tar {
            return files::tar(self, writer);
        }
        let format =
            if kind == OutputKind::DockerArchive { ArchiveFormat::Docker } else { ArchiveFormat::Oci };
        let archive = LayoutArchive::new(writer, self.created());
        let named = self.put(&archive)?;
        archive.finish(&[named], format)?;
        Ok(())
    }

    /// Puts all blobs, those of an index after those of its images, and gives what names the image.
    fn put(&self, sink: &dyn BlobSink) -> Result<OutputImage, Error> {
        let form = self.form.clone().unwrap_or_default();
        let built = built(self.images, self.build.with_index, &form);
        for (finished, image) in self.images.iter().zip(&built.images) {
            put_image(finished, image, sink)?;
        }
        let Built { descriptor, index, .. } = built;
        if let Some(index) = index {
            sink.put(descriptor.media_type.clone(), &index.bytes)?;
        }
        Ok(OutputImage { descriptor, names: self.names.clone(), created: Some(self.created()) })
    }
}

impl ExportJob<'_> {
    /// Pushes the image under all its names. Layers of base images that a name's registry has in another repository
    /// are not even fetched.
    fn push(&self, client: &Registry, by_digest: bool, emit: &(dyn Fn(Event) + Sync)) -> Result<(), Error> {
        let form = self.form.clone().unwrap_or_default();
        let Built { descriptor, index, images } = built(self.images, self.build.with_index, &form);
        let names: Vec<Reference> = if by_digest {
            self.names.iter().map(|name| name.with_digest(descriptor.digest.clone())).collect()
        } else {
            self.names.clone()
        };
        let mut documents = Vec::new();
        let mut blobs: Vec<ImageBlob<'_>> = Vec::new();
        for (finished, image) in self.images.iter().zip(&images) {
            let config = ImageBlob {
                descriptor: &image.manifest.config,
                content: Content::Bytes(&image.config_bytes),
            };
            let layers = finished.layers.iter().map(|layer| ImageBlob {
                descriptor: &layer.descriptor,
                content: Content::Layer(&finished.source, layer),
            });
            for blob in layers.chain([config]) {
                if !blobs.iter().any(|known| known.descriptor.digest == blob.descriptor.digest) {
                    blobs.push(blob);
                }
            }
            documents.push((image.descriptor.clone(), image.manifest_bytes.clone()));
        }
        documents.extend(index.map(|index| (descriptor, index.bytes)));
        let open =
            |wanted: &Descriptor| match blobs.iter().find(|blob| blob.descriptor.digest == wanted.digest) {
                Some(blob) => blob.open(),
                None => Err(OutputFailure::NotInImage { digest: wanted.digest.clone() }.into()),
            };
        let upload = ImageUpload {
            documents,
            blobs: blobs.iter().map(|blob| blob.descriptor.clone()).collect(),
            open: &open,
        };
        let FinishedImage { cancel, origins, .. } = self.images[0];
        let watcher = |event: Transfer<'_>| {
            if let Transfer::Pushed { blob, how } = event {
                emit(Event::BlobPushed { blob: blob.clone(), how: how.clone() });
            }
        };
        let watcher: &Watcher<'_> = &watcher;
        push(client, origins, &names, &upload, (cancel, watcher)).map(drop)
    }
}

/// A config or a layer, and where its bytes are.
struct ImageBlob<'a> {
    descriptor: &'a Descriptor,
    content: Content<'a>,
}

enum Content<'a> {
    Bytes(&'a [u8]),
    Layer(&'a Layers<'a>, &'a Layer<'a>),
}

impl ImageBlob<'_> {
    fn open(&self) -> Result<Box<dyn Read + Send>, Error> {
        match self.content {
            Content::Bytes(bytes) => Ok(Box::new(io::Cursor::new(bytes.to_vec()))),
            Content::Layer(layers, layer) => layers.open_blob(layer),
        }
    }
}

fn put_image(finished: &FinishedImage<'_>, image: &BuiltImage, sink: &dyn BlobSink) -> Result<(), Error> {
    for layer in &finished.layers {
        if sink.has(&layer.descriptor)? {
            continue;
        }
        if finished.cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        let mut blob = finished.source.open_blob(layer)?;
        sink.put_from(&layer.descriptor, &mut blob)?;
    }
    sink.put(image.manifest.config.media_type.clone(), &image.config_bytes)?;
    sink.put(image.descriptor.media_type.clone(), &image.manifest_bytes)?;
    Ok(())
}

/// The name of a platform's directory: `linux_arm_v7`. Nothing in it leads anywhere else.
fn directory_name(platform: &Platform) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '_' };
    platform.to_string().chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_named_after_platforms() {
        let name = |os: &str, architecture: &str, variant: &str| {
            directory_name(&Platform::new(os, architecture, variant))
        };
        assert_eq!(name("linux", "amd64", ""), "linux_amd64");
        assert_eq!(name("linux", "arm", ""), "linux_arm_v7");
        assert_eq!(name("..", "../x", "\\"), ".._.._x__");
    }
}
