use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use oci_spec::image::MediaType;

use crate::{Digest, Platform};

/// Type, digest and size of a blob (image-spec `descriptor.md`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the bytes are.
    pub media_type: MediaType,
    /// Digest of the exact bytes.
    pub digest: Digest,
    /// Number of bytes.
    pub size: u64,
    /// Free annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Platform of the image described, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Type of the artifact described.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

impl Descriptor {
    /// The descriptor of these bytes.
    pub fn of(media_type: MediaType, bytes: &[u8]) -> Self {
        Self::new(media_type, Digest::of(bytes), bytes.len() as u64)
    }

    /// The descriptor of [`EMPTY_JSON`](Self::EMPTY_JSON), which stands for a config or a layer that an artifact does not
    /// have (image-spec `manifest.md`, "Guidance for an Empty Descriptor").
    pub fn empty() -> Self {
        Self::of(MediaType::EmptyJSON, Self::EMPTY_JSON)
    }

    /// The content of [`empty`](Self::empty).
    pub const EMPTY_JSON: &[u8] = b"{}";

    /// A descriptor without platform and annotations.
    pub fn new(media_type: MediaType, digest: Digest, size: u64) -> Self {
        Self { media_type, digest, size, platform: None, annotations: BTreeMap::new(), artifact_type: None }
    }
}

/// Media types of Docker's image format, which the specification's enumeration does not name.
pub mod media_types {
    /// Manifest of one image.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Manifest list.
    pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Image config.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// Layer, compressed by gzip.
    pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// Layer, not compressed.
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
    /// Layer, compressed by Zstandard.
    pub const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";
}
