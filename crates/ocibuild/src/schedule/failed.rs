//! What becomes of a step whose command failed, once nothing else of the build runs.

use std::fmt;
use std::path::PathBuf;

use ocibuild_executor::{Attached, Executor, ExitStatus, WindowSize};
use ocibuild_spec::CancelToken;

use super::Session;
use crate::error::Error;
use crate::event::Event;
use crate::failure::{ErrorKind, StepFact};
use crate::run::HeldStep;

/// What is done with the files of a step whose command failed.
#[derive(Clone, Copy)]
pub(crate) enum OnFailure<'a> {
    /// They go.
    Discard,
    /// They are kept as a bundle.
    Keep,
    /// Somebody looks at them first.
    Attend(&'a Attendant<'a>),
}

/// Gets a step that failed.
pub(crate) type Attendant<'a> = dyn Fn(&mut FailedStep<'_>) -> Result<(), Error> + Sync + 'a;

/// A step whose command failed, as it was left: other commands can be run in its place.
pub struct FailedStep<'a> {
    held: HeldStep,
    title: String,
    executor: &'a dyn Executor,
    cancel: &'a CancelToken,
}

impl FailedStep<'_> {
    /// `[stage i/n] TEXT`
    pub fn title(&self) -> &str {
        &self.title
    }

    /// The command line of the shell that is to be had: that of `SHELL` if the files of the step have it, or one of those that
    /// images usually have.
    pub fn shell(&self) -> Option<Vec<String>> {
        self.held.shell(self.cancel)
    }

    /// Copies files of this host to where the commands that enter the step see them, read-only and executable, and gives the
    /// directory: for a step whose image does not have the tools to look at it. Each has the name that is given with it. They are
    /// in no layer.
    pub fn bring(&mut self, files: &[(String, PathBuf)]) -> Result<PathBuf, Error> {
        self.held.bring(files)
    }

    /// Runs a command in place of the one that failed: on the files as that left them, with the same mounts (secrets, caches and
    /// agents included; file systems in memory are new ones where there are mounts), the same environment, user, directory, network and limits. It has a terminal
    /// of this size, if one is given. What it changes is there for the next one, and gone with the build.
    pub fn enter(
        &mut self,
        args: Vec<String>,
        terminal: Option<WindowSize>,
        attached: Attached<'_, '_>,
    ) -> Result<ExitStatus, Error> {
        self.held.enter(self.executor, (args, terminal), attached, self.cancel)
    }
}

impl fmt::Debug for FailedStep<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FailedStep").field("title", &self.title).finish_non_exhaustive()
    }
}

/// Does with a step what is wanted; its error, with what came of that.
pub(super) fn attend(session: &Session<'_>, held: HeldStep, title: String, error: Error) -> Error {
    if session.cancel.is_cancelled() {
        return error;
    }
    let step = held.id;
    let attended = match session.on_failure {
        OnFailure::Discard => return error,
        OnFailure::Keep => {
            let kept = held.keep(&session.backends.store.private_dir("kept"), session.cancel);
            kept.map(|kept| {
                session.emit(Event::StepKept { step, title, kept: kept.clone() });
                Some(StepFact::Kept(kept))
            })
        }
        OnFailure::Attend(attendant) => {
            session.emit(Event::StepEntered { step, title: title.clone() });
            session.settle();
            let (executor, cancel) = (session.backends.executor, session.cancel);
            attendant(&mut FailedStep { held, title, executor, cancel }).map(|()| None)
        }
    };
    match attended {
        Ok(Some(fact)) => error.with_step_fact(fact),
        Ok(None) => error,
        // Somebody does not want to wait for it; the step has failed all the same.
        Err(other) if other.kind() == ErrorKind::Cancelled => error,
        Err(other) => {
            let reason = reason(&other);
            let is_kept = matches!(session.on_failure, OnFailure::Keep);
            let fact = if is_kept { StepFact::NotKept { reason } } else { StepFact::NotEntered { reason } };
            error.with_step_fact(fact)
        }
    }
}

/// An error as one line.
fn reason(error: &Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}
