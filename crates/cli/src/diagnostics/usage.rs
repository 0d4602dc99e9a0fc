//! A command line that makes no sense, in the words of the parser of arguments and the form of all errors.

use std::fmt::Write as _;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, Error};
use ocibuild::dockerfile::nearest;

use crate::args::Cli;
use crate::terminal::Paint;
use crate::text::printable;

/// The text of an error; `None` for help and version, which are what was asked for.
pub(crate) fn misused(error: &Error, paint: Paint) -> Option<String> {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return None;
    }
    let text = error.render().to_string();
    let mut paragraphs = text.split("\n\n");
    let first = paragraphs.next().unwrap_or_default();
    let headline =
        first.strip_prefix("error:").unwrap_or(first).split_whitespace().collect::<Vec<_>>().join(" ");
    let mut out = format!("{} {}\n", paint.error("error:"), paint.strong(&printable(&headline)));
    let _ = writeln!(out, "  {} command line", paint.frame("-->"));
    let mut hint = |text: &str| {
        let _ = writeln!(out, "{} {}", paint.strong("hint:"), printable(text));
    };
    let mut usage = None;
    for paragraph in paragraphs {
        for line in paragraph.lines().map(str::trim) {
            if let Some(tip) = line.strip_prefix("tip:") {
                hint(tip.trim());
            } else if let Some(text) = line.strip_prefix("Usage:") {
                usage = Some(text.trim().to_owned());
            }
        }
    }
    for text in own_hints(error) {
        hint(&text);
    }
    if let Some(usage) = usage {
        hint(&format!("usage: {usage}; --help says more"));
    }
    Some(out)
}

/// What the parser does not know about the habits of people.
fn own_hints(error: &Error) -> Vec<String> {
    let mut hints = Vec::new();
    let value = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => Some(texts.join(" ")),
        _ => None,
    };
    let argument = value(ContextKind::InvalidArg).unwrap_or_default();
    match error.kind() {
        ErrorKind::MissingRequiredArgument if argument.contains("CONTEXT") => {
            hints.push(
                "name the directory of the build context; \".\" is this one: ocibuild build .".to_owned(),
            );
        }
        ErrorKind::MissingRequiredArgument => hints.push(format!("give {argument}")),
        ErrorKind::UnknownArgument if argument.starts_with('-') => {
            hints.extend(nearest_flag(&argument).map(|flag| format!("did you mean {flag}?")));
            if error.get(ContextKind::SuggestedSubcommand).is_none() {
                hints.push(format!(
                    "check {argument}, and that it stands behind its verb: ocibuild build [FLAGS] CONTEXT"
                ));
            }
        }
        ErrorKind::UnknownArgument => {
            hints.push(format!(
                "there is one CONTEXT: remove {argument}, put quotes around values with blanks, and name the Dockerfile with -f"
            ));
        }
        ErrorKind::InvalidSubcommand => {
            let given = value(ContextKind::InvalidSubcommand).unwrap_or_default();
            let command = Cli::command();
            let verbs: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
            if let Some(verb) = nearest(&given, verbs.iter().copied()) {
                hints.push(format!("did you mean ocibuild {verb}?"));
            }
            hints.push(format!("the verbs are {}", verbs.join(", ")));
        }
        ErrorKind::MissingSubcommand => hints.push("begin with a verb: ocibuild build .".to_owned()),
        ErrorKind::InvalidValue => hints.push(format!("give {argument} one of the values there are")),
        ErrorKind::ArgumentConflict => {
            hints.push(format!("leave {argument} out, or what it does not go with"));
        }
        _ => {}
    }
    hints
}

fn nearest_flag(given: &str) -> Option<String> {
    let name = given.trim_start_matches('-').split('=').next()?;
    let command = Cli::command();
    let flags: Vec<String> = command
        .get_subcommands()
        .flat_map(clap::Command::get_arguments)
        .chain(command.get_arguments())
        .filter(|argument| !argument.is_hide_set())
        .filter_map(|argument| argument.get_long().map(str::to_owned))
        .collect();
    nearest(name, flags.iter().map(String::as_str)).map(|flag| format!("--{flag}"))
}
