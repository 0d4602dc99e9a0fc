use std::sync::Arc;

use ocibuild_spec::{SourceError, SourceErrorKind};

use super::challenge::Challenge;
use super::need::Need;
use super::realm::Realms;
use super::token::Token;
use super::{Via, fault};
use crate::credentials::{Credential, FoundCredential, encode};
use crate::failure::{clean, of_http_about, words_of};
use crate::fault::Fault;
use crate::http::{HostTls, HttpError, HttpRequest, HttpResponse, Method, Scheme, Trust, Url, is_loopback};

/// Most bytes of a token service's answer, and of its refusal.
const MAX_ANSWER: u64 = 1 << 20;
const MAX_REFUSAL: u64 = 64 << 10;
/// What this program calls itself in forms.
const CLIENT: &str = "ocibuild";

/// The token service that a challenge names, and what it may be told.
pub(super) struct Service<'a> {
    realm: Url,
    trust: Trust,
    /// What is trusted besides, when the registry is its own token service.
    tls: Option<Arc<HostTls>>,
    /// What the challenge calls it.
    name: Option<String>,
    need: &'a Need,
    via: Via<'a>,
    found: Option<&'a FoundCredential>,
}

impl<'a> Service<'a> {
    /// Nobody is asked yet. Credentials make the difference: a service that may not have them is not asked at all.
    pub(super) fn new(
        realms: &Realms,
        need: &'a Need,
        via: Via<'a>,
        challenge: &Challenge,
        found: Option<&'a FoundCredential>,
    ) -> Result<Self, SourceError> {
        let base = &via.endpoint.base;
        let realm = challenge.parameter("realm").ok_or_else(|| via.denied("a challenge without realm"))?;
        let realm =
            base.join(realm).map_err(|error| via.denied(format_args!("its token service: {error}")))?;
        if base.scheme() == Scheme::Https && realm.scheme() == Scheme::Http {
            return Err(via.denied(format_args!("its token service {realm} is not asked in the clear")));
        }
        if let Some(found) = found {
            may_have(realms, need, via, &realm, found)?;
        }
        let trust = trust(realms, need, via, &realm);
        let tls = via.endpoint.tls.clone().filter(|_| realm.is_same_origin(base));
        let name = challenge.parameter("service").map(str::to_owned);
        Ok(Self { realm, trust, tls, name, need, via, found })
    }

    /// A token for the need. Passwords are sent as docker sends them, and as `OAuth2` has it where a service does not
    /// know that; identity tokens as `OAuth2` has it.
    pub(super) fn token(&self) -> Result<Token, SourceError> {
        let response = match self.found.map(|found| &found.credential) {
            Some(Credential::IdentityToken(token)) => {
                self.send(&self.form(&[("grant_type", "refresh_token"), ("refresh_token", token.expose())]))?
            }
            Some(Credential::Password { username, password }) => {
                let basic = format!("Basic {}", encode(username, password.expose()));
                let url = self.query().with_query("account", username);
                let response = self.send(&self.request(Method::Get, url).header("authorization", basic))?;
                if matches!(response.status, 404 | 405) {
                    let password = ("password", password.expose());
                    self.send(&self.form(&[("grant_type", "password"), ("username", username), password]))?
                } else {
                    response
                }
            }
            _ => self.send(&self.request(Method::Get, self.query()))?,
        };
        if response.status != 200 {
            return Err(self.refused(response));
        }
        let bytes = response.read_capped(MAX_ANSWER).map_err(|error| self.failed(&error))?;
        Token::parse(&bytes).ok_or_else(|| {
            let text = format!("{}: the token service {} gave no usable token", self.via.subject, self.realm);
            SourceError::new(SourceErrorKind::Network, text)
        })
    }

    fn request(&self, method: Method, url: Url) -> HttpRequest {
        HttpRequest { trust: self.trust, tls: self.tls.clone(), ..HttpRequest::new(method, url) }
    }

