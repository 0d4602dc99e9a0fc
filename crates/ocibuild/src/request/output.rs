//! Where a finished image is to go besides the state directory (11.6).

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};

use ocibuild_registry::Registry;
use ocibuild_spec::Reference;

use super::PlannedBuild;
use crate::annotation::Annotation;
use crate::image::{DocumentStyle, OutputEpoch};

/// One place an image, or its files, are written to.
pub struct Output {
    pub(crate) kind: OutputKind,
    pub(crate) destination: Destination,
    /// Names instead of the build's.
    pub(crate) names: Vec<Reference>,
    pub(crate) docker_media_types: bool,
    pub(crate) annotations: Vec<Annotation>,
    pub(crate) epoch: OutputEpoch,
    pub(crate) platform_split: Option<bool>,
    pub(crate) replace: bool,
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

/// Where to.
#[non_exhaustive]
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

    /// Names of the image in this output, instead of those of the build.
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
    pub(crate) fn form(&self, build: &PlannedBuild) -> Option<DocumentStyle> {
        let annotations = || build.annotations.iter().chain(&self.annotations).cloned().collect();
        (!self.kind.is_files()).then(|| DocumentStyle {
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
