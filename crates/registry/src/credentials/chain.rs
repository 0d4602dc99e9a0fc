use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ocibuild_spec::{CancelToken, SourceError, SourceErrorKind};

use super::credential::Credential;
use super::source::{CredentialSource, Lookup, Match, Wanted};

/// Sources of credentials in one order: the first that has some decides, and an error of one that is asked is the
/// error of all. Clones share the sources and their warnings.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    sources: Vec<Box<dyn CredentialSource>>,
    warnings: Mutex<BTreeSet<String>>,
}

/// Credentials with where they come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundCredential {
    /// They themselves.
    pub credential: Credential,
    /// Where they come from, to be printed.
    pub origin: String,
    /// How long they are good for, if that is known.
    pub life: Option<Duration>,
}

/// What one source says.
#[derive(Debug)]
pub struct Explained {
    /// What the source is.
    pub name: String,
    /// Where it looks.
    pub place: String,
    /// What it has.
    pub lookup: Result<Lookup, SourceError>,
    /// Whether its credentials are those that are sent.
    pub is_used: bool,
}

impl Credentials {
    /// Nobody's: what a registry gives to everybody has to do.
    pub fn none() -> Self {
        Self::default()
    }

    /// These sources, the first one asked first.
    pub fn new(sources: Vec<Box<dyn CredentialSource>>) -> Self {
        Self { shared: Arc::new(Shared { sources, warnings: Mutex::default() }) }
    }

    /// The credentials to send.
    pub fn find(
        &self,
        wanted: Wanted<'_>,
        cancel: &CancelToken,
    ) -> Result<Option<FoundCredential>, SourceError> {
        for source in &self.shared.sources {
            if let Lookup::Match(hit) = checked(source.as_ref(), wanted, cancel)? {
                let mut warnings = self.shared.warnings.lock().unwrap_or_else(PoisonError::into_inner);
                warnings.extend(hit.warnings);
                let origin = format!("{}: {}, {}", source.name(), source.place(), hit.key);
                return Ok(Some(FoundCredential { credential: hit.credential, origin, life: hit.life }));
            }
        }
        Ok(None)
    }

    /// What each source says, in their order.
    pub fn explain(&self, wanted: Wanted<'_>, cancel: &CancelToken) -> Vec<Explained> {
        let mut is_decided = false;
        let mut explained = Vec::new();
        for source in &self.shared.sources {
            let lookup = checked(source.as_ref(), wanted, cancel);
            let is_used = !is_decided && matches!(lookup, Ok(Lookup::Match(_)));
            is_decided |= is_used || lookup.is_err();
            explained.push(Explained { name: source.name(), place: source.place(), lookup, is_used });
        }
        explained
    }

    /// What users should know about the credentials that were found so far.
    pub fn warnings(&self) -> Vec<String> {
        self.shared.warnings.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// What a source has, if it can be sent.
fn checked(
    source: &dyn CredentialSource,
    wanted: Wanted<'_>,
    cancel: &CancelToken,
) -> Result<Lookup, SourceError> {
    let lookup = source.find(wanted, cancel)?;
    if let Lookup::Match(Match { credential, key, .. }) = &lookup
        && let Some(flaw) = credential.flaw()
    {
        let text = format!(
            "the credentials of {} ({}, {key}) cannot be sent: {flaw}",
            source.name(),
            source.place()
        );
        return Err(
            SourceError::new(SourceErrorKind::Configuration, text).hint("store them again, or take them out")
        );
    }
    Ok(lookup)
}
