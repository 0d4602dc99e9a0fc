//! Where a finished image goes besides the state directory (11.6).

mod check;
mod files;

use std::fmt;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use ocibuild_registry::Registry;
use ocibuild_spec::{Descriptor, Platform, Reference, Timestamp};
use ocibuild_store::{ArchiveFormat, BlobSink, LayoutArchive, LayoutDirectory, OutputImage};
use ocibuild_sys::FileTarget;

use crate::annotation::Annotation;
use crate::build::PlannedBuild;
use crate::copy::TEMPORARY;
use crate::finished::{FinishedImage, built};
use crate::image::{Built, BuiltImage, Form};
use crate::layers::{Layer, Layers};
use crate::transfer::{Parcel, Transfer, Watcher, push};
use crate::unpacked::DEVICE_NODE;
use crate::{Error, ErrorKind, Event};
pub(crate) use check::{check_outputs, output_epoch};

/// One place an image, or its files, are written to.
pub struct Output {
    kind: OutputKind,
    destination: Destination,
    /// Names in place of the build's.
    names: Vec<Reference>,
    docker_media_types: bool,
    annotations: Vec<Annotation>,
    epoch: OutputEpoch,
    platform_split: Option<bool>,
    replace: bool,
}

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OutputKind {
    /// An OCI layout in a tar.
    OciArchive,
    /// An OCI layout directory.
    OciLayout,
    /// A tar that `docker load` takes, which is an OCI layout as well.
    DockerArchive,
    /// The files of the image as one tar.
    Tar,
    /// The files of the image in a directory.
    Local,
    /// The image at the registries of its names.
    Registry,
}

/// What an output takes for the epoch: the second that it states, that later times are cut to, and that files have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OutputEpoch {
    /// The build's, if it has one.
    #[default]
    OfBuild,
    /// This second. Earlier times, and those that the build put into the history, stay.
    At(i64),
    /// None.
    None,
}

impl OutputEpoch {
    /// The epoch, given that of the build.
    pub(crate) fn over(self, build: Option<i64>) -> Option<i64> {
        match self {
            Self::OfBuild => build,
            Self::At(seconds) => Some(seconds),
            Self::None => None,
        }
    }
}

/// Where to.
pub enum Destination {
    /// A file, which appears when it is complete, or a directory.
    Path(PathBuf),
    /// Whatever takes bytes; for kinds that are one stream.
    Writer(Box<dyn Write + Send + Sync>),
    /// The registries of the image's names, by this client.
    Registry {
        /// How they are reached.
        client: Registry,
        /// `push-by-digest`: under no tag.
        by_digest: bool,
    },
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => f.debug_tuple("Path").field(path).finish(),
            Self::Writer(_) => f.write_str("Writer"),
            Self::Registry { .. } => f.write_str("Registry"),
        }
    }
}

impl Output {
    /// An output of this kind.
    pub fn new(kind: OutputKind, destination: Destination) -> Self {
        Self {
            kind,
            destination,
            names: Vec::new(),
            docker_media_types: false,
            annotations: Vec::new(),
            epoch: OutputEpoch::OfBuild,
            platform_split: None,
            replace: false,
        }
    }

    /// Names of the image in this output, in place of those of the build.
    #[must_use]
    pub fn names(mut self, names: Vec<Reference>) -> Self {
        self.names = names;
        self
    }

    /// `oci-mediatypes=false`: Docker's media types in manifests and indexes (11.13).
    #[must_use]
    pub fn docker_media_types(mut self, docker: bool) -> Self {
        self.docker_media_types = docker;
        self
    }

    /// An annotation in this output alone, besides those of the build.
    #[must_use]
    pub fn annotation(mut self, annotation: Annotation) -> Self {
        self.annotations.push(annotation);
        self
    }

    /// `source-date-epoch`: what this output takes for the epoch (11.45).
    #[must_use]
    pub fn epoch(mut self, epoch: OutputEpoch) -> Self {
        self.epoch = epoch;
        self
    }

    /// `platform-split`: whether the files of each platform have a directory of their own; by default those of several
    /// platforms have (11.33).
    #[must_use]
    pub fn platform_split(mut self, split: bool) -> Self {
        self.platform_split = Some(split);
        self
    }

    /// `mode=delete`: whether a directory is emptied before the files come into it.
    #[must_use]
    pub fn replace(mut self, replace: bool) -> Self {
        self.replace = replace;
        self
    }

    /// The file or directory that is written, if it is one.
    pub(crate) fn path(&self) -> Option<&Path> {
        match &self.destination {
            Destination::Path(path) => Some(path),
            Destination::Writer(_) | Destination::Registry { .. } => None,
        }
    }

    /// Whether it is a directory that gets the files of the image.
    pub(crate) fn is_directory_of_files(&self) -> bool {
        self.kind == OutputKind::Local
    }

    /// Kind and place, for whoever watches.
    pub(crate) fn describe(&self, build: &PlannedBuild) -> String {
        if self.kind != OutputKind::Registry {
            return self.to_string();
        }
        let names = if self.names.is_empty() { &build.tags } else { &self.names };
        names.iter().map(Reference::familiar).collect::<Vec<_>>().join(", ")
    }

