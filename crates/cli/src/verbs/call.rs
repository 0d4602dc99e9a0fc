//! `build --call METHOD`: questions about a Dockerfile that a build is not needed for.

use std::path::Path;

use super::{check, outline};
use crate::args::{BuildArgs, ReportFormat, SandboxArg};
use crate::backends::{Images, Notices, executor, open_images};
use crate::failure::{Failure, Outcome, SourceText, usage};
use crate::signals::Signals;
use crate::text::printable;
use ocibuild::{Backends, Error};

/// What to do instead of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    /// Make the build checks.
    Check,
    /// Tell what the target takes from outside.
    Outline,
    /// Tell the stages.
    Targets,
}

/// A question, and how its answer is printed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    method: Method,
    format: ReportFormat,
}

impl Call {
    /// What `--call`, `--check` and `--format` ask for; `None` is a build.
    pub(super) fn new(args: &BuildArgs) -> Result<Option<Self>, Error> {
        let (method, format) = parse(args.call.as_deref().unwrap_or("build"))?;
        let method = match method {
            None if args.check => Some(Method::Check),
            Some(Method::Outline | Method::Targets) if args.check => {
                return Err(usage("--check and --call cannot be used together").hint("give one of them"));
            }
            method => method,
        };
        let format = args.format.or(format);
        match (method, format) {
            (Some(method), format) => Ok(Some(Self { method, format: format.unwrap_or(ReportFormat::Text) })),
            (None, Some(_)) => Err(usage("--format is for --check and --call")
                .hint("a plan as JSON: ocibuild plan --format json")),
            (None, None) => Ok(None),
        }
    }

    /// Finds the answer and prints it.
    pub(super) fn answer(
        self,
        root: &Path,
        args: &BuildArgs,
        build: ocibuild::Build,
        source: &SourceText,
    ) -> Outcome {
        if self.method == Method::Targets {
            return outline::print_targets(&build.targets(), self.format);
        }
        let shop = open_images(root)?;
        let images = Images::new(&shop, &args.plan, Notices::Lines)?;
        let executor = executor(None, SandboxArg::Auto)?;
        let signals = Signals::install()?;
        let backends = Backends::new(&shop, &images.source, executor.as_ref());
        let failed = |error: Error| {
            let mut failure = Failure::from(error).with_source(source.clone());
            failure.signal = signals.received();
            failure
        };
        if self.method == Method::Outline {
            let outline = build.outline(&backends, &signals.cancel).map_err(failed)?;
            return outline::print_outline(&outline, self.format);
        }
        let report = build.check(&backends, &signals.cancel).map_err(failed)?;
        check::print(&report, source, self.format)
    }
}

/// `METHOD[,format=FORMAT]`; `None` is a build.
fn parse(call: &str) -> Result<(Option<Method>, Option<ReportFormat>), Error> {
    let (method, attributes) = call.split_once(',').unwrap_or((call, ""));
    let parsed = match method {
        "build" => None,
        "check" | "lint" => Some(Method::Check),
        "outline" => Some(Method::Outline),
        "targets" => Some(Method::Targets),
        _ => {
            let message = format!("--call {}: there is no such method", printable(method));
            return Err(usage(message).hint("the methods are build, check, outline and targets"));
        }
    };
    let format = match attributes {
        "" => None,
        "format=text" => Some(ReportFormat::Text),
        "format=json" => Some(ReportFormat::Json),
        other => {
            let message = format!("--call {method}: {} is not an attribute of it", printable(other));
            return Err(usage(message).hint(format!("write --call {method},format=json")));
        }
    };
    Ok((parsed, format))
}
