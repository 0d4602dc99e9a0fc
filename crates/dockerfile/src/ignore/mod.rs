//! `.dockerignore` and the patterns of `COPY --exclude`.
//!
//! Patterns are tried in order and the last that matches a path *or a directory above it* decides. Reading a directory
//! tree therefore goes from the top: [`IgnorePatterns::visit`] takes what is known about the directory and says what is
//! to be known about an entry.
//!
//! ```
//! use ocibuild_dockerfile::IgnoreFile;
//!
//! let patterns = IgnoreFile::parse("target\n!target/release\n").unwrap().patterns;
//! let (target, inside) = patterns.visit(&patterns.root(), "target");
//! assert!(target.ignored && patterns.may_have_exceptions_below("target"));
//! let (release, _) = patterns.visit(&inside, "target/release");
//! assert!(!release.ignored);
//! assert!(patterns.matches("target/debug/app"));
//! ```

mod clean;
mod pattern;
mod protocol;

use clean::{clean, trim};
use pattern::Pattern;

pub use protocol::ignore_protocol;

/// The longest line of an ignore file.
const MAX_LINE_BYTES: usize = 65535;

/// A line or pattern that is not a pattern.
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
    /// The line of the pattern that decided (its position in a list); `None` when none did.
    pub line: Option<u32>,
}

/// An ordered list of patterns, of which the last that matches decides.
///
/// Paths are relative to the root of what is copied, without a slash in front; one at the end does not count. Matching
/// takes time in proportion to the lengths of pattern and path.
#[derive(Debug, Clone, Default)]
pub struct IgnorePatterns {
    patterns: Vec<Pattern>,
    /// Name of the file they come from, for messages.
    name: String,
}

/// What the patterns said about a directory: needed to ask about what is in it.
#[derive(Debug, Clone, Default)]
pub struct DirectoryMatches {
    /// For each pattern whether it matched; empty for the root.
    matched: Vec<bool>,
}

impl IgnorePatterns {
    /// Patterns from a list, as `--exclude` gives them. They are cleaned, and empty ones are left out.
    pub fn new<S: AsRef<str>>(patterns: impl IntoIterator<Item = S>) -> Result<Self, IgnoreError> {
        let mut list = Self::default();
        for (position, pattern) in patterns.into_iter().enumerate() {
            list.add(pattern.as_ref().as_bytes(), position as u32 + 1)?;
        }
        Ok(list)
    }

    fn add(&mut self, text: &[u8], line: u32) -> Result<(), IgnoreError> {
        let error = |message: &str| IgnoreError {
            line,
            pattern: String::from_utf8_lossy(text).into_owned(),
            message: message.to_owned(),
        };
        let trimmed = trim(text);
        if trimmed.is_empty() {
            return Ok(());
        }
        let cleaned = clean(trimmed);
        let (is_exception, pattern) = match &cleaned[..] {
            b"!" => return Err(error("illegal exclusion pattern: \"!\"")),
            [b'!', pattern @ ..] => (true, pattern),
            pattern => (false, pattern),
        };
        let mut pattern =
            Pattern::parse(pattern, is_exception, line).map_err(|bad| error(&bad.to_string()))?;
        pattern.text = trimmed.into();
        self.patterns.push(pattern);
        Ok(())
    }

    /// The same as patterns of the file `name`.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Name of the file they come from.
    pub fn name(&self) -> &str {
        if self.name.is_empty() { ".dockerignore" } else { &self.name }
    }

    /// The pattern of a line as it stands there.
    pub fn text_of(&self, line: u32) -> Option<String> {
        let pattern = self.patterns.iter().find(|pattern| pattern.line == line)?;
        Some(String::from_utf8_lossy(&pattern.text).into_owned())
    }

