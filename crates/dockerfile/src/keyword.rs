//! Keywords, in whatever case they are written.

/// The keyword that `text` is, in lower and in upper case.
pub(crate) fn known(text: &str) -> Option<(&'static str, &'static str)> {
    if text.is_ascii() { find(text) } else { find(&lower(text)) }
}

/// Whether `word` is the keyword of an instruction, in any case.
///
/// ```
/// assert!(ocibuild_dockerfile::is_instruction("COPY") && !ocibuild_dockerfile::is_instruction("cp"));
/// ```
pub fn is_instruction(word: &str) -> bool {
    known(word).is_some()
}

/// Among the keywords of the same length, in both cases.
fn find(text: &str) -> Option<(&'static str, &'static str)> {
    let keywords: &[(&str, &str)] = match text.len() {
        3 => &[("run", "RUN"), ("env", "ENV"), ("arg", "ARG"), ("cmd", "CMD"), ("add", "ADD")],
        4 => &[("copy", "COPY"), ("from", "FROM"), ("user", "USER")],
        5 => &[("label", "LABEL"), ("shell", "SHELL")],
        6 => &[("expose", "EXPOSE"), ("volume", "VOLUME")],
        7 => &[("workdir", "WORKDIR"), ("onbuild", "ONBUILD")],
        10 => &[("entrypoint", "ENTRYPOINT"), ("maintainer", "MAINTAINER"), ("stopsignal", "STOPSIGNAL")],
        11 => &[("healthcheck", "HEALTHCHECK")],
        _ => &[],
    };
    keywords.iter().find(|(lower, upper)| text == *upper || lower.eq_ignore_ascii_case(text)).copied()
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
        for keyword in crate::meaning::KEYWORDS {
            assert_eq!(known(keyword), Some((keyword, &keyword.to_uppercase()[..])));
        }
    }

    #[test]
    fn one_character_for_one() {
        assert_eq!(lower("RuN"), "run");
        assert_eq!(lower("WOR\u{212a}DİR"), "workdir");
        assert_eq!(lower("ΑΣ"), "ασ", "no sigma at the end of a word");
    }
}
