//! `.dockerignore` and the patterns of `COPY --exclude`.

/// A line or pattern that is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct IgnoreError {
    /// Its line in the file, counted from 1; its position in a list of patterns.
    pub line: u32,
    /// The pattern as it stands there.
    pub pattern: String,
    /// What is wrong with it.
    pub message: String,
}

/// What the patterns say about a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Verdict {
    /// Whether the path is left out.
    pub ignored: bool,
    /// The line of the pattern that decided; `None` when none matched.
    pub line: Option<u32>,
}

/// An ordered list of patterns, of which the last that matches decides.
#[derive(Debug, Clone, Default)]
pub struct IgnorePatterns {}

/// What the patterns said about a directory: needed to ask about what is in it.
#[derive(Debug, Clone, Default)]
pub struct DirectoryMatches {}

impl IgnorePatterns {
    /// Patterns from a list, as `--exclude` gives them.
    pub fn new<S: AsRef<str>>(patterns: impl IntoIterator<Item = S>) -> Result<Self, IgnoreError> {
        let _ = patterns.into_iter().count();
        Ok(Self {})
    }

    /// No pattern at all.
    pub fn is_empty(&self) -> bool {
        true
    }

    /// Whether any pattern is an exception (`!…`).
    pub fn has_exceptions(&self) -> bool {
        false
    }

    /// Whether `path` is left out, alone or because of a directory above it.
    pub fn matches(&self, path: impl AsRef<[u8]>) -> bool {
        self.verdict(path).ignored
    }

    /// As [`Self::matches`], with the line that decided.
    pub fn verdict(&self, path: impl AsRef<[u8]>) -> Verdict {
        let _ = path.as_ref();
        Verdict::default()
    }

    /// Where a walk begins: the state of the root.
    pub fn root(&self) -> DirectoryMatches {
        DirectoryMatches {}
    }

    /// The verdict for `path`, which is in the directory that `parent` belongs to, and the state for what is in `path`.
    pub fn visit(&self, parent: &DirectoryMatches, path: impl AsRef<[u8]>) -> (Verdict, DirectoryMatches) {
        let _ = (parent, path.as_ref());
        (Verdict::default(), DirectoryMatches {})
    }

    /// Whether anything below the ignored directory `path` could be kept: if not, a walk need not enter it.
    pub fn may_have_exceptions_below(&self, path: impl AsRef<[u8]>) -> bool {
        let _ = path.as_ref();
        false
    }
}

/// A `.dockerignore` file.
#[derive(Debug, Clone, Default)]
pub struct IgnoreFile {
    /// Its patterns.
    pub patterns: IgnorePatterns,
    /// The patterns as text after cleaning, `!` in front of exceptions.
    pub cleaned: Vec<String>,
}

impl IgnoreFile {
    /// Reads the bytes of an ignore file.
    pub fn parse(bytes: impl AsRef<[u8]>) -> Result<Self, IgnoreError> {
        let _ = bytes.as_ref();
        Ok(Self::default())
    }
}

/// Answers `kept` or `ignored` for each line of `paths`.
pub fn ignore_protocol(ignore_file: &[u8], paths: &[u8]) -> Result<String, IgnoreError> {
    let _ = paths;
    IgnoreFile::parse(ignore_file).map(|_| String::new())
}
