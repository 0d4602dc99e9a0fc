//! `--on-error=shell`: the terminal goes to a shell in the place of the step that failed.

mod bring;

use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;

use ocibuild::executor::{Attached, Control, Stream};
use ocibuild::{Error, FailedStep};

use self::bring::Brought;
use crate::args::{BuildArgs, OnErrorArg};
use crate::failure::usage;
use crate::signals;
use crate::terminal::{Paint, RawMode, Screen, to_stderr, window};
use crate::text::printable;

/// Refuses a shell that nobody could type into, before anything is built.
pub(super) fn refuse_without_terminal(args: &BuildArgs) -> Result<(), Error> {
    if args.on_error != Some(OnErrorArg::Shell) {
        return Ok(());
    }
    let instead = "use --on-error=keep, which tells how to enter the step afterwards";
    if args.progress == "json" && !args.quiet {
        return Err(usage("--on-error=shell and --progress json cannot be used together").hint(instead));
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(
            usage("--on-error=shell needs a terminal on standard input and standard error").hint(instead)
        );
    }
    Ok(())
}

/// Brings this program into the step, to be its shell.
fn bring(step: &mut FailedStep<'_>) -> Result<Vec<String>, Error> {
    let brought = Brought::of_this_program()?;
    let directory = step.bring(&brought.files)?;
    Ok(brought.command(&directory))
}

/// Runs a shell in the step until it ends.
pub(super) fn enter(step: &mut FailedStep<'_>, screen: Screen) -> Result<(), Error> {
    let (shell, what) = match step.shell() {
        Some(shell) => (shell.clone(), shell[0].clone()),
        None => (
            bring(step)?,
            "a small shell of ocibuild (the image has none; `help` lists its commands)".to_owned(),
        ),
    };
    let paint = Paint(screen.colors);
    let (label, title) = (paint.error("failed:"), printable(step.title()));
    to_stderr(&format!("{label} {title}\nThis is {what} in its place; the build ends with it.\n"));
    let control = Control::default();
    let _resizing = signals::Resizing::start(&control)?;
    let mut raw = Ok(None);
    let stdin = io::stdin();
    let mut pass_on = |_: Stream, bytes: &[u8]| {
        let mut stderr = io::stderr().lock();
        if stderr.write_all(bytes).and_then(|()| stderr.flush()).is_err() {
            // The terminal is gone.
            control.close(Stream::Stdout);
        }
    };
    let attached = Attached {
        input: Some(stdin.as_fd()),
        output: &mut pass_on,
        control: control.clone(),
        started: Some(Box::new(|| raw = RawMode::enter().map(Some))),
    };
    let result = step.enter(shell, Some(window()), attached);
    drop(raw?);
    result.map(drop)
}
