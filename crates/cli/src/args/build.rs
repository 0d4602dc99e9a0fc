use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::RegistryArgs;

const BUILD_HELP: &str = "\
Examples:
  ocibuild build -t app:1.0 .
  ocibuild build -f docker/Dockerfile --target test --build-arg VERSION=1.0 .
  ocibuild build --secret id=token,env=TOKEN -o type=oci,dest=app.tar .
  ocibuild build --build-context alpine=oci-layout://base:3.20 -o out .
  SOURCE_DATE_EPOCH=0 ocibuild build -o type=oci,dest=app.tar,rewrite-timestamp=true .

Base images are taken from the names in the state directory, and from their registry when there is no such name \
or with --pull. Without --tag and --output the result stays in the cache.";

/// What a plan depends on; `build` and `plan` both have it.
#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// Build context: a directory, `-` (an archive or a Dockerfile on standard input), a URL of either, or a git
    /// repository (URL#REF:DIR)
    #[arg(value_name = "CONTEXT")]
    pub(crate) context: PathBuf,

    /// Dockerfile [default: CONTEXT/Dockerfile]: a file, `-` (standard input) or a URL
    #[arg(short, long, value_name = "FILE", help_heading = "Input")]
    pub(crate) file: Option<PathBuf>,

    /// Stage to build [default: the last]
    #[arg(long, value_name = "STAGE", help_heading = "Input")]
    pub(crate) target: Option<String>,

    /// Value of an ARG; without `=VALUE` taken from the environment
    #[arg(long, value_name = "NAME[=VALUE]", help_heading = "Input")]
    pub(crate) build_arg: Vec<String>,

    #[arg(
        long,
        value_name = "NAME=SOURCE",
        help_heading = "Input",
        help = "Another source of files or images: a directory, a URL, a git repository, an archive of an image, \
                oci-layout://DIR[:TAG][@DIGEST], docker-image://REFERENCE"
    )]
    pub(crate) build_context: Vec<String>,

    /// Platforms to build for, like linux/amd64,linux/arm64: several give an index [default: this host's]
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',', help_heading = "Input")]
    pub(crate) platform: Vec<String>,

    /// Send nothing to a network: base images, URLs and repositories are what the state directory and the cache have of
    /// them, and RUN has no network
    #[arg(long, help_heading = "Input")]
    pub(crate) offline: bool,

    /// Ask registries for base images even when the state directory has the name
    #[arg(long, help_heading = "Registry")]
    pub(crate) pull: bool,

    #[command(flatten)]
    pub(crate) registry: RegistryArgs,

    /// Label of the image
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Image")]
    pub(crate) label: Vec<String>,

    /// Network of steps that choose none: host, none, private (one of their own with a way out, by pasta or slirp4netns), or
    /// default (what `OCIBUILD_NETWORK` says, else the host's); for what the build itself fetches there is --offline
    #[arg(long, value_name = "MODE", help_heading = "Steps")]
    pub(crate) network: Option<String>,

    /// Privilege that steps may ask for: network.host or security.insecure
    #[arg(long, value_name = "NAME", value_delimiter = ',', help_heading = "Steps")]
    pub(crate) allow: Vec<String>,
}

/// `ocibuild plan`
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct PlanVerb {
    #[command(flatten)]
    pub(crate) plan: PlanArgs,

    /// How to print the plan
    #[arg(long, value_name = "FORMAT", default_value = "text", help_heading = "Output")]
    pub(crate) format: ReportFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportFormat {
    Text,
    Json,
}

/// `ocibuild build`
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "they are flags of the command line")]
#[command(args_override_self = true, after_help = BUILD_HELP)]
pub(crate) struct BuildArgs {
    #[command(flatten)]
    pub(crate) plan: PlanArgs,

    /// Name of the image
    #[arg(short, long, value_name = "NAME[:TAG]", help_heading = "Image")]
    pub(crate) tag: Vec<String>,

