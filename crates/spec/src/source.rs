use std::fmt;
use std::io::Read;

use crate::{CancelToken, Descriptor, ImageConfig, Manifest, Platform, Reference};

/// Where base images come from: a registry, a layout, an archive.
///
/// A source first [`resolve`](Self::resolve)s a name to one image (index, platform and digest are settled there and
/// nowhere else), then gives its blobs one by one. Both may be called from several threads at once, and a blob may
/// never be asked for. Every byte that a source returns from `resolve` is verified against its digest; the reader
/// that [`open`](Self::open) returns verifies while it is read and fails at the end instead of ending.
pub trait ImageSource: Send + Sync + fmt::Debug {
    /// The image that `reference` names, for `platform`. A source that holds a single image ignores the name.
    fn resolve(
        &self,
        reference: &Reference,
        platform: &Platform,
        cancel: &CancelToken,
    ) -> Result<ResolvedImage, SourceError>;

    /// The blob with this descriptor, which a manifest resolved from `reference` lists.
    fn open(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        cancel: &CancelToken,
    ) -> Result<Box<dyn Read + Send>, SourceError>;
}

/// One image, its documents read and verified.
#[derive(Debug, Clone)]
pub struct ResolvedImage {
    /// Descriptor of the manifest.
    pub descriptor: Descriptor,
    /// The manifest.
    pub manifest: Manifest,
    /// The manifest's exact bytes.
    pub manifest_bytes: Vec<u8>,
    /// The config.
    pub config: ImageConfig,
    /// The config's exact bytes.
    pub config_bytes: Vec<u8>,
}

/// Why a source could not give what was asked for.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct SourceError {
    kind: SourceErrorKind,
    message: String,
    hint: Option<String>,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Classes of [`SourceError`], which decide a program's exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SourceErrorKind {
    /// There is no such image or blob.
    NotFound,
    /// The image exists, but not for the platform.
    NoPlatform,
    /// Bytes do not have their digest or size, or a document contradicts itself.
    Corrupt,
    /// Well-formed, but of a kind that is refused.
    Unsupported,
    /// The registry refused access.
    Denied,
    /// The registry or the network failed.
    Network,
    /// The local file system failed.
    Io,
    /// What was configured about it cannot be used.
    Configuration,
    /// The user's own rules forbid it.
    Refused,
    /// The host is at a link-local address, which the user did not allow.
    LinkLocal,
    /// It is not here, and nothing is fetched.
    Offline,
    /// The caller cancelled.
    Cancelled,
}

impl SourceError {
    /// An error with the text that a user sees: what was asked for and what is wrong with it.
    pub fn new(kind: SourceErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None, source: None }
    }

    /// The same with its cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same with what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same with another text.
    #[must_use]
    pub fn reworded(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }

    /// The class.
    pub fn kind(&self) -> SourceErrorKind {
        self.kind
    }

    /// What to do about it.
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}
