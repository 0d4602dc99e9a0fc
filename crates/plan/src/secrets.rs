//! What secrets look like.

/// Parts of names that stand for something secret.
const SECRET_WORDS: [&str; 10] =
    ["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];

/// Parts that say that it is not the secret itself.
const HARMLESS_WORDS: [&str; 3] = ["public", "file", "version"];

/// Beginnings of tokens, how many letters, digits, `_` and `-` follow at least, and what it is.
const TOKENS: [(&str, usize, &str); 20] = [
    ("AKIA", 16, "an AWS access key"),
    ("ASIA", 16, "an AWS access key"),
    ("ghp_", 36, "a GitHub token"),
    ("gho_", 36, "a GitHub token"),
    ("ghu_", 36, "a GitHub token"),
    ("ghs_", 36, "a GitHub token"),
    ("ghr_", 36, "a GitHub token"),
    ("github_pat_", 40, "a GitHub token"),
    ("glpat-", 20, "a GitLab token"),
    ("npm_", 36, "an npm token"),
    ("pypi-", 50, "a PyPI token"),
    ("dckr_pat_", 20, "a Docker Hub token"),
    ("hf_", 34, "a Hugging Face token"),
    ("xoxb-", 20, "a Slack token"),
    ("xoxp-", 20, "a Slack token"),
    ("sk_live_", 20, "a Stripe key"),
    ("rk_live_", 20, "a Stripe key"),
    ("AIza", 35, "a Google API key"),
    ("SG.", 20, "a SendGrid key"),
    ("eyJ", 30, "a signed token (JWT)"),
];

/// Whether a name sounds like a secret: one of its parts between underscores does.
pub(super) fn is_secret_name(name: &str) -> bool {
    let has =
        |words: &[&str]| name.split('_').any(|part| words.iter().any(|word| part.eq_ignore_ascii_case(word)));
    has(&SECRET_WORDS) && !has(&HARMLESS_WORDS)
}

/// What a value looks like, if it looks like a secret.
pub(super) fn secret_kind(value: &str) -> Option<&'static str> {
    if value.contains("-----BEGIN ") && value.contains("PRIVATE KEY") {
        return Some("a private key");
    }
    if has_password(value) {
        return Some("a URL with a password");
    }
    value.split(|c: char| !is_token(c) && c != '.').find_map(token_kind)
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
}

fn token_kind(word: &str) -> Option<&'static str> {
    TOKENS.iter().find_map(|(beginning, length, kind)| {
        let rest = word.strip_prefix(beginning)?;
        let fits = match *beginning {
            // Other capitals begin words of prose, too.
            "AKIA" | "ASIA" => {
                rest.len() == *length
                    && rest.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
            }
            "eyJ" => rest.len() >= *length && rest.matches('.').count() == 2,
            _ => rest.len() >= *length,
        };
        fits.then_some(*kind)
    })
}

/// `scheme://user:password@host`
fn has_password(value: &str) -> bool {
    value.split_whitespace().any(|word| {
        let Some((_, rest)) = word.split_once("://") else { return false };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let password = authority.rsplit_once('@').and_then(|(user, _)| user.split_once(':'));
        password.is_some_and(|(_, password)| !password.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for name in
            ["KEY", "api_key", "DB_PassWord", "x_auth", "TOKEN_", "_secret_x", "apikey", "credentials"]
        {
            assert!(is_secret_name(name), "{name}");
        }
        for name in [
            "KEYBOARD",
            "monkey",
            "API-KEY",
            "authors",
            "PUBLIC_KEY",
            "TOKEN_FILE",
            "key_version",
            "",
            "secrets",
        ] {
            assert!(!is_secret_name(name), "{name}");
        }
    }

    #[test]
    fn values() {
        let token = |beginning: &str, length: usize| format!("{beginning}{}", "A1b2".repeat(length / 4 + 1));
        for (value, kind) in [
            ("AKIAIOSFODNN7EXAMPLE".to_owned(), "an AWS access key"),
            (format!("Bearer {}", token("ghp_", 36)), "a GitHub token"),
            (token("glpat-", 20), "a GitLab token"),
            (format!("--x={}", token("xoxb-", 20)), "a Slack token"),
            (format!("{}.{}.{}", token("eyJ", 20), token("eyJ", 20), token("", 20)), "a signed token (JWT)"),
            ("-----BEGIN OPENSSH PRIVATE KEY-----\nx".to_owned(), "a private key"),
            ("https://me:hunter2@example.com/x".to_owned(), "a URL with a password"),
        ] {
            assert_eq!(secret_kind(&value), Some(kind), "{value}");
        }
        for value in [
            "",
            "1.4.0",
            "AKIAIOSFODNN7EXAMPL",
            "akiaiosfodnn7example",
            "ghp_short",
            "https://example.com:8080/a@b",
            "https://me@example.com",
            "https://me:@example.com",
            "-----BEGIN CERTIFICATE-----",
            "eyJust.some.words",
            "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        ] {
            assert_eq!(secret_kind(value), None, "{value}");
        }
    }
}
