use std::collections::BTreeMap;

use crate::http::HttpResponse;

/// What a server wants before it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Challenge {
    /// In lower case.
    pub(super) scheme: String,
    pub(super) parameters: BTreeMap<String, String>,
}

impl Challenge {
    /// All challenges of an answer.
    pub(super) fn all(response: &HttpResponse) -> Vec<Self> {
        response.headers("www-authenticate").flat_map(parse_challenges).collect()
    }

    /// A parameter that is not empty.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// The challenges of one `WWW-Authenticate` header (RFC 9110, 11.6.1): what stands before `=` belongs to the scheme
/// before it, every other word is a scheme.
pub(super) fn parse_challenges(header: &str) -> Vec<Challenge> {
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
}
