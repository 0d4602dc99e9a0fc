//! Build checks that need values, stages or base images. They are made where the planner comes by what they need, and
//! report to the same [`Findings`] as those of the text.

use ocibuild_dockerfile::lint::{
    COPY_IGNORED_FILE, FROM_PLATFORM_FLAG_CONST_DISALLOWED, INVALID_BASE_IMAGE_PLATFORM,
    INVALID_DEFAULT_ARG_IN_FROM, JSON_ARGS_RECOMMENDED, LATEST_TAG, LEGACY_KEY_VALUE_FORMAT,
    MULTIPLE_INSTRUCTIONS_DISALLOWED, REDUNDANT_TARGET_PLATFORM, SECRET_VALUE_IN_ARG_OR_ENV,
    SECRETS_USED_IN_ARG_OR_ENV, UNDEFINED_ARG_IN_FROM, UNDEFINED_VAR, WORKDIR_RELATIVE_PATH,
};
use ocibuild_dockerfile::{
    CheckOptions, Command, Dockerfile, Expanded, Findings, Instruction, InstructionKind, KeyValues, Location,
    Place, Rule, Stage, suggest, suggest_unordered,
};
use ocibuild_spec::{ImageConfig, Platform, Reference};

use super::bases::{Bases, Root};
use super::error::PlanError;
use super::fault::PlanFault;
use super::graph::Graph;
use super::secrets::{is_secret_name, secret_kind};
use super::settings::Settings;
use super::stage::{SCAN_ARGS, StagePlanner};
use super::{ImageOrigin, PlanOptions, PlannedImage, paths};

/// Which checks are wanted: the build argument takes the place of the directive (10.02).
pub(super) fn options(file: &Dockerfile, options: &PlanOptions) -> Result<CheckOptions, PlanError> {
    let given = options.build_arg("BUILDKIT_DOCKERFILE_CHECK");
    let parsed = match given {
        Some(value) => CheckOptions::parse(value),
        None => file.directives.check_options(),
    };
    let mut wanted = parsed.map_err(|error| {
        let error = PlanError::new(PlanFault::CheckOptions(error));
        match &file.directives.check {
            Some((value, location)) if given.is_none() => error.at(*location).word(value),
            _ => error,
        }
    })?;
    wanted.experimental.extend(options.enabled_checks.iter().cloned());
    Ok(wanted)
}

/// Finds out whether the names after `FROM` are any good when no build argument is given.
pub(super) fn default_base_names(file: &Dockerfile, options: &PlanOptions, findings: &mut Findings) {
    let Some(globals) = Settings::default_globals(file, options) else { return };
    for stage in &file.stages {
        // What cannot be expanded is an error soon.
        let Ok(name) = globals.expand(&stage.base, file.directives.escape) else { return };
        if name.parse::<Reference>().is_err() {
            let base = &stage.base;
            let message = format!("Default value for ARG {base} results in empty or invalid base image name");
            findings.add(&INVALID_DEFAULT_ARG_IN_FROM, message, Place::Dockerfile(stage.location));
        }
    }
}

/// Values of global arguments that the file itself gives.
pub(super) fn global_values(file: &Dockerfile, settings: &Settings<'_>, findings: &mut Findings) {
    for Instruction { kind, location, comments, .. } in &file.global_args {
        let InstructionKind::Arg(definitions) = kind else { continue };
        for definition in definitions.iter().filter(|definition| definition.default.is_some()) {
            let name = &definition.name;
            let is_own = !settings.build_args.contains_key(name.as_str());
            if let Some(kind) = settings.globals.get(name).filter(|_| is_own).and_then(secret_kind) {
                findings.add_at(
                    &SECRET_VALUE_IN_ARG_OR_ENV,
                    secret_message("ARG", name, kind),
                    *location,
                    comments,
                );
            }
        }
    }
}

fn secret_message(keyword: &str, name: &str, kind: &str) -> String {
    format!("The value of {keyword} \"{name}\" looks like {kind}")
}

/// The checks of a `FROM` line.
pub(super) struct FromLine<'f, 'a> {
    pub(super) stage: &'f Stage,
    pub(super) settings: &'a Settings<'a>,
    pub(super) findings: &'a mut Findings,
}

