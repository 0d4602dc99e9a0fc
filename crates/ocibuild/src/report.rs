//! One thing that is wrong, and where.

use std::fmt;

use ocibuild_dockerfile::{Location, Span};
use ocibuild_plan::Argument as PlanArgument;

use crate::advice::{Hint, Setting};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// A stable name of what is wrong, like `unknown-instruction`; that of the class where there is none of its own.
    pub id: &'static str,
    /// The headline.
    pub message: String,
    /// The instruction it concerns.
    pub location: Option<Location>,
    /// The word in it that is to blame.
    pub label: Option<Span>,
    /// Where it is, when that is not an instruction, or not only.
    pub place: Option<Place>,
    /// Why it is so, beyond the headline.
    pub causes: Vec<String>,
    /// What to do.
    pub hints: Vec<Hint>,
    /// The text to blame, from which `label` is found.
    pub(crate) word: Option<String>,
}

impl Report {
    /// What to do, in the words of the library.
    pub fn hint_texts(&self) -> Vec<String> {
        self.hints.iter().map(ToString::to_string).collect()
    }

    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            id: "",
            message: message.into(),
            location: None,
            label: None,
            place: None,
            causes: Vec::new(),
            hints: Vec::new(),
            word: None,
        }
    }
}

/// A place that is not an instruction of the Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// A line of another file, such as an ignore file.
    Line {
        /// The file, as the user knows it.
        file: String,
        /// Counted from 1.
        line: u32,
        /// What stands there.
        text: String,
    },
    /// A file as a whole.
    File(String),
    /// Something on the command line.
    Argument(String),
    /// What the caller chose for the build.
    Setting(Setting, String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { file, line, .. } => write!(f, "{file}:{line}"),
            Self::File(file) => f.write_str(file),
            Self::Argument(text) => write!(f, "command line: {text}"),
            Self::Setting(setting, value) => write!(f, "{} {value}", setting.name()),
        }
    }
}

impl From<PlanArgument<'_>> for Place {
    fn from(argument: PlanArgument<'_>) -> Self {
        match argument {
            PlanArgument::BuildArg { name, value } => {
                Self::Setting(Setting::BuildArg, format!("{name}={value}"))
            }
            PlanArgument::Target(target) => Self::Setting(Setting::Target, target.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_where_they_stand_alone() {
        let find = |text: &str, word: &str| {
            let location = Location { span: Span::new(0, text.len()), start_line: 1, end_line: 1 };
            location.span_of(word, text).map(|span| span.start)
        };
        assert_eq!(find("COPY --from=b bb b", "b"), Some(12));
        assert_eq!(find("COPY abc /", "abc"), Some(5));
        assert_eq!(find("RUN aab aba", "a"), None);
        assert_eq!(find("RUN x", ""), None);
        assert_eq!(find("RUN x", "y"), None);
    }
}
