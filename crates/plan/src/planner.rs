//! The way from a file to its plan, in the order in which BuildKit finds errors.

use ocibuild_dockerfile::{Dockerfile, Findings, Instruction, InstructionKind, Location, parse_trigger};
use ocibuild_spec::{ImageConfig, Platform};

use super::bases::{Bases, Root, state_of};
use super::checks;
use super::error::{PlanError, PlanErrors};
use super::fault::{PlanFault, TriggerOrigin};
use super::frontend;
use super::graph::{Graph, Node};
use super::outline::{Outline, Outliner};
use super::settings::{self, Settings};
use super::stage::{Origin, StagePlanner, StageState, Task};
use super::{BaseResolver, FileSource, Plan, PlanOptions, PlannedImage, PlannedStage, StageBase};

/// Plans the build of `file`.
pub(super) fn plan(
    file: &Dockerfile,
    options: &PlanOptions,
    resolver: &mut dyn BaseResolver,
) -> Result<Plan, Vec<PlanError>> {
    frontend::check(file, options).map_err(|error| vec![error])?;
    let checks = checks::options(file, options).map_err(|error| vec![error])?;
    let mut findings = Findings::new(checks.clone());
    file.lint(&mut findings);
    checks::default_base_names(file, options, &mut findings);
    let settings = Settings::new(file, options).map_err(|error| vec![error])?;
    checks::global_values(file, &settings, &mut findings);
    let mut graph = Graph::of_stages(file, &settings, &mut findings)?;
    let target = graph.target(options.target.as_deref()).map_err(|error| vec![error])?;
    graph.add_commands(file).map_err(|error| vec![error])?;
    let mut bases = Bases::new(resolver);
    let reachable = settle(&mut graph, &mut bases, target, &settings)?;
    checks::base_images(file, &graph, &bases, &settings, &mut findings);
    let mut assembly = Assembly::new(&settings, &graph, &bases.images, target);
    assembly.run(&reachable, &mut findings)?;
    let outline = assembly.outline(file).map_err(|error| vec![error])?;
    let (stages, target) = assembly.into_stages();
    let mut plan = Plan {
        platform: options.target_platform().clone(),
        stages,
        target,
        source_date_epoch: settings.epoch,
        unused_build_args: unused_build_args(&graph, file, options),
        images: bases.images,
        outline,
        findings: findings.into_sorted(),
        checks,
    };
    if let Some(stage) = plan.stages.get_mut(target) {
        finish_config(&mut stage.config, options);
    }
    Ok(plan)
}

/// Where the first `RUN` is that a build needs.
pub(super) fn first_run(file: &Dockerfile, options: &PlanOptions) -> Option<Location> {
    let settings = Settings::new(file, options).ok()?;
    let mut findings = Findings::new(checks::options(file, options).ok()?);
    let mut graph = Graph::of_stages(file, &settings, &mut findings).ok()?;
    let target = graph.target(options.target.as_deref()).ok()?;
    graph.add_commands(file).ok()?;
    let reached = graph.reachable(target, false);
    let needed =
        graph.nodes.iter().zip(reached).filter(|(node, reached)| *reached && node.replaced_by.is_none());
    let mut commands = needed.flat_map(|(node, _)| &node.commands);
    let run = commands.find(|command| matches!(command.instruction.kind, InstructionKind::Run(_)));
    run.map(|command| command.location)
}

/// Resolves what is needed; triggers may bring in more, until nothing is new (4.16).
fn settle(
    graph: &mut Graph<'_>,
    bases: &mut Bases<'_>,
    target: usize,
    settings: &Settings<'_>,
) -> Result<Vec<bool>, Vec<PlanError>> {
    loop {
        let reachable = graph.reachable(target, settings.options.all_stages);
        bases.settle(graph, &reachable, settings)?;
        let mut has_new_sources = false;
        for index in (0..graph.stages).filter(|index| reachable[*index]) {
            let texts = triggers(graph, bases, index);
            graph.nodes[index].has_fired = true;
            if texts.is_empty() {
                continue;
            }
            let before = graph.nodes[index].needs.len();
            let instructions = parse_triggers(&texts, &graph.nodes[index]).map_err(|error| vec![error])?;
            graph.add_triggers(index, instructions).map_err(|error| vec![error])?;
            has_new_sources |= graph.nodes[index].needs.len() > before;
        }
        if !has_new_sources {
            return Ok(reachable);
        }
    }
}

