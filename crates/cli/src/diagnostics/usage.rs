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
            if let Some(tip) = line.strip_prefix("tip:").map(str::trim) {
                // A flag that nobody knows is seldom meant as CONTEXT, and one that others know is not misspelt.
                if !tip.starts_with("to pass") && !is_foreign(error) {
                    hint(tip);
                }
            } else if let Some(text) = line.strip_prefix("Usage:") {
                usage = Some(text.trim().to_owned());
            }
        }
    }
    for text in own_hints(error) {
        hint(&text);
    }
    if let Some(usage) = usage.filter(|_| !is_foreign(error)) {
        hint(&format!("usage: {usage}; --help shows more"));
    }
    Some(out)
}

/// Flags of other builders, and what to use instead.
const FOREIGN_FLAGS: [(&str, &str); 27] = [
    (
        "--squash",
        "omit it: layers are not squashed here; copy what the image needs into a last stage with COPY --from",
    ),
    ("--rm", "omit it: no containers are left behind"),
    ("--force-rm", "omit it: no containers are left behind"),
    ("--compress", "omit it: the context is not sent anywhere"),
    ("--destination", "name the image with -t NAME[:TAG]"),
    ("--dockerfile", "name the Dockerfile with -f FILE"),
    ("--context", "CONTEXT is a separate argument, the last one: ocibuild build ."),
    ("--context-sub-path", "name the directory itself as CONTEXT: ocibuild build ./dir"),
    ("--no-push", "omit it: nothing is pushed"),
    ("--tar-path", "write an archive with -o type=docker,dest=FILE"),
    ("--tarPath", "write an archive with -o type=docker,dest=FILE"),
    ("--oci-layout-path", "write a layout with -o type=oci,tar=false,dest=DIR"),
    ("--cache", "omit it: steps are cached by default"),
    ("--layers", "omit it: steps are cached by default"),
    ("--isolation", "omit it, or choose with --sandbox"),
    (
        "--security-opt",
        "omit it: a step asks with RUN --security=insecure, and --allow security.insecure lets it",
    ),
    (
        "--privileged",
        "omit it: a step asks with RUN --security=insecure, and --allow security.insecure lets it",
    ),
    ("--volume", "omit it: bring files in with COPY or RUN --mount=type=bind, others with --build-context"),
    ("-v", "omit it: bring files in with COPY or RUN --mount=type=bind, others with --build-context"),
    ("--env", "set variables with ENV in the Dockerfile, or ARG and --build-arg NAME=VALUE"),
    ("-e", "set variables with ENV in the Dockerfile, or ARG and --build-arg NAME=VALUE"),
    ("-p", "ports are opened when the image runs: EXPOSE in the Dockerfile"),
    ("--name", "name the image with -t NAME[:TAG]"),
    ("--verbosity", "choose with --progress plain or --progress quiet"),
    ("--verbose", "choose with --progress plain"),
    ("--build", "this is a flag of compose: ocibuild build ."),
    ("--no-deps", "this is a flag of compose: ocibuild build ."),
];

const ONE_COMMAND: &str =
    "ocibuild runs one command and ends with it; run the image with docker, podman or nerdctl";
const OPEN_PORTS: &str = "the network is this machine's, so ports are open as they are: omit it";
const MAPPED_PORTS: &str = "the network is this machine's, so ports are open as they are; to map them, run the image with \
                            docker, podman or nerdctl";
const AS_A_STEP: &str = "commands have the capabilities and the filter of a build step; for more, run the image with docker, \
                         podman or nerdctl";
const NO_DEVICES: &str =
    "commands see the devices of a build step; for more, run the image with docker, podman or nerdctl";
const OWN_NAMESPACES: &str = "a command has namespaces of its own, but for the network; for others, run the image with docker, podman or nerdctl";

/// Flags of `docker run`, and what to use instead.
const FOREIGN_RUN_FLAGS: [(&str, &str); 29] = [
    ("-P", OPEN_PORTS),
    ("--publish-all", OPEN_PORTS),
    ("--expose", OPEN_PORTS),
    ("-p", MAPPED_PORTS),
    ("--publish", MAPPED_PORTS),
    ("-d", ONE_COMMAND),
    ("--detach", ONE_COMMAND),
    ("--name", ONE_COMMAND),
    ("--restart", ONE_COMMAND),
    ("--cidfile", ONE_COMMAND),
    ("--health-cmd", ONE_COMMAND),
    ("--privileged", AS_A_STEP),
    ("--cap-add", AS_A_STEP),
    ("--security-opt", AS_A_STEP),
    ("--sysctl", AS_A_STEP),
    ("--device", NO_DEVICES),
    ("--gpus", NO_DEVICES),
    ("--pid", OWN_NAMESPACES),
    ("--ipc", OWN_NAMESPACES),
    ("--uts", OWN_NAMESPACES),
    ("--userns", OWN_NAMESPACES),
    ("--cgroupns", OWN_NAMESPACES),
    ("--init", "omit it, or start an init in the image: the command is process 1"),
    ("--read-only", "omit it: what a command writes is gone afterwards; volumes take :ro"),
    ("--mount", "write -v SRC:DST[:ro]"),
    ("--tmpfs", "omit it: what a command writes is gone afterwards, wherever that is"),
    ("--sig-proxy", "omit it: signals go to the command"),
    ("--label", "omit it: no container is kept that could have labels"),
    ("-l", "omit it: no container is kept that could have labels"),
];

