mod at_step;
mod kept;

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::ExitCode;

use ocibuild::executor::{Attached, Control, Executor, ExitStatus, Stream};
use ocibuild::spec::Descriptor;
use ocibuild::state::ContainerOptions;
use ocibuild::{Code, Error, StateDirectory};

use crate::args::{PullWhen, RunArgs, SandboxArg};
use crate::backends::{executor, open_state, resolv_conf};
use crate::failure::{Failure, Outcome, host, usage};
use crate::input::process_env;
use crate::signals::Signals;
use crate::state_dir::state_dir;
use crate::terminal::{RawMode, window};
use crate::values;
use crate::verbs::transfer::fetch;

/// Runs an image and ends as its command does.
pub(crate) fn run(root: Option<&Path>, args: &RunArgs) -> Outcome {
    if args.tty && args.interactive && !io::stdin().is_terminal() {
        return Err(usage("the input device is not a TTY: -i and -t together need a terminal")
            .hint("omit -t, and the command reads what is piped in: ocibuild run -i IMAGE")
            .into());
    }
    if let Some(bundle) = &args.bundle {
        return kept::enter(bundle, args);
    }
    if let Some(at) = &args.at_step {
        return at_step::enter(root, at, args);
    }
    let options = options(args)?;
    let executor = executor(args.runtime.as_deref(), SandboxArg::Auto)?;
    let root = state_dir(root)?;
    let shop = open_state(&root, args.snapshotter)?;
    check_sandbox(&shop, executor.as_ref())?;
    let control = Control::default();
    let signals = Signals::forward(&control)?;
    let image = image(&shop, args, &signals)?;
    let run = |attached: Attached<'_, '_>| {
        shop.state().attach(&image, &options, executor.as_ref(), attached, &signals.cancel)
    };
    attached(&shop, args, (control, &signals), run)
}

/// Before anything is fetched.
fn check_sandbox(shop: &StateDirectory, executor: &dyn Executor) -> Result<(), Failure> {
    shop.check_sandbox(executor).map_err(|error| {
        let mut failure = Failure::from(error);
        failure.note(shop);
        failure
    })
}

/// Connects a command with this program's streams, and ends as it does.
fn attached(
    shop: &StateDirectory,
    args: &RunArgs,
    (control, signals): (Control, &Signals),
    run: impl FnOnce(Attached<'_, '_>) -> Result<ExitStatus, Error>,
) -> Outcome {
    let mut raw = Ok(None);
    let mut unwritten = None;
    let mut pass_on = |stream: Stream, bytes: &[u8]| {
        if let Err(error) = pass_on(stream, bytes) {
            control.close(stream);
            unwritten.get_or_insert(error);
        }
    };
    let stdin = io::stdin();
    let attached = Attached {
        input: args.interactive.then(|| stdin.as_fd()),
        output: &mut pass_on,
        control: control.clone(),
        started: Some(Box::new(|| {
            if args.tty && args.interactive {
                raw = RawMode::enter().map(Some);
            }
        })),
    };
    let result = run(attached);
    // Before anything is written: the terminal is the user's again.
    drop(raw?);
    let status = result.map_err(|error| {
        let mut failure = Failure::from(error);
        failure.is_container = true;
        failure.signal = signals.received();
        failure.note(shop);
        failure
    })?;
    match unwritten {
        // A reader that has gone away has what it wanted.
        Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(host("cannot write what the command writes", error).into())
        }
        _ => Ok(u8::try_from(status.code()).map_or(ExitCode::FAILURE, ExitCode::from)),
    }
}

/// The image to run, which is fetched when it is not here.
fn image(shop: &StateDirectory, args: &RunArgs, signals: &Signals) -> Result<Descriptor, Failure> {
    let image = args.image();
    let found = shop.state().find(image);
    let is_missing = found.as_ref().is_err_and(|error| error.is(Code::NoSuchImage));
    if args.pull == PullWhen::Always || (args.pull == PullWhen::Missing && is_missing) {
        let name = values::reference(image)?;
        return fetch(shop, &name, &args.registry, signals);
    }
    Ok(found?.descriptor)
}

/// The command's bytes, as they are: what its output is for is not for us to know.
fn pass_on(stream: Stream, bytes: &[u8]) -> io::Result<()> {
    match stream {
        Stream::Stdout => {
            let mut stdout = io::stdout().lock();
            stdout.write_all(bytes).and_then(|()| stdout.flush())
        }
        Stream::Stderr => io::stderr().lock().write_all(bytes),
    }
}

/// This machine's, whose network the command has.
fn hostname() -> Result<String, Error> {
    fs_err::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim_end().to_owned())
        .map_err(|error| host("cannot read the host name of this machine", error))
}

/// Variables of files and flags.
fn variables(args: &RunArgs) -> Result<Vec<String>, Error> {
    let mut env = Vec::new();
    for path in &args.env_file {
        env.extend(values::env_file(path, &process_env)?);
    }
    for text in &args.env {
        env.extend(values::variable(text, &process_env)?);
    }
    Ok(env)
}

fn options(args: &RunArgs) -> Result<ContainerOptions, Error> {
    let env = variables(args)?;
    let mut hosts = Vec::new();
    for text in &args.add_host {
        let (name, address) = values::host_entry(text)?;
        hosts.push((address, name));
    }
    let mut options = ContainerOptions::default();
    options.args = args.command().to_vec();
    options.entrypoint = args.entrypoint.clone().map(|program| vec![program]);
    options.env = env;
    options.working_dir = args.workdir.as_deref().map(values::workdir).transpose()?.flatten();
    options.user = args.user.clone().filter(|user| !user.is_empty());
    options.volumes = values::volumes(&args.volume)?;
    options.resolv_conf = resolv_conf();
    options.hostname = Some(args.hostname.clone().map_or_else(hostname, Ok)?);
    options.hosts = hosts;
    let network = values::network(args.network.as_deref(), &process_env)?;
    network.check_hosts(&args.add_host)?;
    options.network = network.of_command();
    options.dropped_capabilities = values::capabilities(&args.cap_drop)?;
    options.resources = values::resources(&args.limits)?;
    options.rlimits = args.limits.ulimit.iter().map(|text| values::ulimit(text)).collect::<Result<_, _>>()?;
    options.shm_size = values::shm_size(&args.limits)?;
    options.terminal = args.tty.then(window);
    Ok(options)
}
