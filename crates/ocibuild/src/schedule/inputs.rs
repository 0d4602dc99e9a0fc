//! What keys of steps are made of.

use ocibuild_spec::Digest;

use super::PlatformBuild;
use crate::copy::name_in_key;
use crate::keys::{Framed, Inputs};
use crate::plan::{CopyStep, MountKind, RunStep, SourceKind};
use crate::stage::StageState;

/// What the keys of a stage start with.
pub(super) fn base_key(kind: &str, value: &str) -> Digest {
    let mut framed = Framed::new("ocibuild base v1");
    framed.field(kind.as_bytes());
    framed.field(value.as_bytes());
    framed.finish()
}

/// The inputs of a copy that its instruction gives (9.05).
pub(super) fn copy_inputs(state: &StageState, step: &CopyStep) -> Inputs {
    let mut inputs = Inputs::default();
    let parent = if step.link { "" } else { state.chain.as_str() };
    inputs.add("parent", parent);
    inputs.add("destination", step.destination.as_str());
    for source in &step.sources {
        // What a URL or repository is called is part of what it brings.
        let is_path = !step.add || SourceKind::of(source) == SourceKind::Path;
        let name = if is_path { name_in_key(source) } else { Vec::new() };
        inputs.add("source name", String::from_utf8_lossy(&name));
    }
    inputs.add_json("heredocs", &step.heredocs);
    inputs.add_json("owner", &step.chown);
    inputs.add_json("mode", &step.chmod);
    inputs.add_json("excludes", &step.excludes);
    inputs.add_json("options", &(step.add, step.link, step.parents, step.unpack));
    if step.parents {
        inputs.add_json("sources", &step.sources);
    }
    inputs
}

/// What the key of a `RUN` has of its instruction (9.02, 9.03).
#[derive(serde::Serialize)]
pub(super) struct RunKey<'a> {
    args: &'a [String],
    env: &'a [(String, String)],
    cwd: &'a str,
    user: &'a str,
    script: &'a Option<(String, String)>,
    network: crate::plan::StepNetwork,
    insecure: bool,
    hostname: &'a str,
    mounts: Vec<serde_json::Value>,
}

impl<'a> RunKey<'a> {
    pub(super) fn of(step: &'a RunStep, network: crate::plan::StepNetwork) -> Self {
        let mount = |mount: &crate::plan::StepMount| {
            let id = if mount.kind == MountKind::Cache { "" } else { mount.id.as_str() };
            serde_json::json!([
                mount.kind,
                mount.target,
                id,
                mount.read_only,
                mount.mode,
                mount.uid,
                mount.gid,
                mount.size,
                mount.env,
            ])
        };
        Self {
            args: &step.args,
            env: &step.env,
            cwd: &step.cwd,
            user: &step.user,
            script: &step.script,
            network,
            insecure: step.insecure,
            hostname: &step.hostname,
            mounts: step.mounts.iter().map(mount).collect(),
        }
    }
}

impl PlatformBuild<'_> {
    /// What every `RUN` of this build is limited to.
    pub(super) fn limits_key(&self) -> Vec<String> {
        let settings = &self.build.settings;
        let mut out: Vec<String> = settings
            .rlimits
            .iter()
            .map(|limit| format!("{:?}={}:{}", limit.resource, limit.soft, limit.hard))
            .collect();
        out.extend(settings.shm_size.map(|bytes| format!("shm={bytes}")));
        if !settings.dropped_capabilities.is_empty() {
            let names: Vec<&str> = settings.dropped_capabilities.names().collect();
            out.push(format!("drop={}", names.join(",")));
        }
        out.extend(settings.resources.cgroup_parent.iter().map(|parent| format!("cgroup={parent}")));
        out.extend(settings.added_hosts.iter().map(|(_, name)| format!("host={name}")));
        out
    }
}
