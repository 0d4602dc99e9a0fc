//! Keywords, in whatever case they are written.

/// The keywords there are, in both cases.
const KEYWORDS: [(&str, &str); 18] = [
    ("run", "RUN"),
    ("copy", "COPY"),
    ("env", "ENV"),
    ("from", "FROM"),
    ("arg", "ARG"),
    ("workdir", "WORKDIR"),
    ("label", "LABEL"),
    ("cmd", "CMD"),
    ("add", "ADD"),
    ("entrypoint", "ENTRYPOINT"),
    ("expose", "EXPOSE"),
    ("user", "USER"),
    ("volume", "VOLUME"),
    ("healthcheck", "HEALTHCHECK"),
    ("maintainer", "MAINTAINER"),
    ("onbuild", "ONBUILD"),
    ("shell", "SHELL"),
    ("stopsignal", "STOPSIGNAL"),
];

/// The keyword that `text` is, in lower and in upper case.
pub(crate) fn known(text: &str) -> Option<(&'static str, &'static str)> {
    if text.is_ascii() { find(text) } else { find(&lower(text)) }
}

fn find(text: &str) -> Option<(&'static str, &'static str)> {
    let first = text.as_bytes().first()?.to_ascii_lowercase();
    KEYWORDS
        .iter()
        .find(|(lower, _)| lower.as_bytes()[0] == first && lower.eq_ignore_ascii_case(text))
        .copied()
}

/// `keyword` in lower case, one character for one, as Go does it: letters outside of ASCII that have an ASCII letter
/// for their lower case, such as the sign for kelvin, make keywords too.
pub(crate) fn lower(keyword: &str) -> String {
    if keyword.is_ascii() {
        return keyword.to_ascii_lowercase();
    }
    keyword.chars().map(lower_char).collect()
}

fn lower_char(c: char) -> char {
    // The dotted capital I alone becomes more than one character, an i and its dot, in Rust.
    c.to_lowercase().next().unwrap_or(c)
}

#[cfg(test)]
mod tests {
    use super::{known, lower};

    #[test]
    fn any_case() {
        assert_eq!(known("rUn"), Some(("run", "RUN")));
        assert_eq!(known("WOR\u{212a}DIR"), Some(("workdir", "WORKDIR")));
        assert_eq!(known("runs"), None);
    }

    #[test]
    fn one_character_for_one() {
        assert_eq!(lower("RuN"), "run");
        assert_eq!(lower("WOR\u{212a}DİR"), "workdir");
        assert_eq!(lower("ΑΣ"), "ασ", "no sigma at the end of a word");
    }
}
