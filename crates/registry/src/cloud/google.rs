use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ocibuild_spec::{CancelToken, SourceError, SourceErrorKind};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use serde_json::{Value, json};

use super::Variables;
use super::services::{
    CloudServices, accepted, field, json as json_of, life, refused, request, text, token_file,
};
use crate::credentials::{Credential, CredentialSource, Lookup, Match, Secret, Wanted};
use crate::http::{Form, HttpRequest, Method};

const NAME: &str = "Google identity";
const VARIABLE: &str = "GOOGLE_APPLICATION_CREDENTIALS";
/// The user of those who have an access token.
const USER: &str = "oauth2accesstoken";
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// Seconds that a signed statement is good for; it is used at once.
const STATEMENT_LIFE: u64 = 300;
/// How long a token is wanted for that a service account lends.
const IMPERSONATION: Duration = Duration::from_hours(1);
/// Most bytes of a file with credentials.
const MAX_FILE: u64 = 1 << 20;

/// Where Google's services are, if not where they usually are.
#[derive(Debug, Clone)]
pub struct GoogleEndpoints {
    /// The machine's metadata service.
    pub metadata: String,
    /// The service that gives tokens to users; files name the others.
    pub token: String,
}

impl GoogleEndpoints {
    /// What the variables of Google's own tools say.
    pub fn new(variable: Variables<'_>) -> Self {
        let metadata = variable("GCE_METADATA_HOST").unwrap_or_else(|| "169.254.169.254".to_owned());
        Self {
            metadata: format!("http://{metadata}"),
            token: "https://oauth2.googleapis.com/token".to_owned(),
        }
    }
}

/// Registries at Google (`gcr.io`, `*.gcr.io`, `*.pkg.dev`), with the file that `GOOGLE_APPLICATION_CREDENTIALS` names
/// (a service account's key, workload identity federation, or a user's login), or the machine's service account.
#[derive(Debug, Clone)]
pub struct GoogleIdentity {
    services: CloudServices,
    endpoints: GoogleEndpoints,
    file: Option<PathBuf>,
}

impl GoogleIdentity {
    /// The identity that the variables give.
    pub fn new(services: CloudServices, endpoints: GoogleEndpoints, variable: Variables<'_>) -> Self {
        Self { services, endpoints, file: variable(VARIABLE).map(PathBuf::from) }
    }

    /// An access token from what the file holds.
    fn of_file(&self, path: &Path, cancel: &CancelToken) -> Result<Match, SourceError> {
        let file = read(path)?;
        let answer = match file["type"].as_str() {
            Some("service_account") => self.of_service_account(&file, cancel)?,
            Some("external_account") => return self.of_federation(&file, cancel),
            Some("authorized_user") => self.of_user(&file, cancel)?,
            other => {
                let text = format!(
                    "{VARIABLE} names {}, whose type is {:?}",
                    path.display(),
                    other.unwrap_or_default()
                );
                return Err(SourceError::new(SourceErrorKind::Configuration, text)
                    .hint("known are service_account, external_account and authorized_user"));
            }
        };
        hit(&answer, "/access_token", life(&answer, "/expires_in"))
    }

