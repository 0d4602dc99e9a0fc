//! One stage while its instructions are carried out, one after the other.

use ocibuild_dockerfile::{
    ArgDefinition, ExpandError, Findings, Instruction, InstructionKind, KeyValues, Location, Text,
};
use ocibuild_spec::{ImageConfig, Platform, RootFs};

use super::checks::UsedOnce;
use super::env::{ConfigEnv, DeclaredArgs, Environment, pair_bytes};
use super::error::PlanError;
use super::fault::PlanFault;
use super::settings::Settings;
use super::{FileSource, PlannedHistory, PlannedStep, StepKind, WorkdirStep, paths};

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the history, the steps and the environments of a plan may take together. The history of a `RUN` repeats every
/// argument, and its environment every variable, so a file of some kilobytes could ask for gigabytes.
const MAX_PLAN_BYTES: usize = 16 << 20;
/// What the instructions of a stage may take that make no layer: `LABEL`, `ENV`, `CMD` and their kind. A config has them twice,
/// as what they say and in its history, and skopeo, podman and CRI-O read no config of more than 4 MiB.
const MAX_METADATA_BYTES: usize = 2 << 20;
/// Arguments that only say what to scan, and are not variables (3.20).
pub(super) const SCAN_ARGS: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// What a stage hands to the stages built on it.
#[derive(Debug, Clone)]
pub(super) struct StageState {
    /// The config, with `Env` kept aside.
    pub(super) config: ImageConfig,
    pub(super) config_env: ConfigEnv,
    /// What steps run with and words expand with.
    pub(super) environment: Environment,
    pub(super) args: DeclaredArgs,
    /// A `WORKDIR` stands in this stage or in one it is built on.
    pub(super) has_workdir: bool,
}

impl StageState {
    /// The state of an image; its time and triggers are not inherited (4.15).
    pub(super) fn of_image(mut config: ImageConfig) -> Self {
        config.created = None;
        config.config.on_build.clear();
        let config_env = ConfigEnv::new(std::mem::take(&mut config.config.env));
        Self {
            config,
            config_env,
            environment: Environment::default(),
            args: DeclaredArgs::default(),
            has_workdir: false,
        }
    }

    /// The state of `scratch` and of files without a config (4.04, 4.34).
    pub(super) fn of_nothing(platform: &Platform) -> Self {
        let mut state = Self::of_replaced_stage(platform);
        state.config.config.working_dir.push('/');
        state.config_env.set("PATH", DEFAULT_PATH);
        state
    }

    /// The state of a stage that files without a config replace: nothing but a platform.
    pub(super) fn of_replaced_stage(platform: &Platform) -> Self {
        Self::of_image(ImageConfig {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            os_features: platform.os_features.clone(),
            os_version: platform.os_version.clone(),
            variant: platform.variant.clone(),
            rootfs: RootFs::default(),
            ..ImageConfig::default()
        })
    }

    /// What a child stage starts with: its parent's ENV is applied once more, over the arguments (3.12).
    pub(super) fn begin_stage(&mut self) {
        self.config.config.on_build.clear();
        if !self.config_env.contains("PATH") && self.config.os != "windows" {
            self.config_env.set("PATH", DEFAULT_PATH);
        }
        for (name, value) in self.config_env.pairs() {
            self.environment.set(name, value);
        }
        let directory = &mut self.config.config.working_dir;
        if !directory.is_empty() {
            *directory = paths::workdir(directory, directory);
        }
    }

    /// The config as it stands.
    pub(super) fn image_config(&self) -> ImageConfig {
        let mut config = self.config.clone();
        config.config.env = self.config_env.clone().into_entries();
        config
    }

    /// Where steps start and relative paths begin.
    pub(super) fn workdir(&self) -> &str {
        match self.config.config.working_dir.as_str() {
            "" => "/",
            directory => directory,
        }
    }
}

/// What an instruction reads files from, as far as it is known when the instruction is carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// Known.
    Ready(FileSource),
    /// A stage that comes later in the file.
    Later,
}

/// An instruction to carry out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Task<'t> {
    pub(super) instruction: &'t Instruction,
    /// Of the instruction; of the `FROM` that fired it for a trigger.
    pub(super) location: Location,
    pub(super) is_trigger: bool,
    /// One for a `COPY --from`, one for each mount of a `RUN`.
    pub(super) origins: &'t [Option<Origin>],
}

