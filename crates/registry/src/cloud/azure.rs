use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ocibuild_spec::{CancelToken, SourceError};
use serde_json::Value;

use super::Variables;
use super::services::{CloudServices, accepted, field, json, life, request, token_file};
use crate::credentials::{Credential, CredentialSource, Lookup, Match, Secret, Wanted};
use crate::http::{Form, HttpRequest, Method};

const NAME: &str = "Azure identity";
const AUTHORITY: &str = "https://login.microsoftonline.com/";
/// Domains of registries, and for whom a token for them is.
const DOMAINS: [(&str, &str); 3] = [
    (".azurecr.io", "https://management.azure.com/"),
    (".azurecr.cn", "https://management.chinacloudapi.cn/"),
    (".azurecr.us", "https://management.usgovcloudapi.net/"),
];

/// Where Azure's services are, if not where they usually are.
#[derive(Debug, Clone)]
pub struct AzureEndpoints {
    /// The machine's metadata service.
    pub metadata: String,
    /// The service that gives tokens to identities.
    pub authority: String,
    /// The registry that exchanges them, instead of the one that is asked about.
    pub registry: Option<String>,
}

impl AzureEndpoints {
    /// What the variables of Azure's own tools say.
    pub fn new(variable: Variables<'_>) -> Self {
        Self {
            metadata: "http://169.254.169.254".to_owned(),
            authority: variable("AZURE_AUTHORITY_HOST").unwrap_or_else(|| AUTHORITY.to_owned()),
            registry: None,
        }
    }
}

/// Registries at Azure (`NAME.azurecr.io`), with the identity that the environment gives: a token of the cluster
/// (workload identity), a secret of an application, or the machine's managed identity, in this order.
pub struct AzureIdentity {
    services: CloudServices,
    endpoints: AzureEndpoints,
    tenant: Option<String>,
    client: Option<String>,
    proof: Option<Proof>,
}

/// What an application proves itself with.
enum Proof {
    File(PathBuf),
    Secret(Secret),
}

/// It holds a secret.
impl fmt::Debug for AzureIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AzureIdentity").field("place", &self.place()).finish_non_exhaustive()
    }
}

impl AzureIdentity {
    /// The identity that the variables give.
    pub fn new(services: CloudServices, endpoints: AzureEndpoints, variable: Variables<'_>) -> Self {
        let file = variable("AZURE_FEDERATED_TOKEN_FILE").map(|path| Proof::File(path.into()));
        let secret = || variable("AZURE_CLIENT_SECRET").map(|text| Proof::Secret(Secret::new(text)));
        Self {
            services,
            endpoints,
            tenant: variable("AZURE_TENANT_ID"),
            client: variable("AZURE_CLIENT_ID"),
            proof: file.or_else(secret),
        }
    }

    /// A token of the identity for Azure's management, or why there is none.
    fn identity(&self, audience: &str, cancel: &CancelToken) -> Result<Result<Value, String>, SourceError> {
        match (&self.proof, &self.tenant, &self.client) {
            (Some(proof), Some(tenant), Some(client)) => {
                self.of_application(proof, [tenant, client], audience, cancel).map(Ok)
            }
            (Some(_), ..) => Ok(Err("AZURE_TENANT_ID and AZURE_CLIENT_ID are not both set".to_owned())),
            (None, ..) => self.of_machine(audience, cancel),
        }
    }

