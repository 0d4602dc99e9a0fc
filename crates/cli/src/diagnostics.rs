//! Errors as people and programs read them.

mod excerpt;
mod json;
mod usage;

pub(crate) use excerpt::excerpt as finding_excerpt;

use ocibuild::dockerfile::{Location, Span};
use ocibuild::{Code, ErrorKind, Hint, NotHere, Place, Report, Setting};
use std::fmt::Write as _;

use crate::failure::{Failure, SourceText};
use crate::terminal::Paint;
use crate::text::{calm, printable};

pub(crate) use json::reports as reports_json;
pub(crate) use usage::misused;

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
        for cause in reasons(report, failure) {
            line(&mut out, &paint.strong("cause:"), &cause);
        }
        if number == 0 {
            below(&mut out, failure, paint);
        }
        for hint in hints(report, failure) {
            line(&mut out, &paint.strong("hint:"), &hint);
        }
    }
    for note in &failure.notes {
        line(&mut out, &paint.strong("note:"), note);
    }
    out
}

fn line(out: &mut String, label: &str, text: &str) {
    let text = brief(text);
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

/// Characters of a text that are shown: a message may repeat a word of any length.
const MAX_SHOWN: usize = 2000;

/// The beginning and the end of a long text.
fn brief(text: &str) -> std::borrow::Cow<'_, str> {
    let count = text.chars().count();
    if count <= MAX_SHOWN {
        return text.into();
    }
    let half = MAX_SHOWN / 2;
    let begin: String = text.chars().take(half).collect();
    let end: String = text.chars().skip(count - half).collect();
    format!("{begin} … {end}").into()
}

/// What is wrong, and where.
fn headline(out: &mut String, report: &Report, failure: &Failure, paint: Paint) {
    let _ = writeln!(out, "{} {}", paint.error("error:"), paint.strong(&printable(&brief(&report.message))));
    let mut show = |place: &str, excerpt: &str| {
        let _ = writeln!(out, "  {} {place}", paint.frame("-->"));
        out.push_str(excerpt);
    };
    if let Some(location) = report.location {
        let source = source_of(failure);
        let excerpt = excerpt::excerpt(&source.text, location, report.label, paint);
        show(&instruction_place(&source, report).unwrap_or_default(), &excerpt);
    }
    match &report.place {
        Some(place @ Place::Line { line, text, .. }) => {
            // The line alone is known, as if it were a file that begins there.
            let location = Location { span: Span::new(0, text.len()), start_line: 1, end_line: 1 };
            let excerpt = excerpt::excerpt_from(*line, text, location, paint);
            show(&place_text(place), &excerpt);
        }
        Some(place) => show(&place_text(place), ""),
        None if report.location.is_none() => {
            if let Some(place) = place(failure, report) {
                show(&place, "");
            }
        }
        None => {}
    }
}

fn source_of(failure: &Failure) -> SourceText {
    failure
        .source
        .clone()
        .unwrap_or_else(|| SourceText { name: "Dockerfile".to_owned(), text: String::new() })
}

/// Where a report is: `NAME:LINE[:COLUMN]`, a file, or what stands on the command line.
pub(crate) fn place(failure: &Failure, report: &Report) -> Option<String> {
    if report.location.is_some() {
        return instruction_place(&source_of(failure), report);
    }
    if let Some(place) = &report.place {
        return Some(place_text(place));
    }
    match failure.error.kind() {
        ErrorKind::Dockerfile => failure.source.as_ref().map(|source| printable(&source.name)),
        ErrorKind::Usage => Some("command line".to_owned()),
        _ => None,
    }
}

/// The line is that where the instruction begins, which is what other builders report; the column is left out when what
/// is to blame stands on a later one.
fn instruction_place(source: &SourceText, report: &Report) -> Option<String> {
    let location = report.location?;
    let name = printable(&source.name);
    let start = report.label.map_or(location.span.start, |label| label.start);
    let line = format!("{name}:{}", location.start_line);
    Some(match location.column(start, &source.text) {
        Some(column) => format!("{line}:{column}"),
        None => line,
    })
}

/// As much of an instruction as one line of reasons repeats.
const MAX_QUOTED: usize = 160;

/// Why it is so: what the error says, and what is to blame if nothing else names that.
pub(crate) fn reasons(report: &Report, failure: &Failure) -> Vec<String> {
    let mut reasons = report.causes.clone();
    let Some((location, source)) = report.location.zip(failure.source.as_ref()) else { return reasons };
    let instruction = source.text.get(location.span.range()).unwrap_or_default();
    let blamed = report.label.and_then(|label| source.text.get(label.range())).unwrap_or(instruction);
    let is_named = |text: &String| text.contains(blamed);
    // A command that failed is in the headline.
    let is_step = matches!(failure.error.kind(), ErrorKind::StepFailed(_));
    // A line that is too long is not an instruction yet: the place is what was read before.
    let is_line = report.id == ocibuild::dockerfile::Code::LineTooLong.as_str();
    if is_step
        || is_line
        || instruction.is_empty()
        || is_named(&report.message)
        || reasons.iter().any(is_named)
    {
        return reasons;
    }
    let first_line = instruction.lines().next().unwrap_or_default();
    let short: String = first_line.chars().take(MAX_QUOTED).collect();
    let cut = if short.len() < instruction.trim_end().len() { " …" } else { "" };
    reasons.push(format!("the instruction is: {}{cut}", short.trim_end()));
    reasons
}

