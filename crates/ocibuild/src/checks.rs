//! Build checks of a whole build: those of its plan, and those that look at the context and at the names of the result.

use std::os::unix::ffi::OsStrExt as _;

use ocibuild_dockerfile::lint::{LATEST_TAG, UNUSED_IGNORE_PATTERN};
use ocibuild_dockerfile::{CheckOptions, Finding, Location, Place};
use ocibuild_plan::latest;
use ocibuild_spec::Reference;
use walkdir::WalkDir;

use crate::context::LocalContext;
use crate::error::Error;
use crate::failure::{CheckFailure, ContextFailure};

/// What the build checks of a file found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckReport {
    /// The findings, those of the Dockerfile first, by line.
    pub findings: Vec<Finding>,
    /// The file asks for findings to be errors, and there are some: a build of it fails (10.05).
    pub is_error: bool,
}

impl CheckReport {
    /// What a build fails with when findings are errors.
    pub fn violation(&self) -> Option<String> {
        if !self.is_error {
            return None;
        }
        Some(CheckFailure { findings: self.findings.clone() }.to_string())
    }

    /// The same as an error, with the findings behind it.
    pub(crate) fn into_error(self) -> Option<Error> {
        if !self.is_error {
            return None;
        }
        let mut error = Error::from(CheckFailure { findings: self.findings.clone() });
        for finding in self.findings {
            let location: Option<Location> = finding.location();
            let text = if location.is_some() {
                format!("{}: {}", finding.rule.name, finding.message)
            } else {
                finding.to_string()
            };
            error = error.and(text, location, finding.label);
        }
        Some(error)
    }
}

/// Adds what the plan of a build does not know of.
pub(crate) fn of_build(
    findings: &mut Vec<Finding>,
    options: &CheckOptions,
    context: Option<&LocalContext>,
    tags: &[Reference],
) -> Result<(), Error> {
    if let Some(context) = context.filter(|_| options.reports(&UNUSED_IGNORE_PATTERN)) {
        for (line, pattern) in unused_patterns(context)? {
            let message = format!("Ignore pattern '{pattern}' matches nothing in the build context");
            let place = Place::IgnoreFile { name: context.ignore_name().to_owned(), line };
            findings.push(Finding { rule: &UNUSED_IGNORE_PATTERN, message, place, label: None });
        }
    }
    if options.reports(&LATEST_TAG) {
        for tag in tags {
            let Some(how) = latest(tag) else { continue };
            let message = format!("Image name '{}' {how}", tag.familiar_name());
            findings.push(Finding { rule: &LATEST_TAG, message, place: Place::CommandLine, label: None });
        }
    }
    Ok(())
}

/// Patterns of the ignore file that match nothing: walks the directory until each has found something.
fn unused_patterns(context: &LocalContext) -> Result<Vec<(u32, String)>, Error> {
    let Some(root) = context.directory().filter(|_| !context.ignore().is_empty()) else {
        return Ok(Vec::new());
    };
    let mut failed = None;
    let paths = WalkDir::new(root).min_depth(1).into_iter().map_while(|entry| match entry {
        Ok(entry) => {
            let path = entry.path().strip_prefix(root).unwrap_or(entry.path());
            Some(path.as_os_str().as_bytes().to_owned())
        }
        Err(error) => {
            failed = Some(error);
            None
        }
    });
    let unused = context.ignore().unmatched(paths);
    match failed {
        None => Ok(unused),
        Some(error) => {
            Err(ContextFailure::NotListed { rule: UNUSED_IGNORE_PATTERN.name, source: error.into() }.into())
        }
    }
}
