//! `run --bundle`: a step that failed and was kept.

use std::path::Path;

use ocibuild::executor::{Attached, Control};
use ocibuild::state::EnterOptions;

use super::{attached, check_sandbox, variables};
use crate::args::{PullWhen, RunArgs, SandboxArg};
use crate::backends::{executor, open_images};
use crate::failure::{Outcome, usage};
use crate::signals::Signals;
use crate::state_dir::state_dir;
use crate::terminal::window;
use crate::values;

/// Runs a command in it. It lies in the state directory that it is of.
pub(super) fn enter(bundle: &Path, args: &RunArgs) -> Outcome {
    refuse(args)?;
    let path = fs_err::canonicalize(bundle).ok().filter(|path| path.join("config.json").is_file());
    let root = path.as_deref().and_then(Path::parent).and_then(Path::parent);
    let (Some(path), Some(root)) = (&path, root) else {
        return Err(usage(format!("--bundle {}: this is not a step that was kept", bundle.display()))
            .hint("`ocibuild build --on-error=keep` keeps a step that fails, and says where")
            .into());
    };
    let executor = executor(args.runtime.as_deref(), SandboxArg::Auto)?;
    let shop = open_images(&state_dir(Some(root))?)?;
    check_sandbox(&shop, executor.as_ref())?;
    let mut options = EnterOptions::default();
    options.args = args.words().to_vec();
    options.env = variables(args)?;
    options.working_dir = args.workdir.as_deref().map(values::workdir).transpose()?.flatten();
    options.terminal = args.tty.then(window);
    let control = Control::default();
    let signals = Signals::forward(&control)?;
    let run = |attached: Attached<'_, '_>| {
        shop.state().enter(path, &options, executor.as_ref(), attached, &signals.cancel)
    };
    attached(&shop, args, (control, &signals), run)
}

/// What a step has of its own.
fn refuse(args: &RunArgs) -> Result<(), ocibuild::Error> {
    let flags = [
        ("--volume", !args.volume.is_empty()),
        ("--user", args.user.is_some()),
        ("--entrypoint", args.entrypoint.is_some()),
        ("--hostname", args.hostname.is_some()),
        ("--add-host", !args.add_host.is_empty()),
        ("--network", args.network.is_some()),
        ("--cap-drop", !args.cap_drop.is_empty()),
        ("--pull", args.pull != PullWhen::Missing),
    ];
    match flags.into_iter().find(|(_, given)| *given) {
        Some((flag, _)) => Err(usage(format!("{flag} and --bundle cannot be used together"))
            .hint("a step that is kept has what it had; config.json in its directory can be edited")),
        None => Ok(()),
    }
}
