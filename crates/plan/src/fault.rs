//! What stands in the way of a plan, as data.

use std::fmt;

use ocibuild_dockerfile::lint::CheckOptionError;
use ocibuild_dockerfile::{Diagnostic, ExpandError, suggest};
use ocibuild_spec::{PlatformError, ReferenceError};

use super::address::{GitAddressError, HttpAddressError};
use super::chmod::ChmodError;
use super::epoch::EPOCH;
use super::golang::quote;
use super::{PlanErrorKind, SourceKind};

/// What is wrong with a Dockerfile or with the arguments of its build. Its text is one line, in BuildKit's words where
/// it has some.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanFault {
    /// A word cannot be expanded.
    #[error("{0}")]
    Expansion(ExpandError),
    /// A word of `COPY` or `ADD` cannot be expanded.
    #[error("{error}")]
    TransferWord {
        /// What is wrong with it.
        error: ExpandError,
        /// All paths of the instruction, with a blank between.
        words: String,
    },
    /// `# check=`, or the argument in its place.
    #[error("{0}")]
    CheckOptions(CheckOptionError),
    /// The instruction has no meaning to this version.
    #[error("no plan for {instruction}")]
    Instruction {
        /// The instruction, as it was read.
        instruction: String,
    },
    /// The file has no stage at all.
    #[error("the file has no stages")]
    NoStages,
    /// The target is a stage that the file does not have.
    #[error("target stage {} could not be found{}", quote(.target), did_you_mean(suggest(.target, .stages.iter().map(String::as_str))))]
    UnknownTarget {
        /// The target.
        target: String,
        /// The stages of the file.
        stages: Vec<String>,
    },
    /// The target stage does not have the step that the build is to end with.
    #[error("the stage has no step {step}")]
    NoSuchStep {
        /// The number of the step.
        step: usize,
        /// The steps that it has, the first being 1.
        steps: Vec<String>,
    },
    /// The target stage's steps lead back to it.
    #[error("circular dependency detected on stage: {stage}")]
    Circular {
        /// Where the search began.
        stage: String,
        /// The stages on the way, each read by the one before it, up to the one that is met again.
        way: Vec<String>,
        /// Lines of stages that have the same name, if there are several.
        namesakes: Vec<u32>,
    },
    /// `--from` is a number that no stage has.
    #[error("invalid stage index {index}")]
    StageIndex {
        /// The number.
        index: i64,
        /// How many stages the file has.
        stages: usize,
    },
    /// The name of a base image is empty.
    #[error("base name ({written}) should not be blank")]
    BlankBase {
        /// As it stands in the file.
        written: String,
        /// Its variables that have no value.
        unset: Vec<UnsetArg>,
    },
    /// The name of a base image is not a reference.
    #[error("failed to parse stage name {}: {error}", quote(.name))]
    BaseName {
        /// The name.
        name: String,
        /// What is wrong with it.
        error: ReferenceError,
        /// Variables in it that have no value.
        unset: Vec<UnsetArg>,
    },
    /// The name of a stage cannot be that of a named context.
    #[error("invalid context name {name}: invalid reference format")]
    StageName {
        /// The name.
        name: String,
    },
    /// The source of images has none of this name.
    #[error("cannot load image {name}")]
    BaseImage {
        /// The name, as it stands in the file.
        name: String,
        /// The named context that it is the image of.
        context: Option<String>,
        /// Whether it stands behind `FROM`, rather than in `--from`.
        is_base: bool,
        /// Stages of the file that have a name.
        stages: Vec<String>,
        /// Named contexts of the build.
        contexts: Vec<String>,
    },
    /// The variables of a platform cannot be expanded.
    #[error("failed to process arguments for platform {written}: {error}")]
    PlatformWord {
        /// As it stands in the file.
        written: String,
        /// What is wrong with it.
        error: ExpandError,
    },
    /// A platform is empty.
    #[error("empty platform value from expression {written}{}", did_you_mean(.suggestion.as_deref()))]
    EmptyPlatform {
        /// As it stands in the file.
        written: String,
        /// The variable that an unset one was probably meant to be.
        suggestion: Option<String>,
    },
    /// A text is not a platform.
    #[error("failed to parse platform {written}: {error}{}", did_you_mean(.suggestion.as_deref()))]
    Platform {
        /// As it stands in the file.
        written: String,
        /// What it expands to.
        value: String,
        /// What is wrong with that.
        error: PlatformError,
        /// The variable that an unset one was probably meant to be.
        suggestion: Option<String>,
    },
    /// `--from` of `COPY` holds variables, quotes or escapes.
    #[error(
        "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a \
         workaround"
    )]
    FromVariable {
        /// The value.
        from: String,
    },
    /// `COPY --from` names a stage further down.
    #[error("cannot copy from stage {}, it needs to be defined before current stage {}", quote(.from), quote(.stage))]
    LaterCopy {
        /// The stage it names.
        from: String,
        /// The stage that it stands in.
        stage: String,
    },
    /// `RUN --mount` names a stage further down.
    #[error("cannot mount from stage {} to {}, stage needs to be defined before current command", quote(.from), quote(.target))]
    LaterMount {
        /// The stage it names.
        from: String,
        /// Where its files would be.
        target: String,
    },
    /// `COPY` of a URL or a repository.
    #[error("source can't be a {} for COPY", if *(.kind) == SourceKind::Git { "git ref" } else { "URL" })]
    CopyOfRemote {
        /// The source.
        source_text: String,
        /// What it is.
        kind: SourceKind,
    },
    /// `--chmod` is not a mode.
    #[error("{error}")]
    Mode {
        /// The value.
        text: String,
        /// What is wrong with it.
        error: ChmodError,
    },
    /// `--checksum` with several sources.
    #[error("checksum can't be specified for multiple sources")]
    ChecksumOfSeveral,
    /// `--checksum` with a file of the context.
    #[error("checksum requires HTTP(S) or Git sources")]
    ChecksumOfPath,
    /// `--checksum` is not a digest.
    #[error("{fault}: {checksum}")]
    Checksum {
        /// The value.
        checksum: String,
        /// What is wrong with it.
        fault: ChecksumFault,
    },
    /// A source of `ADD` is not a URL that could be fetched.
    #[error("{0}")]
    HttpAddress(HttpAddressError),
    /// A source of `ADD` is not a repository that could be fetched.
    #[error("{0}")]
    GitAddress(GitAddressError),
    /// `RUN` without a command.
    #[error("arguments are required")]
    NoArguments,
    /// `RUN --device`.
    #[error(
        "RUN --device={device} is not supported: devices are only in the labs channel of the Dockerfile syntax"
    )]
    Device {
        /// The device.
        device: String,
    },
    /// A privilege that the build does not grant.
    #[error("{0} is not allowed")]
    NotAllowed(Entitlement),
    /// A value of `RUN --mount`.
    #[error("{0}")]
    Mount(MountFault),
    /// A word of `EXPOSE`.
    #[error("{fault}")]
    Port {
        /// The word.
        word: String,
        /// What is wrong with it.
        fault: PortFault,
    },
    /// One `EXPOSE` names more ports than any image needs.
    #[error("more than {limit} ports in one EXPOSE")]
    TooManyPorts {
        /// How many there may be.
        limit: usize,
    },
    /// A path of `VOLUME` is empty.
    #[error("VOLUME specified can not be an empty string")]
    EmptyVolume,
    /// `STOPSIGNAL` names no signal.
    #[error("invalid signal: {signal}")]
    Signal {
        /// The value.
        signal: String,
    },
    /// The config of a stage would be too large.
    #[error("the instructions of this stage that make no layer take more than {limit_mib} MiB")]
    ConfigTooLarge {
        /// How large it may be.
        limit_mib: usize,
    },
    /// The plan would be too large.
    #[error("the history and environments of this build take more than {limit_mib} MiB")]
    PlanTooLarge {
        /// How large it may be.
        limit_mib: usize,
    },
    /// A trigger of a base image cannot be read.
    #[error("{}", .0.message)]
    Trigger(Diagnostic),
    /// `SOURCE_DATE_EPOCH` is neither a number nor a name that is known.
    #[error("invalid {EPOCH}: {text}")]
    Epoch {
        /// The value.
        text: String,
    },
    /// The stage that `SOURCE_DATE_EPOCH` names is not one that only fetches.
    #[error("{EPOCH} stage {0}")]
    EpochStage(EpochStageFault),
    /// `BUILDKIT_SYNTAX` names another language.
    #[error("BUILDKIT_SYNTAX={frontend} is not supported: it names another frontend")]
    FrontendArgument {
        /// The value.
        frontend: String,
    },
    /// `# syntax=` names another language.
    #[error("# syntax={frontend} is not supported: it names another frontend")]
    FrontendDirective {
        /// The value.
        frontend: String,
    },
}

