use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use ocibuild_spec::{SourceError, SourceErrorKind, json};
use serde::Deserialize;

use super::credential::Credential;
use super::key::{RegistryKey, registry_of};
use super::ordered::Ordered;
use super::secret::Secret;
use super::source::Wanted;
use crate::fault::Fault;

/// Docker writes padding, others leave it out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Docker's `config.json`, or containers' `auth.json`: what is in it about credentials.
#[derive(Default, Deserialize)]
pub(super) struct Config {
    #[serde(default)]
    auths: Option<Ordered<Option<Entry>>>,
    #[serde(default, rename = "credHelpers")]
    helpers: Option<Ordered<String>>,
    #[serde(default, rename = "credsStore")]
    store: Option<String>,
}

/// One entry of `auths`.
#[derive(Default, Deserialize)]
struct Entry {
    #[serde(default)]
    auth: Option<String>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    password: Option<String>,
    #[serde(default)]
    identitytoken: Option<String>,
    #[serde(default)]
    registrytoken: Option<String>,
}

/// An entry that may hold credentials for somebody.
pub(super) struct Candidate<'a> {
    pub(super) key: &'a str,
    /// It names repositories, and not the registry as a whole.
    pub(super) is_scoped: bool,
    entry: &'a Entry,
}

/// The program that knows about a registry.
pub(super) struct HelperName<'a> {
    pub(super) name: &'a str,
    /// What names it.
    pub(super) setting: &'static str,
}

impl Config {
    /// `place` is where the text is from. Nothing of the text itself is in an error: it may be a secret.
    pub(super) fn parse(text: &str, place: &str) -> Result<Self, SourceError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        json::from_str(text).map_err(|error| malformed(place, &error))
    }

    /// Entries for this place, the most particular one first.
    pub(super) fn candidates(&self, wanted: Wanted<'_>) -> Vec<Candidate<'_>> {
        let entries = self.auths.iter().flat_map(|auths| &auths.0);
        let mut found: Vec<(usize, Candidate<'_>)> = entries
            .filter_map(|(key, entry)| {
                let depth = RegistryKey::parse(key)?.matches(wanted)?;
                Some((depth, Candidate { key, is_scoped: depth > 0, entry: entry.as_ref()? }))
            })
            .collect();
        found.sort_by_key(|(depth, _)| std::cmp::Reverse(*depth));
        found.into_iter().map(|(_, candidate)| candidate).collect()
    }

    /// The helper for a registry: one of its own, or that for all.
    pub(super) fn helper(&self, registry: &str) -> Option<HelperName<'_>> {
        let registry = registry_of(registry);
        let own = self.helpers.iter().flat_map(|helpers| &helpers.0).find(|(key, _)| {
            RegistryKey::parse(key).is_some_and(|key| key.path().is_empty() && key.host() == registry)
        });
        let own = own.map(|(_, name)| HelperName { name, setting: "credHelpers" });
        let store = || self.store.as_deref().map(|name| HelperName { name, setting: "credsStore" });
        own.or_else(store).filter(|helper| !helper.name.is_empty())
    }
}

impl Candidate<'_> {
    /// The credentials of the entry; `None` for one that docker leaves behind when a helper has them.
    pub(super) fn credential(&self, place: &str) -> Result<Option<Credential>, SourceError> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        if let Some(token) = given(&self.entry.registrytoken) {
            return Ok(Some(Credential::RegistryToken(Secret::new(token))));
        }
        if let Some(token) = given(&self.entry.identitytoken) {
            return Ok(Some(Credential::IdentityToken(Secret::new(token))));
        }
        if let Some(auth) = given(&self.entry.auth) {
            let (username, password) = decode(&auth).map_err(|why| {
                let text = format!("{place}: the \"auth\" of the entry {:?} is malformed: {why}", self.key);
                SourceError::new(SourceErrorKind::Configuration, text)
                    .caused_by(Fault::CredentialsFile { key: Some(self.key.to_owned()) })
            })?;
            return Ok(Some(Credential::password(username, Secret::new(password))));
        }
        let Some(username) = given(&self.entry.username) else { return Ok(None) };
        let password = given(&self.entry.password);
        Ok(password.map(|password| Credential::password(username, Secret::new(password))))
    }
}

/// `user:password` in Base64; docker pads what is in it with zeros.
pub(crate) fn decode(auth: &str) -> Result<(String, String), &'static str> {
    let packed: String = auth.split_ascii_whitespace().collect();
    let bytes = BASE64.decode(packed).map_err(|_| "it is not Base64")?;
    let text = String::from_utf8(bytes).map_err(|_| "the decoded value is not text")?;
    let (username, password) = text.split_once(':').ok_or("what is encoded has no colon")?;
    Ok((username.to_owned(), password.trim_matches('\0').to_owned()))
}

/// What an `auth` says.
pub(crate) fn encode(username: &str, password: &str) -> String {
    BASE64.encode(format!("{username}:{password}"))
}

