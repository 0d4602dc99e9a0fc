//! Where a finished image goes besides the state directory (11.6).

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;
use ocibuild_layer::{Compression, LayerOptions};
use ocibuild_snapshot::{Tree, changes};
use ocibuild_spec::{Changeset, Entry, Reference, Timestamp};
use ocibuild_store::{ArchiveFormat, BlobSink, LayoutArchive, LayoutDirectory, OutputImage};

use crate::copy::{Choice, Source, TreeSource, select};
use crate::image::BuiltImage;
use crate::schedule::Run;
use crate::stage::StageState;
use crate::unpacked::write_entries;
use crate::{Error, ErrorKind};

/// One place an image, or its files, are written to.
pub struct Output {
    kind: OutputKind,
    destination: Destination,
    /// Names in place of the build's.
    names: Vec<Reference>,
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
}

/// Where to.
pub enum Destination {
    /// A file, which appears when it is complete, or a directory.
    Path(PathBuf),
    /// Whatever takes bytes; for kinds that are one stream.
    Writer(Box<dyn Write + Send>),
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => f.debug_tuple("Path").field(path).finish(),
            Self::Writer(_) => f.write_str("Writer"),
        }
    }
}

impl Output {
    /// An output of this kind.
    pub fn new(kind: OutputKind, destination: Destination) -> Self {
        Self { kind, destination, names: Vec::new() }
    }

    /// Names of the image in this output, in place of those of the build.
    #[must_use]
    pub fn names(mut self, names: Vec<Reference>) -> Self {
        self.names = names;
        self
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
        };
        match &self.destination {
            Destination::Path(path) => write!(f, "{kind} {}", path.display()),
            Destination::Writer(_) => write!(f, "{kind}"),
        }
    }
}

/// Writes one output.
pub(crate) fn export(
    run: &Run<'_>,
    image: &BuiltImage,
    state: &StageState,
    output: Output,
) -> Result<(), Error> {
    let names = if output.names.is_empty() { run.build.tags.clone() } else { output.names };
    match (output.kind, output.destination) {
        (OutputKind::Local, Destination::Path(path)) => local(run, state, &path),
        (OutputKind::OciLayout, Destination::Path(path)) => {
            let layout = LayoutDirectory::open_or_create(&path)?;
            put_blobs(run, image, &layout)?;
            Ok(layout.finish(&[named(run, image, &names)])?)
        }
        (OutputKind::Local | OutputKind::OciLayout, Destination::Writer(_)) => {
            Err(Error::new(ErrorKind::Usage, "this output needs a directory as its destination"))
        }
        (kind, Destination::Path(path)) => {
            let parent =
                path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let file = tempfile::NamedTempFile::new_in(parent).map_err(|error| unwritable(&path, error))?;
            let mut writer = io::BufWriter::with_capacity(1 << 18, file);
            stream(run, image, state, kind, &names, &mut writer).map_err(|error| at_path(error, &path))?;
            let file = writer.into_inner().map_err(|error| unwritable(&path, error.into_error()))?;
            // A temporary file is private; an output is an ordinary file.
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
            file.as_file().set_permissions(mode).map_err(|error| unwritable(&path, error))?;
            file.persist(&path).map_err(|error| unwritable(&path, error.error))?;
            Ok(())
        }
        (kind, Destination::Writer(mut writer)) => stream(run, image, state, kind, &names, &mut writer),
    }
}

fn at_path(error: Error, path: &Path) -> Error {
    if error.kind() == ErrorKind::Host {
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

/// The time that the index states (11.41).
fn created(run: &Run<'_>) -> Timestamp {
    run.build.plan.source_date_epoch.map_or(run.build.settings.now, Timestamp::from_seconds)
}

fn stream(
    run: &Run<'_>,
    image: &BuiltImage,
    state: &StageState,
    kind: OutputKind,
    names: &[Reference],
    writer: &mut (dyn Write + Send),
) -> Result<(), Error> {
    if kind == OutputKind::Tar {
        return rootfs_tar(run, state, writer);
    }
    let format = if kind == OutputKind::DockerArchive { ArchiveFormat::Docker } else { ArchiveFormat::Oci };
    let archive = LayoutArchive::new(writer, created(run));
    put_blobs(run, image, &archive)?;
    archive.finish(&[named(run, image, names)], format)?;
    Ok(())
}

fn named(run: &Run<'_>, image: &BuiltImage, names: &[Reference]) -> OutputImage {
    OutputImage { descriptor: image.descriptor.clone(), names: names.to_vec(), created: Some(created(run)) }
}

fn put_blobs(run: &Run<'_>, image: &BuiltImage, sink: &dyn BlobSink) -> Result<(), Error> {
    for layer in &image.layers {
        if sink.has(&layer.descriptor)? {
            continue;
        }
        run.check_cancelled()?;
        let mut blob = run.layers.open_blob(layer)?;
        sink.put_from(&layer.descriptor, &mut blob)?;
    }
    sink.put(image.manifest.config.media_type.clone(), &image.config_bytes)?;
    sink.put(image.descriptor.media_type.clone(), &image.manifest_bytes)?;
    Ok(())
}

/// All files of the image, with their content.
fn rootfs(run: &Run<'_>, state: &StageState) -> Result<(Vec<Entry>, Arc<TreeSource>), Error> {
    let tree = state.tree(&run.layers)?;
    let mut entries = changes(&Tree::new(), &tree, &mut |_, _, _| false);
    if let Some(epoch) = run.build.plan.source_date_epoch {
        for entry in &mut entries {
            entry.metadata.mtime = Timestamp::from_seconds(epoch);
        }
    }
    let view = TreeSource::new(tree);
    let selected = select(&view, "/", &Choice::default())?;
    let files = run.layers.files(&state.stack, &view.origins(&selected)?)?;
    Ok((entries, Arc::new(view.with_files(files))))
}

fn rootfs_tar(run: &Run<'_>, state: &StageState, writer: &mut dyn Write) -> Result<(), Error> {
    let (entries, source) = rootfs(run, state)?;
    let changeset =
        Changeset::new(entries, move |entry: &Entry, _| source.open(&entry.path).map_err(io::Error::other));
    let options = LayerOptions { compression: Compression::None, clamp_mtime: None, threads: 1 };
    ocibuild_layer::write(&changeset, writer, &options, run.cancel)?;
    writer.flush().map_err(|error| Error::new(ErrorKind::Host, "cannot write the tar").caused_by(error))
}

/// Writes the files of the image into a directory, over what is there; links in it lead nowhere outside.
fn local(run: &Run<'_>, state: &StageState, path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(|error| unwritable(path, error))?;
    let (entries, source) = rootfs(run, state)?;
    let open = |entry: &Entry| source.open(&entry.path);
    write_entries(path, &entries, &open, run.cancel).map_err(|error| at_path(error, path))
}
