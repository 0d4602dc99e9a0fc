//! Errors as people and programs read them.

mod excerpt;

pub(crate) use excerpt::excerpt as finding_excerpt;

use ocibuild::dockerfile::line_column;
use ocibuild::{ErrorKind, Report};
use std::fmt::Write as _;

use crate::failure::{Failure, SourceText};
use crate::terminal::Paint;
use crate::text::{calm, printable};

/// Lines of a failed step's output that are shown with its error.
const TAIL_LINES: usize = 30;

/// An error with everything below it, one block for each thing that is wrong.
pub(crate) fn render(failure: &Failure, paint: Paint) -> String {
    let mut out = String::new();
    for (number, report) in failure.error.reports().iter().enumerate() {
        if number > 0 {
            out.push('\n');
        }
        headline(&mut out, report, failure, paint);
        if number == 0 {
            below(&mut out, failure, paint);
        }
        for hint in &report.hints {
            line(&mut out, &paint.strong("hint:"), hint);
        }
    }
    for note in &failure.notes {
        line(&mut out, &paint.strong("note:"), note);
    }
    out
}

fn line(out: &mut String, label: &str, text: &str) {
    let mut lines = text.trim_end().lines();
    out.push_str(label);
    out.push(' ');
    out.push_str(&printable(lines.next().unwrap_or_default()));
    out.push('\n');
    for more in lines {
        out.push_str("  ");
        out.push_str(&calm(more));
        out.push('\n');
    }
}

/// What is wrong, and where.
fn headline(out: &mut String, report: &Report, failure: &Failure, paint: Paint) {
    let _ = writeln!(out, "{} {}", paint.error("error:"), paint.strong(&printable(&report.message)));
    let Some(location) = report.location else { return };
    let nowhere = SourceText { name: "Dockerfile".to_owned(), text: String::new() };
    let source = failure.source.as_ref().unwrap_or(&nowhere);
    let _ = writeln!(out, "  {} {}", paint.frame("-->"), place(source, report).unwrap_or_default());
    out.push_str(&excerpt::excerpt(&source.text, location, report.label, paint));
}

/// `NAME:LINE[:COLUMN]`. The line is that where the instruction begins, which is what other builders report; the column
/// is left out when what is to blame stands on a later one.
pub(crate) fn place(source: &SourceText, report: &Report) -> Option<String> {
    let location = report.location?;
    let name = printable(&source.name);
    let start = report.label.map_or(location.span.start, |label| label.start);
    let (line, column) = line_column(&source.text, start);
    let is_first_line = !source.text.is_empty() && u32::try_from(line) == Ok(location.start_line);
    Some(if is_first_line {
        format!("{name}:{}:{column}", location.start_line)
    } else {
        format!("{name}:{}", location.start_line)
    })
}

/// The reasons below an error, and the end of what its step printed.
fn below(out: &mut String, failure: &Failure, paint: Paint) {
    for cause in causes(failure) {
        line(out, &paint.strong("cause:"), &cause);
    }
    let shows_output = matches!(failure.error.kind(), ErrorKind::StepFailed(_)) && !failure.output_shown;
    let Some(tail) = failure.error.output().filter(|tail| shows_output && !tail.trim().is_empty()) else {
        return;
    };
    out.push_str(&paint.strong("output:"));
    out.push('\n');
    let lines: Vec<&str> = tail.lines().collect();
    for text in &lines[lines.len().saturating_sub(TAIL_LINES)..] {
        let shown = text.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default();
        let _ = writeln!(out, "  {}", calm(shown));
    }
}

/// Texts of the errors below, without those that only repeat the one above.
pub(crate) fn causes(failure: &Failure) -> Vec<String> {
    let mut above: Vec<String> =
        failure.error.reports().iter().map(|report| report.message.clone()).collect();
    let mut causes = Vec::new();
    let mut next = std::error::Error::source(&failure.error);
    while let Some(cause) = next {
        let text = cause.to_string();
        if !text.is_empty() && !above.iter().any(|above| above.contains(&text)) {
            above.push(text.clone());
            causes.push(text);
        }
        next = cause.source();
    }
    causes
}

#[cfg(test)]
mod tests {
    use ocibuild::dockerfile::Dockerfile;

    use super::*;

    fn rendered(text: &str) -> String {
        let error = Dockerfile::parse(text).unwrap_err();
        let source = SourceText { name: "Dockerfile".to_owned(), text: error.source.clone() };
        render(&Failure::from(error).with_source(source), Paint(false))
    }

    #[test]
    fn all_reports_of_a_file_are_shown() {
        let text = rendered("FROM alpine\nWROKDIR /x\nCOPY a\n");
        assert!(text.starts_with("error: unknown instruction: WROKDIR"), "{text}");
        assert!(text.contains("  --> Dockerfile:2:1\n"), "{text}");
        assert!(text.contains("2 | WROKDIR /x\n  | ^^^^^^^\n"), "{text}");
        assert!(text.contains("  --> Dockerfile:3:1\n"), "{text}");
    }

    #[test]
    fn control_characters_are_escaped() {
        let text = rendered("FROM alpine\n\u{1b}[2JRUNN x\u{202e}\n");
        assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'), "{text:?}");
    }

    #[test]
    fn a_cause_that_repeats_the_headline_is_left_out() {
        let inner = ocibuild::Error::new(ErrorKind::Host, "no space");
        let error = ocibuild::Error::new(ErrorKind::Host, "cannot write x: no space").caused_by(inner);
        assert_eq!(causes(&Failure::from(error)), Vec::<String>::new());
        let error = ocibuild::Error::new(ErrorKind::Host, "cannot write x")
            .caused_by(std::io::Error::other("disk on fire"))
            .hint("call somebody");
        let text = render(&Failure::from(error), Paint(false));
        assert_eq!(text, "error: cannot write x\ncause: disk on fire\nhint: call somebody\n");
    }

    #[test]
    fn output_is_shown_once() {
        let error = ocibuild::Error::new(ErrorKind::StepFailed(1), "failed")
            .with_output("a\nb\u{1b}[31m\n".to_owned());
        let mut failure = Failure::from(error);
        assert_eq!(render(&failure, Paint(false)), "error: failed\noutput:\n  a\n  b\n");
        failure.output_shown = true;
        assert_eq!(render(&failure, Paint(false)), "error: failed\n");
    }
}