/// The place and the class of an error in JSON: its text may repeat what it is about.
pub(super) fn malformed(place: &str, error: &serde_json::Error) -> SourceError {
    let mut text = format!("{place} is malformed: ");
    // Writing to a string cannot fail.
    let _ = write!(text, "line {}, column {}: ", error.line(), error.column());
    text.push_str(match error.classify() {
        serde_json::error::Category::Eof => "it ends early",
        serde_json::error::Category::Data => "this value is of another type than docker writes there",
        _ => "this is not JSON",
    });
    SourceError::new(SourceErrorKind::Configuration, text).caused_by(Fault::CredentialsFile { key: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, registry: &str, repository: &str) -> Result<Option<String>, String> {
        let config = Config::parse(text, "FILE").map_err(|error| error.to_string())?;
        let wanted = Wanted { registry, repository: Some(repository) };
        for candidate in config.candidates(wanted) {
            if let Some(found) = candidate.credential("FILE").map_err(|error| error.to_string())? {
                let (user, secret) = found.parts();
                return Ok(Some(format!("{user} {secret} {}", candidate.key)));
            }
        }
        Ok(None)
    }

    #[test]
    fn entries_are_read_as_docker_and_podman_write_them() {
        for (entry, expected) in [
            (r#"{"auth":"YTpiOmM="}"#, Some("a b:c r.io")),
            (r#"{"auth":"YTpiOmM"}"#, Some("a b:c r.io")),
            (r#"{"auth":"YTpiAAA="}"#, Some("a b r.io")),
            (r#"{"username":"u","password":"p","email":"e","other":[1]}"#, Some("u p r.io")),
            (r#"{"auth":"","username":"u","password":"p"}"#, Some("u p r.io")),
            (r#"{"username":"u"}"#, None),
            (r#"{"auth":"YTpi","identitytoken":"idt"}"#, Some("<token> idt r.io")),
            (r#"{"auth":"PHRva2VuPjppZHQ="}"#, Some("<token> idt r.io")),
            (
                r#"{"auth":"YTpiOmM=","username":null,"password":null,"identitytoken":null}"#,
                Some("a b:c r.io"),
            ),
            (r#"{"auth":null,"username":"u","password":"p"}"#, Some("u p r.io")),
            (r#"{"registrytoken":"rt","identitytoken":"idt"}"#, Some("<token> rt r.io")),
            ("{}", None),
            ("null", None),
        ] {
            let text = format!(r#"{{"auths":{{"r.io":{entry}}},"psFormat":"x"}}"#);
            assert_eq!(found(&text, "r.io", "app"), Ok(expected.map(str::to_owned)), "{entry}");
        }
        for text in ["", " \n", "{}", r#"{"auths":null,"credHelpers":null,"credsStore":null}"#] {
            assert_eq!(found(text, "r.io", "app"), Ok(None), "{text:?}");
        }
    }

    #[test]
    fn the_longest_path_wins_and_empty_entries_are_passed_over() {
        let text = r#"{"auths":{
            "r.io":{"auth":"aG9zdDo="}, "r.io/team":{"auth":"dGVhbTp4"}, "r.io/team/app":{"auth":"YXBwOng="},
            "r.io/none":{}, "https://index.docker.io/v1/":{"auth":"aHViOng="}}}"#;
        for (registry, repository, expected) in [
            ("r.io", "team/app", "app x r.io/team/app"),
            ("r.io", "team/app/sub", "app x r.io/team/app"),
            ("r.io", "team/apple", "team x r.io/team"),
            ("r.io", "teams", "host  r.io"),
            ("r.io", "none", "host  r.io"),
            ("docker.io", "library/x", "hub x https://index.docker.io/v1/"),
        ] {
            assert_eq!(found(text, registry, repository), Ok(Some(expected.to_owned())), "{repository}");
        }
    }

    #[test]
    fn what_is_malformed_is_told_without_its_text() {
        for (text, words) in [
            (r#"{"auths":{"r.io":"c2VjcmV0"}}"#, "line 1, column 27: this value is of another type"),
            (r#"{"auths":{"r.io":{"auth":"c2VjcmV0"}}"#, "ends early"),
            ("{\n  secret\n}", "line 2, column 3: this is not JSON"),
            (r#"{"auths":["secret"]}"#, "another type"),
            (r#"{"auths":{"r.io":{"auth":"c2VjcmV0"}}}"#, "no colon"),
            (r#"{"auths":{"r.io":{"auth":"secret!"}}}"#, "not Base64"),
            (r#"{"auths":{"r.io":{"auth":"/////w=="}}}"#, "not text"),
        ] {
            let error = found(text, "r.io", "app").unwrap_err();
            assert!(error.contains(words) && error.starts_with("FILE"), "{error}");
            assert!(!error.contains("secret") && !error.contains("c2Vj"), "{error}");
        }
    }

    #[test]
    fn helpers_are_those_of_the_registry_or_that_for_all() {
        let text = r#"{"credsStore":"all","credHelpers":{"r.io":"own","https://index.docker.io/v1/":"hub","x/y":"no"}}"#;
        let config = Config::parse(text, "FILE").unwrap();
        for (registry, expected) in
            [("r.io", "own"), ("docker.io", "hub"), ("x", "all"), ("r.io.evil", "all"), ("R.io", "own")]
        {
            assert_eq!(config.helper(registry).map(|helper| helper.name), Some(expected), "{registry}");
        }
        assert!(Config::parse("{}", "FILE").unwrap().helper("r.io").is_none());
        // Docker takes it for the empty name, which is no helper.
        let null = r#"{"credsStore":"all","credHelpers":{"r.io":null},"auths":{"r.io":null}}"#;
        let config = Config::parse(null, "FILE").unwrap();
        assert!(config.helper("r.io").is_none());
        assert_eq!(config.helper("x").map(|helper| helper.name), Some("all"));
    }
}
