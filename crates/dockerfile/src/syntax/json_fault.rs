//! Why a text that looks like a JSON list of strings is none.

use crate::quote::quote;

/// Marks that are taken for a double quote.
const OTHER_QUOTES: [char; 9] =
    ['\'', '`', '\u{201c}', '\u{201d}', '\u{201e}', '\u{2018}', '\u{2019}', '\u{ab}', '\u{bb}'];

/// What keeps `text`, which begins with a bracket, from being a JSON list of strings; `None` if nothing does, or if it
/// does not begin so.
///
/// ```
/// use ocibuild_dockerfile::json_fault;
///
/// assert_eq!(json_fault("[\"a\", \"b\",]").unwrap(), "there is a comma before the \"]\"");
/// assert_eq!(json_fault("['a']").unwrap(), "'a' is in quotes other than double quotes (\")");
/// assert_eq!(json_fault("[\"a\", \"b\"]"), None);
/// ```
pub fn json_fault(text: &str) -> Option<String> {
    let mut rest = text.trim().strip_prefix('[')?.trim_start();
    if let Some(behind) = rest.strip_prefix(']') {
        return text_behind(behind);
    }
    loop {
        rest = match string(rest) {
            Ok(behind) => behind.trim_start(),
            Err(fault) => return Some(fault),
        };
        if let Some(behind) = rest.strip_prefix(']') {
            return text_behind(behind);
        }
        let Some(behind) = rest.strip_prefix(',') else {
            return Some(if rest.is_empty() {
                "the \"]\" at the end is missing".to_owned()
            } else {
                format!("a comma is missing before {}", word(rest))
            });
        };
        rest = behind.trim_start();
    }
}

fn text_behind(rest: &str) -> Option<String> {
    let rest = rest.trim();
    (!rest.is_empty()).then(|| format!("{} follows the \"]\"", quote(&shortened(rest))))
}

/// What is behind the string that `text` begins with, or what is wrong with it.
fn string(text: &str) -> Result<&str, String> {
    let Some(inner) = text.strip_prefix('"') else {
        return Err(match text.chars().next() {
            None => "the \"]\" at the end is missing".to_owned(),
            Some(']') => "there is a comma before the \"]\"".to_owned(),
            Some(',') => "there is one comma too many".to_owned(),
            Some(c) if OTHER_QUOTES.contains(&c) => {
                format!("{} is in quotes other than double quotes (\")", word(text))
            }
            Some(_) => format!("{} is not in double quotes", word(text)),
        });
    };
    let mut chars = inner.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok(&inner[at + 1..]),
            '\\' => match chars.next() {
                Some((_, '"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't' | 'u')) => {}
                Some((_, c)) => return Err(format!("a backslash must be doubled: write \\\\{c} for \\{c}")),
                None => break,
            },
            _ => {}
        }
    }
    Err(format!("the double quote of {} is not closed", shortened(text)))
}

/// The first word, up to what separates words of a list.
fn word(text: &str) -> String {
    let end = text.find([',', ']']).filter(|end| *end > 0).unwrap_or(text.len());
    shortened(text[..end].trim_end())
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_named() {
        for (text, fault) in [
            ("[]", None),
            (" [\"a\"] ", None),
            ("a", None),
            ("[\"a\"", Some("the \"]\" at the end is missing")),
            ("[", Some("the \"]\" at the end is missing")),
            ("[\"a\" \"b\"]", Some("a comma is missing before \"b\"")),
            ("[\"a\",, \"b\"]", Some("there is one comma too many")),
            ("[\"a\", b]", Some("b is not in double quotes")),
            ("[\"a\", 10]", Some("10 is not in double quotes")),
            ("[\"a]", Some("the double quote of \"a] is not closed")),
            ("[\"C:\\app\"]", Some("a backslash must be doubled: write \\\\a for \\a")),
            ("[\"a\"] b", Some("\"b\" follows the \"]\"")),
            ("[“a”]", Some("“a” is in quotes other than double quotes (\")")),
        ] {
            assert_eq!(json_fault(text).as_deref(), fault, "{text}");
        }
    }
}
