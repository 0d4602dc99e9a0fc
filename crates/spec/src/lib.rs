//! Nouns of the OCI image specification, as the rooms of ocibuild hand them to each other.
//!
//! What is here has no behaviour of its own: identities ([`Digest`], [`DiffId`], [`ChainId`]), documents
//! ([`Descriptor`], [`Manifest`], [`Index`], [`ImageConfig`]) with the one way to write them ([`json`]), names
//! ([`Reference`], [`Platform`], [`Url`]), and what crosses the walls between crates that do not know each other:
//! [`ImageSource`] (where base images come from), [`Changeset`] (what a layer consists of), [`ContentDigest`] (by which two
//! files are told to be equal without being read), [`CancelToken`].
//!
//! ```
//! use ocibuild_spec::{Digest, Platform, Reference};
//!
//! let reference: Reference = "alpine:3.20".parse()?;
//! assert_eq!(reference.to_string(), "docker.io/library/alpine:3.20");
//! assert_eq!(reference.familiar(), "alpine:3.20");
//! let platform: Platform = "linux/arm64/v8".parse()?;
//! assert_eq!(platform.to_string(), "linux/arm64");
//! let digest = Digest::of(b"");
//! assert!(digest.to_string().starts_with("sha256:e3b0c442"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Limitations
//! Only SHA-256 digests are computed; SHA-512 ones are understood and verified, never made.
#![forbid(unsafe_code)]

mod cancel;
mod changeset;
mod config;
mod content;
mod descriptor;
mod digest;
mod document;
pub mod json;
mod manifest;
mod ownership;
mod platform;
mod reference;
mod source;
mod time;
mod url;
mod verify;

pub use cancel::CancelToken;
pub use changeset::{Changeset, Content, Entry, EntryKind, Metadata, SharedFile};
pub use config::{ContainerConfig, Empty, HealthConfig, History, ImageConfig, RootFs};
pub use content::{ContentDigest, ContentHasher};
pub use descriptor::{Descriptor, MediaType, media_types};
pub use digest::{ChainId, DiffId, Digest, DigestError, Hasher};
pub use document::{
    Document, DocumentError, FetchDocument, MAX_DOCUMENT, check_image, check_manifest, is_document,
    is_image_config, parse_config, parse_manifest_or_index, resolve_image, resolve_in_index, select_platform,
};
pub use manifest::{Index, Manifest};
pub use oci_spec::runtime::{Mount, MountBuilder};
pub use ownership::{Owned, OwnershipRecord};
pub use platform::{Platform, PlatformError};
pub use reference::{Reference, ReferenceError};
pub use source::{ImageSource, ResolvedImage, SourceError, SourceErrorKind};
pub use time::{TimeError, Timestamp};
pub use url::{Scheme, Url, UrlError, escape};
pub use verify::{VerifyError, VerifyingReader};
