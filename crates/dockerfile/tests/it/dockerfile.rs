//! Whole files: their syntax tree, or what is wrong with them.

use std::fmt::Write;

use ocibuild_dockerfile::{Diagnostic, Dockerfile, Finding, Findings, line_column, nodes_json, parse_nodes};

use crate::fixtures::{check, entries};

/// `LINE:COLUMN severity[id] message`, `-` without a place; then hints.
fn render(source: &str, diagnostics: &[Diagnostic]) -> String {
    let mut text = String::new();
    for diagnostic in diagnostics {
        let place = match (diagnostic.location, diagnostic.label_span) {
            (Some(location), label) => {
                let span = label.unwrap_or(location.span);
                let (line, column) = line_column(source, span.start);
                let blamed = &source[span.range()];
                format!("{}-{} {line}:{column} `{blamed}`", location.start_line, location.end_line)
            }
            (None, _) => "-".to_owned(),
        };
        let severity = diagnostic.severity;
        writeln!(text, "{severity:?}[{}] {}\n  {place}", diagnostic.id, diagnostic.message)
            .expect("strings take anything");
        for hint in &diagnostic.hints {
            writeln!(text, "  hint: {hint}").expect("strings take anything");
        }
    }
    text
}

/// Findings in the same form.
fn render_findings(source: &str, findings: Vec<Finding>) -> String {
    let mut text = String::new();
    for finding in findings {
        let location = finding.location().expect("the text is all there is");
        let (line, column) = line_column(source, location.span.start);
        let lines = &source[location.span.range()];
        writeln!(text, "[{}] {}", finding.rule.name, finding.message).expect("strings take anything");
        writeln!(text, "  {}-{} {line}:{column} `{lines}`", location.start_line, location.end_line)
            .expect("strings take anything");
    }
    text
}

#[test]
fn good_files() {
    for case in entries("dockerfile/ok") {
        let file = Dockerfile::parse(fs_err::read(case.join("Dockerfile")).unwrap())
            .unwrap_or_else(|errors| panic!("{}: {errors}", case.display()));
        check(&case.join("ast.json"), &(nodes_json(&parse_nodes(&file.source).unwrap()) + "\n"));
        let mut findings = Findings::new(file.directives.check_options().unwrap());
        file.lint(&mut findings);
        check(&case.join("warnings.txt"), &render_findings(&file.source, findings.into_sorted()));
    }
}

#[test]
fn bad_files() {
    for case in entries("dockerfile/err") {
        let errors = Dockerfile::parse(fs_err::read(case.join("Dockerfile")).unwrap()).unwrap_err();
        check(&case.join("errors.txt"), &render(&errors.source, &errors.diagnostics));
    }
}