    fn query(&self) -> Url {
        let url = match &self.name {
            Some(name) => self.realm.with_query("service", name),
            None => self.realm.clone(),
        };
        self.need.scopes.iter().fold(url, |url, scope| url.with_query("scope", scope))
    }

    fn form(&self, fields: &[(&str, &str)]) -> HttpRequest {
        let scopes = self.need.scopes.join(" ");
        let mut form = crate::http::Form::new();
        for (key, value) in fields {
            form.add(key, value);
        }
        form.add("service", self.name.as_deref().unwrap_or_else(|| self.realm.host()));
        form.add("client_id", CLIENT);
        if !scopes.is_empty() {
            form.add("scope", &scopes);
        }
        form.post(self.request(Method::Post, self.realm.clone()))
    }

    /// One answer, whatever it says, unless it is a failure that passes. Redirects are answers.
    fn send(&self, request: &HttpRequest) -> Result<HttpResponse, SourceError> {
        let Via { client, retry, watcher, subject, cancel, .. } = self.via;
        let answer = retry.send(subject, watcher, cancel, || client.send(request, cancel))?;
        answer.map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &HttpError) -> SourceError {
        of_http_about(&format!("{}: the token service", self.via.subject), error)
    }

    fn refused(&self, response: HttpResponse) -> SourceError {
        let status = response.status;
        let words = words_of(&response.read_some(MAX_REFUSAL));
        let words =
            if words.is_empty() { String::new() } else { format!(": {}", self.without_secret(words)) };
        let text = format!("{}: the token service {} answered {status}{words}", self.via.subject, self.realm);
        match status {
            // Azure and others say 400 of a refresh token that they do not know.
            400 | 401 | 403 => {
                SourceError::new(SourceErrorKind::Denied, text).caused_by(fault(self.need, self.found))
            }
            _ => SourceError::new(SourceErrorKind::Network, text),
        }
    }

    /// A service may repeat what it was sent.
    fn without_secret(&self, words: String) -> String {
        let Some(found) = self.found else { return words };
        let (user, secret) = found.credential.parts();
        [secret.to_owned(), encode(user, secret)]
            .iter()
            .map(|text| clean(text.as_bytes()))
            .filter(|text| !text.is_empty())
            .fold(words, |words, secret| words.replace(&secret, "…"))
    }
}

/// Whether credentials may go to a realm.
fn may_have(
    realms: &Realms,
    need: &Need,
    via: Via<'_>,
    realm: &Url,
    found: &FoundCredential,
) -> Result<(), SourceError> {
    let base = &via.endpoint.base;
    let host = realm.host();
    if !realms.allows(&need.registry, base.host(), host) {
        let fault = Fault::TokenRealm {
            registry: need.registry.clone(),
            realm: realm.authority(),
            host: host.to_owned(),
            credential: found.credential.to_string(),
            origin: found.origin.clone(),
        };
        return Err(via.denied(&fault).caused_by(fault));
    }
    let is_clear = realm.scheme() == Scheme::Http;
    if is_clear && host != base.host() && !is_loopback(host) {
        return Err(via.denied(format_args!(
            "its token service {realm} would get credentials in the clear; nothing was sent there"
        )));
    }
    Ok(())
}

/// That the registry is insecure goes for the registry alone, and not for another server of its host; a realm elsewhere
/// is a stranger to whom the registry leads, unless the user named it as well.
fn trust(realms: &Realms, need: &Need, via: Via<'_>, realm: &Url) -> Trust {
    let base = &via.endpoint.base;
    let named = HttpRequest { trust: via.endpoint.trust, ..HttpRequest::get(base.clone()) };
    if realm.is_same_origin(base) {
        via.endpoint.trust
    } else if realm.host() == base.host() || realms.is_named(&need.registry, realm.host()) {
        Trust::Named
    } else {
        Trust::Foreign(via.client.reach(&named))
    }
}
