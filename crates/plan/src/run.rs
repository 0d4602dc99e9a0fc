//! `RUN` (5.1).

use ocibuild_dockerfile::expand::expand_shown;
use ocibuild_dockerfile::{Location, Run, RunCommand, RunNetwork, RunSecurity, Text};

use super::config::strings;
use super::error::PlanError;
use super::fault::{Entitlement, PlanFault};
use super::mounts::MountFlag;
use super::stage::{Origin, StagePlanner, Task, step_text};
use super::{FileSource, MountKind, RunStep, StepKind, StepMount, StepNetwork};

impl StagePlanner<'_> {
    pub(super) fn run(&mut self, run: &Run, task: Task<'_>) -> Result<(), PlanError> {
        if let Some(device) = run.devices.first() {
            let fault = PlanFault::Device { device: device.to_string() };
            return Err(PlanError::new(fault).word(device));
        }
        let (args, script) = self.arguments(&run.command);
        let mounts = self.mounts(&run.mounts, task.origins)?;
        let network = self.network(run.network);
        let insecure = run.security == Some(RunSecurity::Insecure);
        self.check_late(&args, network, insecure, task.location);
        let mut words = self.state.args.history_prefix(&self.state.environment);
        words.extend(args.iter().cloned());
        let created_by = format!("RUN {} # buildkit", words.join(" "));
        let step = RunStep {
            command: args.join(" "),
            args,
            shell: self.shell(),
            env: self.step_environment(&mounts),
            proxy_env: self.settings.proxy_env.clone(),
            cwd: self.state.workdir().to_owned(),
            user: self.state.config.config.user.clone(),
            mounts,
            script,
            network,
            insecure,
            hostname: self.settings.hostname.clone(),
        };
        let shown = self.shown(task, &step.mounts);
        self.push_shown_step(StepKind::Run(Box::new(step)), shown, task, created_by);
        Ok(())
    }

    /// The instruction with the variables of the step in it, and stars for those that are secrets (2.48).
    fn shown(&self, task: Task<'_>, mounts: &[StepMount]) -> String {
        let mut variables = self.state.environment.pairs();
        let secrets = mounts.iter().filter_map(|mount| mount.env.as_ref());
        variables.extend(secrets.map(|name| (name.clone(), "****".to_owned())));
        let text = step_text(task);
        expand_shown(&text, self.settings.escape, &variables).unwrap_or(text)
    }

    fn arguments(&self, command: &RunCommand) -> (Vec<String>, Option<(String, String)>) {
        match command {
            RunCommand::Exec(args) => (strings(args), None),
            RunCommand::Shell(text) => (self.with_shell(text), None),
            RunCommand::Script { name, content } => (
                self.with_shell(&format!("/dev/pipes/{name}")),
                Some((name.to_string(), content.to_string())),
            ),
        }
    }

    fn network(&self, mode: Option<RunNetwork>) -> StepNetwork {
        match mode {
            None | Some(RunNetwork::Default) => self.settings.network,
            Some(RunNetwork::None) => StepNetwork::None,
            Some(RunNetwork::Host) => StepNetwork::Host,
        }
    }

    /// What BuildKit refuses only once all stages are translated, and without a line (5.104, 5.105, 1.54).
    fn check_late(&mut self, args: &[String], network: StepNetwork, insecure: bool, location: Location) {
        let mut refuse = |fault, word: &str| {
            self.late_errors.push(PlanError::new(fault).at(location).word(word));
        };
        if args.is_empty() {
            refuse(PlanFault::NoArguments, "[]");
        }
        if network == StepNetwork::Host && !self.settings.allow_network_host {
            refuse(PlanFault::NotAllowed(Entitlement::NetworkHost), "--network=host");
        }
        if insecure && !self.settings.options.allow_insecure {
            refuse(PlanFault::NotAllowed(Entitlement::SecurityInsecure), "--security=insecure");
        }
    }

    /// Two passes as in BuildKit: all flags are read before the first is looked at more closely.
    fn mounts(&mut self, flags: &[Text], origins: &[Option<Origin>]) -> Result<Vec<StepMount>, PlanError> {
        let mut expand = |value: &str| self.expand(value).map_err(PlanError::from);
        let parsed: Vec<MountFlag> =
            flags.iter().map(|flag| MountFlag::parse(flag, &mut expand)).collect::<Result<_, _>>()?;
        let mut mounts: Vec<StepMount> = Vec::with_capacity(parsed.len());
        for (position, flag) in parsed.into_iter().enumerate() {
            let from = match origins.get(position).and_then(Option::as_ref) {
                Some(Origin::Ready(source)) => Some(source.clone()),
                Some(Origin::Later) => return Err(later_mount(&flag)),
                None => None,
            };
            let agents = mounts.iter().filter(|mount| mount.kind == MountKind::Ssh).count();
            let namespace = &self.settings.cache_namespace;
            let mut mount = flag.resolve(from, self.state.workdir(), namespace, agents)?;
            if mount.kind == MountKind::Bind && mount.from.is_none() {
                mount.from = Some(FileSource::Context);
            }
            mounts.push(mount);
        }
        Ok(mounts)
    }

    /// 8.02, without what is added when the step runs: proxies, secrets and `HOME`.
    fn step_environment(&self, mounts: &[StepMount]) -> Vec<(String, String)> {
        let mut pairs = self.state.environment.pairs();
        let agent = mounts.iter().find(|mount| mount.kind == MountKind::Ssh);
        if let Some(agent) = agent.filter(|_| self.state.environment.get("SSH_AUTH_SOCK").is_none()) {
            pairs.push(("SSH_AUTH_SOCK".to_owned(), agent.target.clone()));
        }
        pairs
    }
}

fn later_mount(flag: &MountFlag) -> PlanError {
    let from = flag.from.as_deref().unwrap_or_default();
    let fault = PlanFault::LaterMount { from: from.to_owned(), target: flag.target().to_owned() };
    PlanError::new(fault).word(from)
}
