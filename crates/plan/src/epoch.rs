//! `SOURCE_DATE_EPOCH` (11.40): a number, or the time of something that is fetched.

use std::collections::HashMap;

use ocibuild_dockerfile::{Add, Dockerfile, InstructionKind, Stage};

use super::env::Environment;
use super::error::{PlanError, PlanErrors};
use super::fault::{EpochStageFault, PlanFault};
use super::remote::SourceKind;
use super::settings::{declare_all, globals_of};
use super::{PlanOptions, planner};

pub(super) const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// What has the time that `SOURCE_DATE_EPOCH` names, where that is not the main context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EpochSource {
    /// A named context.
    NamedContext(String),
    /// What the one `ADD` of a stage fetches.
    Add {
        /// URL or repository, expanded.
        source: String,
        /// `--checksum`, expanded.
        checksum: Option<String>,
        /// `--keep-git-dir`
        keep_git_dir: Option<bool>,
    },
}

/// What must be asked for its time before the build can be planned, as
/// [`PlanOptions::epoch_of_source`].
pub fn epoch_source(
    dockerfile: &Dockerfile,
    options: &PlanOptions,
) -> Result<Option<EpochSource>, PlanErrors> {
    source_of(dockerfile, options).map_err(|error| planner::located(vec![error], dockerfile))
}

fn source_of(file: &Dockerfile, options: &PlanOptions) -> Result<Option<EpochSource>, PlanError> {
    let build_args: HashMap<String, String> = options.build_args.iter().cloned().collect();
    let mut globals = globals_of(file, options, &build_args)?;
    let text = text_of(&build_args, &globals).map(str::to_owned);
    let text = text.filter(|text| super::golang::parse_int(text).is_none() && text != "context");
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    if options.named_contexts.iter().any(|(name, _)| *name == text) {
        return Ok(Some(EpochSource::NamedContext(text)));
    }
    let Some(stage) = file.stages.iter().find(|stage| is_named(stage, &text)) else {
        return Err(invalid(&text));
    };
    globals.remove(EPOCH);
    let escape = file.directives.escape;
    stage_source(stage, escape, &build_args, globals).map(Some).map_err(|error| error.at(stage.location))
}

/// The time of the build. Where it is given its text becomes the number, or vanishes when there is none.
pub(super) fn epoch(
    stages: &[Stage],
    options: &PlanOptions,
    build_args: &mut HashMap<String, String>,
    globals: &mut Environment,
) -> Result<Option<i64>, PlanError> {
    let Some(text) = text_of(build_args, globals) else { return Ok(None) };
    let epoch = epoch_value(text, stages, options)?;
    let known = globals.get(EPOCH).is_some();
    if let Some(seconds) = epoch {
        let seconds = seconds.to_string();
        if known {
            globals.set(EPOCH, &seconds);
        }
        if let Some(given) = build_args.get_mut(EPOCH) {
            *given = seconds;
        }
    } else {
        build_args.remove(EPOCH);
        globals.remove(EPOCH);
    }
    Ok(epoch)
}

fn text_of<'a>(build_args: &'a HashMap<String, String>, globals: &'a Environment) -> Option<&'a str> {
    let global = || globals.get(EPOCH).filter(|value| !value.is_empty());
    build_args.get(EPOCH).map(String::as_str).or_else(global)
}

fn epoch_value(text: &str, stages: &[Stage], options: &PlanOptions) -> Result<Option<i64>, PlanError> {
    if text.is_empty() {
        return Ok(None);
    }
    if let Some(seconds) = super::golang::parse_int(text) {
        return Ok(Some(seconds));
    }
    if text == "context" {
        return Ok(options.context_epoch);
    }
    let is_known = options.named_contexts.iter().any(|(name, _)| name == text)
        || stages.iter().any(|stage| is_named(stage, text));
    if is_known { Ok(options.epoch_of_source) } else { Err(invalid(text)) }
}

fn is_named(stage: &Stage, text: &str) -> bool {
    stage.name.as_ref().is_some_and(|name| name.eq_ignore_ascii_case(text))
}

fn invalid(text: &str) -> PlanError {
    PlanError::new(PlanFault::Epoch { text: text.to_owned() })
}

/// The source of a stage that does nothing but fetch one thing onto `scratch`.
fn stage_source(
    stage: &Stage,
    escape: char,
    build_args: &HashMap<String, String>,
    globals: Environment,
) -> Result<EpochSource, PlanError> {
    let refuse = |fault| PlanError::new(PlanFault::EpochStage(fault));
    let mut environment = globals;
    if environment.expand(&stage.base, escape)? != "scratch" {
        return Err(refuse(EpochStageFault::Base));
    }
    let mut found = None;
    for instruction in &stage.instructions {
        match &instruction.kind {
            InstructionKind::Arg(_) => declare_all(instruction, escape, build_args, &mut environment)?,
            InstructionKind::Add(_) if found.is_some() => {
                return Err(refuse(EpochStageFault::Adds));
            }
            InstructionKind::Add(add) => found = Some(add_source(add, escape, &environment)?),
            _ => {
                let keyword = instruction.keyword.to_ascii_lowercase();
                return Err(refuse(EpochStageFault::Instruction { keyword }));
            }
        }
    }
    found.ok_or_else(|| refuse(EpochStageFault::Adds))
}

fn add_source(add: &Add, escape: char, environment: &Environment) -> Result<EpochSource, PlanError> {
    let refuse = |fault| PlanError::new(PlanFault::EpochStage(fault));
    let [source] = add.transfer.sources.as_slice() else {
        return Err(refuse(EpochStageFault::Sources));
    };
    if !add.transfer.heredocs.is_empty() {
        return Err(refuse(EpochStageFault::Sources));
    }
    let source = environment.expand(source, escape)?;
    if SourceKind::of(&source) == SourceKind::Path {
        return Err(refuse(EpochStageFault::Path));
    }
    let checksum = add.checksum.as_ref().map(|text| environment.expand(text, escape)).transpose()?;
    let checksum = checksum.filter(|text| !text.is_empty());
    Ok(EpochSource::Add { source, checksum, keep_git_dir: add.keep_git_dir })
}
