use std::time::Duration;

use ocibuild_spec::json;
use serde::Deserialize;
use serde_json::Value;

use crate::credentials::Secret;

/// Most bytes of a token.
const MAX_TOKEN: usize = 64 << 10;
/// How long a token is good for whose service does not say it (distribution's "Token Authentication").
const USUAL_LIFE: Duration = Duration::from_mins(1);
const LONGEST_LIFE: Duration = Duration::from_hours(24);

/// What a token service gave.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) text: Secret,
    pub(super) life: Duration,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    expires_in: Option<Value>,
}

impl Token {
    /// The token in an answer, if there is one that can be sent. When it was issued is not looked at: that would be
    /// the service's clock.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let answer: Answer = json::from_slice(bytes).ok()?;
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let text = given(answer.token).or_else(|| given(answer.access_token))?;
        let fits = text.len() <= MAX_TOKEN && text.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| Self { text: Secret::new(text), life: life(answer.expires_in.as_ref()) })
    }
}

/// Some services write the number as a text, and zero where they do not know.
fn life(stated: Option<&Value>) -> Duration {
    let seconds = match stated {
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => text.trim().parse().ok(),
        _ => None,
    };
    let life = seconds.and_then(|seconds: f64| Duration::try_from_secs_f64(seconds.min(1e9)).ok());
    life.filter(|life| !life.is_zero()).unwrap_or(USUAL_LIFE).min(LONGEST_LIFE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_fit_into_a_header() {
        let token = Token::parse(br#"{"token":"","access_token":"abc"}"#).unwrap();
        assert_eq!((token.text.expose(), token.life), ("abc", USUAL_LIFE));
        for bad in
            ["", "{}", r#"{"token":""}"#, r#"{"token":"a\nb"}"#, r#"{"token":"a b"}"#, r#"{"token":1}"#]
        {
            assert_eq!(Token::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn lives_are_read() {
        for (text, seconds) in [
            ("120", 120),
            ("\"300\"", 300),
            ("3", 3),
            ("0", 60),
            ("-5", 60),
            ("null", 60),
            ("\"soon\"", 60),
            ("1e300", 86_400),
            ("18446744073709551615", 86_400),
        ] {
            let answer = format!(r#"{{"token":"t","expires_in":{text},"issued_at":"2999-01-01T00:00:00Z"}}"#);
            let token = Token::parse(answer.as_bytes()).unwrap();
            assert_eq!(token.life, Duration::from_secs(seconds), "{text}");
        }
    }
}