/// What to do: what the error says, or what goes for all errors of its class.
pub(crate) fn hints(report: &Report, failure: &Failure) -> Vec<String> {
    let mut hints: Vec<String> = report.hints.iter().map(hint_text).collect();
    let missing = failure.error.find::<NotHere>().map(|missing| missing.reference.familiar());
    hints.extend(missing.map(|name| format!("fetch it while a network may be used: ocibuild pull {name}")));
    if hints.is_empty() {
        let advice = failure.error.advice().map(|advice| match failure.error.kind() {
            ErrorKind::Usage => "change the command line; `--help` after the verb shows what it takes",
            _ => advice,
        });
        return advice.map(str::to_owned).into_iter().collect();
    }
    let is = |code: Code| report.id == code.as_str();
    if is(Code::LinkLocalAddress) {
        hints.push("to allow it: --allow-link-local HOST".to_owned());
    } else if is(Code::Offline) {
        hints.push("or omit --offline".to_owned());
    } else if is(Code::ArchiveTooLarge) {
        hints.insert(0, "to allow more: --archive-limit SIZE, for example 20g".to_owned());
    }
    hints
}

/// A hint as the command line has it.
pub(crate) fn hint_text(hint: &Hint) -> String {
    hint.with_settings(flag)
}

/// A setting as the command line has it; flags of the program stand here and nowhere in the library.
fn flag(setting: Setting, value: &str) -> String {
    let flag = match setting {
        Setting::BuildArg => "--build-arg",
        Setting::BuildContext => "--build-context",
        Setting::Target => "--target",
        Setting::Platform => "--platform",
        Setting::Allow => "--allow",
        Setting::Network => "--network",
        Setting::Secret => "--secret",
        Setting::Ssh => "--ssh",
        Setting::Dockerfile => "-f",
        Setting::StateDirectory => "--root",
        Setting::Prune => "`ocibuild prune`",
        Setting::NoCache => "--no-cache",
        Setting::RequireCache => "--require-cache",
        Setting::Output => "--output",
        Setting::Load => "--load=",
        Setting::Tag => "-t",
        Setting::Runtime => "--runtime",
        Setting::Memory => "--memory",
        Setting::Processes => "--pids-limit",
        Setting::Images => "`ocibuild images`",
        Setting::KeepFailed => "--on-error=keep",
        Setting::KeptStep => "ocibuild run -it --bundle",
        Setting::SaveFormat => "--format",
        Setting::Append => "--append",
        Setting::Replace => "--replace",
        Setting::Expect => "--expect",
        Setting::CaCertificate => "--cacert",
        Setting::InsecureRegistry => "--insecure-registry",
        Setting::TokenRealm => "--allow-token-realm",
        Setting::Mirror => "--registry-mirror",
        Setting::Login => "ocibuild login",
        Setting::RemoveImage => "`ocibuild rmi`",
        Setting::RunName => "--run",
        Setting::Os => "--os",
        Setting::Architecture => "--arch",
        Setting::Variant => "--variant",
        Setting::AllPlatforms => "--all-platforms",
        Setting::PullPlatform => "`ocibuild pull --platform`",
        Setting::PullAllPlatforms => "`ocibuild pull --all-platforms`",
        Setting::IndexCreate => "ocibuild index create",
        Setting::IndexAdd => "ocibuild index create --append",
        Setting::IndexRemove => "ocibuild index rm",
        Setting::IndexInspect => "`ocibuild index inspect`",
        Setting::IndexJoin => "`ocibuild index push --expect`",
        other => other.name(),
    };
    match setting {
        Setting::Login if value.is_empty() => format!("`{flag}`"),
        Setting::IndexCreate | Setting::IndexAdd | Setting::IndexRemove | Setting::Login
            if !value.is_empty() =>
        {
            format!("`{flag} {value}`")
        }
        _ if value.is_empty() || flag.ends_with('=') => format!("{flag}{value}"),
        _ => format!("{flag} {value}"),
    }
}

/// A place that is not an instruction.
fn place_text(place: &Place) -> String {
    printable(&match place {
        Place::Setting(setting, value) => format!("command line: {}", flag(*setting, value)),
        place => place.to_string(),
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
            .with_output("a\nb\u{1b}[31m\n".to_owned())
            .hint("h");
        let mut failure = Failure::from(error);
        assert_eq!(render(&failure, Paint(false)), "error: failed\noutput:\n  a\n  b\nhint: h\n");
        failure.output_shown = true;
        assert_eq!(render(&failure, Paint(false)), "error: failed\nhint: h\n");
    }
}