impl PlanFault {
    /// Which class it is of.
    pub fn kind(&self) -> PlanErrorKind {
        match self {
            Self::UnknownTarget { .. }
            | Self::NoSuchStep { .. }
            | Self::Epoch { .. }
            | Self::FrontendArgument { .. } => PlanErrorKind::Argument,
            Self::BaseImage { .. } => PlanErrorKind::BaseImage,
            Self::NotAllowed(_) => PlanErrorKind::Entitlement,
            Self::Instruction { .. }
            | Self::NoStages
            | Self::Device { .. }
            | Self::FrontendDirective { .. } => PlanErrorKind::Unsupported,
            _ => PlanErrorKind::Dockerfile,
        }
    }

    /// The argument of the build that is to blame.
    pub fn argument(&self) -> Option<Argument<'_>> {
        match self {
            Self::UnknownTarget { target, .. } => Some(Argument::Target(target)),
            Self::FrontendArgument { frontend } => {
                Some(Argument::BuildArg { name: "BUILDKIT_SYNTAX", value: frontend })
            }
            _ => None,
        }
    }

    /// Adds the variables without a value to what is wrong with the name of a base image.
    pub(super) fn set_unset(&mut self, names: Vec<UnsetArg>) {
        if let Self::BlankBase { unset, .. } | Self::BaseName { unset, .. } = self {
            *unset = names;
        }
    }
}