/// A stage at work.
#[derive(Debug)]
pub(super) struct StagePlanner<'p> {
    pub(super) settings: &'p Settings<'p>,
    /// How messages call the stage.
    pub(super) name: &'p str,
    pub(super) state: StageState,
    pub(super) steps: Vec<PlannedStep>,
    pub(super) history: Vec<PlannedHistory>,
    /// Whether the stage itself has a `CMD` (5.302).
    pub(super) has_cmd: bool,
    /// Errors that come up only when everything else is fine: BuildKit finds them when it solves the build.
    pub(super) late_errors: Vec<PlanError>,
    pub(super) findings: &'p mut Findings,
    /// What history and environments take so far, those of earlier stages included.
    pub(super) plan_bytes: usize,
    /// What its instructions take that make no layer.
    metadata_bytes: usize,
    /// Where the instruction at work stands.
    pub(super) location: Location,
    /// The comment block above it.
    pub(super) comments: Vec<Text>,
    pub(super) cmd_used: UsedOnce,
    pub(super) entrypoint_used: UsedOnce,
    pub(super) healthcheck_used: UsedOnce,
}

impl<'p> StagePlanner<'p> {
    pub(super) fn new(
        settings: &'p Settings<'p>,
        name: &'p str,
        mut state: StageState,
        findings: &'p mut Findings,
        plan_bytes: usize,
    ) -> Self {
        state.begin_stage();
        Self {
            settings,
            name,
            steps: Vec::new(),
            history: Vec::new(),
            has_cmd: false,
            late_errors: Vec::new(),
            findings,
            plan_bytes: plan_bytes + state.environment.bytes(),
            metadata_bytes: 0,
            state,
            location: Location::default(),
            comments: Vec::new(),
            cmd_used: UsedOnce::default(),
            entrypoint_used: UsedOnce::default(),
            healthcheck_used: UsedOnce::default(),
        }
    }

    /// Carries out one instruction.
    pub(super) fn carry_out(&mut self, task: Task<'_>) -> Result<(), PlanError> {
        self.location = task.location;
        self.comments.clone_from(&task.instruction.comments);
        let before = (self.history.len(), self.steps.len());
        self.apply(task)?;
        self.weigh(before)
    }

    fn apply(&mut self, task: Task<'_>) -> Result<(), PlanError> {
        match &task.instruction.kind {
            InstructionKind::Arg(definitions) => self.arg(definitions),
            InstructionKind::Env(pairs) => self.env(pairs, &task.instruction.keyword),
            InstructionKind::Run(run) => self.run(run, task),
            InstructionKind::Copy(copy) => self.copy(copy, task),
            InstructionKind::Add(add) => self.add(add, task),
            InstructionKind::Workdir(path) => self.work_in(path, task),
            other => self.configure(other, &task.instruction.keyword),
        }
    }

    /// Whether nothing more may be planned.
    pub(super) fn is_full(&self) -> bool {
        self.plan_bytes > MAX_PLAN_BYTES || self.metadata_bytes > MAX_METADATA_BYTES
    }

    /// Counts what an instruction added to the plan, which had so many history entries and steps before.
    fn weigh(&mut self, (entries, steps): (usize, usize)) -> Result<(), PlanError> {
        for entry in self.history.iter().skip(entries) {
            self.plan_bytes += entry.created_by.len();
            if entry.step.is_none() {
                self.metadata_bytes += entry.created_by.len();
            }
        }
        for step in self.steps.iter().skip(steps) {
            let pairs = |pairs: &[(String, String)]| {
                pairs.iter().map(|(name, value)| pair_bytes(name, value)).sum::<usize>()
            };
            self.plan_bytes += step.text.len()
                + match &step.kind {
                    StepKind::Run(run) => pairs(&run.env),
                    StepKind::Copy(copy) => pairs(&copy.heredocs) + copy.destination.len(),
                    StepKind::Workdir(workdir) => workdir.path.as_os_str().len(),
                };
        }
        if self.is_full() { Err(self.too_much()) } else { Ok(()) }
    }

    /// The error of a plan that is full.
    pub(super) fn too_much(&self) -> PlanError {
        PlanError::new(if self.metadata_bytes > MAX_METADATA_BYTES {
            PlanFault::ConfigTooLarge { limit_mib: MAX_METADATA_BYTES >> 20 }
        } else {
            PlanFault::PlanTooLarge { limit_mib: MAX_PLAN_BYTES >> 20 }
        })
    }

    /// `word` in the environment as it is now. What is not defined there is a finding.
    pub(super) fn expand(&mut self, word: &str) -> Result<String, ExpandError> {
        let expanded = self.state.environment.expand_watched(word, self.settings.escape)?;
        self.check_undefined(&expanded.unset);
        Ok(expanded.value)
    }

