//! What the keys of steps are made of, field by field: `docs/formats/keys.md` is the schema, and `fixtures/keys` has keys
//! that must stay as they are as long as [`VERSION`](super::VERSION) does.

use ocibuild_executor::{PosixRlimitType, Rlimit};
use ocibuild_plan::{CopyStep, MountKind, RunStep, SourceKind, StepMount, StepNetwork, WorkdirStep};
use ocibuild_spec::{ChainId, Digest, Platform};

use super::{Framed, Inputs};

/// What the keys of a stage start with, if it starts with an image: only what the files of it are counts, its config works
/// through the environment of steps (9.09).
pub(crate) fn of_image(chain: Option<&ChainId>) -> Digest {
    base("image", &chain.map(ToString::to_string).unwrap_or_default())
}

/// The same for `scratch`.
pub(crate) fn of_scratch() -> Digest {
    base("scratch", "")
}

/// The same for the files of a local directory, which become a layer first.
pub(crate) fn of_local_context() -> Digest {
    base("local context", "")
}

fn base(kind: &str, value: &str) -> Digest {
    let mut framed = Framed::new("ocibuild base v1");
    framed.field(kind.as_bytes());
    framed.field(value.as_bytes());
    framed.finish()
}

/// What every `RUN` of a build is limited to.
#[derive(Debug, Default)]
pub(crate) struct Limits<'a> {
    pub(crate) rlimits: &'a [Rlimit],
    pub(crate) shm_size: Option<u64>,
    pub(crate) dropped_capabilities: Vec<&'static str>,
    pub(crate) cgroup_parent: Option<&'a str>,
    /// Names without their addresses.
    pub(crate) added_hosts: Vec<&'a str>,
}

/// The inputs of a `RUN` that the plan gives (9.02, 9.03); those of its mounted files follow.
pub(crate) fn run(
    parent: &Digest,
    step: &RunStep,
    network: StepNetwork,
    platform: &Platform,
    limits: &Limits<'_>,
) -> Inputs {
    let mut inputs = Inputs::default();
    inputs.add("parent", parent.as_str());
    inputs.add_list("arguments", &step.args);
    inputs.add_list("environment", step.env.iter().map(|(name, value)| format!("{name}={value}")));
    inputs.add("directory", step.cwd.as_str());
    inputs.add("user", step.user.as_str());
    if let Some((name, content)) = &step.script {
        inputs.add_list("script", [name, content]);
    }
    inputs.add("network", network_name(network));
    inputs.add_flag("insecure", step.insecure);
    inputs.add("host name", step.hostname.as_str());
    for step_mount in &step.mounts {
        inputs.add_list("mount", mount(step_mount));
    }
    inputs.add("platform", platform.to_string());
    for limit in limits.rlimits {
        inputs.add("limit", format!("{}={}:{}", resource_name(limit.resource), limit.soft, limit.hard));
    }
    inputs.add_optional("shared memory", limits.shm_size);
    inputs.add_list("dropped capabilities", &limits.dropped_capabilities);
    inputs.add_optional("cgroup parent", limits.cgroup_parent);
    inputs.add_list("added hosts", &limits.added_hosts);
    inputs
}

/// What of a mount is in the key: not where files come from, which count by their digest, and not the identity of a cache,
/// its content and how it is shared.
fn mount(mount: &StepMount) -> Vec<String> {
    let mut fields = vec![
        format!("type={}", kind_name(mount.kind)),
        format!("target={}", mount.target),
        format!("readonly={}", mount.read_only),
    ];
    if mount.kind != MountKind::Cache {
        fields.push(format!("id={}", mount.id));
    }
    fields.extend(mount.mode.map(|mode| format!("mode={mode:o}")));
    fields.extend(mount.uid.map(|uid| format!("uid={uid}")));
    fields.extend(mount.gid.map(|gid| format!("gid={gid}")));
    fields.extend(mount.size.map(|size| format!("size={size}")));
    fields.extend(mount.env.as_ref().map(|env| format!("env={env}")));
    fields
}

/// The inputs of a `COPY` or `ADD` that the plan gives (9.05); those of its files follow. A linked copy does not depend on
/// what is below it. Of a source that is a path its last name counts, as `name_of` finds it in what is written.
pub(crate) fn copy(parent: &Digest, step: &CopyStep, name_of: impl Fn(&str) -> String) -> Inputs {
    let mut inputs = Inputs::default();
    inputs.add("parent", if step.link { "" } else { parent.as_str() });
    inputs.add("instruction", if step.add { "ADD" } else { "COPY" });
    inputs.add("destination", step.destination.as_str());
    for source in &step.sources {
        // What a URL or repository is called is part of what it brings.
        let is_path = !step.add || SourceKind::of(source) == SourceKind::Path;
        inputs.add("source name", if is_path { name_of(source) } else { String::new() });
    }
    for (name, content) in &step.heredocs {
        inputs.add_list("heredoc", [name, content]);
    }
    inputs.add_optional("owner", step.chown.as_deref());
    inputs.add_optional("mode", step.chmod.as_deref());
    inputs.add_list("excludes", &step.excludes);
    inputs.add_flag("link", step.link);
    inputs.add_optional("unpack", step.unpack);
    inputs.add_flag("parents", step.parents);
    if step.parents {
        inputs.add_list("sources", &step.sources);
    }
    inputs
}