/// An argument of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Argument<'a> {
    /// The target stage.
    Target(&'a str),
    /// A build argument.
    BuildArg {
        /// Its name.
        name: &'a str,
        /// Its value.
        value: &'a str,
    },
}

/// A variable without a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsetArg {
    /// Its name.
    pub name: String,
    /// Whether an `ARG` above the first `FROM` declares it.
    pub is_declared: bool,
    /// The variables that are declared there.
    pub declared: Vec<String>,
}

/// The instruction of a base image that an error is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TriggerOrigin {
    /// The instruction, without `ONBUILD`.
    pub text: String,
    /// The name of the base image, or of the stage.
    pub base: String,
}

/// Privileges that a build has to grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Entitlement {
    /// The network of the host.
    NetworkHost,
    /// All capabilities.
    SecurityInsecure,
}

impl fmt::Display for Entitlement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NetworkHost => "network.host",
            Self::SecurityInsecure => "security.insecure",
        })
    }
}

/// What is wrong with a value of `--checksum`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChecksumFault {
    /// It is not `ALGORITHM:HEX`.
    #[error("invalid checksum digest format")]
    Format,
    /// The algorithm is none that is known.
    #[error("unsupported digest algorithm")]
    Algorithm,
    /// It has too few or too many digits.
    #[error("invalid checksum digest length")]
    Length,
}

