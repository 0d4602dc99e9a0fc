//! `build --check`: what the build checks say, and nothing else.

use std::fmt::Write as _;
use std::process::ExitCode;

use ocibuild::CheckReport;
use ocibuild::dockerfile::{Finding, Place};
use serde_json::{Value, json};

use crate::args::ReportFormat;
use crate::diagnostics::finding_excerpt;
use crate::failure::{Outcome, SourceText};
use crate::terminal::{Paint, to_stderr, to_stdout};
use crate::text::printable;

/// Prints what the checks found. Findings are an exit code of their own.
pub(super) fn print(report: &CheckReport, source: &SourceText, format: ReportFormat) -> Outcome {
    let text = match format {
        ReportFormat::Text => text(report, source),
        ReportFormat::Json => json(report, source),
    };
    to_stdout(text.as_bytes())?;
    if let Some(violation) = report.violation() {
        to_stderr(&format!("error: {violation}\n"));
    }
    Ok(if report.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// As `docker build --check` has it, with our excerpts.
fn text(report: &CheckReport, source: &SourceText) -> String {
    let mut out = String::new();
    for finding in &report.findings {
        let page = finding.rule.url().unwrap_or_else(|| finding.rule.doc());
        // Writing to a string cannot fail.
        let _ = writeln!(out, "\nWARNING: {} - {page}", finding.rule.name);
        let _ = writeln!(out, "{}", printable(&finding.message));
        let _ = match place(finding, source) {
            Some(place) => writeln!(out, "  --> {place}"),
            None => writeln!(out, "  --> the command line"),
        };
        if let Some(location) = finding.location() {
            out.push_str(&finding_excerpt(&source.text, location, finding.label, Paint(false)));
        }
    }
    if !out.is_empty() {
        out.push('\n');
    }
    out + &match report.findings.len() {
        0 => "Check complete, no warnings found.\n".to_owned(),
        1 => "Check complete, 1 warning has been found!\n".to_owned(),
        count => format!("Check complete, {count} warnings have been found!\n"),
    }
}

/// `NAME:LINE`, `None` without a file.
fn place(finding: &Finding, source: &SourceText) -> Option<String> {
    let name = match &finding.place {
        Place::Dockerfile(_) => &source.name,
        Place::IgnoreFile { name, .. } => name,
        Place::CommandLine => return None,
    };
    finding.line().map(|line| format!("{}:{line}", printable(name)))
}

/// A list of objects; `docs/formats/checks.md` is the contract.
fn json(report: &CheckReport, source: &SourceText) -> String {
    let list: Vec<Value> = report.findings.iter().map(|finding| object(finding, source)).collect();
    format!("{:#}\n", Value::from(list))
}

fn object(finding: &Finding, source: &SourceText) -> Value {
    let mut object = finding_object(finding);
    if let Some(location) = finding.location() {
        object["file"] = source.name.as_str().into();
        let start = finding.label.map_or(location.span.start, |label| label.start);
        if let Some(column) = location.column(start, &source.text) {
            object["column"] = column.into();
        }
    }
    object
}

/// What is known of a finding without the text of the file.
pub(crate) fn finding_object(finding: &Finding) -> Value {
    let file = match &finding.place {
        Place::IgnoreFile { name, .. } => Some(name.as_str()),
        Place::Dockerfile(_) | Place::CommandLine => None,
    };
    let mut object = json!({
        "rule": finding.rule.name,
        "severity": "warning",
        "message": finding.message,
        "description": finding.rule.description,
        "doc": finding.rule.doc(),
        "file": file,
        "line": finding.line(),
    });
    if let Some(url) = finding.rule.url() {
        object["url"] = url.into();
    }
    if let Some(location) = finding.location() {
        object["end_line"] = location.end_line.into();
    }
    object
}

/// What stands below a build: how many, and each in a line.
pub(crate) fn summary(findings: &[Finding]) -> String {
    let count = match findings.len() {
        1 => "1 warning found".to_owned(),
        count => format!("{count} warnings found"),
    };
    let mut out = format!("{count} (--check shows the lines):\n");
    for finding in findings {
        let _ = writeln!(out, " - {}", printable(&finding.to_string()));
    }
    out
}
