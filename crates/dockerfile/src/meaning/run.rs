//! `RUN`.

use super::flags::{Flags, Known, Takes};
use super::transfer::chomped;
use super::{Reading, Result};
use crate::Code;
use crate::diagnostic::Failure;
use crate::node::BorrowedHeredoc;
use crate::quote::quote;
use crate::syntax::heredoc;
use crate::{Command, InstructionKind, Run, RunCommand, RunNetwork, RunSecurity};

const FLAGS: Known =
    &[("mount", Takes::List), ("network", Takes::Text), ("security", Takes::Text), ("device", Takes::List)];

pub(super) fn run(reading: &Reading<'_>) -> Result<InstructionKind> {
    let flags = reading.flags(FLAGS)?;
    let run = Run {
        network: network(reading, &flags)?,
        security: security(reading, &flags)?,
        command: command(reading),
        mounts: reading.values(&flags, "mount"),
        devices: reading.values(&flags, "device"),
    };
    Ok(InstructionKind::Run(Box::new(run)))
}

fn network(reading: &Reading<'_>, flags: &Flags<'_>) -> Result<Option<RunNetwork>> {
    match flags.given("network") {
        None => Ok(None),
        Some("default") => Ok(Some(RunNetwork::Default)),
        Some("none") => Ok(Some(RunNetwork::None)),
        Some("host") => Ok(Some(RunNetwork::Host)),
        Some(other) => {
            let message = format!("invalid network mode {}", quote(other));
            let error = reading.flag_error(Code::InvalidNetwork, message, "network");
            Err(choice(error, "network", other, &["default", "none", "host"]))
        }
    }
}

fn security(reading: &Reading<'_>, flags: &Flags<'_>) -> Result<Option<RunSecurity>> {
    match flags.given("security") {
        None => Ok(None),
        Some("sandbox") => Ok(Some(RunSecurity::Sandbox)),
        Some("insecure") => Ok(Some(RunSecurity::Insecure)),
        Some(other) => {
            let message = format!("security {} is not valid", quote(other));
            let error = reading.flag_error(Code::InvalidSecurity, message, "security");
            Err(choice(error, "security", other, &["sandbox", "insecure"]))
        }
    }
}

/// Names the values that a flag can have, and the one that was probably meant.
fn choice(error: Failure, flag: &str, given: &str, known: &[&str]) -> Failure {
    let error = match crate::nearest(given, known.iter().copied()) {
        Some(nearest) => error.hint(format!("did you mean --{flag}={nearest}?")),
        None => error,
    };
    error.hint(format!("the values of --{flag} are {}", known.join(", ")))
}

fn command(reading: &Reading<'_>) -> RunCommand {
    let line = match reading.command(&reading.node.arguments) {
        Command::Exec(words) => return RunCommand::Exec(words),
        Command::Shell(line) => line,
    };
    match reading.node.heredocs.first() {
        Some(body) if heredoc::start(&line).is_some() => script(reading, body),
        // The line with its heredocs is as the shell wants it.
        Some(_) => RunCommand::Shell(reading.with_bodies(&line)),
        None => RunCommand::Shell(line),
    }
}

/// The line is nothing but a heredoc: its body is what runs.
fn script(reading: &Reading<'_>, body: &BorrowedHeredoc<'_>) -> RunCommand {
    let content = chomped(reading, &body.content, body.chomp);
    if body.content.starts_with("#!") {
        return RunCommand::Script { name: reading.text(&body.name), content };
    }
    RunCommand::Shell(content)
}