/// What fires in a stage: triggers of its image, or those that its parent stage sets, even where a context stands in
/// for the parent.
fn triggers(graph: &Graph<'_>, bases: &Bases<'_>, index: usize) -> Vec<String> {
    let node = &graph.nodes[index];
    if node.has_fired || node.replaced_by.is_some() {
        return Vec::new();
    }
    match (node.base, &node.root) {
        (Some(parent), _) => {
            graph.nodes[parent].commands.iter().filter_map(|command| trigger(&command.instruction)).collect()
        }
        (None, Some(Root::Image(image))) => bases.images[*image].image.config.config.on_build.clone(),
        _ => Vec::new(),
    }
}

fn trigger(instruction: &Instruction) -> Option<String> {
    match &instruction.kind {
        InstructionKind::Onbuild(text) => Some(text.to_string()),
        _ => None,
    }
}

fn parse_triggers(texts: &[String], node: &Node<'_>) -> Result<Vec<Instruction>, PlanError> {
    let parse = |text: &String| {
        parse_trigger(text).map_err(|errors| {
            let fault = errors.diagnostics.into_iter().next().map_or(PlanFault::NoStages, PlanFault::Trigger);
            let error = PlanError::new(fault).word(&node.base_name).of_trigger(origin(text, node));
            match node.location {
                Some(location) => error.at(location),
                None => error,
            }
        })
    };
    texts.iter().map(parse).collect()
}

fn origin(text: &str, node: &Node<'_>) -> TriggerOrigin {
    TriggerOrigin { text: text.to_owned(), base: node.base_name.clone() }
}

/// Carries out the stages.
struct Assembly<'a, 'f> {
    settings: &'a Settings<'a>,
    graph: &'a Graph<'f>,
    images: &'a [PlannedImage],
    target: usize,
    /// Index in the plan of each node that is in it.
    planned: Vec<Option<usize>>,
    /// Which stages were carried out, with or without errors.
    tried: Vec<bool>,
    /// State at the end of each stage that later ones may start from.
    states: Vec<Option<StageState>>,
    stages: Vec<PlannedStage>,
    errors: Vec<PlanError>,
    late_errors: Vec<PlanError>,
    plan_bytes: usize,
}

impl<'a, 'f> Assembly<'a, 'f> {
    fn new(
        settings: &'a Settings<'a>,
        graph: &'a Graph<'f>,
        images: &'a [PlannedImage],
        target: usize,
    ) -> Self {
        Self {
            settings,
            graph,
            images,
            target,
            planned: vec![None; graph.nodes.len()],
            tried: vec![false; graph.nodes.len()],
            states: vec![None; graph.nodes.len()],
            stages: Vec::new(),
            errors: Vec::new(),
            late_errors: Vec::new(),
            plan_bytes: 0,
        }
    }

    /// Carries out all stages that are needed.
    fn run(&mut self, reachable: &[bool], findings: &mut Findings) -> Result<(), Vec<PlanError>> {
        let is_base = |index: usize| {
            (0..self.graph.stages)
                .any(|child| reachable[child] && self.graph.nodes[child].base == Some(index))
        };
        let replaced_but_needed: Vec<bool> = (0..self.graph.stages)
            .map(|index| {
                let replaced = self.graph.nodes[index].replaced_by.is_some();
                replaced && reachable[index] && (index == self.target || is_base(index))
            })
            .collect();
        for index in (0..self.graph.stages).filter(|index| reachable[*index]) {
            if self.graph.nodes[index].replaced_by.is_none() {
                self.stage(index, findings);
            } else if replaced_but_needed[index] {
                self.replaced_stage(index);
            }
        }
        // With a build's own errors there is no point in those that only a finished translation would show.
        if self.errors.is_empty() {
            self.errors.append(&mut self.late_errors);
        }
        if self.errors.is_empty() { Ok(()) } else { Err(std::mem::take(&mut self.errors)) }
    }

