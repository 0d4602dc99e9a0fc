//! `run --at-step`: the files of a finished step of a Dockerfile.

use std::ffi::OsString;
use std::path::Path;

use clap::Parser;
use ocibuild::executor::{Attached, Control};

use super::{attached, check_sandbox, options};
use crate::args::{BuildArgs, PullWhen, RunArgs};
use crate::backends::{executor, open_state};
use crate::failure::{Outcome, about, usage};
use crate::input::process_env;
use crate::signals::Signals;
use crate::state_dir::state_dir;
use crate::verbs::build::{Request, up_to};

/// The flags of a build, as `build` reads them.
#[derive(Debug, Parser)]
#[command(name = "ocibuild build")]
struct OfBuild {
    #[command(flatten)]
    args: BuildArgs,
}

/// Builds up to the step and runs a command on what there is then.
pub(super) fn enter(root: Option<&Path>, at: &str, args: &RunArgs) -> Outcome {
    if args.pull == PullWhen::Never {
        return Err(usage("--pull never and --at-step cannot be used together")
            .hint("--offline builds without a network")
            .into());
    }
    let (stage, step) = about("--at-step", at)(position(at))?;
    if stage.is_some() && args.build.target.is_some() {
        return Err(usage("--at-step with a stage and --target cannot be used together")
            .hint("omit --target: the stage stands before the number")
            .into());
    }
    let build = build_args(args, stage)?;
    let request = Request::new(&build, &process_env)?;
    let mut options = options(args)?;
    options.shell = true;
    // What is run is what was asked for, whatever the image would run.
    options.entrypoint.get_or_insert_default();
    let executor = executor(args.runtime.as_deref(), args.build.sandbox)?;
    let shop = open_state(&state_dir(root)?, build.snapshotter())?;
    check_sandbox(&shop, executor.as_ref())?;
    let control = Control::default();
    let signals = Signals::forward(&control)?;
    // What was built has no name, and stays until the command has ended.
    let _lease = shop.layout().lease().map_err(ocibuild::Error::from)?;
    let image = up_to((request, &build), &shop, executor.as_ref(), &signals, step)?;
    let run = |attached: Attached<'_, '_>| {
        shop.state().attach(&image, &options, executor.as_ref(), attached, &signals.cancel)
    };
    attached(&shop, args, (control, &signals), run)
}

/// `[STAGE:]N`
fn position(text: &str) -> Result<(Option<&str>, usize), ocibuild::Error> {
    let (stage, number) = match text.rsplit_once(':') {
        Some((stage, number)) => (Some(stage), number),
        None => (None, text),
    };
    match number.parse() {
        Ok(step) if stage != Some("") => Ok((stage, step)),
        _ => Err(usage("this is not the number of a step")
            .hint("steps are numbered as the build shows them: 3, or with a stage test:3")),
    }
}

/// The flags that are for the build.
fn build_args(args: &RunArgs, stage: Option<&str>) -> Result<BuildArgs, ocibuild::Error> {
    let mut words: Vec<OsString> = vec!["ocibuild build".into()];
    let mut add = |flag: &str, value: &dyn AsRef<std::ffi::OsStr>| {
        let mut word = OsString::from(format!("--{flag}="));
        word.push(value);
        words.push(word);
    };
    let own = &args.build;
    if let Some(file) = &own.file {
        add("file", file);
    }
    if let Some(target) = stage.or(own.target.as_deref()) {
        add("target", &target);
    }
    let lists = [
        ("build-arg", &own.build_arg),
        ("build-context", &own.build_context),
        ("secret", &own.secret),
        ("ssh", &own.ssh),
        ("allow", &own.allow),
    ];
    for (flag, values) in lists {
        for value in values {
            add(flag, value);
        }
    }
    if let Some(platform) = &own.platform {
        add("platform", platform);
    }
    // Whoever runs no command but in a private network builds no step elsewhere either.
    if let Some(network) = args.network.as_ref().filter(|network| *network == "private") {
        add("network", network);
    }
    for (flag, is_given) in
        [("--offline", own.offline), ("--no-cache", own.no_cache), ("--pull", args.pull == PullWhen::Always)]
    {
        words.extend(is_given.then(|| flag.into()));
    }
    words.extend(["--".into(), args.image().into()]);
    let parsed = OfBuild::try_parse_from(words).map_err(|error| usage(error.kind().to_string()))?;
    let mut build = parsed.args;
    build.plan.registry = args.registry.clone();
    (build.runtime, build.sandbox, build.snapshotter) =
        (args.runtime.clone(), args.build.sandbox, args.snapshotter);
    Ok(build)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_numbers_with_or_without_a_stage() {
        assert_eq!(position("3").unwrap(), (None, 3));
        assert_eq!(position("test:12").unwrap(), (Some("test"), 12));
        assert_eq!(position("0:1").unwrap(), (Some("0"), 1));
        for text in ["", "x", ":3", "test:", "-1", "test:x"] {
            position(text).unwrap_err();
        }
    }
}