/// What is wrong with a value of `RUN --mount`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MountFault {
    /// The fields cannot be told apart.
    #[error("failed to parse csv mounts: {0}")]
    Fields(FieldFault),
    /// `from` holds a variable.
    #[error("'from' doesn't support variable expansion, define alias stage instead")]
    FromVariable,
    /// A field without a value is not a key that can do without.
    #[error("invalid field '{field}' must be a key=value pair")]
    NoValue {
        /// The field.
        field: String,
    },
    /// No kind of mount has the key.
    #[error("unexpected key '{key}' in '{field}'{}", did_you_mean(suggest(.key, super::mounts::KEYS)))]
    UnknownKey {
        /// The key.
        key: String,
        /// The key with its value.
        field: String,
    },
    /// Mounts of another kind have the key.
    #[error("unexpected key '{key}' for mount type '{kind}'")]
    KeyOfOtherType {
        /// The key.
        key: String,
        /// The kind of this mount.
        kind: &'static str,
        /// The kinds that have it.
        fitting: Vec<&'static str>,
    },
    /// The value of a key is not what it takes.
    #[error("invalid value for {key}: {value}")]
    Value {
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
    /// The value of a key is not a number.
    #[error("invalid value {value} for {key}")]
    Number {
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
    /// The value of a key is none of a few words.
    #[error("unsupported {what} {}{}", quote(.value), did_you_mean(suggest(.value, .known.iter().copied())))]
    Choice {
        /// What is chosen.
        what: &'static str,
        /// The value.
        value: String,
        /// The words there are.
        known: Vec<&'static str>,
    },
    /// Mounts of this kind have no owner.
    #[error("{key} not allowed for \"{kind}\" type mounts")]
    Owner {
        /// `mode`, `uid` or `gid`.
        key: &'static str,
        /// The kind of this mount.
        kind: &'static str,
    },
    /// `sharing` without a cache.
    #[error("invalid cache sharing set for {kind} mount")]
    Sharing {
        /// The kind of this mount.
        kind: &'static str,
    },
    /// An agent with a source.
    #[error("ssh does not support source")]
    SshSource,
    /// A secret with a stage.
    #[error("secret mount should not have a from")]
    SecretFrom,
    /// A secret with `sharing`.
    #[error("secret mount should not define sharing")]
    SecretSharing,
    /// A secret without a name.
    #[error("invalid secret mount. one of source, target required")]
    SecretWithoutName,
    /// A secret with two names.
    #[error("both source and id can't be set")]
    SecretWithTwoNames,
    /// A mount over everything.
    #[error("invalid mount target \"/\"")]
    TargetIsRoot,
}

/// Why the fields of a mount cannot be told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FieldFault {
    /// Something stands behind a closing quote, or there is none.
    #[error("extraneous or missing \" in quoted-field")]
    Quoted,
    /// A quote in the middle.
    #[error("bare \" in non-quoted field")]
    Bare,
}

/// What is wrong with a word of `EXPOSE`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PortFault {
    /// It has too many parts.
    #[error("invalid port: {}", quote(.0))]
    Parts(String),
    /// It has no port.
    #[error("invalid port: {}: no port specified", quote(.0))]
    NoPort(String),
    /// It has a protocol that is not known.
    #[error("invalid port: {}: invalid proto: {protocol}", quote(.word))]
    Protocol {
        /// The word.
        word: String,
        /// The protocol.
        protocol: String,
    },
    /// The port of the container is none.
    #[error("invalid containerPort: {0}")]
    Container(String),
    /// The port of the host is none.
    #[error("invalid hostPort: {0}")]
    Host(String),
    /// Two ranges of different lengths.
    #[error("invalid ranges specified for container and host Ports: {container} and {host}")]
    Ranges {
        /// The ports of the container.
        container: String,
        /// Those of the host.
        host: String,
    },
    /// The address is none.
    #[error("invalid IP address: {0}")]
    Address(String),
}

/// Why the time of a stage's source cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EpochStageFault {
    /// It has a base image.
    #[error("must use FROM scratch")]
    Base,
    /// It has no `ADD`, or several.
    #[error("must contain exactly one remote ADD")]
    Adds,
    /// Its `ADD` has several sources.
    #[error("must contain exactly one remote ADD source")]
    Sources,
    /// Its `ADD` fetches nothing.
    #[error("source must be a single HTTP(S) or Git ADD")]
    Path,
    /// It has another instruction.
    #[error("does not meet source-only requirements: unsupported {keyword} instruction")]
    Instruction {
        /// The instruction, in lower case.
        keyword: String,
    },
}

/// The end of a message that names what was probably meant.
fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion.map(|name| format!(" (did you mean {name}?)")).unwrap_or_default()
}