    fn outline(&self, file: &Dockerfile) -> Result<Outline, PlanError> {
        let args = self.states.iter().map(|state| state.as_ref().map(|state| &state.args));
        let outliner = Outliner {
            graph: self.graph,
            stages: &self.stages,
            planned: &self.planned,
            args: &args.collect::<Vec<_>>(),
        };
        outliner.outline(file, self.settings, self.target)
    }

    /// The stages and the target's index among them.
    fn into_stages(self) -> (Vec<PlannedStage>, usize) {
        (self.stages, self.planned[self.target].unwrap_or_default())
    }

    fn replaced_stage(&mut self, index: usize) {
        let graph = self.graph;
        let node = &graph.nodes[index];
        let state = state_of(self.images, node, self.settings);
        if let Some(step) = self.settings.options.until_step.filter(|_| index == self.target) {
            self.errors.push(PlanError::new(PlanFault::NoSuchStep { step, steps: Vec::new() }));
            return;
        }
        let base = node.root.as_ref().map_or(StageBase::Scratch, Root::stage_base);
        self.finish(index, base, state, Vec::new(), Vec::new());
    }

    fn stage(&mut self, index: usize, findings: &mut Findings) {
        let graph = self.graph;
        let node = &graph.nodes[index];
        self.tried[index] = true;
        let Some((base, state)) = self.beginning(node) else { return };
        let mut planner = StagePlanner::new(self.settings, &node.display, state, findings, self.plan_bytes);
        let mut is_sound = true;
        // Progress counts the image that a stage starts from, too.
        let from = usize::from(matches!(base, StageBase::Image(_)));
        let until = self.settings.options.until_step.filter(|_| index == self.target);
        let is_reached = |steps: usize| until.is_some_and(|until| until > 0 && steps + from >= until);
        for command in &node.commands {
            if is_reached(planner.steps.len()) {
                break;
            }
            let origins: Vec<Option<Origin>> =
                command.sources.iter().map(|source| source.map(|source| self.origin(source))).collect();
            let task = Task {
                instruction: &command.instruction,
                location: command.location,
                is_trigger: command.is_trigger,
                origins: &origins,
            };
            if let Err(error) = planner.carry_out(task) {
                let error = if command.is_trigger {
                    error.of_trigger(origin(&command.instruction.text, node))
                } else {
                    error
                };
                self.errors.push(error.at(command.location));
                is_sound = false;
                // What follows may be wrong only because a variable is missing.
                let defines =
                    matches!(command.instruction.kind, InstructionKind::Env(_) | InstructionKind::Arg(_));
                if defines || planner.is_full() {
                    break;
                }
            }
        }
        if is_sound && planner.is_full() {
            self.errors.push(planner.too_much().at(node.location.unwrap_or_default()));
            is_sound = false;
        }
        if let Some(step) = until.filter(|_| is_sound && !is_reached(planner.steps.len())) {
            let base = (from > 0).then(|| node.text.to_owned());
            let steps = base.into_iter().chain(planner.steps.iter().map(|step| step.text.clone())).collect();
            self.errors.push(PlanError::new(PlanFault::NoSuchStep { step, steps }));
            is_sound = false;
        }
        let StagePlanner { state, steps, history, mut late_errors, plan_bytes, .. } = planner;
        self.plan_bytes = plan_bytes;
        self.late_errors.append(&mut late_errors);
        if is_sound {
            self.finish(index, base, state, steps, history);
        }
    }

    /// What a stage starts from; `None` when its parent has errors of its own.
    fn beginning(&self, node: &Node<'_>) -> Option<(StageBase, StageState)> {
        let Some(parent) = node.base else {
            let base = node.root.as_ref().map_or(StageBase::Scratch, Root::stage_base);
            return Some((base, state_of(self.images, node, self.settings)));
        };
        let state = self.states[parent].clone()?;
        Some((StageBase::Stage(self.planned[parent]?), state))
    }

    /// Where a stage's commands run: `FROM --platform` has no effect on another stage and on `scratch` (4.05).
    fn platform(&self, node: &Node<'_>, base: &StageBase) -> Platform {
        let of_node = || node.platform.as_ref().unwrap_or_else(|| self.settings.target_platform()).clone();
        match base {
            StageBase::Stage(parent) => self.stages[*parent].platform.clone(),
            StageBase::Scratch if node.base_name == "scratch" && node.replaced_by.is_none() => {
                self.settings.target_platform().clone()
            }
            _ => of_node(),
        }
    }