impl FromLine<'_, '_> {
    fn report(&mut self, rule: &'static Rule, message: String, word: &str) {
        let Stage { location, comments, .. } = self.stage;
        if let Some(finding) = self.findings.add_at(rule, message, *location, comments) {
            finding.label = location.span_of(word, self.settings.source);
        }
    }

    /// Names that no global `ARG` declares. One without a value is declared all the same.
    pub(super) fn undefined(&mut self, expanded: &Expanded) {
        let settings = self.settings;
        let mut known: Vec<&str> =
            settings.globals.names().chain(settings.declared.iter().map(String::as_str)).collect();
        known.sort_unstable();
        for name in expanded.unset.iter().filter(|name| !known.contains(&name.as_str())) {
            let hint = did_you_mean("", suggest(name, known.iter().copied()));
            let message = format!("FROM argument '{name}' is not declared{hint}");
            self.report(&UNDEFINED_ARG_IN_FROM, message, name);
        }
    }

    /// `--platform=` with something that is the default, or is always the same.
    pub(super) fn platform(&mut self, written: &str, expanded: &Expanded) {
        if let ([name], []) = (&expanded.used[..], &expanded.unset[..])
            && name == "TARGETPLATFORM"
            && self.settings.globals.get(name) == Some(&expanded.value)
        {
            let message = format!(
                "Setting platform to predefined {written} in FROM is redundant as this is the default behavior"
            );
            self.report(&REDUNDANT_TARGET_PLATFORM, message, written);
        }
        if expanded.used.is_empty() && expanded.unset.is_empty() {
            self.constant_platform(&expanded.value);
        }
    }

    /// A stage that is named after its platform has it on purpose.
    fn constant_platform(&mut self, text: &str) {
        let Ok(platform) = text.parse::<Platform>() else { return };
        let name = self.stage.name.as_deref().unwrap_or_default();
        if name.contains(&platform.os) || name.contains(&platform.architecture) {
            return;
        }
        let message = format!("FROM --platform flag should not use constant value \"{text}\"");
        self.report(&FROM_PLATFORM_FLAG_CONST_DISALLOWED, message, text);
    }
}

/// The checks of base images, once these are known.
pub(super) fn base_images(
    file: &Dockerfile,
    graph: &Graph<'_>,
    bases: &Bases<'_>,
    settings: &Settings<'_>,
    findings: &mut Findings,
) {
    for node in &graph.nodes {
        // A mount has no line of its own.
        let (Some(Root::Image(image)), Some(location)) = (&node.root, node.location) else { continue };
        let PlannedImage { reference, origin, image, .. } = &bases.images[*image];
        if *origin != ImageOrigin::Default {
            continue;
        }
        let wanted = node.platform.as_ref().unwrap_or_else(|| settings.target_platform());
        if let Some(message) = wrong_platform(&node.base_name, wanted, &image.config) {
            findings.add(&INVALID_BASE_IMAGE_PLATFORM, message, Place::Dockerfile(location));
        }
        if let (Some(stage), Some(how)) = (node.stage, latest(reference)) {
            let message = format!("Base image '{}' {how}", node.base_name);
            findings.add_at(&LATEST_TAG, message, location, &file.stages[stage].comments);
        }
    }
}

fn wrong_platform(name: &str, wanted: &Platform, config: &ImageConfig) -> Option<String> {
    if wanted.os == config.os && wanted.architecture == config.architecture || is_scratch(config) {
        return None;
    }
    let actual = Platform::new(&config.os, &config.architecture, &config.variant);
    Some(format!(
        "Base image {name} was pulled with platform \"{actual}\", expected \"{wanted}\" for current build"
    ))
}

/// An image without any layer fits every platform.
fn is_scratch(config: &ImageConfig) -> bool {
    config.rootfs.diff_ids.as_ref().is_none_or(Vec::is_empty)
        && config.history.iter().all(|entry| entry.empty_layer)
}

/// What is said of a name whose meaning changes with time; `None` for one that has another tag, or a digest.
pub fn latest(reference: &Reference) -> Option<&'static str> {
    let is_latest = reference.digest().is_none() && reference.tag().is_none_or(|tag| tag == "latest");
    is_latest.then_some("has the tag 'latest' or no tag, so it may be another image tomorrow")
}