    /// How the image's documents are written; `None` for outputs that are files.
    pub(crate) fn form(&self, build: &PlannedBuild) -> Option<Form> {
        let annotations = || build.annotations.iter().chain(&self.annotations).cloned().collect();
        (!self.kind.is_files()).then(|| Form {
            docker: self.docker_media_types,
            annotations: annotations(),
            epoch: self.epoch,
        })
    }
}

impl OutputKind {
    /// Whether it has the files of the image, not the image.
    pub(crate) fn is_files(self) -> bool {
        matches!(self, Self::Tar | Self::Local)
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Output({self})")
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            OutputKind::OciArchive => "OCI archive",
            OutputKind::OciLayout => "OCI layout",
            OutputKind::DockerArchive => "docker archive",
            OutputKind::Tar => "tar of the files",
            OutputKind::Local => "files",
            OutputKind::Registry => "registry",
        };
        match &self.destination {
            Destination::Path(path) => write!(f, "{kind} {}", path.display()),
            Destination::Writer(_) | Destination::Registry { .. } => write!(f, "{kind}"),
        }
    }
}

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
    let wanted = Wanted {
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
            Err(Error::new(ErrorKind::Usage, "images alone go to registries, and nothing else does"))
        }
        (OutputKind::Local, Destination::Path(path)) => files::local(&wanted, &path, replace),
        (OutputKind::OciLayout, Destination::Path(path)) => {
            let layout = LayoutDirectory::open_or_create(&path)?;
            let named = wanted.put(&layout)?;
            Ok(layout.finish(&[named])?)
        }
        (OutputKind::Local | OutputKind::OciLayout, Destination::Writer(_)) => {
            Err(Error::new(ErrorKind::Usage, "this output needs a directory as its destination"))
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
    if error.kind() == ErrorKind::Host && error.reports()[0].id != DEVICE_NODE {
        Error::new(ErrorKind::Host, format!("cannot write {}", path.display())).caused_by(error)
    } else {
        error
    }
}

fn unwritable(path: &Path, error: io::Error) -> Error {
    Error::new(ErrorKind::Host, format!("cannot write {}", path.display()))
        .caused_by(error)
        .hint("name a file in a directory that exists and can be written")
}

/// What one output gets.
struct Wanted<'a> {
    build: &'a PlannedBuild,
    images: &'a [FinishedImage<'a>],
    form: Option<Form>,
    /// The epoch of this output.
    epoch: Option<i64>,
    platform_split: bool,
    names: Vec<Reference>,
}

impl Wanted<'_> {
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

impl Wanted<'_> {
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
        let mut leaves: Vec<Leaf<'_>> = Vec::new();
        for (finished, image) in self.images.iter().zip(&images) {
            let config =
                Leaf { descriptor: &image.manifest.config, content: Content::Bytes(&image.config_bytes) };
            let layers = image.layers.iter().map(|layer| Leaf {
                descriptor: &layer.descriptor,
                content: Content::Layer(&finished.source, layer),
            });
            for leaf in layers.chain([config]) {
                if !leaves.iter().any(|known| known.descriptor.digest == leaf.descriptor.digest) {
                    leaves.push(leaf);
                }
            }
            documents.push((image.descriptor.clone(), image.manifest_bytes.clone()));
        }
        documents.extend(index.map(|index| (descriptor, index.bytes)));
        let open = |wanted: &Descriptor| match leaves
            .iter()
            .find(|leaf| leaf.descriptor.digest == wanted.digest)
        {
            Some(leaf) => leaf.open(),
            None => Err(Error::new(ErrorKind::Host, format!("{} is no part of the image", wanted.digest))),
        };
        let parcel = Parcel {
            documents,
            leaves: leaves.iter().map(|leaf| leaf.descriptor.clone()).collect(),
            open: &open,
        };
        let FinishedImage { cancel, cache, .. } = self.images[0];
        let watcher = |event: Transfer<'_>| {
            if let Transfer::Pushed { blob, how } = event {
                emit(Event::BlobPushed { blob: blob.clone(), how: how.clone() });
            }
        };
        let watcher: &Watcher<'_> = &watcher;
        push(client, cache, &names, &parcel, (cancel, watcher)).map(drop)
    }
}

/// A config or a layer, and where its bytes are.
struct Leaf<'a> {
    descriptor: &'a Descriptor,
    content: Content<'a>,
}

enum Content<'a> {
    Bytes(&'a [u8]),
    Layer(&'a Layers<'a>, &'a Layer),
}

impl Leaf<'_> {
    fn open(&self) -> Result<Box<dyn Read + Send>, Error> {
        match self.content {
            Content::Bytes(bytes) => Ok(Box::new(io::Cursor::new(bytes.to_vec()))),
            Content::Layer(layers, layer) => layers.open_blob(layer),
        }
    }
}

fn put_image(finished: &FinishedImage<'_>, image: &BuiltImage, sink: &dyn BlobSink) -> Result<(), Error> {
    for layer in &image.layers {
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
