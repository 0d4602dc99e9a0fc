//! Findings of build checks that are errors.

use std::error::Error as StdError;
use std::fmt;

use ocibuild_dockerfile::Finding;

/// Build checks found something in a file that makes findings errors (`# check=error=true`).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckFailure {
    /// The findings, those of the Dockerfile first, by line.
    pub findings: Vec<Finding>,
}

impl fmt::Display for CheckFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rules: Vec<&str> = self.findings.iter().map(|finding| finding.rule.name).collect();
        rules.sort_unstable();
        rules.dedup();
        write!(f, "lint violation found for rules: {}", rules.join(", "))
    }
}

impl StdError for CheckFailure {}