/// Verbs of other programs, and what to use instead.
const FOREIGN_VERBS: [(&str, &str); 19] = [
    ("bake", "ocibuild builds one image: ocibuild build --target STAGE DIR, for each target of the file"),
    ("completion", "completion is not supported yet; ocibuild help VERB lists the flags of a verb"),
    ("info", "write ocibuild --version, or ocibuild du for what takes up space"),
    ("kill", "there are no containers here; end ocibuild run with Ctrl-C"),
    ("system", "write ocibuild du for system df, and ocibuild prune for system prune"),
    ("version", "write ocibuild --version"),
    ("buildx", "write ocibuild build instead of buildx build"),
    ("builder", "write ocibuild build instead of builder build"),
    ("bud", "write ocibuild build"),
    ("container", "there are no containers here; ocibuild run tries an image"),
    ("compose", "ocibuild builds one image: ocibuild build DIR, for each service"),
    ("up", "ocibuild builds one image: ocibuild build DIR, for each service"),
    ("down", "ocibuild builds images only; there is nothing to stop"),
    ("ps", "there are no containers here; ocibuild images lists images"),
    ("exec", "there are no containers here; ocibuild run tries an image"),
    ("start", "there are no containers here; ocibuild run tries an image"),
    ("stop", "there are no containers here; ocibuild run tries an image"),
    ("rm", "images are removed with ocibuild rmi"),
    ("commit", "write the steps into a Dockerfile: ocibuild build ."),
];

fn foreign(error: &Error) -> Option<&'static str> {
    let given = match error.kind() {
        ErrorKind::UnknownArgument => context(error, ContextKind::InvalidArg),
        ErrorKind::InvalidSubcommand => context(error, ContextKind::InvalidSubcommand),
        _ => return None,
    }?;
    let name = given.split('=').next()?;
    let table: &[(&str, &str)] = match error.kind() {
        ErrorKind::UnknownArgument if verb().as_deref() == Some("run") => &FOREIGN_RUN_FLAGS,
        ErrorKind::UnknownArgument => &FOREIGN_FLAGS,
        _ => &FOREIGN_VERBS,
    };
    table.iter().find(|(known, _)| *known == name).map(|(_, advice)| *advice)
}

/// The first word of the command line that is a verb.
fn verb() -> Option<String> {
    let command = Cli::command();
    let words = std::env::args_os().skip(1).filter_map(|word| word.into_string().ok());
    words.into_iter().find(|word| command.get_subcommands().any(|verb| verb.get_name() == word))
}

/// Whether the verb takes a CONTEXT, as those do that nobody named.
fn builds() -> bool {
    matches!(verb().as_deref(), None | Some("build" | "plan"))
}

fn is_foreign(error: &Error) -> bool {
    foreign(error).is_some()
}

fn context(error: &Error, kind: ContextKind) -> Option<String> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => Some(texts.join(" ")),
        _ => None,
    }
}

/// What the words of the command line tell, whatever the parser stopped at.
fn slips(error: &Error, words: &[String]) -> Vec<String> {
    let mut hints = Vec::new();
    for pair in words.windows(2) {
        let [before, word] = pair else { continue };
        if let Some(text) = before.strip_suffix(',').filter(|text| text.contains('=')) {
            hints.push(format!("write no space after a comma: {text},{word}"));
        }
        if word.len() > 1 && word.starts_with('=') {
            hints.push(format!("write no spaces around the \"=\": {before}{word}"));
        }
        let is_last = words.last() == Some(word);
        let is_missing = error.kind() == ErrorKind::MissingRequiredArgument && is_last;
        if is_missing && takes_value(before) && std::path::Path::new(word).is_dir() {
            hints.push(format!("{word} is read as the value of {before}: write {before} VALUE {word}"));
        }
    }
    for word in words {
        if let Some(flag) = word.strip_prefix(['\u{2013}', '\u{2014}', '\u{2212}']) {
            let flag = flag.trim_start_matches('-');
            hints.push(format!("{word} begins with a typographic dash; use two hyphens: --{flag}"));
        }
        let is_plain = !word.starts_with('-') && std::path::Path::new(word).is_file();
        if is_plain && error.kind() == ErrorKind::UnknownArgument && builds() && is_positional(words, word) {
            hints.push(format!("name the Dockerfile with -f: ocibuild build -f {word} CONTEXT"));
        }
        let name = word.trim_start_matches('-').split('=').next().unwrap_or_default();
        if word.starts_with('-') && !word.starts_with("--") && name.len() > 2 && is_flag(name) {
            hints.push(format!("flags longer than one letter take two dashes: -{word}"));
        }
    }
    hints
}

