//! Wildcards of `COPY` sources.

/// A pattern with an open class or a trailing escape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern")]
pub struct BadPattern;

/// Whether `name` as a whole matches `pattern`.
pub fn glob_match(pattern: &[u8], name: &[u8]) -> Result<bool, BadPattern> {
    Ok(pattern == name)
}