/// The inputs of a `WORKDIR`, all of them.
pub(crate) fn workdir(parent: &Digest, step: &WorkdirStep, epoch: Option<i64>) -> Inputs {
    let mut inputs = Inputs::default();
    inputs.add("parent", parent.as_str());
    inputs.add("directory", step.path.to_string_lossy());
    inputs.add("user", step.user.as_str());
    inputs.add_optional("epoch", epoch);
    inputs
}

fn network_name(network: StepNetwork) -> &'static str {
    match network {
        StepNetwork::Default => "default",
        StepNetwork::Host => "host",
        StepNetwork::None => "none",
    }
}

fn kind_name(kind: MountKind) -> &'static str {
    match kind {
        MountKind::Bind => "bind",
        MountKind::Cache => "cache",
        MountKind::Tmpfs => "tmpfs",
        MountKind::Secret => "secret",
        MountKind::Ssh => "ssh",
    }
}

fn resource_name(resource: PosixRlimitType) -> &'static str {
    use PosixRlimitType as Resource;
    match resource {
        Resource::RlimitCpu => "cpu",
        Resource::RlimitFsize => "fsize",
        Resource::RlimitData => "data",
        Resource::RlimitStack => "stack",
        Resource::RlimitCore => "core",
        Resource::RlimitRss => "rss",
        Resource::RlimitNproc => "nproc",
        Resource::RlimitNofile => "nofile",
        Resource::RlimitMemlock => "memlock",
        Resource::RlimitAs => "as",
        Resource::RlimitLocks => "locks",
        Resource::RlimitSigpending => "sigpending",
        Resource::RlimitMsgqueue => "msgqueue",
        Resource::RlimitNice => "nice",
        Resource::RlimitRtprio => "rtprio",
        Resource::RlimitRttime => "rttime",
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use ocibuild_dockerfile::Dockerfile;
    use ocibuild_spec::ResolvedImage;

    use super::*;
    use ocibuild_plan::{BaseRequest, PlanOptions, PlannedStep, ResolveError, StepKind};

    fn key(step: &PlannedStep, parent: &Digest, limits: &Limits<'_>) -> (Inputs, Digest) {
        let platform = Platform::new("linux", "amd64", "");
        match &step.kind {
            StepKind::Run(step) => {
                let inputs = run(parent, step, step.network, &platform, limits);
                let key = inputs.key("run");
                (inputs, key)
            }
            StepKind::Copy(step) => {
                let mut inputs = copy(parent, step, crate::copy::name_in_key);
                inputs.add("files", Digest::of(b"files").to_string());
                let key = inputs.key("copy");
                (inputs, key)
            }
            StepKind::Workdir(step) => {
                let inputs = workdir(parent, step, Some(7));
                let key = inputs.key("workdir");
                (inputs, key)
            }
        }
    }

    /// A key that is not the one in the fixture needs another [`crate::keys::VERSION`], and new fixtures.
    #[test]
    fn keys_stay_as_they_are() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/keys");
        let text = fs_err::read(folder.join("Dockerfile")).unwrap();
        let file = Dockerfile::parse(text).unwrap();
        let options = PlanOptions {
            allow_network_host: true,
            allow_insecure: true,
            all_stages: true,
            ..PlanOptions::new(Platform::new("linux", "amd64", ""))
        };
        let no_image = &mut |_: &BaseRequest| -> Result<ResolvedImage, ResolveError> { unreachable!() };
        let plan = ocibuild_plan::plan(&file, &options, no_image).unwrap();
        let plain = Limits::default();
        let rlimits = [Rlimit { resource: PosixRlimitType::RlimitNofile, soft: 1, hard: 2 }];
        let limited = Limits {
            rlimits: &rlimits,
            shm_size: Some(64),
            dropped_capabilities: vec!["NET_RAW"],
            cgroup_parent: Some("builds"),
            added_hosts: vec!["db"],
        };
        let (mut found, mut count) = (format!("version {}\n", crate::keys::VERSION), 0);
        for stage in &plan.stages {
            let limits = if stage.name.as_deref() == Some("limited") { &limited } else { &plain };
            let mut parent = of_scratch();
            for step in &stage.steps {
                let (inputs, digest) = key(step, &parent, limits);
                writeln!(found, "\n{}\n  {digest}", step.text).unwrap();
                for input in inputs.0.iter().filter(|input| input.name != "parent") {
                    writeln!(found, "  {}: {}", input.name, input.value).unwrap();
                }
                parent = digest;
                count += 1;
            }
        }
        assert!(count >= 40, "{count} steps");
        let path = folder.join("keys.txt");
        if std::env::var_os("OCIBUILD_UPDATE_FIXTURES").is_some() {
            fs_err::write(&path, &found).unwrap();
        }
        let expected = fs_err::read_to_string(&path).unwrap();
        for (found, expected) in found.lines().zip(expected.lines()) {
            assert_eq!(found, expected);
        }
        assert_eq!(found, expected);
    }
}
