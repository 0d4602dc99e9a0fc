//! `build --check`: what the build checks say, and nothing else.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use ocibuild::dockerfile::{Finding, Place, line_column};
use ocibuild::{CheckReport, Error};
use serde_json::{Value, json};

use crate::args::{BuildArgs, ReportFormat};
use crate::backends::{BaseImages, Workshop, executor};
use crate::diagnostics::finding_excerpt;
use crate::failure::{Failure, Outcome, SourceText, usage};
use crate::signals::Signals;
use crate::terminal::{Paint, to_stderr, to_stdout};
use crate::text::printable;

/// How the findings are wanted, if it is them that are.
pub(super) fn wanted(args: &BuildArgs) -> Result<Option<ReportFormat>, Error> {
    let (method, mut format) = method(args.call.as_deref().unwrap_or("build"))?;
    format = args.format.or(format);
    if args.check || method == "check" {
        return Ok(Some(format.unwrap_or(ReportFormat::Text)));
    }
    match format {
        Some(_) => Err(usage("--format is for --check").hint("a plan as JSON: ocibuild plan --format json")),
        None => Ok(None),
    }
}

/// `METHOD[,format=FORMAT]`
fn method(call: &str) -> Result<(&str, Option<ReportFormat>), Error> {
    let (method, attributes) = call.split_once(',').unwrap_or((call, ""));
    match method {
        "build" | "check" => {}
        "outline" | "targets" => {
            return Err(usage(format!("--call {method} is known, but this version cannot do it")));
        }
        _ => {
            let message = format!("--call {}: there is no such method", printable(method));
            return Err(usage(message).hint("this version has build and check"));
        }
    }
    let format = match attributes {
        "" => None,
        "format=text" => Some(ReportFormat::Text),
        "format=json" => Some(ReportFormat::Json),
        other => {
            let message = format!("--call {method}: {} is no attribute of it", printable(other));
            return Err(usage(message).hint("write --call check,format=json"));
        }
    };
    Ok((method, format))
}

/// Makes the checks and prints what they find.
pub(super) fn check(
    root: &Path,
    args: &BuildArgs,
    build: ocibuild::Build,
    source: &SourceText,
    format: ReportFormat,
) -> Outcome {
    let shop = Workshop::open_plainly(root)?;
    let images =
        BaseImages::new(&shop.layout, args.plan.pull, &args.plan.insecure_registry, &args.plan.cacert)?;
    let executor = executor(None)?;
    let signals = Signals::install()?;
    let backends = shop.backends(&images, executor.as_ref());
    let report = build.check(&backends, &signals.cancel).map_err(|error| {
        let mut failure = Failure::from(error).with_source(source.clone());
        failure.signal = signals.received();
        failure
    })?;
    let text = match format {
        ReportFormat::Text => text(&report, source),
        ReportFormat::Json => json(&report, source),
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
        let (line, column) = line_column(&source.text, start);
        // A column belongs to a line: that of a word further down is not one of the first line.
        if u32::try_from(line) == Ok(location.start_line) {
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
