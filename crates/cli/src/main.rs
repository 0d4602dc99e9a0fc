//! The program `ocibuild`: arguments, terminal, exit codes. Everything else is in the library.
#![forbid(unsafe_code)]

mod args;
mod backends;
mod credentials;
mod deploy;
mod diagnostics;
mod failure;
mod input;
mod listing;
mod privilege;
mod progress;
mod remote;
mod signals;
mod state_dir;
mod step_shell;
mod table;
mod template;
mod terminal;
mod text;
mod values;
mod verbs;

use std::process::ExitCode;

use clap::Parser;
use ocibuild::ErrorKind;

use crate::args::{AuthVerb, Cli, ContextVerb, ImageVerb, RegistryVerb, Verb};
use crate::failure::{BUG, Failure, Outcome, exit_code};
use crate::terminal::{Paint, Screen, to_stderr};

fn main() -> ExitCode {
    report_bugs();
    let run = || match Cli::try_parse() {
        Ok(cli) => conclude(signals::settle().map_err(Failure::from).and_then(|()| dispatch(cli))),
        Err(error) => misused(&error),
    };
    std::panic::catch_unwind(run).unwrap_or(ExitCode::from(BUG))
}

/// Says of a panic what it is, once, on whichever thread it happens.
fn report_bugs() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(|place| format!(" at {place}")).unwrap_or_default();
        let text = panic.payload().downcast_ref::<String>().map(String::as_str);
        let reason = text.or_else(|| panic.payload().downcast_ref().copied()).unwrap_or("no reason given");
        to_stderr(&format!(
            "error: this is a bug of ocibuild {}{place}: {}\nhint: please report it with the command line and the \
             Dockerfile\n",
            env!("CARGO_PKG_VERSION"),
            text::printable(reason),
        ));
    }));
}

/// Help and version are what was asked for; anything else is wrong usage.
fn misused(error: &clap::Error) -> ExitCode {
    match diagnostics::misused(error, Paint(Screen::of_stderr().colors)) {
        Some(text) => to_stderr(&text),
        // A reader that has gone away has seen enough.
        None => drop(error.print()),
    }
    u8::try_from(error.exit_code()).map_or(ExitCode::from(2), ExitCode::from)
}

fn dispatch(cli: Cli) -> Outcome {
    let root = cli.root.as_deref();
    match cli.verb {
        Verb::Build(args) => verbs::build(root, &args),
        Verb::Plan(args) => verbs::plan(root, &args),
        Verb::Images(args) | Verb::Image { verb: ImageVerb::Ls(args) } => verbs::images(root, &args),
        Verb::Inspect(args) | Verb::Image { verb: ImageVerb::Inspect(args) } => verbs::inspect(root, &args),
        Verb::History(args) | Verb::Image { verb: ImageVerb::History(args) } => verbs::history(root, &args),
        Verb::Tag(args) | Verb::Image { verb: ImageVerb::Tag(args) } => verbs::tag(root, &args),
        Verb::Rmi(args) | Verb::Image { verb: ImageVerb::Rm(args) } => verbs::rmi(root, &args),
        Verb::Pull(args) | Verb::Image { verb: ImageVerb::Pull(args) } => verbs::pull(root, &args),
        Verb::Push(args) | Verb::Image { verb: ImageVerb::Push(args) } => verbs::push(root, &args),
        Verb::Login(args) => verbs::login(&args),
        Verb::Logout(args) => verbs::logout(&args),
        Verb::Auth { verb: AuthVerb::Explain(args) } => verbs::explain(&args),
        Verb::Save(args) | Verb::Image { verb: ImageVerb::Save(args) } => verbs::save(root, &args),
        Verb::Load(args) | Verb::Image { verb: ImageVerb::Load(args) } => verbs::load(root, &args),
        Verb::Registry { verb: RegistryVerb::Resolve(args) } => verbs::registry_resolve(&args),
        Verb::Index { verb } => verbs::index(root, &verb),
        Verb::Run(args) => verbs::run(root, &args),
        Verb::DeployManifest(args) => verbs::deploy_manifest(root, &args),
        Verb::Du(args) => verbs::du(root, &args),
        Verb::Prune(args) | Verb::Image { verb: ImageVerb::Prune(args) } => verbs::prune(root, &args),
        Verb::StepShell => step_shell::run(),
        Verb::Doctor(args) => verbs::doctor(root, &args),
        Verb::Context { verb: ContextVerb::Ls(args) } => verbs::context_ls(&args),
        Verb::Ast { file } => verbs::ast(&file),
        Verb::Expand => verbs::expand(),
        Verb::Ignore { file } => verbs::ignore(&file),
    }
}

fn conclude(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(code) => code,
        Err(failure) => ExitCode::from(tell(&failure)),
    }
}

/// Shows an error, and gives its exit code.
fn tell(failure: &Failure) -> u8 {
    let kind = failure.error.kind();
    let code = match kind {
        // `run` ends with what the container would have ended with.
        ErrorKind::StepFailed(code) if failure.is_container => u8::try_from(code).unwrap_or(1),
        _ => exit_code(kind, failure.signal),
    };
    if failure.is_reader_gone() {
        return 128 + 13;
    }
    let text = match kind {
        _ if failure.as_json => progress::error_object(failure, code),
        ErrorKind::Cancelled => "error: cancelled\n".to_owned(),
        _ => diagnostics::render(failure, Paint(Screen::of_stderr().colors)),
    };
    to_stderr(&text);
    code
}