    pub(super) fn expand_all(&mut self, words: &[Text]) -> Result<Vec<String>, ExpandError> {
        words.iter().map(|word| self.expand(word)).collect()
    }

    /// All pairs see the state before the instruction (2.42).
    pub(super) fn expand_pairs(&mut self, pairs: &KeyValues) -> Result<Vec<(String, String)>, ExpandError> {
        pairs.pairs.iter().map(|(key, value)| Ok((self.expand(key)?, self.expand(value)?))).collect()
    }

    /// A history entry without a layer.
    pub(super) fn note(&mut self, created_by: String) {
        self.history.push(PlannedHistory { created_by, step: None });
    }

    /// A step with its history entry, shown with what its variables hold (2.48).
    pub(super) fn push_step(&mut self, kind: StepKind, task: Task<'_>, created_by: String) {
        let text = step_text(task);
        let shown = self.state.environment.expand(&text, self.settings.escape).unwrap_or(text);
        self.push_shown_step(kind, shown, task, created_by);
    }

    /// The same where progress shows another text than that of the file.
    pub(super) fn push_shown_step(
        &mut self,
        kind: StepKind,
        text: String,
        task: Task<'_>,
        created_by: String,
    ) {
        self.history.push(PlannedHistory { created_by, step: Some(self.steps.len()) });
        self.steps.push(PlannedStep { kind, location: task.location, text });
    }

    fn env(&mut self, pairs: &KeyValues, keyword: &str) -> Result<(), PlanError> {
        self.check_legacy(pairs, keyword);
        let pairs = self.expand_pairs(pairs)?;
        for (name, value) in &pairs {
            self.check_secret_name("ENV", name);
            self.check_secret_value("ENV", name, value);
            self.state.environment.set(name, value);
            self.state.config_env.set(name, value);
        }
        self.note(pairs_text("ENV", &pairs));
        Ok(())
    }

    /// 3.05; names are taken as they stand, and each sees the ones before it (2.33, 2.43).
    fn arg(&mut self, definitions: &[ArgDefinition]) -> Result<(), PlanError> {
        let mut created_by = String::from("ARG");
        for ArgDefinition { name, default } in definitions {
            self.check_secret_name("ARG", name);
            let is_own = default.is_some() || self.settings.build_args.contains_key(name.as_str());
            let value = match (self.settings.build_args.get(name.as_str()), default) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(default)) => Some(self.expand(default)?),
                (None, None) => self.settings.globals.get(name).map(str::to_owned),
            };
            if let Some(value) = value.as_ref().filter(|_| is_own) {
                self.check_secret_value("ARG", name, value);
            }
            if let Some(value) = value.as_ref().filter(|_| !SCAN_ARGS.contains(&name.as_str())) {
                self.state.environment.set(name, value);
            }
            self.state.args.declare(name, value.as_deref());
            created_by.extend([" ", name]);
            if let Some(value) = &value {
                created_by.extend(["=", value]);
            }
        }
        self.note(created_by);
        Ok(())
    }

    /// 5.312
    fn work_in(&mut self, path: &str, task: Task<'_>) -> Result<(), PlanError> {
        let path = self.expand(path)?;
        self.check_workdir(&path);
        let config = &mut self.state.config.config;
        config.working_dir = paths::workdir(&config.working_dir, &path);
        let directory = config.working_dir.clone();
        let created_by = format!("WORKDIR {directory}");
        if directory == "/" {
            self.note(created_by);
            return Ok(());
        }
        let user = config.user.clone();
        self.push_step(StepKind::Workdir(WorkdirStep { path: directory.into(), user }), task, created_by);
        Ok(())
    }
}

/// `KEYWORD a=1 b=two words`
pub(super) fn pairs_text(keyword: &str, pairs: &[(String, String)]) -> String {
    let mut text = keyword.to_owned();
    for (name, value) in pairs {
        text.extend([" ", name, "=", value]);
    }
    text
}

/// The instruction with its keyword in capitals, behind `ONBUILD` if that is where it comes from (8.23).
pub(super) fn step_text(task: Task<'_>) -> String {
    let Instruction { text, keyword, .. } = task.instruction;
    let text = text.trim();
    let rest = text.get(keyword.len()..).unwrap_or_default();
    let prefix = if task.is_trigger { "ONBUILD " } else { "" };
    format!("{prefix}{}{rest}", keyword.to_uppercase())
}
