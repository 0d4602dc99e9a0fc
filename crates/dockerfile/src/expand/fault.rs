//! Why a word cannot be expanded.

/// What is wrong with a word that cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExpandFault {
    /// A quote is never closed.
    #[error("unexpected end of statement while looking for matching {}-quote", if *(.double) { "double" } else { "single" })]
    OpenQuote {
        /// Whether it is `"`; otherwise it is `'`.
        double: bool,
    },
    /// `${` is never closed.
    #[error("syntax error: missing '}}'")]
    MissingBrace,
    /// `${NAME/pattern` has no second slash.
    #[error("syntax error: missing '/' in ${{}}")]
    MissingSlash,
    /// `${}`, `${:…` or `${{…`.
    #[error("syntax error: bad substitution")]
    BadSubstitution,
    /// What stands behind the name is not a modifier.
    #[error("unsupported modifier ({0}) in substitution")]
    Modifier(String),
    /// A pattern has a backslash in front of a character that needs none.
    #[error("invalid pattern ({pattern}) in substitution: invalid escape '\\{}'", .escaped.map(String::from).unwrap_or_default())]
    Pattern {
        /// The pattern.
        pattern: String,
        /// The character behind the backslash, if there is one.
        escaped: Option<char>,
    },
    /// `${NAME?message}` without a value.
    #[error("{name}: {reason}")]
    Required {
        /// The variable.
        name: String,
        /// The message, or what stands for it.
        reason: String,
    },
    /// Substitutions within substitutions within substitutions.
    #[error("substitutions are nested deeper than {limit} levels")]
    TooDeep {
        /// How many levels there may be.
        limit: usize,
    },
    /// The result is too long.
    #[error("the result is larger than {limit} bytes")]
    TooLarge {
        /// How many bytes there may be.
        limit: usize,
    },
    /// Patterns and values are such that it would take too long.
    #[error("the word takes too long to expand")]
    TooSlow,
}

impl ExpandFault {
    /// Whether the word is sound, but more than is ever expanded.
    pub fn is_limit(&self) -> bool {
        matches!(self, Self::TooDeep { .. } | Self::TooLarge { .. } | Self::TooSlow)
    }
}