    fn of_application(
        &self,
        proof: &Proof,
        [tenant, client]: [&str; 2],
        audience: &str,
        cancel: &CancelToken,
    ) -> Result<Value, SourceError> {
        let url = format!("{}/{tenant}/oauth2/v2.0/token", self.endpoints.authority.trim_end_matches('/'));
        let mut form = Form::new();
        form.add("grant_type", "client_credentials");
        form.add("client_id", client);
        form.add("scope", &format!("{audience}.default"));
        match proof {
            Proof::Secret(secret) => form.add("client_secret", secret.expose()),
            Proof::File(path) => {
                form.add("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
                form.add("client_assertion", &token_file(path, NAME)?);
            }
        }
        self.post(&url, form, cancel)
    }

    fn of_machine(&self, audience: &str, cancel: &CancelToken) -> Result<Result<Value, String>, SourceError> {
        let url = format!("{}/metadata/identity/oauth2/token", self.endpoints.metadata.trim_end_matches('/'));
        let request = request(Method::Get, &url, NAME)?.header("metadata", "true");
        let url = request.url.with_query("api-version", "2018-02-01").with_query("resource", audience);
        let url = match &self.client {
            Some(client) => url.with_query("client_id", client),
            None => url,
        };
        let response = self.services.probe(&HttpRequest { url, ..request }, NAME, cancel)?;
        // The machines of others have metadata services, too, which know nothing of this.
        let Some(response) = response.filter(|response| !matches!(response.status, 403..=405)) else {
            return Ok(Err("no variable gives an identity, and there is no metadata service".to_owned()));
        };
        let answer = match response.status {
            // A machine without an identity is told so as a mistake of the request.
            400 if self.client.is_none() => return Ok(Err("this machine has no identity".to_owned())),
            _ => json(accepted(response, NAME)?, NAME)?,
        };
        Ok(Ok(answer))
    }

    fn post(&self, url: &str, form: Form, cancel: &CancelToken) -> Result<Value, SourceError> {
        let request = form.post(request(Method::Post, url, NAME)?);
        json(self.services.ask(&request, NAME, cancel)?, NAME)
    }

    /// The registry gives an identity token of its own for one of Azure's.
    fn exchange(&self, registry: &str, identity: &Value, cancel: &CancelToken) -> Result<Match, SourceError> {
        let base = self.endpoints.registry.clone().unwrap_or_else(|| format!("https://{registry}"));
        let mut form = Form::new();
        form.add("grant_type", "access_token");
        form.add("service", registry);
        if let Some(tenant) = &self.tenant {
            form.add("tenant", tenant);
        }
        form.add("access_token", &field(identity, "/access_token", NAME)?);
        let answer = self.post(&format!("{}/oauth2/exchange", base.trim_end_matches('/')), form, cancel)?;
        let token = field(&answer, "/refresh_token", NAME)?;
        let life = stated_life(&token).or_else(|| life(identity, "/expires_in"));
        Ok(Match { life, ..Match::new(Credential::IdentityToken(Secret::new(token)), registry) })
    }
}

impl CredentialSource for AzureIdentity {
    fn name(&self) -> String {
        NAME.to_owned()
    }

    fn place(&self) -> String {
        match &self.proof {
            Some(Proof::File(_)) => "AZURE_FEDERATED_TOKEN_FILE, AZURE_TENANT_ID, AZURE_CLIENT_ID",
            Some(Proof::Secret(_)) => "AZURE_CLIENT_SECRET, AZURE_TENANT_ID, AZURE_CLIENT_ID",
            None => "Azure metadata service",
        }
        .to_owned()
    }

    fn find(&self, wanted: Wanted<'_>, cancel: &CancelToken) -> Result<Lookup, SourceError> {
        let Some(audience) = audience(wanted.registry) else {
            return Ok(Lookup::Miss("it is not an Azure registry".to_owned()));
        };
        match self.identity(audience, cancel)? {
            Ok(identity) => self.exchange(wanted.registry, &identity, cancel).map(Lookup::Match),
            Err(why) => Ok(Lookup::Miss(why)),
        }
    }
}

/// For whom tokens for a registry are: it is one of Azure's when exactly one label stands before the domain.
fn audience(host: &str) -> Option<&'static str> {
    let fits = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let found = DOMAINS.iter().find(|(domain, _)| host.strip_suffix(domain).is_some_and(fits));
    found.map(|(_, audience)| *audience)
}

/// How long a token is good for that says so itself, in whatever clock.
fn stated_life(token: &str) -> Option<Duration> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?.trim_end_matches('=')).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    let seconds = claims["exp"].as_u64()?.checked_sub(claims["iat"].as_u64()?)?;
    Some(Duration::from_secs(seconds)).filter(|life| !life.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_known_by_whole_labels() {
        assert_eq!(audience("mine.azurecr.io"), Some("https://management.azure.com/"));
        assert_eq!(audience("mine-a1b2.azurecr.io"), Some("https://management.azure.com/"));
        assert_eq!(audience("mine.azurecr.cn"), Some("https://management.chinacloudapi.cn/"));
        for host in [
            "azurecr.io",
            ".azurecr.io",
            "mine.azurecr.io.evil.com",
            "mine.evilazurecr.io",
            "evil.com.azurecr.io",
            "mine.azurecr.io:443",
            "mine.azurecr.com",
            "docker.io",
        ] {
            assert_eq!(audience(host), None, "{host}");
        }
    }

    #[test]
    fn tokens_say_how_long_they_are_good_for() {
        let token = |claims: &str| format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(claims));
        assert_eq!(stated_life(&token(r#"{"iat":100,"exp":10900}"#)), Some(Duration::from_hours(3)));
        for odd in ["", "a.b.c", &token("{}"), &token(r#"{"iat":5,"exp":5}"#), &token(r#"{"iat":9,"exp":5}"#)]
        {
            assert_eq!(stated_life(odd), None, "{odd}");
        }
    }
}
