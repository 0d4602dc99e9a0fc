//! Expansion of variables, quotes and escapes in words.
//!
//! Three ways to expand a text: to one word ([`expand_word`]), to several ([`expand_words`], for `EXPOSE`), and as the
//! body of a heredoc ([`expand_heredoc`]). None of them runs commands or looks at anything but the environment given.
//!
//! **Limits.** A result or an intermediate value above [`MAX_WORD_BYTES`], substitutions nested deeper than
//! [`MAX_NESTING`], and patterns that take too long to match are errors.

mod characters;
mod fault;
mod lexer;
mod pattern;
mod protocol;
mod words;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

pub use fault::ExpandFault;
pub use protocol::answer_line;

use lexer::{Lexer, Outcome};

pub(crate) use lexer::Mode;

/// The largest result of an expansion, 1 MiB.
pub const MAX_WORD_BYTES: usize = 1 << 20;

/// How deep `${…${…}…}` may nest.
pub const MAX_NESTING: usize = 64;

/// Where the values of variables come from.
pub trait Environment {
    /// The value of `name`; `None` when it is not set.
    fn get(&self, name: &str) -> Option<Cow<'_, str>>;
}

impl Environment for BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        BTreeMap::get(self, name).map(|value| Cow::Borrowed(value.as_str()))
    }
}

impl<S: std::hash::BuildHasher> Environment for HashMap<String, String, S> {
    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        HashMap::get(self, name).map(|value| Cow::Borrowed(value.as_str()))
    }
}

/// A list of pairs; the last one of a name counts.
impl Environment for Vec<(String, String)> {
    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        self.iter().rev().find(|(key, _)| key == name).map(|(_, value)| Cow::Borrowed(value.as_str()))
    }
}

/// An environment without variables.
pub(crate) struct Nothing;

impl Environment for Nothing {
    fn get(&self, _: &str) -> Option<Cow<'_, str>> {
        None
    }
}

/// A word after expansion.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expanded {
    /// The result.
    pub value: String,
    /// Names that were looked up and not set, each once, in order of appearance.
    pub unset: Vec<String>,
    /// Names that were looked up and set, each once, in order of appearance.
    pub used: Vec<String>,
}

/// Words after expansion and splitting.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExpandedWords {
    /// The results, none of them empty.
    pub words: Vec<String>,
    /// Names that were looked up and not set.
    pub unset: Vec<String>,
    /// Names that were looked up and set.
    pub used: Vec<String>,
}

/// A word that cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to process {}: {fault}", crate::quote::quote(.word))]
pub struct ExpandError {
    /// The whole word as written.
    pub word: String,
    /// What is wrong with it.
    pub fault: ExpandFault,
}

/// Expands `text` to one word.
///
/// ```
/// use std::collections::BTreeMap;
/// use ocibuild_dockerfile::expand::expand_word;
///
/// let environment = BTreeMap::from([("VERSION".to_owned(), "1.4.0".to_owned())]);
/// let word = expand_word(r#"app-${VERSION%.*}-"$SUFFIX""#, '\\', &environment)?;
/// assert_eq!(word.value, "app-1.4-");
/// assert_eq!(word.unset, ["SUFFIX"]);
/// # Ok::<(), ocibuild_dockerfile::ExpandError>(())
/// ```
pub fn expand_word(text: &str, escape: char, environment: &dyn Environment) -> Result<Expanded, ExpandError> {
    run(text, Mode { escape, ..Mode::default() }, environment).map(Outcome::into_word)
}

/// Expands `text` and splits what comes out at unquoted blanks.
pub fn expand_words(
    text: &str,
    escape: char,
    environment: &dyn Environment,
) -> Result<ExpandedWords, ExpandError> {
    run(text, Mode { escape, ..Mode::default() }, environment).map(Outcome::into_words)
}

/// Expands the body of a heredoc: quotes are ordinary characters, and a backslash escapes whatever follows it.
pub fn expand_heredoc(text: &str, environment: &dyn Environment) -> Result<Expanded, ExpandError> {
    run(text, Mode { quotes: false, ..Mode::default() }, environment).map(Outcome::into_word)
}

/// `text` as progress shows it: variables that are set are replaced, all else stays, quotes included.
///
/// ```
/// use std::collections::BTreeMap;
/// use ocibuild_dockerfile::expand::expand_shown;
///
/// let environment = BTreeMap::from([("TOKEN".to_owned(), "****".to_owned())]);
/// let shown = expand_shown(r#"RUN login "$TOKEN" $OTHER"#, '\\', &environment)?;
/// assert_eq!(shown, r#"RUN login "****" $OTHER"#);
/// # Ok::<(), ocibuild_dockerfile::ExpandError>(())
/// ```
pub fn expand_shown(text: &str, escape: char, environment: &dyn Environment) -> Result<String, ExpandError> {
    let mode = Mode { escape, keep_quotes: true, keep_unset: true, ..Mode::default() };
    run(text, mode, environment).map(|outcome| outcome.into_word().value)
}

/// The words of `text` with all variables unset, or `None` if it is malformed. The result may have any size, since it
/// cannot be much longer than the text.
pub(crate) fn lex_words(text: &str, mode: Mode) -> Result<Option<Vec<String>>, ExpandError> {
    match Lexer::new(text, Mode { max_bytes: usize::MAX, ..mode }, &Nothing).run() {
        Ok(outcome) => Ok(Some(outcome.into_words().words)),
        Err(fault) if fault.is_limit() => Err(ExpandError { word: text.to_owned(), fault }),
        Err(_) => Ok(None),
    }
}

fn run(text: &str, mode: Mode, environment: &dyn Environment) -> Result<Outcome, ExpandError> {
    Lexer::new(text, mode, environment).run().map_err(|fault| ExpandError { word: text.to_owned(), fault })
}