/// Instructions of which the last one of a stage counts, with the place of the one before.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct UsedOnce(Option<Location>);

/// The checks of the instructions of a stage.
impl StagePlanner<'_> {
    pub(super) fn report(&mut self, rule: &'static Rule, message: String, word: &str) {
        let location = self.location;
        if let Some(finding) = self.findings.add_at(rule, message, location, &self.comments) {
            finding.label = location.span_of(word, self.settings.source);
        }
    }

    /// Names that a word looked up in vain.
    pub(super) fn check_undefined(&mut self, unset: &[String]) {
        let is_declared = |name: &str| self.state.args.is_declared(name) || SCAN_ARGS.contains(&name);
        let unknown: Vec<&String> = unset.iter().filter(|name| !is_declared(name)).collect();
        for name in unknown {
            let names = self.state.environment.names();
            let hint = did_you_mean("$", suggest_unordered(name, names.filter(|known| !known.is_empty())));
            self.report(&UNDEFINED_VAR, format!("Usage of undefined variable '${name}'{hint}"), name);
        }
    }

    pub(super) fn check_legacy(&mut self, pairs: &KeyValues, keyword: &str) {
        if pairs.legacy {
            let message = format!(
                "\"{keyword} key=value\" should be used instead of legacy \"{keyword} key value\" format"
            );
            self.report(&LEGACY_KEY_VALUE_FORMAT, message, keyword);
        }
    }

    pub(super) fn check_secret_name(&mut self, keyword: &str, name: &str) {
        if is_secret_name(name) {
            let message =
                format!("Do not use ARG or ENV instructions for sensitive data ({keyword} \"{name}\")");
            self.report(&SECRETS_USED_IN_ARG_OR_ENV, message, name);
        }
    }

    pub(super) fn check_secret_value(&mut self, keyword: &str, name: &str, value: &str) {
        if let Some(kind) = secret_kind(value) {
            self.report(&SECRET_VALUE_IN_ARG_OR_ENV, secret_message(keyword, name, kind), name);
        }
    }

    /// `path` after expansion. The directory of the base image does not help: it may change.
    pub(super) fn check_workdir(&mut self, path: &str) {
        if !self.state.has_workdir && !path.starts_with('/') {
            let message =
                format!("Relative workdir \"{path}\" can have unexpected results if the base image changes");
            self.report(&WORKDIR_RELATIVE_PATH, message, path);
        }
        self.state.has_workdir = true;
    }

    /// Reports the earlier of two instructions of which only the later one counts. It is the later one whose comment
    /// can silence this (10.11).
    pub(super) fn check_used_once(&mut self, keyword: &str, used: fn(&mut Self) -> &mut UsedOnce) {
        let location = self.location;
        let Some(earlier) = used(self).0.replace(location) else { return };
        let message = format!(
            "Multiple {keyword} instructions should not be used in the same stage because only the last one will be \
             used"
        );
        self.findings.add_at(&MULTIPLE_INSTRUCTIONS_DISALLOWED, message, earlier, &self.comments);
    }

    /// A command line that a shell of the image's default will run. Who sets `SHELL` wants one.
    pub(super) fn check_command(&mut self, keyword: &str, command: &Command) {
        if matches!(command, Command::Shell(_)) && self.state.config.config.shell.is_empty() {
            let message = format!(
                "JSON arguments recommended for {keyword} to prevent unintended behavior related to OS signals"
            );
            self.report(&JSON_ARGS_RECOMMENDED, message, keyword);
        }
    }

    /// A source in the build context, compared as text with the patterns of the ignore file. What exceptions bring back
    /// cannot be told that way.
    pub(super) fn check_source(&mut self, verb: &str, source: &str) {
        let ignore = &self.settings.options.ignore;
        let path = paths::clean(source);
        if !ignore.has_exceptions() && ignore.matches(&path) {
            let message = format!("Attempting to {verb} file \"{path}\" that is excluded by .dockerignore");
            self.report(&COPY_IGNORED_FILE, message, source);
        }
    }
}

fn did_you_mean(sign: &str, suggestion: Option<&str>) -> String {
    suggestion.map(|name| format!(" (did you mean {sign}{name}?)")).unwrap_or_default()
}
