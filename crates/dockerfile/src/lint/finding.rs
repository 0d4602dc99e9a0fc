//! What build checks found.

use std::fmt;

use super::{CheckOptions, Rule};
use crate::{Location, Span};

/// Something that a build check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The check.
    pub rule: &'static Rule,
    /// What it found, in one line.
    pub message: String,
    /// Where.
    pub place: Place,
    /// The very words to blame, within the lines of the Dockerfile.
    pub label: Option<Span>,
}

/// Where a [`Finding`] is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the Dockerfile.
    Dockerfile(Location),
    /// In the ignore file.
    IgnoreFile {
        /// Its name.
        name: String,
        /// The line, counted from 1.
        line: u32,
    },
    /// On the command line.
    CommandLine,
}

impl Finding {
    /// The lines of the Dockerfile it is about.
    pub fn location(&self) -> Option<Location> {
        match self.place {
            Place::Dockerfile(location) => Some(location),
            _ => None,
        }
    }

    /// The first line it is about, whatever the file.
    pub fn line(&self) -> Option<u32> {
        match self.place {
            Place::Dockerfile(location) => Some(location.start_line),
            Place::IgnoreFile { line, .. } => Some(line),
            Place::CommandLine => None,
        }
    }
}

/// `Rule: message (line N)`, as it stands below a build.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule.name, self.message)?;
        match &self.place {
            Place::Dockerfile(location) => write!(f, " (line {})", location.start_line),
            Place::IgnoreFile { name, line } => write!(f, " ({name}:{line})"),
            Place::CommandLine => Ok(()),
        }
    }
}

/// Findings as they come up, without those that nobody wants to hear of.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    options: CheckOptions,
    list: Vec<Finding>,
}

impl Findings {
    /// No findings yet.
    pub fn new(options: CheckOptions) -> Self {
        Self { options, list: Vec::new() }
    }

    /// What was asked for.
    pub fn options(&self) -> &CheckOptions {
        &self.options
    }

    /// A finding about the whole file: a comment above an instruction cannot silence it (10.11).
    pub fn add(&mut self, rule: &'static Rule, message: impl Into<String>, place: Place) {
        if self.options.reports(rule) {
            self.list.push(Finding { rule, message: message.into(), place, label: None });
        }
    }

    /// A finding about an instruction with this comment block above it, which may silence it or turn it on (10.03).
    /// What is returned is the finding that was added, if it was.
    pub fn add_at(
        &mut self,
        rule: &'static Rule,
        message: impl Into<String>,
        location: Location,
        comments: &[impl AsRef<str>],
    ) -> Option<&mut Finding> {
        if !self.options.merged(&CheckOptions::of_comments(comments)).reports(rule) {
            return None;
        }
        let place = Place::Dockerfile(location);
        self.list.push(Finding { rule, message: message.into(), place, label: None });
        self.list.last_mut()
    }

    /// The findings by line; those that are not about the Dockerfile come last.
    pub fn into_sorted(self) -> Vec<Finding> {
        let mut list = self.list;
        list.sort_by_key(|finding| match finding.place {
            Place::Dockerfile(location) => (0, location.start_line),
            Place::IgnoreFile { line, .. } => (1, line),
            Place::CommandLine => (2, 0),
        });
        list
    }
}