    /// Annotation of the image
    ///
    /// TYPE is manifest (when not given), manifest-descriptor, or for several platforms index and index-descriptor;
    /// several are separated by commas. `manifest[linux/arm64]:KEY=VALUE` is for one platform.
    #[arg(long, value_name = "[TYPE:]KEY=VALUE", help_heading = "Image")]
    pub(crate) annotation: Vec<String>,

    /// Where the result goes: DIR (its files), `-` (a tar of them), type=oci|docker|tar|local,dest=PATH, or type=registry
    ///
    /// Attributes of oci and docker: dest, name, tar=false (a layout directory), compression=gzip|zstd|uncompressed,
    /// compression-level, force-compression, oci-mediatypes, rewrite-timestamp, source-date-epoch, annotation.KEY,
    /// `annotation-TYPE[PLATFORM].KEY`; of local and tar: dest, platform-split, source-date-epoch; of local:
    /// mode=delete; of registry: name, push-by-digest, and those of oci but dest. `dest=-` is standard output.
    #[arg(short, long, value_name = "OUTPUT", help_heading = "Image")]
    pub(crate) output: Vec<String>,

    /// Push the image to the registries of its names; the same as --output type=registry
    #[arg(
        long,
        num_args = 0..=1,
        default_value = "false",
        default_missing_value = "true",
        require_equals = true,
        hide_default_value = true,
        hide_possible_values = true,
        help_heading = "Image"
    )]
    pub(crate) push: bool,

    /// Hand the image to a container engine: docker, podman, or `containerd[:NAMESPACE]`; without a name the first of
    /// them that answers
    #[arg(
        long,
        value_name = "ENGINE",
        num_args = 0..=1,
        default_missing_value = "true",
        require_equals = true,
        help_heading = "Image"
    )]
    pub(crate) load: Option<String>,

    /// Write the digest of the image's manifest to a file
    #[arg(long, value_name = "FILE", help_heading = "Image")]
    pub(crate) iidfile: Option<PathBuf>,

    /// Write digests and names of the image to a file, as JSON
    #[arg(long, value_name = "FILE", help_heading = "Image")]
    pub(crate) metadata_file: Option<PathBuf>,

    /// Line of /etc/hosts for steps
    #[arg(long, value_name = "HOST:IP", help_heading = "Steps")]
    pub(crate) add_host: Vec<String>,

    /// Capability that no step gets, like `NET_RAW`, or `ALL`
    #[arg(long, value_name = "CAPABILITY", value_delimiter = ',', help_heading = "Steps")]
    pub(crate) cap_drop: Vec<String>,

    /// Size that an archive may unpack to in ADD [default: 250 times its own, at least 1g, at most 64g]
    #[arg(long, value_name = "BYTES", help_heading = "Steps")]
    pub(crate) archive_limit: Option<String>,

    #[command(flatten)]
    pub(crate) limits: LimitArgs,

    /// Secret for RUN --mount=type=secret: id=ID[,src=FILE|,env=NAME]
    #[arg(long, value_name = "SECRET", help_heading = "Steps")]
    pub(crate) secret: Vec<String>,

    /// Agent for RUN --mount=type=ssh: ID[=SOCKET|KEY,...], without a path that of the environment
    #[arg(long, value_name = "AGENT", help_heading = "Steps")]
    pub(crate) ssh: Vec<String>,

    /// Run steps with this OCI runtime (crun, runc, or an absolute path) instead of own namespaces
    #[arg(long, value_name = "RUNTIME", help_heading = "Steps")]
    pub(crate) runtime: Option<PathBuf>,

    /// What steps are confined by
    #[arg(long, value_name = "KIND", default_value = "auto", help_heading = "Steps")]
    pub(crate) sandbox: SandboxArg,

    /// How steps get their root file system
    #[arg(long, value_name = "KIND", default_value = "auto", help_heading = "Steps")]
    pub(crate) snapshotter: SnapshotterArg,

    /// What to do when a RUN fails: keep its files with all that is mounted there, or open a shell in its place, which takes
    /// a terminal
    ///
    /// `keep` leaves an OCI bundle in the state directory, without secrets, and says how to enter it; `prune` removes it.
    #[arg(long, value_name = "WHAT", help_heading = "Steps")]
    pub(crate) on_error: Option<OnErrorArg>,

    /// Run every step, even if it is cached
    #[arg(long, help_heading = "Cache")]
    pub(crate) no_cache: bool,

    /// Stages whose steps run even if they are cached
    #[arg(long, value_name = "STAGE", value_delimiter = ',', help_heading = "Cache")]
    pub(crate) no_cache_filter: Vec<String>,

    /// Fail when a step is not cached, of these stages or of all, instead of running it
    #[arg(
        long,
        value_name = "STAGE",
        value_delimiter = ',',
        num_args = 0..=1,
        default_missing_value = "",
        require_equals = true,
        conflicts_with = "no_cache",
        help_heading = "Cache"
    )]
    pub(crate) require_cache: Option<Vec<String>>,

    /// How progress is shown on standard error: auto, tty, plain, ci, json or quiet
    #[arg(long, value_name = "KIND", default_value = "auto", help_heading = "Display")]
    pub(crate) progress: String,

    /// Show nothing, and print the digest of the manifest on standard output
    #[arg(short, long, help_heading = "Display")]
    pub(crate) quiet: bool,

    /// Make the build checks and nothing else: all stages are looked at, no step runs
    #[arg(long, help_heading = "Checks")]
    pub(crate) check: bool,

    /// What to do with the Dockerfile: build, check, outline (what the target takes from outside) or targets (its stages)
    #[arg(long, value_name = "METHOD", help_heading = "Checks")]
    pub(crate) call: Option<String>,

    /// How to print what --check finds and --call answers
    #[arg(long, value_name = "FORMAT", help_heading = "Checks")]
    pub(crate) format: Option<ReportFormat>,

    #[arg(
        long,
        value_name = "RULE",
        value_delimiter = ',',
        help_heading = "Checks",
        help = "Build check to make besides the usual ones: LatestTag, SecretValueInArgOrEnv, UnusedIgnorePattern, \
                InvalidDefinitionDescription"
    )]
    pub(crate) enable_check: Vec<String>,

    /// Most steps to run at the same time, and threads to read, compress and unpack with
    ///
    /// Without it, or with 0, steps of different stages and platforms run as the Dockerfile allows, and there is a thread
    /// for each processor. The image is the same whatever the number.
    #[arg(long, value_name = "N", alias = "threads")]
    pub(crate) jobs: Option<usize>,

    #[command(flatten)]
    pub(crate) later: LaterArgs,
}