    /// A statement signed with the account's key.
    fn of_service_account(&self, file: &Value, cancel: &CancelToken) -> Result<Value, SourceError> {
        let (email, url) = (field(file, "/client_email", NAME)?, field(file, "/token_uri", NAME)?);
        let key = key_of(&field(file, "/private_key", NAME)?)?;
        let now = self.services.now();
        let header = json!({ "alg": "RS256", "typ": "JWT", "kid": file["private_key_id"] });
        let claims = json!({
            "iss": email,
            "scope": SCOPE,
            "aud": url,
            "iat": now,
            "exp": now + STATEMENT_LIFE,
        });
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let statement = format!("{}.{}", encode(&header), encode(&claims));
        let mut signature = vec![0; key.public().modulus_len()];
        key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), statement.as_bytes(), &mut signature)
            .map_err(|_| refused(NAME, "the key of the service account cannot sign"))?;
        let assertion = format!("{statement}.{}", URL_SAFE_NO_PAD.encode(signature));
        let grant = "urn:ietf:params:oauth:grant-type:jwt-bearer";
        self.post(&url, &[("grant_type", grant), ("assertion", &assertion)], cancel)
    }

    fn of_user(&self, file: &Value, cancel: &CancelToken) -> Result<Value, SourceError> {
        let part = |name: &str| field(file, &format!("/{name}"), NAME);
        let (id, secret, token) = (part("client_id")?, part("client_secret")?, part("refresh_token")?);
        let fields = [
            ("grant_type", "refresh_token"),
            ("client_id", &id),
            ("client_secret", &secret),
            ("refresh_token", &token),
        ];
        self.post(&self.endpoints.token, &fields, cancel)
    }

    /// Another identity provider's token is exchanged for one of Google's, and that for one of a service account.
    fn of_federation(&self, file: &Value, cancel: &CancelToken) -> Result<Match, SourceError> {
        let part = |name: &str| field(file, &format!("/{name}"), NAME);
        let subject = self.subject(&file["credential_source"], cancel)?;
        let fields = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
            ("audience", &part("audience")?),
            ("subject_token_type", &part("subject_token_type")?),
            ("subject_token", &subject),
            ("scope", SCOPE),
        ];
        let answer = self.post(&part("token_url")?, &fields, cancel)?;
        let Some(url) = file["service_account_impersonation_url"].as_str() else {
            return hit(&answer, "/access_token", life(&answer, "/expires_in"));
        };
        let bearer = format!("Bearer {}", field(&answer, "/access_token", NAME)?);
        let body = json!({ "scope": [SCOPE], "lifetime": format!("{}s", IMPERSONATION.as_secs()) });
        let request = request(Method::Post, url, NAME)?
            .header("authorization", bearer)
            .header("content-type", "application/json")
            .body(body.to_string());
        let answer = json_of(self.services.ask(&request, NAME, cancel)?, NAME)?;
        hit(&answer, "/accessToken", Some(IMPERSONATION))
    }

    /// The other provider's token, from a file or from a service of the job.
    fn subject(&self, source: &Value, cancel: &CancelToken) -> Result<String, SourceError> {
        let in_json = source.pointer("/format/type").and_then(Value::as_str) == Some("json");
        let name = source.pointer("/format/subject_token_field_name").and_then(Value::as_str);
        let name = name.filter(|_| in_json).map(|name| format!("/{name}"));
        if let Some(path) = source["file"].as_str() {
            let path = Path::new(path);
            return match name {
                Some(name) => field(&read(path)?, &name, NAME),
                None => token_file(path, NAME),
            };
        }
        let Some(url) = source["url"].as_str() else {
            let text = format!("{NAME}: its credential_source is neither a file nor a URL");
            return Err(SourceError::new(SourceErrorKind::Configuration, text)
                .hint("configurations for AWS and for programs are not known here"));
        };
        let mut request = request(Method::Get, url, NAME)?;
        for (key, value) in source["headers"].as_object().into_iter().flatten() {
            add_header(&mut request, key, value.as_str().unwrap_or_default())?;
        }
        let answer = self.services.ask(&request, NAME, cancel)?;
        match name {
            Some(name) => field(&json_of(answer, NAME)?, &name, NAME),
            None => Ok(text(answer, NAME)?.trim().to_owned()),
        }
    }

    fn post(&self, url: &str, fields: &[(&str, &str)], cancel: &CancelToken) -> Result<Value, SourceError> {
        let mut form = Form::new();
        for (key, value) in fields {
            form.add(key, value);
        }
        let request = form.post(request(Method::Post, url, NAME)?);
        json_of(self.services.ask(&request, NAME, cancel)?, NAME)
    }

    /// The token of the machine's service account, where there is one.
    fn of_machine(&self, cancel: &CancelToken) -> Result<Lookup, SourceError> {
        const FLAVOR: &str = "metadata-flavor";
        let url = format!(
            "{}/computeMetadata/v1/instance/service-accounts/default/token",
            self.endpoints.metadata.trim_end_matches('/')
        );
        let request = request(Method::Get, &url, NAME)?.header(FLAVOR, "Google");
        let response = self.services.probe(&request, NAME, cancel)?;
        // The machines of others have metadata services, too, which know nothing of this.
        let Some(response) = response.filter(|response| response.header(FLAVOR) == Some("Google")) else {
            return Ok(Lookup::Miss(format!("{VARIABLE} is not set, and there is no metadata service")));
        };
        if response.status == 404 {
            return Ok(Lookup::Miss("this machine has no service account".to_owned()));
        }
        let answer = json_of(accepted(response, NAME)?, NAME)?;
        hit(&answer, "/access_token", life(&answer, "/expires_in")).map(Lookup::Match)
    }
}

