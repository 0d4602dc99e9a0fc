//! What every stage of a build has in common: arguments of the command line and the global `ARG`s.

use std::collections::HashMap;

use ocibuild_dockerfile::{ArgDefinition, Dockerfile, Instruction};
use ocibuild_spec::Platform;

use super::env::Environment;
use super::error::PlanError;
use super::fault::PlanFault;
use super::{PlanOptions, StepNetwork, epoch};

const PROXIES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];
const AUTOMATIC: [&str; 11] = [
    "BUILDPLATFORM",
    "BUILDOS",
    "BUILDOSVERSION",
    "BUILDARCH",
    "BUILDVARIANT",
    "TARGETPLATFORM",
    "TARGETOS",
    "TARGETOSVERSION",
    "TARGETARCH",
    "TARGETVARIANT",
    "TARGETSTAGE",
];

/// What the stages of one plan share.
#[derive(Debug)]
pub(super) struct Settings<'a> {
    pub(super) options: &'a PlanOptions,
    /// The escape character of the file.
    pub(super) escape: char,
    /// The text of the file.
    pub(super) source: &'a str,
    /// Names of global `ARG`s, with and without value.
    pub(super) declared: Vec<String>,
    pub(super) build_args: HashMap<String, String>,
    /// Automatic and global arguments.
    pub(super) globals: Environment,
    /// 11.40
    pub(super) epoch: Option<i64>,
    /// 3.19
    pub(super) proxy_env: Vec<(String, String)>,
    pub(super) hostname: String,
    /// Prefix of the identities of cache mounts (3.20).
    pub(super) cache_namespace: String,
    /// Network of steps that ask for none.
    pub(super) network: StepNetwork,
    pub(super) allow_network_host: bool,
}

impl<'a> Settings<'a> {
    pub(super) fn new(file: &'a Dockerfile, options: &'a PlanOptions) -> Result<Self, PlanError> {
        let mut build_args: HashMap<String, String> = options.build_args.iter().cloned().collect();
        let mut globals = globals_of(file, options, &build_args)?;
        let escape = file.directives.escape;
        let declared = file.global_args.iter().flat_map(Instruction::declared);
        let epoch = epoch::epoch(&file.stages, options, &mut build_args, &mut globals)?;
        let argument = |name: &str| options.build_arg(name).filter(|value| !value.is_empty());
        let hostname = argument("BUILDKIT_SANDBOX_HOSTNAME").or(options.hostname.as_deref());
        Ok(Self {
            options,
            escape,
            source: &file.source,
            declared: declared.map(|definition| definition.name.to_string()).collect(),
            globals,
            epoch,
            proxy_env: proxies(options),
            hostname: hostname.unwrap_or("buildkitsandbox").to_owned(),
            cache_namespace: argument("BUILDKIT_CACHE_MOUNT_NS").unwrap_or_default().to_owned(),
            network: options.network,
            allow_network_host: options.allow_network_host || options.network == StepNetwork::Host,
            build_args,
        })
    }

    /// Automatic and global arguments as they are without build arguments for the latter; `None` if that is an error.
    pub(super) fn default_globals(file: &Dockerfile, options: &PlanOptions) -> Option<Environment> {
        let build_args = options.build_args.iter().cloned().collect();
        let mut globals = automatic(file, options, &build_args);
        for instruction in &file.global_args {
            declare_all(instruction, file.directives.escape, &HashMap::new(), &mut globals).ok()?;
        }
        Some(globals)
    }

    pub(super) fn target_platform(&self) -> &'a Platform {
        self.options.target_platform()
    }
}

/// Automatic and global arguments.
pub(super) fn globals_of(
    file: &Dockerfile,
    options: &PlanOptions,
    build_args: &HashMap<String, String>,
) -> Result<Environment, PlanError> {
    let mut globals = automatic(file, options, build_args);
    for instruction in &file.global_args {
        declare_all(instruction, file.directives.escape, build_args, &mut globals)
            .map_err(|error| error.at(instruction.location))?;
    }
    Ok(globals)
}

/// The automatic arguments (3.15), each with the value of the build argument of its name, if there is one.
pub(super) fn automatic(
    file: &Dockerfile,
    options: &PlanOptions,
    build_args: &HashMap<String, String>,
) -> Environment {
    let (build, target) = (&options.build_platform, options.target_platform());
    let last = file.stages.last().and_then(|stage| stage.name.as_deref());
    let stage = options.target.as_deref().filter(|name| !name.is_empty()).or(last).unwrap_or("default");
    let (build_text, target_text) = (build.to_string(), target.to_string());
    let values = [
        build_text.as_str(),
        &build.os,
        &build.os_version,
        &build.architecture,
        &build.variant,
        &target_text,
        &target.os,
        &target.os_version,
        &target.architecture,
        &target.variant,
        stage,
    ];
    let mut globals = Environment::default();
    for (name, value) in AUTOMATIC.iter().zip(values) {
        globals.set(name, build_args.get(*name).map_or(value, String::as_str));
    }
    globals
}

/// The definitions of a global `ARG`, each seeing those before it.
pub(super) fn declare_all(
    instruction: &Instruction,
    escape: char,
    build_args: &HashMap<String, String>,
    globals: &mut Environment,
) -> Result<(), PlanError> {
    instruction.declared().iter().try_for_each(|one| declare(one, escape, build_args, globals).map(drop))
}

/// A definition of a global `ARG` (3.01 - 3.03), and the arguments that its default refers to.
pub(super) fn declare(
    definition: &ArgDefinition,
    escape: char,
    build_args: &HashMap<String, String>,
    globals: &mut Environment,
) -> Result<Vec<String>, PlanError> {
    let (name, default): (&str, _) = (&definition.name, &definition.default);
    if let Some(given) = build_args.get(name) {
        globals.set(name, given);
        return Ok(Vec::new());
    }
    let Some(default) = default else { return Ok(Vec::new()) };
    let expanded = globals.expand_watched(default, escape)?;
    globals.set(name, &expanded.value);
    Ok(expanded.used)
}

/// Proxy variables in upper and lower case (3.19).
fn proxies(options: &PlanOptions) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    for name in PROXIES {
        let spelled = options.build_args.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        // The spelling that sorts last wins: lower case.
        let Some((_, value)) = spelled.max_by(|a, b| a.0.cmp(&b.0)) else { continue };
        if !value.is_empty() {
            pairs.push((name.to_owned(), value.clone()));
            pairs.push((name.to_ascii_lowercase(), value.clone()));
        }
    }
    pairs
}

/// Whether a build-arg has an effect without any `ARG`.
pub(super) fn is_predefined(name: &str) -> bool {
    AUTOMATIC.contains(&name)
        || name == epoch::EPOCH
        || name.starts_with("BUILDKIT_")
        || PROXIES.iter().any(|proxy| proxy.eq_ignore_ascii_case(name))
}

/// The error about a target that the file does not have (4.12).
pub(super) fn unknown_target<'n>(target: &str, names: impl IntoIterator<Item = &'n str>) -> PlanError {
    let stages = names.into_iter().map(str::to_owned).collect();
    PlanError::new(PlanFault::UnknownTarget { target: target.to_owned(), stages })
}
