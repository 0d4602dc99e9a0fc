use ocibuild_spec::{CancelToken, SourceError};

use super::credential::Credential;
use super::key::RegistryKey;
use super::source::{CredentialSource, Lookup, Match, Wanted};

/// Credentials for one registry that are given as such, by the environment for instance. Nobody else gets them.
#[derive(Debug, Clone)]
pub struct KnownCredential {
    name: &'static str,
    place: &'static str,
    known: Result<(RegistryKey, Credential), String>,
}

impl KnownCredential {
    /// Credentials from `place`.
    pub fn new(name: &'static str, place: &'static str, key: RegistryKey, credential: Credential) -> Self {
        Self { name, place, known: Ok((key, credential)) }
    }

    /// None, since something is not set; it is there to be explained.
    pub fn missing(name: &'static str, place: &'static str, why: impl Into<String>) -> Self {
        Self { name, place, known: Err(why.into()) }
    }
}

impl CredentialSource for KnownCredential {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn place(&self) -> String {
        self.place.to_owned()
    }

    fn find(&self, wanted: Wanted<'_>, _cancel: &CancelToken) -> Result<Lookup, SourceError> {
        Ok(match &self.known {
            Err(why) => Lookup::Miss(why.clone()),
            Ok((key, credential)) if key.matches(wanted).is_some() => {
                Lookup::Match(Match::new(credential.clone(), key.to_string()))
            }
            Ok((key, _)) => Lookup::Miss(format!("it is for {key} alone")),
        })
    }
}