impl BuildArgs {
    /// How steps get their root file system.
    pub(crate) fn snapshotter(&self) -> SnapshotterArg {
        if self.sandbox == SandboxArg::Chroot { SnapshotterArg::Copy } else { self.snapshotter }
    }
}

/// What a step, or a command, may use.
#[derive(Debug, Default, Args)]
pub(crate) struct LimitArgs {
    /// Resource limit of each process
    #[arg(long, value_name = "NAME=SOFT[:HARD]", help_heading = "Limits")]
    pub(crate) ulimit: Vec<String>,

    /// Size of /dev/shm [default: 64m]
    #[arg(long, value_name = "BYTES", help_heading = "Limits")]
    pub(crate) shm_size: Option<String>,

    /// Cgroup in which its own is made
    #[arg(long, value_name = "CGROUP", help_heading = "Limits")]
    pub(crate) cgroup_parent: Option<String>,

    /// Memory of a step or command, like 512m
    #[arg(long, short, value_name = "BYTES", help_heading = "Limits")]
    pub(crate) memory: Option<String>,

    /// Memory and swap together, -1 for any amount [default: twice the memory]
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true, help_heading = "Limits")]
    pub(crate) memory_swap: Option<String>,

    /// Processes and threads, -1 for any number
    #[arg(long, value_name = "N", allow_hyphen_values = true, help_heading = "Limits")]
    pub(crate) pids_limit: Option<i64>,

    /// CPUs, like 1.5: CPU time in each period
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub(crate) cpus: Option<String>,

    /// Weight of its CPU time
    #[arg(long, short = 'c', value_name = "SHARES", help_heading = "Limits")]
    pub(crate) cpu_shares: Option<u64>,

    /// Period for --cpu-quota, in microseconds
    #[arg(long, value_name = "TIME", help_heading = "Limits")]
    pub(crate) cpu_period: Option<u64>,

    /// CPU time in each period, in microseconds
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, help_heading = "Limits")]
    pub(crate) cpu_quota: Option<i64>,

    /// CPUs that it runs on, like 0-3,5
    #[arg(long, value_name = "LIST", help_heading = "Limits")]
    pub(crate) cpuset_cpus: Option<String>,

    /// Memory nodes that it uses
    #[arg(long, value_name = "LIST", help_heading = "Limits")]
    pub(crate) cpuset_mems: Option<String>,
}