    fn origin(&self, source: usize) -> Origin {
        let node = &self.graph.nodes[source];
        match (&node.root, self.planned[source]) {
            // A replaced stage is its context, wherever it stands in the file.
            (Some(root), _) if node.stage.is_none() || node.replaced_by.is_some() => {
                Origin::Ready(root.file_source())
            }
            (_, Some(stage)) => Origin::Ready(FileSource::Stage(stage)),
            // A stage with errors is none to complain about once more.
            _ if self.tried[source] => Origin::Ready(FileSource::Empty),
            _ => Origin::Later,
        }
    }

    fn finish(
        &mut self,
        index: usize,
        base: StageBase,
        state: StageState,
        steps: Vec<super::PlannedStep>,
        history: Vec<super::PlannedHistory>,
    ) {
        let node = &self.graph.nodes[index];
        let platform = self.platform(node, &base);
        self.planned[index] = Some(self.stages.len());
        self.stages.push(PlannedStage {
            index: node.stage.unwrap_or(index),
            name: node.name.clone(),
            platform,
            base,
            location: node.location.filter(|_| node.replaced_by.is_none()),
            text: node.text.to_owned(),
            progress_total: progress_total(node),
            steps,
            config: state.image_config(),
            history,
        });
        self.states[index] = Some(state);
    }
}

/// What progress counts up to: of the file's instructions those that are steps, and every trigger (8.23).
fn progress_total(node: &Node<'_>) -> usize {
    let has_from = node.base.is_none() && node.base_name != "scratch";
    let counts = |kind: &InstructionKind| {
        matches!(
            kind,
            InstructionKind::Run(_)
                | InstructionKind::Copy(_)
                | InstructionKind::Add(_)
                | InstructionKind::Workdir(_)
        )
    };
    let counted =
        node.commands.iter().filter(|command| command.is_trigger || counts(&command.instruction.kind));
    usize::from(has_from) + counted.count()
}

/// Labels of the command line and the platform asked for (5.306, 4.17).
fn finish_config(config: &mut ImageConfig, options: &PlanOptions) {
    config.config.labels.extend(options.labels.iter().cloned());
    if let Some(wanted) = &options.platform {
        let is_same = config.os == wanted.os && config.architecture == wanted.architecture;
        config.os.clone_from(&wanted.os);
        config.architecture.clone_from(&wanted.architecture);
        if !wanted.variant.is_empty() || !is_same {
            config.variant.clone_from(&wanted.variant);
        }
        if !wanted.os_version.is_empty() || !is_same {
            config.os_version.clone_from(&wanted.os_version);
        }
        if !wanted.os_features.is_empty() {
            config.os_features.clone_from(&wanted.os_features);
        }
    }
    let normal = Platform::new(&config.os, &config.architecture, &config.variant);
    (config.os, config.architecture, config.variant) = (normal.os, normal.architecture, normal.variant);
}

/// 3.21
fn unused_build_args(graph: &Graph<'_>, file: &Dockerfile, options: &PlanOptions) -> Vec<String> {
    let fired = graph.nodes.iter().flat_map(|node| &node.commands).map(|command| &*command.instruction);
    let declared: std::collections::HashSet<&str> = file
        .global_args
        .iter()
        .chain(fired)
        .flat_map(Instruction::declared)
        .map(|definition| definition.name.as_str())
        .collect();
    let mut unused: Vec<String> = Vec::new();
    for (name, _) in &options.build_args {
        let is_used = declared.contains(name.as_str()) || settings::is_predefined(name);
        if !is_used && !unused.contains(name) {
            unused.push(name.clone());
        }
    }
    unused
}

/// The list as an error, each with the words it blames.
pub(super) fn located(mut errors: Vec<PlanError>, file: &Dockerfile) -> PlanErrors {
    for error in &mut errors {
        error.label_in(&file.source);
    }
    PlanErrors::new(errors).unwrap_or_else(|| PlanErrors::from(PlanError::new(PlanFault::NoStages)))
}