    /// Whether there is no pattern at all.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether any pattern is an exception (`!…`).
    pub fn has_exceptions(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern.is_exception)
    }

    /// The patterns that match none of `paths` by themselves, each with its line (its position in a list). Paths are
    /// asked for only as long as there is such a pattern.
    pub fn unmatched<P: AsRef<[u8]>>(&self, paths: impl IntoIterator<Item = P>) -> Vec<(u32, String)> {
        let mut left: Vec<&Pattern> = self.patterns.iter().collect();
        let mut paths = paths.into_iter();
        while let Some(path) = if left.is_empty() { None } else { paths.next() } {
            left.retain(|pattern| !pattern.matches(without_slash(path.as_ref())));
        }
        left.into_iter().map(|pattern| (pattern.line, pattern.text())).collect()
    }

    /// Whether `path` is left out, because of itself or because of a directory above it.
    pub fn matches(&self, path: impl AsRef<[u8]>) -> bool {
        self.verdict(path).ignored
    }

    /// As [`Self::matches`], with the line that decided.
    pub fn verdict(&self, path: impl AsRef<[u8]>) -> Verdict {
        let path = without_slash(path.as_ref());
        let parent = path.iter().rposition(|byte| *byte == b'/');
        let state = parent.map_or_else(|| self.root(), |end| self.directory(&path[..end]));
        self.visit(&state, path).0
    }

    /// The state of the directory `path`, as a walk from the root would have it there.
    pub fn directory(&self, path: impl AsRef<[u8]>) -> DirectoryMatches {
        let path = without_slash(path.as_ref());
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| end);
        slashes.chain([path.len()]).fold(self.root(), |state, end| self.visit(&state, &path[..end]).1)
    }

    /// Where a walk begins: the state of the root.
    pub fn root(&self) -> DirectoryMatches {
        DirectoryMatches::default()
    }

    /// The verdict for `path`, an entry of the directory that `parent` belongs to, and the state for what is in `path`.
    ///
    /// An ignored directory has to be entered all the same if [`Self::may_have_exceptions_below`] it.
    pub fn visit(&self, parent: &DirectoryMatches, path: impl AsRef<[u8]>) -> (Verdict, DirectoryMatches) {
        let path = without_slash(path.as_ref());
        let mut verdict = Verdict::default();
        let mut matched = vec![false; self.patterns.len()];
        for (position, pattern) in self.patterns.iter().enumerate() {
            // A pattern that could change nothing is not asked, and does not count as matched below either: after
            // `d`, `!d/x` a second `d` brings `d/x` back in vain. BuildKit has it so.
            let is_match = parent.matched.get(position) == Some(&true)
                || (pattern.is_exception == verdict.ignored && pattern.matches(path));
            if is_match {
                matched[position] = true;
                verdict = Verdict { ignored: !pattern.is_exception, line: Some(pattern.line) };
            }
        }
        (verdict, DirectoryMatches { matched })
    }

    /// Whether anything below the ignored directory `path` could be kept: if not, a walk need not enter it.
    pub fn may_have_exceptions_below(&self, path: impl AsRef<[u8]>) -> bool {
        let directory = [without_slash(path.as_ref()), b"/"].concat();
        self.patterns.iter().any(|pattern| pattern.is_exception && pattern.may_match_below(&directory))
    }
}

fn without_slash(path: &[u8]) -> &[u8] {
    path.strip_suffix(b"/").unwrap_or(path)
}

/// A `.dockerignore` file.
#[derive(Debug, Clone, Default)]
pub struct IgnoreFile {
    /// Its patterns, with their lines.
    pub patterns: IgnorePatterns,
}

impl IgnoreFile {
    /// Reads the bytes of an ignore file: one pattern a line, `#` in the first column for comments.
    pub fn parse(bytes: impl AsRef<[u8]>) -> Result<Self, IgnoreError> {
        let bytes = bytes.as_ref();
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let mut patterns = IgnorePatterns::default();
        for (line, text) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
            if text.len() > MAX_LINE_BYTES {
                let message = format!("line greater than max allowed size of {MAX_LINE_BYTES}");
                return Err(IgnoreError { line, pattern: String::new(), message });
            }
            if let Some(pattern) = file_pattern(text) {
                patterns.add(&pattern, line)?;
            }
        }
        Ok(Self { patterns })
    }
}

/// The pattern of a line, relative to the root of the context; `None` for comments and blank lines.
fn file_pattern(line: &[u8]) -> Option<Vec<u8>> {
    if line.starts_with(b"#") {
        return None;
    }
    let line = trim(line);
    let (sign, pattern): (&[u8], &[u8]) = match line {
        [] => return None,
        [b'!', pattern @ ..] => (b"!", trim(pattern)),
        pattern => (b"", pattern),
    };
    if pattern.is_empty() {
        return Some(sign.to_vec());
    }
    let cleaned = clean(pattern);
    let relative = if cleaned.len() > 1 { cleaned.strip_prefix(b"/").unwrap_or(&cleaned) } else { &cleaned };
    Some([sign, relative].concat())
}
