use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use ocibuild_spec::{CancelToken, Reference, SourceError, SourceErrorKind};
use serde::Deserialize;

use crate::endpoint::Endpoint;
use crate::exchange::Access;
use crate::failure;
use crate::http::{HttpClient, HttpRequest, HttpResponse, Scheme, Trust};

/// Most bytes of a token service's answer, and of the token in it.
const MAX_ANSWER: u64 = 1 << 20;
const MAX_TOKEN: usize = 64 << 10;

/// Tokens by registry and repository. Nobody's credentials are sent: what a registry gives to everybody has to do.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    known: Mutex<BTreeMap<Key, Token>>,
}

/// Registry, and the scopes that a token was asked for.
type Key = (String, Vec<String>);

/// Its text is a secret, though one that anybody may have.
#[derive(Clone, PartialEq, Eq)]
struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
}

impl Tokens {
    /// The `authorization` header for requests about this repository, if it takes one.
    pub(crate) fn header(&self, reference: &Reference, access: &Access) -> Option<String> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&key(reference, access)).map(|token| format!("Bearer {}", token.0))
    }

    /// Asks for a token as `response`, a refusal, tells to.
    pub(crate) fn fetch(
        &self,
        client: &HttpClient,
        endpoint: &Endpoint,
        (reference, access): (&Reference, &Access),
        response: &HttpResponse,
        cancel: &CancelToken,
    ) -> Result<(), SourceError> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(&key(reference, access));
        let request = token_request(client, endpoint, (reference, access), response)?;
        let answer = client.send(&request, cancel).map_err(|error| failure::of_http(reference, &error))?;
        if answer.status != 200 {
            return Err(failure::of_status(reference, answer));
        }
        let url = request.url.to_string();
        let bytes = answer.read_capped(MAX_ANSWER).map_err(|error| failure::of_http(reference, &error))?;
        let token = token_of(&bytes).ok_or_else(|| {
            let text = format!("{}: the token service {url} gave no usable token", reference.familiar());
            SourceError::new(SourceErrorKind::Network, text)
        })?;
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(key(reference, access), token);
        Ok(())
    }
}

fn key(reference: &Reference, access: &Access) -> Key {
    (reference.registry().to_owned(), scopes(reference, access))
}

/// The scopes of a token (distribution's "Token Scope Documentation").
fn scopes(reference: &Reference, access: &Access) -> Vec<String> {
    let own = |actions: &str| format!("repository:{}:{actions}", reference.repository());
    match access {
        Access::Pull => vec![own("pull")],
        Access::Push(others) => {
            let others = others.iter().map(|repository| format!("repository:{repository}:pull"));
            std::iter::once(own("pull,push")).chain(others).collect()
        }
        Access::Delete => vec![own("delete,pull")],
        Access::Catalogue => vec!["registry:catalog:*".to_owned()],
    }
}

fn token_of(bytes: &[u8]) -> Option<Token> {
    let answer: Answer = serde_json::from_slice(bytes).ok()?;
    let text = answer.token.or(answer.access_token)?;
    let fits =
        !text.is_empty() && text.len() <= MAX_TOKEN && text.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then_some(Token(text))
}

/// The request that the challenge describes: to where the registry may send us, for what we want and nothing else.
fn token_request(
    client: &HttpClient,
    endpoint: &Endpoint,
    (reference, access): (&Reference, &Access),
    response: &HttpResponse,
) -> Result<HttpRequest, SourceError> {
    let refuse = |why: String| {
        SourceError::new(
            SourceErrorKind::Denied,
            format!("{}: {}: {why}", reference.familiar(), endpoint.base),
        )
        .hint("check the image's name; a private image needs a login, which this client does not send yet")
    };
    let challenges: Vec<Challenge> =
        response.headers("www-authenticate").flat_map(parse_challenges).collect();
    let Some(bearer) = challenges.iter().find(|challenge| challenge.scheme == "bearer") else {
        return Err(refuse("the registry asks for a login".to_owned()));
    };
    let parameter = |name: &str| bearer.parameters.get(name).map(String::as_str);
    let realm = parameter("realm").ok_or_else(|| refuse("a challenge without realm".to_owned()))?;
    let realm = endpoint.base.join(realm).map_err(|error| refuse(format!("its token service: {error}")))?;
    if endpoint.base.scheme() == Scheme::Https && realm.scheme() == Scheme::Http {
        return Err(refuse(format!("its token service {realm} is not asked in the clear")));
    }
    let named = HttpRequest { trust: endpoint.trust, ..HttpRequest::get(endpoint.base.clone()) };
    let trust = if realm.is_same_origin(&endpoint.base) {
        endpoint.trust
    } else {
        Trust::Foreign(client.reach(&named))
    };
    let url = match parameter("service") {
        Some(service) => realm.with_query("service", service),
        None => realm,
    };
    let url = scopes(reference, access).iter().fold(url, |url, scope| url.with_query("scope", scope));
    Ok(HttpRequest { trust, ..HttpRequest::get(url) })
}

#[derive(Debug, PartialEq, Eq)]
struct Challenge {
    /// In lower case.
    scheme: String,
    parameters: BTreeMap<String, String>,
}

/// The challenges of one `WWW-Authenticate` header (RFC 9110, 11.6.1): what stands before `=` belongs to the scheme
/// before it, every other word is a scheme.
fn parse_challenges(header: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            return challenges;
        }
        let Some(value) = after.strip_prefix('=') else {
            challenges.push(Challenge { scheme: word.to_ascii_lowercase(), parameters: BTreeMap::new() });
            rest = after;
            continue;
        };
        let (value, after) = parse_value(value);
        if let Some(challenge) = challenges.last_mut() {
            challenge.parameters.entry(word.to_ascii_lowercase()).or_insert(value);
        }
        rest = after;
    }
}

/// A quoted or plain value, and what follows it.
fn parse_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let header = r#"Basic realm="a, b", Bearer realm="https://auth/token",service=reg,scope="repository:x:pull,push" error="x\"y""#;
        let found = parse_challenges(header);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].parameters["realm"], "a, b");
        assert_eq!(found[1].scheme, "bearer");
        assert_eq!(found[1].parameters["service"], "reg");
        assert_eq!(found[1].parameters["scope"], "repository:x:pull,push");
        assert_eq!(found[1].parameters["error"], "x\"y");
        for odd in ["", ",,,", "=", "Bearer", "Bearer realm", "Bearer realm=", "Bearer realm=\"", "=x Bearer"]
        {
            parse_challenges(odd);
        }
    }

    #[test]
    fn tokens_fit_into_a_header() {
        assert_eq!(token_of(br#"{"access_token":"abc"}"#), Some(Token("abc".to_owned())));
        for bad in
            ["", "{}", r#"{"token":""}"#, r#"{"token":"a\nb"}"#, r#"{"token":"a b"}"#, r#"{"token":1}"#]
        {
            assert_eq!(token_of(bad.as_bytes()), None, "{bad}");
        }
    }
}
