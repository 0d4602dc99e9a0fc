//! Keywords, in whatever case they are written.

/// The length of `healthcheck`.
const LONGEST: usize = 11;

/// The keywords there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keyword {
    Add,
    Arg,
    Cmd,
    Copy,
    Entrypoint,
    Env,
    Expose,
    From,
    Healthcheck,
    Label,
    Maintainer,
    Onbuild,
    Run,
    Shell,
    Stopsignal,
    User,
    Volume,
    Workdir,
}

impl Keyword {
    /// The keyword that `text` is.
    pub(crate) fn of(text: &str) -> Option<Self> {
        if text.is_ascii() { Self::find(text.as_bytes()) } else { Self::find(lower(text).as_bytes()) }
    }

    fn find(text: &[u8]) -> Option<Self> {
        let mut lower = [0; LONGEST];
        let lower = lower.get_mut(..text.len())?;
        lower.copy_from_slice(text);
        lower.make_ascii_lowercase();
        Some(match &*lower {
            b"add" => Self::Add,
            b"arg" => Self::Arg,
            b"cmd" => Self::Cmd,
            b"copy" => Self::Copy,
            b"entrypoint" => Self::Entrypoint,
            b"env" => Self::Env,
            b"expose" => Self::Expose,
            b"from" => Self::From,
            b"healthcheck" => Self::Healthcheck,
            b"label" => Self::Label,
            b"maintainer" => Self::Maintainer,
            b"onbuild" => Self::Onbuild,
            b"run" => Self::Run,
            b"shell" => Self::Shell,
            b"stopsignal" => Self::Stopsignal,
            b"user" => Self::User,
            b"volume" => Self::Volume,
            b"workdir" => Self::Workdir,
            _ => return None,
        })
    }

    /// As it is mostly written.
    pub(crate) fn upper(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Arg => "ARG",
            Self::Cmd => "CMD",
            Self::Copy => "COPY",
            Self::Entrypoint => "ENTRYPOINT",
            Self::Env => "ENV",
            Self::Expose => "EXPOSE",
            Self::From => "FROM",
            Self::Healthcheck => "HEALTHCHECK",
            Self::Label => "LABEL",
            Self::Maintainer => "MAINTAINER",
            Self::Onbuild => "ONBUILD",
            Self::Run => "RUN",
            Self::Shell => "SHELL",
            Self::Stopsignal => "STOPSIGNAL",
            Self::User => "USER",
            Self::Volume => "VOLUME",
            Self::Workdir => "WORKDIR",
        }
    }
}

/// Whether `word` is the keyword of an instruction, in any case.
///
/// ```
/// assert!(ocibuild_dockerfile::is_instruction("COPY") && !ocibuild_dockerfile::is_instruction("cp"));
/// ```
pub fn is_instruction(word: &str) -> bool {
    Keyword::of(word).is_some()
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
    use super::{Keyword, lower};

    #[test]
    fn any_case() {
        assert_eq!(Keyword::of("rUn"), Some(Keyword::Run));
        assert_eq!(Keyword::of("WOR\u{212a}DIR"), Some(Keyword::Workdir));
        for other in ["", "runs", "healthchecks", "é"] {
            assert_eq!(Keyword::of(other), None);
        }
        for keyword in crate::meaning::KEYWORDS {
            let upper = Keyword::of(keyword).map(Keyword::upper);
            assert_eq!(upper, Some(&keyword.to_uppercase()[..]));
        }
    }

    #[test]
    fn one_character_for_one() {
        assert_eq!(lower("RuN"), "run");
        assert_eq!(lower("WOR\u{212a}DİR"), "workdir");
        assert_eq!(lower("ΑΣ"), "ασ", "no sigma at the end of a word");
    }
}
