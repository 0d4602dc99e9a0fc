//! Credentials: what they are, where they come from, and where `login` puts them.

mod chain;
mod config;
mod credential;
mod file;
mod helper;
mod key;
mod known;
mod ordered;
mod secret;
mod source;
mod store;

pub use chain::{Credentials, Explained, FoundCredential};
pub use credential::Credential;
pub use file::ConfigSource;
pub use helper::Helpers;
pub use key::RegistryKey;
pub use known::KnownCredential;
pub use secret::Secret;
pub use source::{CredentialSource, Lookup, Match, Wanted};
pub use store::{CredentialStore, Stored};

#[cfg(fuzzing)]
pub(crate) use store::fuzzing;

pub(crate) use config::{decode, encode};
pub(crate) use key::registry_of;
