use std::path::Path;
use std::process::ExitCode;

use ocibuild::plan::{Plan, all_to_json, render_text, to_json};
use ocibuild::{Backends, Fetcher};

use crate::args::{PlanVerb, ReportFormat, SandboxArg};
use crate::backends::{Images, Notices, executor, open_images};
use crate::failure::{Failure, Outcome};
use crate::input::{PlanInput, process_env};
use crate::remote::remotes;
use crate::signals::Signals;
use crate::state_dir::state_dir;
use crate::table::now;
use crate::terminal::to_stdout;

/// Prints what a build would do.
pub(crate) fn plan(root: Option<&Path>, args: &PlanVerb) -> Outcome {
    let input = PlanInput::new(&args.plan, &process_env)?;
    let root = state_dir(root)?;
    let open = || -> Result<_, Failure> { Ok((open_images(&root)?, Signals::install()?)) };
    let early = if input.needs_fetching() { Some(open()?) } else { None };
    let named = remotes(&args.plan, true)?;
    let fetcher =
        early.as_ref().map(|(shop, signals)| Fetcher::new(&named, shop.layout(), &signals.cancel, now()));
    let opened = input.open(fetcher.as_ref()).map_err(|mut failure| {
        failure.signal = early.as_ref().and_then(|(_, signals)| signals.received());
        failure
    });
    let (build, source) = opened?;
    let build = build.remotes(remotes(&args.plan, false)?);
    let (shop, signals) = match early {
        Some(open) => open,
        None => open()?,
    };
    let images = Images::new(&shop, &args.plan, Notices::Lines)?;
    let executor = executor(None, SandboxArg::Auto)?;
    let planned =
        build.plan_cancellable(&Backends::new(&shop, &images.source, executor.as_ref()), &signals.cancel);
    let planned = planned.map_err(|error| {
        let mut failure = Failure::from(error).with_source(source.clone());
        failure.signal = signals.received();
        failure
    })?;
    let text = match args.format {
        ReportFormat::Text => {
            let of_platform = |plan: &Plan| render_text(plan, &source.name);
            planned.plans.iter().map(of_platform).collect::<Vec<_>>().join("\n")
        }
        ReportFormat::Json => match planned.plans.as_slice() {
            [plan] => format!("{:#}\n", to_json(plan)),
            plans => format!("{:#}\n", all_to_json(plans)),
        },
    };
    to_stdout(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