impl CredentialSource for GoogleIdentity {
    fn name(&self) -> String {
        NAME.to_owned()
    }

    fn place(&self) -> String {
        match &self.file {
            Some(path) => path.display().to_string(),
            None => "GCE metadata service".to_owned(),
        }
    }

    fn find(&self, wanted: Wanted<'_>, cancel: &CancelToken) -> Result<Lookup, SourceError> {
        if !is_google(wanted.registry) {
            return Ok(Lookup::Miss("it is not a Google registry".to_owned()));
        }
        match &self.file {
            Some(path) => self.of_file(path, cancel).map(Lookup::Match),
            None => self.of_machine(cancel),
        }
    }
}

/// Whether a registry is one of Google's, which is known by whole labels.
fn is_google(host: &str) -> bool {
    host == "gcr.io"
        || [".gcr.io", ".pkg.dev"].iter().any(|domain| host.ends_with(domain) && host.len() > domain.len())
}

fn hit(answer: &Value, pointer: &str, life: Option<Duration>) -> Result<Match, SourceError> {
    let token = field(answer, pointer, NAME)?;
    Ok(Match { life, ..Match::new(Credential::password(USER, Secret::new(token)), "access token") })
}

/// A file with credentials. Nothing of it is repeated in an error.
fn read(path: &Path) -> Result<Value, SourceError> {
    use std::io::Read as _;

    let unreadable = |error: std::io::Error| {
        SourceError::new(SourceErrorKind::Io, format!("{NAME}: {error}"))
            .hint(format!("correct {VARIABLE}, or unset it"))
    };
    let mut bytes = Vec::new();
    let file = fs_err::File::open(path).map_err(unreadable)?;
    file.take(MAX_FILE).read_to_end(&mut bytes).map_err(unreadable)?;
    serde_json::from_slice(&bytes).map_err(|_| {
        let text = format!("{NAME}: {} is malformed: it is not JSON", path.display());
        SourceError::new(SourceErrorKind::Configuration, text)
            .hint(format!("correct {VARIABLE}, or unset it"))
    })
}

/// A key in PEM.
fn key_of(pem: &str) -> Result<RsaKeyPair, SourceError> {
    let unusable = || {
        SourceError::new(
            SourceErrorKind::Configuration,
            format!("{NAME}: the private_key is not an RSA key in PKCS #8"),
        )
        .hint("make a new key for the service account")
    };
    let lines = pem.lines().map(str::trim).filter(|line| !line.starts_with("-----"));
    let bytes = STANDARD.decode(lines.collect::<String>()).map_err(|_| unusable())?;
    RsaKeyPair::from_pkcs8(&bytes).map_err(|_| unusable())
}

/// Headers that the services of jobs want, by name.
fn add_header(request: &mut HttpRequest, name: &str, value: &str) -> Result<(), SourceError> {
    const KNOWN: [&str; 4] = ["authorization", "accept", "metadata", "metadata-flavor"];
    let known = KNOWN.into_iter().find(|known| known.eq_ignore_ascii_case(name));
    let known = known.ok_or_else(|| {
        let text = format!("{NAME}: the header {name:?} of its credential_source is not known");
        SourceError::new(SourceErrorKind::Configuration, text).hint(format!("known are {}", KNOWN.join(", ")))
    })?;
    request.headers.push((known, value.to_owned()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_known_by_whole_labels() {
        for host in ["gcr.io", "eu.gcr.io", "europe-west1-docker.pkg.dev"] {
            assert!(is_google(host), "{host}");
        }
        for host in [
            "gcr.io.evil.com",
            "evilgcr.io",
            ".gcr.io",
            "pkg.dev",
            "evilpkg.dev",
            "x.pkg.dev:443",
            "docker.io",
        ] {
            assert!(!is_google(host), "{host}");
        }
    }
}
