use std::fmt;
use std::time::Duration;

use ocibuild_spec::{CancelToken, SourceError};

use super::credential::Credential;

/// Where credentials come from: a file, the environment, a cloud's identity service.
///
/// A source is asked each time somebody needs credentials, from several threads at once, and keeps nothing; whoever
/// asks keeps the answer for as long as it lives.
pub trait CredentialSource: Send + Sync + fmt::Debug {
    /// What it is, in a few words.
    fn name(&self) -> String;

    /// Where it looks: a path, the names of variables.
    fn place(&self) -> String;

    /// Credentials for a registry and a repository there. What cannot be read or understood is an error, never
    /// "nothing": else a typing error in a file would look like a wrong password.
    fn find(&self, wanted: Wanted<'_>, cancel: &CancelToken) -> Result<Lookup, SourceError>;
}

/// For what credentials are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// `host[:port]` of the registry, as in references.
    pub registry: &'a str,
    /// The repository, unless it is about the registry as a whole.
    pub repository: Option<&'a str>,
}

/// What a source has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// Credentials.
    Match(Match),
    /// None, and why.
    Miss(String),
}

/// Credentials that were found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// They themselves.
    pub credential: Credential,
    /// What matched: the key of an entry, the name of a helper.
    pub key: String,
    /// How long they are good for, if that is known.
    pub life: Option<Duration>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

impl Match {
    /// Credentials that do not end by themselves.
    pub fn new(credential: Credential, key: impl Into<String>) -> Self {
        Self { credential, key: key.into(), life: None, warnings: Vec::new() }
    }
}