fn is_flag(name: &str) -> bool {
    any_argument(&|argument| argument.get_long() == Some(name) && !argument.is_hide_set())
}

/// Whether `word` stands where CONTEXT does: not behind a flag that takes a value.
fn is_positional(words: &[String], word: &str) -> bool {
    let at = words.iter().position(|other| other == word);
    at.and_then(|at| words.get(at.checked_sub(1)?))
        .is_none_or(|before| before.contains('=') || !takes_value(before))
}

fn takes_value(flag: &str) -> bool {
    let long = flag.strip_prefix("--");
    let short = flag.strip_prefix('-').filter(|_| long.is_none()).and_then(|name| {
        let mut letters = name.chars();
        letters.next().filter(|_| letters.next().is_none())
    });
    any_argument(&|argument| {
        let is_it = (long.is_some() && argument.get_long() == long)
            || (short.is_some() && argument.get_short() == short);
        is_it && argument.get_action().takes_values()
    })
}

fn any_argument(is_it: &dyn Fn(&clap::Arg) -> bool) -> bool {
    let command = Cli::command();
    command.get_subcommands().flat_map(clap::Command::get_arguments).any(is_it)
}

/// What the parser does not know about the habits of people.
fn own_hints(error: &Error) -> Vec<String> {
    if let Some(advice) = foreign(error) {
        return vec![advice.to_owned()];
    }
    let words: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let mut hints = slips(error, &words);
    let value = |kind| context(error, kind);
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
                let verb = verb().unwrap_or_else(|| "build".to_owned());
                let rest = if builds() { " CONTEXT" } else { "" };
                hints.push(format!(
                    "check the spelling of {argument}; flags come after their verb: ocibuild {verb} [FLAGS]{rest}"
                ));
            }
        }
        ErrorKind::UnknownArgument if hints.is_empty() => hints.push(match verb().as_deref() {
            Some("load") => format!("name the archive with -i: ocibuild load -i {argument}"),
            _ if builds() => format!(
                "there is only one CONTEXT: remove {argument}, quote values that contain spaces, and name the Dockerfile with -f"
            ),
            _ => format!("remove {argument}, or quote values that contain spaces"),
        }),
        ErrorKind::InvalidSubcommand => {
            let given = value(ContextKind::InvalidSubcommand).unwrap_or_default();
            let command = Cli::command();
            // Of `image` and the like the verbs stand one level below.
            let before = words.iter().position(|word| *word == given).and_then(|at| words.get(at.checked_sub(1)?));
            let above =
                before.and_then(|name| command.find_subcommand(name)).filter(|verb| verb.has_subcommands());
            let prefix = above.map(|verb| format!("{} ", verb.get_name())).unwrap_or_default();
            let verbs: Vec<&str> =
                above.unwrap_or(&command).get_subcommands().map(clap::Command::get_name).collect();
            if let Some(verb) = nearest(&given, verbs.iter().copied()) {
                hints.push(format!("did you mean ocibuild {prefix}{verb}?"));
            }
            hints.push(format!("the verbs are {}", verbs.join(", ")));
        }
        ErrorKind::MissingSubcommand => hints.push("begin with a verb: ocibuild build .".to_owned()),
        ErrorKind::InvalidValue if value(ContextKind::InvalidValue).is_none_or(|value| value.is_empty()) => {
            hints.push(format!("put a value after it: {argument}"));
        }
        ErrorKind::TooManyValues | ErrorKind::WrongNumberOfValues => {
            let given = value(ContextKind::InvalidValue).unwrap_or_default();
            hints.push(format!("{argument} takes no value: omit ={given}"));
        }
        ErrorKind::InvalidValue => hints.push(format!("give {argument} one of its values")),
        ErrorKind::ArgumentConflict => {
            let other = value(ContextKind::PriorArg).filter(|other| *other != argument);
            hints.push(match other {
                Some(other) => format!("omit {argument} or {other}"),
                None => format!("give {argument} once"),
            });
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