/// The kinds of progress, as needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProgressArg {
    Auto,
    Tty,
    Plain,
    Ci,
    Json,
    Quiet,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnErrorArg {
    /// A shell in place of the step
    Shell,
    /// An OCI bundle of the step
    Keep,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SandboxArg {
    /// namespaces where they can be made, else chroot for root
    Auto,
    /// Namespaces and mounts of the step's own
    Namespaces,
    /// Another root and Landlock, for root of a container without flags; root file systems are copies
    Chroot,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SnapshotterArg {
    /// overlay where the kernel has it here, else copy
    Auto,
    /// The kernel stacks the layers
    Overlay,
    /// The layers are copied together: needs no privilege, takes time
    Copy,
}

/// Whether an attestation is named only to be left out.
fn is_disabled(attest: &str) -> bool {
    attest.split(',').any(|field| matches!(field.trim(), "disabled=true" | "disabled=1"))
}

/// Flags that are known and cannot be honoured yet. They are refused by name: one that was ignored would give an image
/// that is not what was asked for.
#[derive(Debug, Args)]
#[command(next_help_heading = "Later")]
pub(crate) struct LaterArgs {
    #[arg(long, hide = true)]
    cache_from: Vec<String>,
    #[arg(long, hide = true)]
    cache_to: Vec<String>,
    #[arg(long, hide = true)]
    cache_mount_from: Vec<String>,
    #[arg(long, hide = true)]
    cache_mount_to: Vec<String>,
    #[arg(long, hide = true)]
    attest: Vec<String>,
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    provenance: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    sbom: Option<String>,
    #[arg(long, hide = true)]
    explain: bool,
    #[arg(long, hide = true)]
    builder: Option<String>,
    #[arg(long, short = 'D', hide = true)]
    debug: bool,
}

impl LaterArgs {
    /// The flags that were given, as users know them. What asks for nothing (`--provenance=false`) is not among them.
    pub(crate) fn given(&self) -> Vec<&'static str> {
        let wanted =
            |value: &Option<String>| value.as_deref().is_some_and(|value| value != "false" && value != "0");
        let flags = [
            ("--cache-from", !self.cache_from.is_empty()),
            ("--cache-to", !self.cache_to.is_empty()),
            ("--cache-mount-from", !self.cache_mount_from.is_empty()),
            ("--cache-mount-to", !self.cache_mount_to.is_empty()),
            ("--attest", self.attest.iter().any(|text| !is_disabled(text))),
            ("--provenance", wanted(&self.provenance)),
            ("--sbom", wanted(&self.sbom)),
            ("--explain", self.explain),
            ("--builder", self.builder.is_some()),
            ("--debug", self.debug),
        ];
        flags.into_iter().filter(|(_, given)| *given).map(|(name, _)| name).collect()
    }
}
