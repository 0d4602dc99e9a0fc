use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use ocibuild::Error;
use ocibuild::executor::Stream;
use ocibuild::state::ContainerOptions;

use crate::args::RunArgs;
use crate::backends::{Workshop, executor, resolv_conf};
use crate::failure::{Failure, Outcome};
use crate::input::process_env;
use crate::privilege;
use crate::signals::Signals;
use crate::state_dir::state_dir;
use crate::values;

/// Runs an image and ends as its command does.
pub(crate) fn run(root: Option<&Path>, args: &RunArgs) -> Outcome {
    let name = values::reference(&args.image)?;
    let options = options(args)?;
    let executor = executor(args.runtime.as_deref())?;
    let root = state_dir(root)?;
    let privilege = privilege::enter();
    let shop = Workshop::open(&root, args.snapshotter)?;
    let signals = Signals::install()?;
    let mut pass_on = |stream: Stream, bytes: &[u8]| pass_on(stream, bytes);
    let result = shop.state().run(&name, &options, executor.as_ref(), &mut pass_on, &signals.cancel);
    let status = result.map_err(|error| {
        let mut failure = Failure::from(error);
        failure.is_container = true;
        failure.signal = signals.received();
        failure.note(&privilege.notes);
        failure
    })?;
    Ok(u8::try_from(status.code()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// The command's bytes, as they are: what its output is for is not for us to know. When nobody reads them any more the
/// command finds out by itself no sooner than it ends; it is not ended for that.
fn pass_on(stream: Stream, bytes: &[u8]) {
    let _ = match stream {
        Stream::Stdout => {
            let mut stdout = io::stdout().lock();
            stdout.write_all(bytes).and_then(|()| stdout.flush())
        }
        Stream::Stderr => io::stderr().lock().write_all(bytes),
    };
}

fn options(args: &RunArgs) -> Result<ContainerOptions, Error> {
    let mut env = Vec::new();
    for text in &args.env {
        env.extend(values::variable(text, &process_env)?);
    }
    Ok(ContainerOptions {
        args: args.args.clone(),
        entrypoint: args.entrypoint.clone().map(|program| vec![program]),
        env,
        working_dir: args.workdir.clone(),
        user: args.user.clone(),
        volumes: args.volume.iter().map(|text| values::volume(text)).collect::<Result<_, _>>()?,
        resolv_conf: resolv_conf(),
        hostname: args.hostname.clone(),
    })
}
