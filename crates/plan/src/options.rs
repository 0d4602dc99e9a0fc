use std::collections::BTreeSet;

use ocibuild_dockerfile::IgnorePatterns;
use ocibuild_spec::Platform;

use super::StepNetwork;

/// What the caller of a build decides about its plan.
#[derive(Debug, Clone)]
pub struct PlanOptions {
    /// The stage to build; without it the last one.
    pub target: Option<String>,
    /// The last step of the target stage to carry out, as progress counts them: from 1, the image that the stage starts from
    /// being the first if it starts from one. The result is the stage as it is after that step. Stages that only later steps
    /// read are planned all the same.
    pub until_step: Option<usize>,
    /// Build arguments, in order; of a name given twice the last counts.
    pub build_args: Vec<(String, String)>,
    /// The platform to build for; `None` builds for `build_platform` and leaves the base's platform in the config (4.17).
    pub platform: Option<Platform>,
    /// The platform the build runs on.
    pub build_platform: Platform,
    /// Named contexts: name and source; of a name given twice the last counts.
    pub named_contexts: Vec<(String, NamedContext)>,
    /// Labels of the image, in order (5.306).
    pub labels: Vec<(String, String)>,
    /// The network that a `RUN` without a mode of its own gets; asking for the host here allows it everywhere.
    pub network: StepNetwork,
    /// Whether steps may have the network of the host.
    pub allow_network_host: bool,
    /// Whether steps may be privileged.
    pub allow_insecure: bool,
    /// Host name of steps, `buildkitsandbox` without; the build-arg `BUILDKIT_SANDBOX_HOSTNAME` sets it too (8.04).
    pub hostname: Option<String>,
    /// Seconds that the word `context` in `SOURCE_DATE_EPOCH` stands for (11.40); `None` when the context has no time.
    pub context_epoch: Option<i64>,
    /// Seconds that the named context or stage in `SOURCE_DATE_EPOCH` stands for, as
    /// [`epoch_source`](super::epoch_source) finds it; `None` when it has no time.
    pub epoch_of_source: Option<i64>,
    /// Plan every stage, whether the target needs it or not, as the build checks want it without a target (10.07).
    pub all_stages: bool,
    /// Patterns of the context's ignore file, for the build checks.
    pub ignore: IgnorePatterns,
    /// Build checks to make besides those that are made anyway, by name.
    pub enabled_checks: BTreeSet<String>,
}

impl PlanOptions {
    /// Everything at its default on this build platform.
    pub fn new(build_platform: Platform) -> Self {
        Self {
            target: None,
            until_step: None,
            build_args: Vec::new(),
            platform: None,
            build_platform,
            named_contexts: Vec::new(),
            labels: Vec::new(),
            network: StepNetwork::Default,
            allow_network_host: false,
            allow_insecure: false,
            hostname: None,
            context_epoch: None,
            epoch_of_source: None,
            all_stages: false,
            ignore: IgnorePatterns::default(),
            enabled_checks: BTreeSet::new(),
        }
    }

    /// The platform that is built for.
    pub fn target_platform(&self) -> &Platform {
        self.platform.as_ref().unwrap_or(&self.build_platform)
    }

    /// The value of a build-arg.
    pub(super) fn build_arg(&self, name: &str) -> Option<&str> {
        self.build_args.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// The source of a named context (4.32).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedContext {
    /// An image (`docker-image://`, `oci-layout://`), which the [`BaseResolver`](super::BaseResolver) finds by the
    /// context's name.
    Image,
    /// A directory: files without a config.
    Local,
    /// `docker-image://scratch`: nothing.
    Scratch,
}
